"""Answers that come compressed although nobody asked for that: the image is paid for, so it is passed on."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from gateway.domain.settlement import Outcome
from gateway.ports.provider import Answer
from gateway.providers import decompression
from tests.providers.accounts import answering, failure_of, provider_of
from tests.providers.calls import call, read_all
from tests.providers.raw_server import Connection
from tests.providers.test_as_events import completed, plain, sse
from tests.providers.test_fanout import READ, images

PATIENCE = 20.0
PLAIN = images("x" * 300_000)


@pytest.mark.parametrize("body", [images("eA=="), PLAIN], ids=["short", "long"])
@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), (" GZIP ", gzip.compress), ("deflate", zlib.compress)]
)
@pytest.mark.parametrize("piece", [7, 64 * 1024])
async def test_a_document_is_passed_on_as_it_was_before(
    body: bytes, encoding: str, pack: object, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its usage is read, and no header tells of what is gone."""
    assert callable(pack)
    monkeypatch.setattr(decompression, "_PIECE", piece)
    async with provider_of(answering(pack(body), headers=f"Content-Encoding: {encoding}\r\n")) as (provider, _):
        answer = await provider.send(call())
        assert await read_all(answer) == body
        await answer.aclose()
    assert not {"content-encoding", "content-length"} & dict(answer.headers).keys()
    reading = answer.reading()
    assert (reading.usage, reading.images, reading.complete) == (READ, 1, True)


async def test_a_stream_is_passed_on_as_it_was_before() -> None:
    """Its end is proven by the packing."""
    body = completed("a")
    async with provider_of(sse(gzip.compress(body), more="Content-Encoding: gzip\r\n")) as (provider, _):
        answer = await provider.send(plain(1))
        assert await read_all(answer) == body
        await answer.aclose()
    assert (answer.reading().images, answer.reading().complete) == (1, True)


async def answer_to(*pieces: bytes) -> tuple[bytes, Answer]:
    """What comes of an answer in these pieces, whose length nobody told, and which ends only with its connection."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n")
        for piece in pieces:
            await connection.send(piece)
            await asyncio.sleep(0.01)
        await asyncio.sleep(PATIENCE)

    async with provider_of(script) as (provider, _), asyncio.timeout(PATIENCE / 2):
        answer = await provider.send(call())
        body = await read_all(answer)
        await answer.aclose()
    return body, answer


@pytest.mark.parametrize("cut", [100, 101])
async def test_members_that_follow_each_other_are_one_answer(cut: int) -> None:
    """Wherever one ends in what came."""
    first, second = gzip.compress(PLAIN[:500]), gzip.compress(PLAIN[500:])
    both = first + second + b"\0"
    at = len(first) - 100
    body, answer = await answer_to(both[:at], both[at : at + cut], both[at + cut :])
    assert (body, answer.reading().usage, answer.reading().complete) == (PLAIN, READ, True)


async def test_nobody_waits_for_what_comes_after_the_end() -> None:
    """The last member has said that the answer is whole."""
    body, answer = await answer_to(gzip.compress(PLAIN) + b"J" * 100_000, *[b"J" * 100_000] * 5)
    assert (body, answer.reading().complete) == (PLAIN, True)


async def test_members_without_anything_in_them_have_an_end() -> None:
    """They would come for ever, and count as nothing."""
    failure = await failure_of(answering(gzip.compress(b"") * 100_000, headers="Content-Encoding: gzip\r\n"))
    assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "garbage")


@pytest.mark.parametrize(
    "body",
    [gzip.compress(PLAIN)[:-100], gzip.compress(PLAIN)[:40], b"\x1f\x8b" * 100, PLAIN, b""],
    ids=["without its end", "its beginning", "no packing", "plain", "nothing"],
)
async def test_what_cannot_be_unpacked_may_have_been_billed(body: bytes) -> None:
    """Half of it is no answer, nor is what only says that it is packed."""
    failure = await failure_of(answering(body, headers="Content-Encoding: gzip\r\n"))
    assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "garbage")


async def test_a_few_bytes_that_hold_too_much_are_no_answer() -> None:
    """What is unpacked is bounded as what comes."""
    bomb = gzip.compress(bytes(300 * 1024 * 1024), 1)
    failure = await failure_of(answering(bomb, headers="Content-Encoding: gzip\r\n"))
    assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "too_large")

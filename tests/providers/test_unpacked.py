"""Answers that come compressed although nobody asked for that: the image is paid for, so it is passed on."""

from __future__ import annotations

import gzip
import zlib

import pytest

from gateway.domain.settlement import Outcome
from gateway.providers import unpacked
from tests.providers.accounts import answering, failure_of, provider_of
from tests.providers.calls import call, read_all
from tests.providers.test_as_events import completed, plain, sse
from tests.providers.test_fanout import READ, images

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
    monkeypatch.setattr(unpacked, "_PIECE", piece)
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


@pytest.mark.parametrize(
    "body",
    [gzip.compress(PLAIN)[:-9], gzip.compress(PLAIN)[:40], b"\x1f\x8b" * 100, PLAIN, b""],
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

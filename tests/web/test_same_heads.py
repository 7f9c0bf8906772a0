"""A head that comes again on its connection is not parsed again: it is taken for nothing but what it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ports import Outbound
from gateway.steps.accept import envelope_of
from gateway.web.app import create_app
from gateway.web.head import Again, Head, read_head
from gateway.web.json_alike import AlikeBody, find_alike
from gateway.web.shedding import ProcessLimits, Shedding
from tests.web.raw import HOST, JSON_BODY, connection, post, read_reply
from tests.web.recording import RecordingGateway, serving

KEY = b"Authorization: Bearer %s\r\n"
FIRST = post(extra=KEY % b"sk-one" + b"X-Trace: 1\r\n")


def body(prompt: str) -> bytes:
    """A body of its own length."""
    return json.dumps({"prompt": prompt}).encode()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What heads were read by the parser, by their targets."""
    targets: list[bytes] = []

    def reading(method: bytes, version: str, target: bytes, fields: list[tuple[bytes, bytes]], **kept: bool) -> Head:
        targets.append(target)
        return read_head(method, version, target, fields, **kept)

    monkeypatch.setattr("gateway.web.protocol.read_head", reading)
    return targets


async def ask(port: int, *requests: bytes) -> list[int]:
    """Send requests on one connection, each when the one before is answered; the statuses."""
    async with connection(port) as (reader, writer):
        statuses = []
        for request in requests:
            writer.write(request)
            async with asyncio.timeout(20):
                statuses.append((await read_reply(reader)).status)
        return statuses


def headers_seen(gateway: RecordingGateway) -> list[dict[str, str]]:
    """The headers of what reached the gateway."""
    return [dict(seen.inbound.headers) for seen in gateway.seen]


async def test_the_same_head_is_parsed_once(port: int, gateway: RecordingGateway, parsed: list[bytes]) -> None:
    """With bodies of other lengths the requests differ in those, and in the header that says so, alone."""
    bodies = [body("x" * size) for size in (3, 3, 500, 1, 30_000, 3)]
    extra = KEY % b"sk-one"
    assert await ask(port, *(post(body=each, extra=extra) for each in bodies)) == [200] * 6
    assert len(parsed) == 1
    assert [seen.rendered for seen in gateway.seen] == bodies
    expected = {"host": "gateway", "content-type": "application/json", "authorization": "Bearer sk-one"}
    lengths = [str(len(each)) for each in bodies]
    assert headers_seen(gateway) == [{**expected, "content-length": length} for length in lengths]


@pytest.mark.parametrize(
    "other",
    [
        post(extra=KEY % b"sk-two" + b"X-Trace: 1\r\n"),
        post(extra=KEY % b"sk-one" + b"X-Trace: 2\r\n"),
        post(extra=KEY % b"sk-one" + b"X-Trace: 1\r\nX-Gateway-Max-Cost: 1\r\n"),
        post(extra=KEY % b"sk-one"),
        post(b"/images/generations", extra=KEY % b"sk-one" + b"X-Trace: 1\r\n"),
        post(host=b"Host: other\r\n", extra=KEY % b"sk-one" + b"X-Trace: 1\r\n"),
        FIRST.replace(b"POST", b"GET", 1),
        FIRST.replace(b"Content-Length: 15\r\n", b"Transfer-Encoding: chunked\r\n").replace(
            JSON_BODY, b"f\r\n" + JSON_BODY + b"\r\n0\r\n\r\n"
        ),
        FIRST.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["key", "header", "more", "less", "path", "host", "method", "framing", "version"],
)
async def test_another_head_is_parsed(other: bytes, port: int, gateway: RecordingGateway, parsed: list[bytes]) -> None:
    """Whatever else differs, the request is what it is on a connection of its own."""
    (alone,) = await ask(port, other)
    alone_seen = headers_seen(gateway)
    gateway.seen.clear()
    parsed.clear()

    assert await ask(port, FIRST, other) == [200, alone]

    assert len(parsed) == 2
    assert headers_seen(gateway)[1:] == alone_seen


@pytest.mark.parametrize(
    ("length", "status"),
    [(b"+15", 400), (b"-15", 400), (b"0x0f", 400), (b"1_5", 400), (b"15, 15", 400), (b"", 400), (b"9" * 20, 400)],
)
async def test_a_length_that_is_none_is_refused_as_ever(length: bytes, status: int, port: int) -> None:
    """It is digits alone that may differ."""
    assert await ask(port, FIRST, FIRST.replace(b"Length: 15", b"Length: " + length)) == [200, status]


async def test_a_request_in_pieces_and_two_in_one_are_parsed(port: int, gateway: RecordingGateway) -> None:
    """A known head whose body comes later, and one with another request behind it, lose nothing and gain nothing."""
    large = post(body=body("y" * 200_000), extra=KEY % b"sk-one" + b"X-Trace: 1\r\n")
    async with connection(port) as (reader, writer):
        for pieces in (
            [FIRST],
            [FIRST[:-4], FIRST[-4:]],
            [FIRST],
            [FIRST * 3],
            [FIRST[:30], FIRST[30:]],
            [large],
            [FIRST],
        ):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
            for _ in range(max(b"".join(pieces).count(b"POST"), 1)):
                async with asyncio.timeout(20):
                    assert (await read_reply(reader)).status == 200
    bodies = [JSON_BODY] * 7 + [body("y" * 200_000), JSON_BODY]
    assert [seen.rendered for seen in gateway.seen] == bodies


async def test_what_stands_behind_a_head_that_has_begun_is_part_of_it(port: int, gateway: RecordingGateway) -> None:
    """Bytes that are the same as a request before are none where a head began behind the last body."""
    async with connection(port) as (reader, writer), asyncio.timeout(20):
        for pieces in ([FIRST], [FIRST[:-4], FIRST[-4:] + b"GET /healthz HTTP/1.1\r\nX-A: "]):
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.05)
            assert (await read_reply(reader)).status == 200
        writer.write(FIRST)
        assert b"b64_json" not in (await read_reply(reader)).body
    assert len(gateway.seen) == 2


async def test_what_is_too_long_or_too_much_is_refused_all_the_same() -> None:
    """The room for bodies is asked for with each request, known head or not."""
    told: list[str] = []
    held, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def waiting() -> AsyncIterator[bytes]:
        begun.release()
        await held.wait()
        yield b"done"

    gateway = RecordingGateway()
    shedding = Shedding(ProcessLimits(bodies=1000, small=0), told.append)
    async with serving(create_app(gateway, shedding=shedding)) as port, connection(port) as (reader, writer):
        for _ in range(2):
            writer.write(FIRST)
            assert (await read_reply(reader)).status == 200
        gateway.answer = lambda: Outbound(200, [], waiting())
        async with connection(port) as (_, other):
            other.write(post(body=body("z" * 900)))
            async with asyncio.timeout(20):
                await begun.acquire()
            writer.write(post(body=body("z" * 500), extra=KEY % b"sk-one" + b"X-Trace: 1\r\n"))
            assert (await read_reply(reader)).status == 503
            held.set()
    assert told == ["bodies"]


async def test_a_body_is_read_by_that_before_it_where_they_are_alike(
    port: int, gateway: RecordingGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first on a connection is looked for among all others, one of another kind, and one with escapes."""
    looked: list[bytes] = []

    def looking(data: bytes, *how: Any) -> AlikeBody | None:
        looked.append(data)
        return find_alike(data, *how)

    monkeypatch.setattr("gateway.web.json_body.find_alike", looking)
    other = b'{"n": 1, "prompt": "e"}'
    bodies = [*map(body, ("a", "bb", 'c"c', "d")), other, other, body("f")]
    assert await ask(port, *(post(body=each) for each in bodies)) == [200] * 7
    assert looked == [body("a"), body('c"c'), other, body("f")]
    assert [seen.rendered for seen in gateway.seen] == bodies


def test_what_was_read_of_a_head_is_kept_with_it() -> None:
    """With another length of the body, too; the head that says otherwise has an envelope of its own."""
    again = known(FIRST)
    assert again is not None
    envelopes = []
    for prompt in ("a", "bb", "a"):
        found = again.match(post(body=body(prompt), extra=KEY % b"sk-one" + b"X-Trace: 1\r\n"))
        assert found is not None
        head, _ = found
        assert head.headers["content-length"] == str(len(body(prompt)))
        envelopes.append(envelope_of(head.headers))
    assert envelopes == [envelopes[0]] * 3
    whole = again.match(FIRST)
    assert whole is not None
    kept = envelope_of(whole[0].headers)
    found = again.match(post(body=body("ccc"), extra=KEY % b"sk-one" + b"X-Trace: 1\r\n"))
    assert found is not None
    assert envelope_of(found[0].headers) is kept


def known(first: bytes) -> Again | None:
    """The first request's head, as it is remembered."""
    read = parse(first)
    return Again.of(read[0], first) if read else None


def parse(data: bytes) -> tuple[Head, bytes] | None:
    """Head and body of bytes that are one whole request, by the parser; None if they are not."""
    reading = Reading()
    parser = reading.parser
    try:
        parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    if reading.ended != 1:
        return None
    head = read_head(
        parser.get_method(),
        parser.get_http_version(),
        reading.target,
        reading.fields,
        keep_alive=reading.keep_alive,
    )
    return head, reading.body


class Reading:
    """Keeps what the parser finds."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.keep_alive = False
        self.target, self.body, self.ended = b"", b"", 0
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The end of the head, after which alone the parser knows whether the connection goes on."""
        self.keep_alive = self.parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        self.body += piece

    def on_message_complete(self) -> None:
        """The end."""
        self.ended += 1


_PIECES = [
    b"\r\n",
    b"0",
    b"7",
    b" ",
    b"\t",
    b"Content-Length: 3\r\n",
    b"\r\n\r\n",
    b"x",
    b":",
    b"Connection: close\r\n",
]


def test_a_length_with_a_zero_before_it_is_left_to_the_parser() -> None:
    """It is no other number, and another header."""
    again = known(FIRST)
    assert again is not None
    assert again.match(FIRST.replace(b"Length: 15", b"Length: 015")) is None


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_what_is_recognised_is_what_the_parser_reads(data: st.DataObject) -> None:
    """However the bytes of a second request differ, they are left to the parser or taken for what it makes of them."""
    again = known(FIRST)
    assert again is not None
    start = data.draw(st.integers(0, len(FIRST)))
    end = data.draw(st.integers(start, min(start + 30, len(FIRST))))
    put = b"".join(data.draw(st.lists(st.sampled_from(_PIECES), max_size=4)))
    second = FIRST[:start] + put + FIRST[end:]

    found = again.match(second)

    assert found is None or found == parse(second)


@pytest.mark.parametrize(
    "first",
    [
        post(extra=b"Connection: close\r\n"),
        post(extra=b"Expect: 100-continue\r\n"),
        post().replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"\r\n" + post(),
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
        post(extra=b"X: " + b"x" * 5000 + b"\r\n"),
        post() + b"\r\n",
    ],
    ids=["closes", "asks first", "HTTP/1.0", "empty line", "no body", "long", "more behind"],
)
def test_some_heads_are_not_remembered(first: bytes) -> None:
    """Those that say more than the length of a body, or did not come alone from the first byte to the last."""
    assert known(first) is None

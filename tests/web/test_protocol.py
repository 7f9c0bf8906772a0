"""The head of a request: what the server refuses before any application sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from gateway.ports import Headers, Outbound
from gateway.web.limits import BodyLimits, HeadLimits
from tests.web.raw import HOST, JSON_BODY, connection, exchange, post, read_reply
from tests.web.recording import RecordingGateway, answer_images, in_pieces, serving_gateway

MALFORMED = (400, "invalid_request")
LARGE = (431, "headers_too_large")
REFUSED: dict[str, tuple[bytes, tuple[int, str]]] = {
    "not HTTP": (b"hello\r\n\r\n", MALFORMED),
    "no host": (post(host=b""), MALFORMED),
    "two hosts": (post(extra=HOST), MALFORMED),
    "bare LF": (b"GET /healthz HTTP/1.1\nHost: a\n\n", MALFORMED),
    "folded header": (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", MALFORMED),
    "NUL in a header": (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", MALFORMED),
    "space before the colon": (b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n", MALFORMED),
    "length and chunked": (post(extra=b"Transfer-Encoding: chunked\r\n"), MALFORMED),
    "two lengths": (post(extra=b"Content-Length: 5\r\n"), MALFORMED),
    "negative length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", MALFORMED),
    "length with a sign": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", MALFORMED),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", MALFORMED),
    "one header of 33 KiB": (post(extra=b"X: " + b"x" * 33_000 + b"\r\n"), LARGE),
    "one header that never ends": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000, LARGE),
    "many headers of 33 KiB": (post(extra=b"".join(b"X%d: " % n + b"x" * 1000 + b"\r\n" for n in range(34))), LARGE),
    "101 headers": (post(extra=b"".join(b"X%d: x\r\n" % n for n in range(98))), LARGE),
    "a URL of 9 KiB": (post(b"/" + b"x" * 9000), (414, "uri_too_long")),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_head_is_refused_once_and_closed(case: str, port: int, gateway: RecordingGateway) -> None:
    """Each bad head gets one answer in OpenAI's shape with a request id, then the end of the connection."""
    request, (status, code) = REFUSED[case]

    reply, rest = await exchange(port, request)

    assert (reply.status, reply.error["code"], rest) == (status, code, b"")
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.headers["connection"] == "close"
    assert gateway.seen == []


async def test_heads_within_the_limits_are_served(port: int, gateway: RecordingGateway) -> None:
    """A hundred fields, 30 KiB of them, a URL of 8,000 bytes and HTTP/1.0 without a host are all fine."""
    fields = b"".join(b"X%d: %s\r\n" % (n, b"x" * 280) for n in range(97))
    assert (await exchange(port, post(extra=fields)))[0].status == 200
    assert (await exchange(port, post(b"/v1/images/generations?" + b"x" * 8000)))[0].status == 200
    assert (await exchange(port, b"GET /healthz HTTP/1.0\r\n\r\n"))[0].status == 200
    assert len(gateway.seen) == 2


async def test_a_head_cut_into_bytes_is_served(port: int) -> None:
    """How a head is cut into packets makes no difference."""
    request = post()
    async with connection(port) as (reader, writer):
        for byte in request:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await read_reply(reader)).status == 200


async def test_requests_follow_each_other_on_one_connection(port: int, gateway: RecordingGateway) -> None:
    """Keep-alive and pipelining answer every request in order."""
    async with connection(port) as (reader, writer):
        writer.write(post() * 3)
        for _ in range(3):
            assert (await read_reply(reader)).status == 200
        writer.write(post())
        assert (await read_reply(reader)).status == 200
    assert len(gateway.seen) == 4


async def test_an_offer_of_http2_is_passed_over(port: int, gateway: RecordingGateway) -> None:
    """Clients that offer HTTP/2 with every request are served in HTTP/1.1, body included, again and again."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
    async with connection(port) as (reader, writer):
        for _ in range(2):
            writer.write(post(extra=offer))
            assert (await read_reply(reader)).status == 200
    assert [seen.rendered for seen in gateway.seen] == [JSON_BODY] * 2


async def test_a_slow_head_is_cut_off(gateway: RecordingGateway) -> None:
    """A head that does not end in time gets 408; a connection that never begins one is closed without a word."""
    async with serving_gateway(gateway, head_limits=HeadLimits(seconds=0.2)) as port:
        reply, rest = await exchange(port, b"POST /v1/images/generations HTTP/1.1\r\nHost: ")
        assert (reply.status, reply.error["code"], rest) == (408, "request_timeout", b"")
        async with connection(port) as (reader, writer):
            assert await reader.read() == b""
        async with connection(port) as (reader, writer):
            writer.write(post())
            assert (await read_reply(reader)).status == 200
            writer.write(b"GET /heal")
            assert (await read_reply(reader)).status == 408


async def test_a_slow_head_behind_a_request_is_cut_off(gateway: RecordingGateway) -> None:
    """What has begun before the answer has as long as any other from then on."""

    async def slow() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.4)
        yield b"a"

    async with serving_gateway(gateway, head_limits=HeadLimits(seconds=0.2)) as port:
        for answer in (gateway.answer, lambda: Outbound(200, [("content-length", "1")], slow())):
            gateway.answer = answer
            for pieces in ([post() + b"GET /heal"], [post(), b"GET /heal"]):
                async with connection(port) as (reader, writer), asyncio.timeout(20):
                    for piece in pieces:
                        writer.write(piece)
                        await asyncio.sleep(0.05)
                    assert (await read_reply(reader)).status == 200
                    assert (await read_reply(reader)).status == 408
                    assert await reader.read() == b""


async def test_blank_lines_between_requests_are_none(gateway: RecordingGateway) -> None:
    """They are passed over (RFC 9112, 2.2): the connection rests on, and ends without a word."""
    limits = HeadLimits(seconds=0.2, idle_seconds=2)
    async with serving_gateway(gateway, head_limits=limits) as port, connection(port) as (reader, writer):
        writer.write(b"\r\n" + post() + b"\r\n")
        assert (await read_reply(reader)).status == 200
        for blank in (b"\r\n", b"\r\n\r\n"):
            writer.write(blank)
            await asyncio.sleep(0.4)
        writer.write(b"\r\n" + post())
        assert (await read_reply(reader)).status == 200
        writer.write(b"\r\n")
        async with asyncio.timeout(20):
            assert await reader.read() == b""


@pytest.mark.parametrize(
    ("version", "expect", "asked"),
    [
        (b"1.1", b"100-continue", True),
        (b"1.1", b"100-Continue \t", True),
        (b"1.1", b"100-continue, 100-continue", True),
        (b"1.1", b"other", False),
        (b"1.0", b"100-continue", False),
    ],
)
async def test_word_is_given_to_whom_waits_for_it(version: bytes, expect: bytes, asked: bool, port: int) -> None:
    """HTTP/1.0 knows no such word (RFC 9110, 10.1.1); blanks behind the value are none of it."""
    request = post(extra=b"Expect: %s\r\n" % expect).replace(b"HTTP/1.1", b"HTTP/" + version)
    async with connection(port) as (reader, writer):
        writer.write(request[: -len(JSON_BODY)])
        if asked:
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(JSON_BODY)
        assert (await read_reply(reader)).status == 200


async def test_a_url_may_name_its_host_alone(port: int) -> None:
    """Its path is the root, which is none of the paths that are served."""
    for target in (b"http://gateway", b"http://gateway?a=b"):
        reply, _ = await exchange(port, b"GET %s HTTP/1.1\r\n%s\r\n" % (target, HOST))
        assert (reply.status, reply.error["message"][:20]) == (404, "Unknown path: GET /.")


async def test_an_answer_without_a_body_may_name_the_length_of_another(gateway: RecordingGateway, port: int) -> None:
    """That of a 304 is what the body would have had (RFC 9110, 8.6); the connection goes on."""
    headers = [("content-length", "100"), ("etag", '"a"')]
    async with connection(port) as (reader, writer):
        for _ in range(2):
            gateway.answer = lambda: Outbound(304, headers, in_pieces())
            writer.write(post())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 304 ")
            assert b"content-length: 100" in head
        gateway.answer = answer_images
        writer.write(post())
        assert (await read_reply(reader)).status == 200


async def test_a_slow_body_is_cut_off(gateway: RecordingGateway) -> None:
    """A body that stops coming gets 408; one that keeps coming slowly but steadily enough is read."""
    limits = BodyLimits(slow_seconds=0.2, slow_bytes=10)
    async with serving_gateway(gateway, limits) as port:
        reply, _ = await exchange(port, post()[:-5])
        assert (reply.status, reply.error["code"]) == (408, "request_timeout")
        body = JSON_BODY + b" " * 100
        request = post(body=body)
        async with connection(port) as (reader, writer):
            writer.write(request[:-100])
            for start in range(len(request) - 100, len(request), 20):
                await asyncio.sleep(0.12)
                writer.write(request[start : start + 20])
            assert (await read_reply(reader)).status == 200


async def test_a_body_that_takes_for_ever_is_cut_off(gateway: RecordingGateway) -> None:
    """However steadily it comes, a body has an end in time."""
    async with serving_gateway(gateway, BodyLimits(seconds=0.3)) as port, connection(port) as (reader, writer):
        writer.write(post()[:-2])
        assert (await read_reply(reader)).status == 408


async def test_what_is_never_read_is_dropped() -> None:
    """An answer that nobody takes ends with its connection, even where nothing that writes watches the time."""
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0)
        finally:
            closed.set()

    gateway = RecordingGateway(answer=lambda: Outbound(200, [], endless()))
    limits = HeadLimits(unread_seconds=0.3)
    async with serving_gateway(gateway, head_limits=limits) as port, connection(port) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # the stream reader would read ahead
        writer.write(post())
        async with asyncio.timeout(20):
            await closed.wait()


async def test_a_connection_that_rests_for_long_is_closed(gateway: RecordingGateway) -> None:
    """One timer for all answers on it counts from the last, and not while a request is served."""
    limits = HeadLimits(idle_seconds=0.4)
    async with serving_gateway(gateway, head_limits=limits) as port, connection(port) as (reader, writer):
        for _ in range(4):
            await asyncio.sleep(0.2)
            writer.write(post())
            assert (await read_reply(reader)).status == 200
        async with asyncio.timeout(20):
            assert await reader.read() == b""

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0.7)
        yield b"b"

    gateway.answer = lambda: Outbound(200, [("content-length", "2")], slow())
    async with serving_gateway(gateway, head_limits=limits) as port, connection(port) as (reader, writer):
        writer.write(post())
        assert (await read_reply(reader)).status == 200
        await asyncio.sleep(0.2)
        writer.write(post())
        assert (await read_reply(reader)).body == b"ab"


async def test_an_answer_that_would_break_its_head_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    """A line break in a header of our own is a bug that is logged, and no second answer on the wire."""

    class Breaking(RecordingGateway):
        async def task(self, headers: Mapping[str, str], task_id: str) -> tuple[dict[str, object], Headers]:  # noqa: ARG002 - the contract's
            return {}, [("x-a", "b\r\nx-c: d")]

    async with serving_gateway(Breaking()) as port:
        reply, _ = await exchange(port, b"GET /v1/tasks/a HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (reply.status, reply.error["code"]) == (500, "internal_error")
    assert "x-c" not in reply.headers
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    caplog.clear()


@pytest.mark.parametrize("behind", [b"\x00\x01garbage\r\n\r\n", b"x", b"\x16\x03\x01\x02\x00", b"GET"])
async def test_bytes_behind_a_whole_request_take_no_answer_from_it(
    gateway: RecordingGateway, port: int, behind: bytes
) -> None:
    """It may have been paid for: it is answered once, with nothing behind it, and the connection ends."""
    async with connection(port) as (reader, writer):
        writer.write(post() + behind)
        reply = await read_reply(reader)
        assert reply.status == 200
        writer.write_eof()
        assert await _all(reader) == b""
    assert len(gateway.seen) == 1


async def _all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""

"""A connection keeps to one exchange at a time, knows where each answer ends, and reads no further than it is asked."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter

import httpx
import pytest
import uvloop

from gateway.http1 import resolving
from gateway.http1.message import head_of
from gateway.http1.transport import Transport
from tests.providers.exchanges import JSON, answer_all, exchange, failure, post
from tests.providers.raw_server import Connection, forever, serving


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
    ],
    ids=["no-length", "http-1.0", "not-chunked"],
)
async def test_a_body_that_the_end_of_the_connection_ends(transport: Transport, answer: bytes) -> None:
    """Where nothing else says where the body ends, a proper end of the connection does."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer)

    async with serving(script) as server:
        for _ in range(2):
            assert await exchange(transport, post(server.url, b"x")) == (200, b"{}")
        assert server.accepted == 2


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_without_a_body(transport: Transport, status: str) -> None:
    """Some answers have no body whatever they say, and the connection goes on."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.send(f"HTTP/1.1 {status}\r\n\r\n".encode())

    async with serving(script) as server:
        for _ in range(2):
            assert await exchange(transport, post(server.url, b"x")) == (int(status[:3]), b"")
        assert server.accepted == 1


async def test_an_answer_to_head(transport: Transport) -> None:
    """The length that an answer to HEAD tells is not waited for."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        await forever(connection)

    async with serving(script) as server:
        assert await exchange(transport, httpx.Request("HEAD", server.url)) == (200, b"")


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"],
    ids=["length", "chunks"],
)
async def test_what_nobody_asked_for(transport: Transport, framing: bytes) -> None:
    """An answer that follows the one asked for is nobody's: the connection is not used again."""
    answer = b"HTTP/1.1 200 OK\r\n" + framing

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer + answer.replace(b"{}", b"[]"))
        await forever(connection)

    async with serving(script) as server:
        for _ in range(2):
            assert await exchange(transport, post(server.url, b"x")) == (200, b"{}")
        assert server.accepted == 2


async def test_an_upgrade_that_nobody_asked_for(transport: Transport) -> None:
    """A server that changes the protocol by itself is refused; the request was sent."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
        await forever(connection)

    async with serving(script) as server:
        assert isinstance(await failure(transport, post(server.url, b"x")), httpx.RemoteProtocolError)


async def test_an_idle_connection_is_closed() -> None:
    """A connection that nobody used for long is closed by the gateway itself, and another one made."""
    closed = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(JSON.encode())
        await connection.reader.read()
        closed.set()

    transport = Transport(keepalive=0.05)
    async with serving(script) as server:
        assert (await exchange(transport, post(server.url, b"x")))[0] == 200
        await asyncio.wait_for(closed.wait(), 60)
        assert (await exchange(transport, post(server.url, b"x")))[0] == 200
        assert server.accepted == 2
        await transport.aclose()


async def test_nothing_is_read_ahead(transport: Transport) -> None:
    """While the answer is not read, the server cannot send on; once it is, all of it comes."""
    size, sent = 64 * 1024 * 1024, 0

    async def script(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await connection.send(b"x" * 262_144)
            sent += 262_144

    async with serving(script) as server:
        response = await transport.handle_async_request(post(server.url, b"x", read=60.0))
        await asyncio.sleep(1)
        assert sent < size
        assert isinstance(response.stream, httpx.AsyncByteStream)
        assert sum([len(chunk) async for chunk in response.stream]) == size


@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r", "\0"])
def test_a_line_break_in_a_header(break_: str) -> None:
    """No header can begin another one, or a second request: it is called unsent."""
    with pytest.raises(httpx.UnsupportedProtocol):
        head_of("POST", httpx.URL("http://provider/v1"), [(b"X-Name", f"a{break_}X-Other: b".encode())])


def test_names_that_nobody_answers_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lookups that hang hold up no others, and each name hangs once."""
    asked, go_on, look_up = Counter[str](), threading.Event(), socket.getaddrinfo

    def hanging(host: str, port: int, **more: int) -> object:  # no name server can be made to hang from within a test
        asked[host] += 1
        if host.endswith(".invalid"):
            go_on.wait(60)
        return look_up(host, port, **more)

    async def talk() -> None:
        transport = Transport()
        async with serving(answer_all) as server:
            for _ in range(2):
                calls = [failure(transport, post(f"http://{name}.invalid", b"x", connect=0.1)) for name in "abcdefgh"]
                assert all(isinstance(error, httpx.ConnectTimeout) for error in await asyncio.gather(*calls))
            url = server.url.replace("127.0.0.1", "localhost")
            assert await exchange(transport, post(url, b"x", connect=30.0)) == (200, JSON.encode())
        go_on.set()
        await transport.aclose()

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    monkeypatch.setattr(resolving, "_NAMES_KEPT", 0.0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(talk())
        finally:
            go_on.set()
    assert asked == {f"{name}.invalid": 1 for name in "abcdefgh"} | {"localhost": 1}


def test_the_event_loop_that_serves() -> None:
    """Over uvloop, which the gateway runs on, small and large bodies come through both ways, on one connection."""

    async def talk() -> None:
        transport = Transport()
        async with serving(answer_all) as server:
            for body in (b"x", b"x" * 5_000_000, b"x"):
                assert await exchange(transport, post(server.url, body)) == (200, JSON.encode())
            assert server.accepted == 1
            await transport.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(talk())


async def test_where_it_connects(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the environment's is used, and an address may be one of IPv6."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serving(answer_all) as server:
        assert await exchange(transport, post(server.url, b"x")) == (200, JSON.encode())
    if not socket.has_ipv6:
        return
    async with serving(answer_all, host="::1") as server:
        url = server.url.replace("127.0.0.1", "[::1]")
        assert await exchange(transport, post(url, b"x")) == (200, JSON.encode())
        assert server.requests[0].header("host") == f"[::1]:{server.port}"

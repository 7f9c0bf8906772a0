"""The transport says for each failure what was sent, with real sockets doing the failing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import httpx
import pytest

from gateway.http1.transport import Transport
from tests.providers.exchanges import NOT_SENT, answer_all, failure, post
from tests.providers.raw_server import Connection, forever, serving


async def test_refused(transport: Transport) -> None:
    """Nothing listens: not sent."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        assert isinstance(await failure(transport, post(f"http://127.0.0.1:{port}", b"x")), httpx.ConnectError)


async def test_unknown_name(transport: Transport) -> None:
    """A name that does not exist: not sent."""
    assert isinstance(await failure(transport, post("http://nowhere.invalid", b"x")), NOT_SENT)


async def test_blackhole(transport: Transport) -> None:
    """A server whose backlog is full never completes the connection: not sent, within the connect timeout."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        fillers = [socket.socket() for _ in range(8)]
        for filler in fillers:
            filler.setblocking(False)
        connecting = [asyncio.create_task(loop.sock_connect(f, listening.getsockname())) for f in fillers]
        await asyncio.sleep(0.2)
        try:
            error = await failure(transport, post(f"http://127.0.0.1:{listening.getsockname()[1]}", b"x"))
            assert isinstance(error, httpx.ConnectTimeout)
        finally:
            for task in connecting:
                task.cancel()
            await asyncio.gather(*connecting, return_exceptions=True)
            for filler in fillers:
                filler.close()


async def test_untrusted_certificate(transport: Transport) -> None:
    """A certificate nobody signed: not sent, not even the head."""
    async with serving(answer_all, tls=True) as server:
        assert isinstance(await failure(transport, post(server.url, b"x")), httpx.ConnectError)
    assert server.requests == []


async def test_no_tls_at_all(transport: Transport) -> None:
    """A server that does not speak TLS: not sent."""

    async def script(connection: Connection) -> None:
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(script) as server:
        assert isinstance(await failure(transport, post(server.url.replace("http", "https"), b"x")), NOT_SENT)


async def close_at_once(connection: Connection) -> None:
    """Accept and hang up."""


async def close_after_head(connection: Connection) -> None:
    """Read the head and hang up."""
    await connection.head()


async def close_after_body(connection: Connection) -> None:
    """Read all and hang up without an answer."""
    await connection.request()


async def reset_after_body(connection: Connection) -> None:
    """Read all and reset the connection."""
    await connection.request()
    connection.reset()


async def reset_in_headers(connection: Connection) -> None:
    """Reset the connection within the answer's headers."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    connection.reset()


async def reset_in_body(connection: Connection) -> None:
    """Reset the connection in the middle of the answer."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await asyncio.sleep(0.05)
    connection.reset()


async def half_a_body(connection: Connection) -> None:
    """Send half of the length promised and hang up properly."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 50)


async def half_the_chunks(connection: Connection) -> None:
    """Send a chunk without the last one and hang up properly."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")


@pytest.mark.parametrize(
    "script",
    [
        close_after_head,
        close_after_body,
        reset_after_body,
        reset_in_headers,
        reset_in_body,
        half_a_body,
        half_the_chunks,
    ],
)
async def test_lost_after_sending(transport: Transport, script: Callable[[Connection], Awaitable[None]]) -> None:
    """Whatever breaks after a byte was sent is never called unsent, and is never sent again."""
    async with serving(script) as server:
        error = await failure(transport, post(server.url, b"x" * 300_000, b"y"))
        assert isinstance(error, httpx.ReadError)
        assert server.accepted == 1
        assert len(server.requests) == 1


async def test_hung_up_on_accept(transport: Transport) -> None:
    """A server that hangs up before it reads: if it is called unsent, then nothing arrived."""
    async with serving(close_at_once) as server:
        error = await failure(transport, post(server.url, b"x"))
        assert isinstance(error, (httpx.ReadError, *NOT_SENT))
    assert server.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(201)) + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"x" * 9_000 + b"\r\n") * 8 + b"Content-Length: 0\r\n\r\n",
    ],
    ids=["not-http", "two-lengths", "long-header", "many-headers", "large-headers"],
)
async def test_broken_head(transport: Transport, answer: bytes) -> None:
    """What is not HTTP, or has absurd headers, is refused; the request was sent."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer)
        await forever(connection)

    async with serving(script) as server:
        assert isinstance(await failure(transport, post(server.url, b"x")), httpx.RemoteProtocolError)


async def no_answer(connection: Connection) -> None:
    """Read all and never answer."""
    await connection.request()
    await forever(connection)


async def endless_headers(connection: Connection) -> None:
    """Drip headers, each byte in time, all of them never."""
    await connection.request()
    while True:
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.05)


async def stalled_body(connection: Connection) -> None:
    """Send half the answer and then nothing."""
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await forever(connection)


@pytest.mark.parametrize("script", [no_answer, endless_headers, stalled_body])
async def test_no_answer_in_time(transport: Transport, script: Callable[[Connection], Awaitable[None]]) -> None:
    """Neither silence nor a drip of headers outlasts the read timeout; the request was sent once."""
    async with serving(script) as server:
        assert isinstance(await failure(transport, post(server.url, b"x", read=0.3)), httpx.ReadTimeout)
        assert len(server.requests) == 1


async def test_a_server_that_does_not_read(transport: Transport) -> None:
    """An upload that stalls is given up; part of it was sent."""

    async def script(connection: Connection) -> None:
        connection.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await forever(connection)

    async with serving(script) as server:
        body = [b"x" * 1_000_000] * 30
        assert isinstance(await failure(transport, post(server.url, *body, read=0.3)), httpx.WriteTimeout)


async def test_a_body_that_cannot_be_read(transport: Transport) -> None:
    """If our own body breaks before its first byte nothing was sent; later, no short body passes for whole."""
    async with serving(answer_all) as server:
        early = post(server.url, length=10, error=OSError(5, "disk"))
        late = post(server.url, b"x", length=10, error=ValueError("disk"))
        assert isinstance(await failure(transport, early), NOT_SENT)
        assert not isinstance(await failure(transport, late), NOT_SENT)
        assert all(request.body == b"" for request in server.requests)

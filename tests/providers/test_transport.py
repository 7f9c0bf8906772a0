"""The transport sends once, streams both ways, and keeps its connections in order."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.http1.transport import Transport
from tests.providers.exchanges import JSON, Pieces, answer_all, exchange, failure, post
from tests.providers.raw_server import SELF_SIGNED, Connection, RawServer, forever, serving


async def test_what_is_sent(transport: Transport) -> None:
    """The body arrives piece by piece and whole, with the headers given, a Host, and not one more."""
    async with serving(answer_all) as server:
        assert await exchange(transport, post(server.url, b"ab", b"", b"cd")) == (200, JSON.encode())
    (request,) = server.requests
    assert request.line == "POST /v1/images HTTP/1.1"
    assert request.body == b"abcd"
    assert dict(request.headers) == {"host": f"127.0.0.1:{server.port}", "content-length": "4"}


async def test_a_body_of_unknown_length(transport: Transport) -> None:
    """Without a length the body is sent in chunks, framed once."""
    async with serving(answer_all) as server:
        chunked = httpx.Request(
            "POST", server.url, headers={"Transfer-Encoding": "chunked"}, stream=Pieces(b"ab", b"cd")
        )
        assert (await exchange(transport, chunked))[0] == 200
        assert (await exchange(transport, httpx.Request("POST", server.url)))[0] == 200
        assert (await exchange(transport, httpx.Request("GET", server.url)))[0] == 200
    assert [request.body for request in server.requests] == [b"abcd", b"", b""]
    assert server.requests[2].header("transfer-encoding") is None


async def test_an_answer_comes_as_it_is_sent(transport: Transport) -> None:
    """A chunk is passed on before the next is sent, interim answers are skipped, nothing is decompressed."""
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\nSet-Cookie: a=b\r\n\r\n"
        await connection.send(head + b"5\r\nfirst\r\n")
        await go_on.wait()
        await connection.send(b"6\r\nsecond\r\n0\r\n\r\n")
        await connection.request()
        await connection.answer(b"{}")

    async with serving(script) as server:
        response = await transport.handle_async_request(post(server.url, b"x"))
        assert response.headers["content-encoding"] == "gzip"
        assert isinstance(response.stream, httpx.AsyncByteStream)
        chunks = aiter(response.stream)
        assert await anext(chunks) == b"first"
        go_on.set()
        assert [chunk async for chunk in chunks] == [b"second"]
        await exchange(transport, post(server.url, b"x"))
    assert server.accepted == 1
    assert server.requests[1].header("cookie") is None


async def test_redirects_are_not_followed(transport: Transport) -> None:
    """A redirect is an answer like any other; credentials go nowhere else."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"", status="307 Elsewhere", headers=f"Location: {connection.server.url}/other\r\n")
        await forever(connection)

    async with serving(script) as server:
        assert (await exchange(transport, post(server.url, b"x")))[0] == 307
        assert len(server.requests) == 1


async def test_trusted_certificate() -> None:
    """With its certificate trusted the same server is spoken to, and the connection is used again."""
    transport = Transport(ssl_context=ssl.create_default_context(cafile=SELF_SIGNED))
    async with serving(answer_all, tls=True) as server:
        for _ in range(2):
            assert (await exchange(transport, post(server.url, b"x")))[0] == 200
        assert server.accepted == 1
        await transport.aclose()


async def test_a_slow_answer_within_the_timeout(transport: Transport) -> None:
    """An answer may take longer in all than the timeout between two bytes."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(6):
            await asyncio.sleep(0.15)
            await connection.send(b"x")

    async with serving(script) as server:
        assert await exchange(transport, post(server.url, b"x", read=0.5)) == (200, b"xxxxxx")


async def test_each_wait_has_its_own_end(transport: Transport) -> None:
    """On one connection a wait is ended by its own timeout: by no shorter one before it, nor later by a longer one."""
    pauses = [0.0, 0.6, 0.0, 60.0]

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await asyncio.sleep(pauses.pop(0))
            await connection.answer(JSON.encode())

    async with serving(script) as server:
        for read in (0.3, 30.0, 30.0):
            assert await exchange(transport, post(server.url, b"x", read=read)) == (200, JSON.encode())
        assert isinstance(await failure(transport, post(server.url, b"x", read=0.3)), httpx.ReadTimeout)
        assert server.accepted == 1


async def test_an_early_answer(transport: Transport) -> None:
    """A refusal that comes before the body was read is heard, and its connection is not used again."""

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.answer(b"{}", status="413 Too Large")
        while await connection.reader.read(65_536):
            pass

    async with serving(script) as server:
        body = [b"x" * 100_000] * 100
        assert (await exchange(transport, post(server.url, *body)))[0] == 413
        assert (await exchange(transport, post(server.url, *body)))[0] == 413
        assert server.accepted == 2


async def test_an_answer_that_begins_before_the_request_has_ended(transport: Transport) -> None:
    """A server may begin to answer while it reads: both bodies come through, and the connection stays good."""

    async def script(connection: Connection) -> None:
        while True:
            request = await connection.head()
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            await asyncio.sleep(0.1)
            await connection.reader.readexactly(int(request.header("content-length") or 0))
            await asyncio.sleep(0.1)
            await connection.send(b"cd")

    async with serving(script) as server:
        for _ in range(2):
            assert await exchange(transport, post(server.url, *[b"x" * 100_000] * 100)) == (200, b"abcd")
        assert server.accepted == 1


async def test_a_dead_connection_is_not_used(transport: Transport) -> None:
    """Nothing is sent on connections that the server closed while idle; each request arrives once."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"{}")

    async with serving(script) as server:
        for _ in range(5):
            assert (await exchange(transport, post(server.url, b"x")))[0] == 200
        assert server.accepted == len(server.requests) == 5


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells of a half-closed connection by polling")
async def test_a_connection_that_dies_unnoticed(transport: Transport) -> None:
    """A close that has reached the machine, though not yet the event loop, is seen before anything is sent."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        listening.setblocking(False)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        loop = asyncio.get_running_loop()

        async def serve_one() -> socket.socket:
            accepted, _ = await loop.sock_accept(listening)
            while not (await loop.sock_recv(accepted, 65_536)).endswith(b"x"):
                pass
            await loop.sock_sendall(accepted, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            return accepted

        first, _ = await asyncio.gather(serve_one(), exchange(transport, post(url, b"x")))

        class Closing(Pieces):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                first.close()  # no turn of the event loop lies between this and the write
                yield b"x"

        request = post(url, b"x")
        request.stream = Closing()
        second, answer = await asyncio.gather(serve_one(), exchange(transport, request))
        assert answer == (200, b"{}")
        second.close()


async def test_a_post_on_a_dying_connection_is_sent_once(transport: Transport) -> None:
    """If the server takes the second request of a connection and hangs up, the request is not repeated."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"{}")
        await connection.request()

    async with serving(script) as server:
        assert (await exchange(transport, post(server.url, b"x")))[0] == 200
        assert isinstance(await failure(transport, post(server.url, b"x")), httpx.ReadError)
        assert len(server.requests) == 2
        assert server.accepted == 1


async def test_an_answer_left_behind(transport: Transport) -> None:
    """Closing a half-read answer drops its connection; the next request gets a fresh one and its own answer."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"x" * 5_000_000 if connection.server.accepted == 1 else b"{}")
        await forever(connection)

    async with serving(script) as server:
        response = await transport.handle_async_request(post(server.url, b"x"))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        await anext(aiter(response.stream))
        await response.aclose()
        assert await exchange(transport, post(server.url, b"x")) == (200, b"{}")
        assert server.accepted == 2


async def test_cancellation_storm(transport: Transport) -> None:
    """After 2,000 requests cancelled at every stage, 1,000 in flight at once are all answered."""
    slow = asyncio.Event()

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            if not slow.is_set():
                await asyncio.sleep(0.05)
            await connection.answer(JSON.encode())

    async def storm(server: RawServer) -> None:
        tasks = [asyncio.create_task(exchange(transport, post(server.url, b"x"))) for _ in range(200)]
        for delay in (0.0, 0.0, 0.01, 0.05):
            await asyncio.sleep(delay)
            for task in tasks[::3]:
                task.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async with serving(script) as server:
        for _ in range(10):
            await storm(server)
        slow.set()
        answers = await asyncio.gather(
            *(exchange(transport, post(server.url, b"x", connect=60.0, read=60.0)) for _ in range(1000)),
            return_exceptions=True,
        )
        assert [answer for answer in answers if answer != (200, JSON.encode())] == []

"""What a server says before it was asked is never taken for an answer, and nothing unsent counts as sent."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from gateway.http1.transport import Transport
from tests.providers.exchanges import JSON, NOT_SENT, Pieces, answer_all, exchange, failure, post
from tests.providers.raw_server import Connection, forever, serving

WRONG = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
LARGE = b"x" * 100_000
"""More than is handed to the socket before the answer is waited for."""


class Prepared(Pieces):
    """A body before whose pieces something happens, each time it is read."""

    def __init__(self, before: Callable[[], Awaitable[None]], *pieces: bytes) -> None:
        super().__init__(*pieces)
        self.before = before

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await self.before()
        for piece in self.pieces:
            yield piece


async def turns() -> None:
    """Let the event loop see what has happened on its sockets."""
    for _ in range(50):
        await asyncio.sleep(0)


def prepared(url: str, before: Callable[[], Awaitable[None]], body: bytes) -> httpx.Request:
    """A POST before whose first byte something happens."""
    request = post(url, body)
    request.stream = Prepared(before, body)
    return request


@pytest.mark.parametrize("body", [b"x", LARGE], ids=["small", "large"])
async def test_what_a_server_says_before_it_is_asked(transport: Transport, body: bytes) -> None:
    """What comes on an idle connection while the request is being prepared is no answer to it."""
    speak = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(JSON.encode())
        if connection.server.accepted == 1:
            await speak.wait()
            await connection.send(WRONG)
        await forever(connection)

    async def before() -> None:
        speak.set()
        await turns()

    async with serving(script) as server:
        await exchange(transport, post(server.url, b"x"))
        assert await exchange(transport, prepared(server.url, before, body)) == (200, JSON.encode())
        assert (server.accepted, len(server.requests)) == (2, 2)


@pytest.mark.parametrize("body", [b"x", LARGE], ids=["small", "large"])
async def test_a_connection_that_ends_before_the_body_is_there(transport: Transport, body: bytes) -> None:
    """A server that hangs up on an idle connection while the request is being prepared has got none of it."""
    leave = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(JSON.encode())
        await (leave.wait() if connection.server.accepted == 1 else forever(connection))

    async def before() -> None:
        leave.set()
        await turns()

    async with serving(script) as server:
        await exchange(transport, post(server.url, b"x"))
        assert await exchange(transport, prepared(server.url, before, body)) == (200, JSON.encode())
        assert (server.accepted, len(server.requests)) == (2, 2)


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells ahead of the event loop")
async def test_what_the_event_loop_has_not_heard_of(transport: Transport) -> None:
    """What a server said unasked is found even if it has only just reached the machine."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        listening.setblocking(False)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        async def serve_one() -> socket.socket:
            accepted, _ = await loop.sock_accept(listening)
            while not (await loop.sock_recv(accepted, 65_536)).endswith(b"x"):
                pass
            await loop.sock_sendall(accepted, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            return accepted

        first, _ = await asyncio.gather(serve_one(), exchange(transport, post(url, b"x")))

        async def before() -> None:
            first.send(WRONG)  # no turn of the event loop lies between this and the write

        second, answer = await asyncio.gather(serve_one(), exchange(transport, prepared(url, before, b"x")))
        assert answer == (200, b"{}")
        second.close()
        first.close()


async def test_a_server_that_speaks_first(transport: Transport) -> None:
    """A server that speaks as soon as it is connected to has got nothing, and brings no part of the gateway down."""
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))

    async def script(connection: Connection) -> None:
        await connection.send(WRONG)
        await connection.request()

    async def before() -> None:
        await turns()

    async with serving(script) as server:
        assert isinstance(await failure(transport, prepared(server.url, before, b"x")), NOT_SENT)
        assert server.requests == []
    assert faults == []


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_a_body_that_may_not_be(transport: Transport, status: str) -> None:
    """A body that comes late where there may be none spoils no other answer."""

    async def script(connection: Connection) -> None:
        await connection.request()
        if connection.server.accepted == 1:
            await connection.send(f"HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n".encode())
            await connection.send(WRONG)
        else:
            await connection.answer(JSON.encode())
        await forever(connection)

    async with serving(script) as server:
        assert (await exchange(transport, post(server.url, b"x")))[1] == b""
        await turns()
        assert await exchange(transport, post(server.url, b"x")) == (200, JSON.encode())


@pytest.mark.skipif(not hasattr(select, "POLLRDHUP"), reason="only Linux tells ahead of the event loop")
async def test_a_refusal_before_a_reset(transport: Transport) -> None:
    """What a server said before it reset the connection is heard, although more of the request was to be sent."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        listening.setblocking(False)

        class Refused(Pieces):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield b"x" * 10_000
                accepted, _ = await loop.sock_accept(listening)
                received = b""
                while len(received) < 10_000:
                    received += await loop.sock_recv(accepted, 65_536)
                accepted.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                accepted.close()  # no turn of the event loop lies between this and the next write
                yield b"x" * 90_000

        request = post(f"http://127.0.0.1:{listening.getsockname()[1]}", LARGE)
        request.stream = Refused()
        assert await exchange(transport, request) == (413, b"{}")


@pytest.mark.parametrize("error", [TimeoutError("disk"), httpx.ReadError("disk"), RuntimeError("disk")], ids=repr)
async def test_a_body_that_fails_before_its_first_byte(transport: Transport, error: Exception) -> None:
    """Whatever its source raises, nothing was sent."""
    async with serving(answer_all) as server:
        for length in (10, 100_000):
            assert isinstance(await failure(transport, post(server.url, length=length, error=error)), NOT_SENT)
    assert server.requests == []


@pytest.mark.parametrize("error", [httpx.ConnectError("disk"), httpx.ConnectTimeout("disk"), TimeoutError()], ids=repr)
async def test_a_body_that_fails_after_its_first_byte(transport: Transport, error: Exception) -> None:
    """Whatever its source raises, something was sent."""
    async with serving(answer_all) as server:
        for length in (10, 100_000):
            request = post(server.url, b"x", length=length, error=error)
            assert not isinstance(await failure(transport, request), NOT_SENT)


async def test_a_port_that_is_none(transport: Transport) -> None:
    """Whatever keeps a connection from being made, nothing was sent."""
    assert isinstance(await failure(transport, post("http://127.0.0.1:70000", b"x")), NOT_SENT)
    assert isinstance(await failure(transport, post("https://127.0.0.1:70000", b"x")), NOT_SENT)


def sockets() -> int:
    """How many sockets this process has open."""
    return sum(is_socket(descriptor) for descriptor in range(1000))


def is_socket(descriptor: int) -> bool:
    """Whether a file descriptor is an open socket."""
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


@pytest.mark.parametrize(
    ("told", "connections"),
    [
        *((told, 2) for told in ("timeout=1", "timeout=0, max=5", "max=5, timeout=1")),
        *((told, 1) for told in ("timeout=5", "max=100", "timeout=, x", "timeout=99999999999999999999")),
    ],
)
async def test_how_long_a_server_keeps_its_connections(transport: Transport, told: str, connections: int) -> None:
    """One that is kept for a second only is not used again, since it may end as the request leaves; any other is."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.answer(b"{}", headers=f"Keep-Alive: {told}\r\n")

    async with serving(script) as server:
        for _ in range(2):
            await exchange(transport, post(server.url, b"x"))
        assert server.accepted == connections


async def test_no_socket_is_left(transport: Transport) -> None:
    """Requests that are cancelled while they connect, write, wait and read leave no socket behind."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await asyncio.sleep(0.01)
        await connection.answer(b"x" * 1_000_000)

    before = sockets()
    async with serving(script) as server:
        for number in range(200):
            task = asyncio.create_task(exchange(transport, post(server.url, LARGE)))
            for _ in range(number // 2):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await transport.aclose()
    for _ in range(600):
        if sockets() <= before:
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"{sockets() - before} sockets are left")

"""Over TLS: whom the transport speaks to, and that an answer comes whole however its connection ends."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
import uvloop

from gateway.http1.message import outgoing
from gateway.http1.transport import Transport
from tests.providers.exchanges import JSON, NOT_SENT, answer_all, exchange, failure, post
from tests.providers.raw_server import SELF_SIGNED, Connection, forever, serving

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def trusting() -> Transport:
    """A transport that trusts the test's own certificate."""
    return Transport(ssl_context=ssl.create_default_context(cafile=SELF_SIGNED))


def answer_and_hang_up(listening: socket.socket, body: bytes, asked: bytes = b"x") -> None:
    """Answer each request, which ends with `asked`, on a connection that ends with the last byte of its answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SELF_SIGNED)
    with suppress(OSError):  # the test is over
        while True:
            accepted, _ = listening.accept()
            with context.wrap_socket(accepted, server_side=True) as connection:
                while not connection.recv(65_536).endswith(asked):
                    pass
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                )


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_an_answer_after_which_the_server_hangs_up(loop: Callable[[], asyncio.AbstractEventLoop], pause: float) -> None:
    """Nothing of an answer is lost if the server hangs up while its reader is behind."""
    body = bytes(range(256)) * 12_000

    async def talk(url: str) -> None:
        transport = trusting()
        for _ in range(5):
            response = await transport.send(outgoing(post(url, b"x", connect=30.0, read=30.0)))
            received = b""
            while chunk := await response.read():
                received += chunk
                await asyncio.sleep(pause)
            assert received == body
        await transport.aclose()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=answer_and_hang_up, args=(listening, body))
        server.start()
        try:
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(talk(f"https://127.0.0.1:{listening.getsockname()[1]}"))
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            server.join()


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_large_bodies_both_ways(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Large bodies come through both ways, and the connection is used again; what is not read is not sent."""
    size, sent = 64 * 1024 * 1024, 0

    async def script(connection: Connection) -> None:
        nonlocal sent
        while True:
            await connection.request()
            sent = 0
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            while sent < size:
                await connection.send(b"x" * 262_144)
                sent += 262_144

    async def talk() -> None:
        transport = trusting()
        async with serving(script, tls=True) as server:
            for _ in range(2):
                response = await transport.send(outgoing(post(server.url, b"x" * 3_000_000, read=60.0)))
                await asyncio.sleep(0.5)
                assert sent < size
                received = 0
                while chunk := await response.read():
                    received += len(chunk)
                assert received == size
            assert server.accepted == 1
            await transport.aclose()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(talk())


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_another_name(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A trusted certificate for another name is refused before anything is sent; so is none in time."""

    async def talk() -> None:
        transport = trusting()
        async with serving(answer_all, tls=True, host="0.0.0.0") as server:
            url = server.url.replace("127.0.0.1", "127.1.1.1")
            assert isinstance(await failure(transport, post(url, b"x")), NOT_SENT)
            assert await exchange(transport, post(server.url.replace("127.0.0.1", "localhost"), b"x")) == (
                200,
                JSON.encode(),
            )
            assert len(server.requests) == 1
        async with serving(forever) as silent:
            url = silent.url.replace("http", "https")
            assert isinstance(await failure(transport, post(url, b"x", connect=0.3)), NOT_SENT)
        await transport.aclose()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(talk())

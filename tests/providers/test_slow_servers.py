"""No server holds a request for longer than it may, nor fills memory, by what it sends slowly or beside its answer."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable

import httpx
import pytest

from gateway.domain.profile import Profile
from gateway.http1 import upload
from gateway.http1.transport import Transport
from gateway.providers import linked_image
from gateway.providers.registry import open_provider
from tests.providers.calls import call, config, read_all
from tests.providers.exchanges import exchange, failure, post
from tests.providers.raw_server import Connection, forever, serving

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def extension(connection: Connection) -> None:
    """Begin a chunk, and never come to the end of its extension."""
    await connection.request()
    await connection.send(CHUNKED + b"5\r\nhello\r\n5;x=")
    while True:
        await connection.send(b"y")
        await asyncio.sleep(0.05)


async def zeros(connection: Connection) -> None:
    """Begin a chunk, and never come to the end of its size."""
    await connection.request()
    await connection.send(CHUNKED + b"5\r\nhello\r\n")
    while True:
        await connection.send(b"0")
        await asyncio.sleep(0.05)


async def trailer(connection: Connection) -> None:
    """End the body, and never the trailer."""
    await connection.request()
    await connection.send(CHUNKED + b"5\r\nhello\r\n0\r\nX: ")
    while True:
        await connection.send(b"y")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("script", [extension, zeros, trailer])
async def test_a_drip_beside_the_body(transport: Transport, script: Callable[[Connection], Awaitable[None]]) -> None:
    """What is no part of the body does not put the read timeout off."""
    async with serving(script) as server:
        error = await asyncio.wait_for(failure(transport, post(server.url, b"x", read=0.5)), 60)
        assert isinstance(error, httpx.ReadTimeout)


@pytest.mark.parametrize("beginning", [b"5;x=", b"5;", b"0\r\nX: ", b"0\r\nX"], ids=repr)
async def test_a_flood_beside_the_body(transport: Transport, beginning: bytes) -> None:
    """An extension or a trailer without end is refused before it fills memory."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(CHUNKED + b"5\r\nhello\r\n" + beginning)
        for _ in range(2000):
            await connection.send(b"y" * 10_000)
        await forever(connection)

    async with serving(script) as server:
        error = await asyncio.wait_for(failure(transport, post(server.url, b"x", read=20.0)), 100)
        assert isinstance(error, httpx.RemoteProtocolError)


async def test_many_small_chunks(transport: Transport) -> None:
    """An answer of which most is chunking comes whole, extensions and trailers included."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(CHUNKED + b"1;name=value\r\nx\r\n" * 50_000 + b"0\r\nX-End: yes\r\n\r\n")
        await forever(connection)

    async with serving(script) as server:
        assert await exchange(transport, post(server.url, b"x")) == (200, b"x" * 50_000)


async def test_large_headers_in_pieces(transport: Transport) -> None:
    """Headers within the limit are taken however they are cut."""
    head = b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"x" * 9_000 + b"\r\n") * 6 + b"Content-Length: 2\r\n\r\n{}"

    async def script(connection: Connection) -> None:
        await connection.request()
        for at in range(0, len(head), 10_000):
            await connection.send(head[at : at + 10_000])
            await asyncio.sleep(0.02)
        await forever(connection)

    async with serving(script) as server:
        assert await exchange(transport, post(server.url, b"x")) == (200, b"{}")


async def test_a_server_that_reads_slowly(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload of which each chunk is taken in time is given up all the same if it does not end."""
    monkeypatch.setattr(upload, "MAX_WAIT", 1.0)  # half an hour is too long for a test

    async def script(connection: Connection) -> None:
        connection.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while True:
            await connection.reader.read(65_536)
            await asyncio.sleep(0.05)

    async with serving(script) as server:
        body = [b"x" * 65_536] * 1000
        error = await asyncio.wait_for(failure(transport, post(server.url, *body, read=20.0)), 30)
        assert isinstance(error, httpx.WriteTimeout)


async def test_an_image_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image on the provider's own host of which a byte comes now and then is given up, and stays a link."""
    monkeypatch.setattr(linked_image, "FETCH_SECONDS", 0.5)  # a minute is too long for a test

    async def script(connection: Connection) -> None:
        link = f"{connection.server.url}/image.png"
        while not (await connection.request()).line.startswith("GET "):
            await connection.answer(json.dumps({"data": [{"url": link}]}).encode())
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            await connection.send(b"x")
            await asyncio.sleep(0.05)

    async with serving(script) as server:
        provider = open_provider(config(server.url, profile=Profile(normalise=True)))
        answer = await asyncio.wait_for(provider.send(call()), 60)
        assert json.loads(await read_all(answer))["data"] == [{"url": f"{server.url}/image.png"}]
        await answer.aclose()
        await provider.aclose()

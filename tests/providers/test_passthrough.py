"""Requests that go through: their answers are let go of, whoever leaves whenever."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from gateway.ports import Rendered, Truncated
from gateway.ports.responses import PassthroughRequest
from gateway.providers import passthrough
from gateway.providers.passthrough import AccountPassthrough
from gateway.responses.conversations import Through
from gateway.spool import Spool
from tests.providers.calls import config
from tests.providers.raw_server import Connection, serving


async def test_a_header_that_is_not_ascii() -> None:
    """A header goes through as it came, whatever its characters."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"{}")

    async with serving(script) as server:
        passages = AccountPassthrough({"acme": config(server.url)})
        passing = PassthroughRequest(
            method="GET", path="/files", query="", headers=[("accept", "text/\xe9")], request_id="req_1"
        )
        answer = await passages.send("acme", passing)
        assert b"".join([chunk async for chunk in answer.chunks()]) == b"{}"
        assert server.requests[0].header("accept") == "text/\xe9"
        await passages.aclose()


async def test_an_answer_that_nobody_begins_to_read() -> None:
    """A client that left before its answer began leaves no connection to the provider behind, and no file."""
    closed = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
        await connection.reader.read()
        closed.set()

    async with serving(script) as server:
        passages = AccountPassthrough({"acme": config(server.url)})
        spool = Spool(10)
        spool.write(b"x" * 100)
        await spool.drain()
        body = Rendered("text/plain", spool.size, lambda: spool.read(0, spool.size), spool.aclose)
        passing = PassthroughRequest(method="POST", path="/files", query="", request_id="req_1")
        answer = await passages.send("acme", passing, body)
        await Through(answer, body).aclose()
        await asyncio.wait_for(closed.wait(), 60)
        assert spool._file is None
        await passages.aclose()


async def test_an_answer_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that comes in drops, each of them in time, is broken off once it has been waited for long enough."""
    monkeypatch.setattr(passthrough, "MAX_WAIT", 0.5)  # half an hour is too long for a test

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                await connection.send(b"x")
                await asyncio.sleep(0.05)

    async with serving(script) as server:
        passages = AccountPassthrough({"acme": config(server.url)})
        answer = await passages.send("acme", PassthroughRequest(method="GET", path="/files", request_id="req_1"))
        through = Through(answer)
        with pytest.raises(Truncated):
            async for _ in through:
                pass
        await through.aclose()
        await passages.aclose()


async def test_what_says_how_to_read_the_body_comes_with_it() -> None:
    """A part of a file, and one that is packed, are of no use without; of an error only its own words come."""
    status = 206
    told = b"Content-Encoding: gzip\r\nContent-Range: bytes 0-1/9\r\nAccept-Ranges: bytes\r\nLast-Modified: now\r\n"

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 %d X\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n%s\r\nxy" % (status, told))

    async with serving(script) as server:
        passages = AccountPassthrough({"acme": config(server.url)})
        answer = await passages.send("acme", PassthroughRequest(method="GET", path="/files", request_id="req_1"))
        assert b"".join([chunk async for chunk in answer.chunks()]) == b"xy"
        await answer.aclose()
        assert dict(answer.headers) == {
            "content-length": "2",
            "content-encoding": "gzip",
            "content-range": "bytes 0-1/9",
            "accept-ranges": "bytes",
            "last-modified": "now",
        }
        status = 416
        answer = await passages.send("acme", PassthroughRequest(method="GET", path="/files", request_id="req_2"))
        assert dict(answer.headers) == {"content-type": "application/json", "accept-ranges": "bytes"}
        await passages.aclose()


async def test_an_answer_longer_than_any_image() -> None:
    """A file comes whole: nothing of it is kept, so that nothing bounds it but its time."""
    mebibytes = 257

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (mebibytes << 20))
        for _ in range(mebibytes):
            await connection.send(bytes(1 << 20))

    async with serving(script) as server:
        passages = AccountPassthrough({"acme": config(server.url)})
        answer = await passages.send("acme", PassthroughRequest(method="GET", path="/files", request_id="req_1"))
        assert sum([len(chunk) async for chunk in answer.chunks()]) == mebibytes << 20
        await answer.aclose()
        await passages.aclose()

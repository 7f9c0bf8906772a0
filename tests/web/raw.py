"""Requests written by hand on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

HOST = b"Host: gateway\r\n"
JSON_BODY = b'{"prompt": "x"}'


@dataclass
class Reply:
    """One answer read from a socket; `closed` tells whether the connection ended with it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error object."""
        error = json.loads(self.body)["error"]
        assert {"message", "type", "param", "code"} <= set(error)
        return dict(error)


def post(
    path: bytes = b"/v1/images/generations", body: bytes = JSON_BODY, extra: bytes = b"", host: bytes = HOST
) -> bytes:
    """A POST with a JSON body."""
    head = b"POST %s HTTP/1.1\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n" % (path, host, len(body))
    return head + extra + b"\r\n" + body


@contextlib.asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is closed at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Read one answer that names its length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Reply(int(head[0].split()[1]), headers, body)


async def exchange(port: int, *pieces: bytes) -> tuple[Reply, bytes | None]:
    """Send pieces, read one answer; then what follows until the connection ends, None if it stays open."""
    async with connection(port) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        reply = await read_reply(reader)
        try:
            async with asyncio.timeout(0.2):
                return reply, await reader.read()
        except TimeoutError:
            return reply, None
        except ConnectionResetError:
            return reply, b""

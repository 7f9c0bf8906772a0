"""Requests to send straight through the transport, and a server that answers them all."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.providers.raw_server import Connection

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
JSON = '{"ok": true}'


class Pieces(httpx.AsyncByteStream):
    """A body in pieces, with a pause or an error if asked for."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces, self.error = pieces, error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.error is not None:
            raise self.error


def post(
    url: str,
    *pieces: bytes,
    connect: float = 0.5,
    read: float = 5.0,
    length: int | None = None,
    error: Exception | None = None,
) -> httpx.Request:
    """A POST with short timeouts; the length is right unless it is given."""
    size = sum(map(len, pieces)) if length is None else length
    return httpx.Request(
        "POST",
        f"{url}/v1/images",
        headers=[("Content-Length", str(size))],
        stream=Pieces(*pieces, error=error),
        extensions={"timeout": {"connect": connect, "read": read, "write": read}},
    )


async def exchange(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> tuple[int, bytes]:
    """Send and read the whole answer."""
    response = await transport.handle_async_request(request)
    assert isinstance(response.stream, httpx.AsyncByteStream)
    try:
        return response.status_code, b"".join([chunk async for chunk in response.stream])
    finally:
        await response.aclose()


async def failure(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> httpx.TransportError:
    """Send and read; return the error that must come."""
    with pytest.raises(httpx.TransportError) as caught:
        await exchange(transport, request)
    return caught.value


async def answer_all(connection: Connection) -> None:
    """Answer every request on the connection."""
    while True:
        await connection.request()
        await connection.answer(JSON.encode())

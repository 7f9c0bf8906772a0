"""Messages: a request as it is written, and the answer as it comes in."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import NamedTuple

import httpx

from gateway.domain.record import record
from gateway.http1.connection import Connection
from gateway.http1.fields import Fields

_OK, _REDIRECTED = 200, 300


class Origin(NamedTuple):
    """Where to connect to; the host is in ASCII, an IPv6 address without brackets."""

    tls: bool
    host: str
    port: int


class Timeouts(NamedTuple):
    """Seconds, None for no limit.

    `connect`: name lookup and TLS included. `write`: to hand over one chunk. `read`: for the headers once the request
    is written, and between two pieces of the answer's body.
    """

    connect: float | None
    write: float | None
    read: float | None


@record(frozen=True, slots=True)
class Outgoing:
    """A request. `length` is the body's in bytes, None if it is to be sent in chunks.

    A body that is bytes is written in one go, before the answer is waited for: it had better be short.
    """

    origin: Origin
    method: str
    head: bytes
    body: AsyncIterable[bytes] | bytes | None
    length: int | None
    timeouts: Timeouts


class Incoming(httpx.AsyncByteStream):
    """A status line, headers, and the body to come. Iterating may stop and go on later.

    `done` is called once, when the body was read to its end or nobody wants the rest. `said` are the headers as text,
    names in lower case, and `named` the values of each.
    """

    def __init__(self, connection: Connection, seconds: float | None, done: Callable[[], None]) -> None:
        self._connection = connection
        self._seconds = seconds
        self._done: Callable[[], None] | None = done
        self.status_code = connection.status
        self.said: Fields = connection.fields
        self.named = connection.named

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx."""
        return _OK <= self.status_code < _REDIRECTED

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """The headers as bytes."""
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.said]

    @property
    def headers(self) -> httpx.Headers:
        """All headers, made anew each time."""
        return httpx.Headers(self.fields)

    def whole(self, limit: int) -> bytes | None:
        """Return the body if all of it is here in one piece, `limit` bytes at most; None if it is to be read."""
        if self._done is None:
            return None
        body = self._connection.whole(limit)
        if body is not None:
            done, self._done = self._done, None
            done()
        return body

    async def read(self) -> bytes:
        """Return the next bytes of the body as they came, empty at its end; raises `httpx.TransportError`."""
        if self._done is None:
            return b""
        chunk = await self._connection.read(self._seconds)
        if not chunk:
            self._end()
        return chunk

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self.read()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Close the connection, unless the answer is in and the connection can go back to the pool."""
        if self._done is not None:
            self._end()

    def _end(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done()


def origin_of(url: httpx.URL) -> Origin:
    """Return where to connect to; raises `httpx.UnsupportedProtocol` for anything but http and https."""
    if url.scheme not in ("http", "https"):
        raise httpx.UnsupportedProtocol(f"no way to speak {url.scheme!r}")
    tls = url.scheme == "https"
    return Origin(tls, url.raw_host.decode("ascii"), url.port or (443 if tls else 80))


def head_of(method: str, url: httpx.URL, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the beginning of a request, a `Host` included, without the empty line that ends it."""
    if not any(name.lower() == b"host" for name, _ in fields):
        fields = [(b"Host", url.netloc), *fields]
    return written_head(method, url.raw_path, fields)


def written_head(method: str, target: bytes, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the beginning of a request, without the empty line; `httpx.UnsupportedProtocol` for more lines than it."""
    lines = [b"%s %s HTTP/1.1" % (method.encode("ascii"), target)]
    lines += [b"%s: %s" % field for field in fields]
    head = b"\r\n".join(lines)
    breaks = len(lines) - 1
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise httpx.UnsupportedProtocol("the request's head has a line break where none may be")
    return head + b"\r\n"


def outgoing(request: httpx.Request) -> Outgoing:
    """Return a request of httpx as it is to be written; raises `httpx.UnsupportedProtocol` if it cannot be."""
    if not isinstance(request.stream, httpx.AsyncByteStream):
        raise httpx.UnsupportedProtocol("the request's body must be an async stream", request=request)
    told = request.headers.get("content-length")
    chunked = told is None and "transfer-encoding" in request.headers
    fields = [field for field in request.headers.raw if field[0].lower() != b"transfer-encoding"]
    if chunked:
        fields.append((b"Transfer-Encoding", b"chunked"))
    named = request.extensions.get("timeout", {})
    return Outgoing(
        origin_of(request.url),
        request.method,
        head_of(request.method, request.url, fields) + b"\r\n",
        request.stream if chunked or told is not None else None,
        None if told is None else int(told),
        Timeouts(named.get("connect"), named.get("write"), named.get("read")),
    )

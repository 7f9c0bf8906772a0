"""Transport: HTTP/1.1 behind httpx's transport interface, carried by aiohttp, which says what of a request was sent.

A failed POST is either harmless or money of unknown outcome, so the classes of the errors raised here are a promise:
`httpx.ConnectError`, `httpx.ConnectTimeout` and `httpx.UnsupportedProtocol` are raised if and only if no byte of the
request was handed to the socket; every other `httpx.TransportError` means that some may have left.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import AsyncIterator, Iterable

import aiohttp
import httpx
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from yarl import URL

READ_BUFFER = 256 * 1024
"""Bytes that are read ahead of a slow reader; aiohttp stops reading at twice as many."""

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADER_FIELDS = 200
_MAX_HEADER_FIELD = 16 * 1024

KEEPALIVE = 4.0
"""Seconds an idle connection is kept: less than the 5 s after which common servers hang up."""

_STALE_CONNECTIONS = 5
"""How many connections that the server had hung up on are dropped before giving up; each time nothing was sent."""

_WHILE_CONNECTING = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_ADDED_BY_AIOHTTP = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_PEER_HUNG_UP = getattr(select, "POLLRDHUP", 0)  # Linux alone can tell a half-closed connection by polling


class Transport(httpx.AsyncBaseTransport):
    """A pool of connections. Bodies stream both ways as they come; no cookies, redirects, proxies or decompression.

    Timeouts come from `request.extensions["timeout"]` as httpx names them, in seconds: `connect` (name lookup and TLS
    included), `write` (to hand over one chunk), `read` (for the headers once the request is written, and between
    bytes of the answer). A POST is written once at most.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None, keepalive: float = KEEPALIVE) -> None:
        self._ssl_context = ssl_context
        self._keepalive = keepalive
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return once the status line and headers are in; raise a `httpx.TransportError` as the module describes."""
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise httpx.UnsupportedProtocol("the request's body must be an async stream", request=request)
        for _ in range(_STALE_CONNECTIONS):
            upload = _Upload(request.stream, _timeout(request, "write"))
            answer = await self._send(request, upload)
            if answer is not None:
                return _response(answer, request)
        raise httpx.ConnectError("the server hung up before the request was sent", request=request)

    async def _send(self, request: httpx.Request, upload: _Upload) -> aiohttp.ClientResponse | None:
        """Write at most once; None if the connection turned out to be dead before a byte was written."""
        read = _timeout(request, "read")
        deadline = asyncio.timeout(None)
        if read is not None:
            upload.when_written = lambda: deadline.reschedule(asyncio.get_running_loop().time() + read)
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        answer: aiohttp.ClientResponse | None = None
        try:
            async with deadline:
                answer = await self._pool().request(
                    request.method,
                    URL(str(request.url), encoded=True),
                    headers=_request_headers(request),
                    data=upload if has_body else None,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=_timeout(request, "connect"), sock_read=read),
                )
        except (aiohttp.ClientError, OSError) as error:
            if upload.stale:
                return None
            sent = upload.sent or not (has_body or isinstance(error, _WHILE_CONNECTING))
            kind = _kind(error, sent=sent, waiting=deadline.expired())
            raise kind(f"{type(error).__name__}: {error}", request=request) from error
        finally:
            upload.when_written = _nothing  # an answer may begin before the upload ends
            if answer is None:
                upload.abort()
        return answer

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:  # made on first use, since it belongs to the running event loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    keepalive_timeout=self._keepalive,
                    ssl=True if self._ssl_context is None else self._ssl_context,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_ADDED_BY_AIOHTTP,
                auto_decompress=False,
                trust_env=False,
                read_bufsize=READ_BUFFER,
                max_line_size=_MAX_HEADER_FIELD,
                max_field_size=_MAX_HEADER_FIELD,
                max_headers=MAX_HEADER_FIELDS,
            )
        return self._session

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        if self._session is not None:
            await self._session.close()


class _Upload(Payload):
    """The request's body on its way out; aiohttp writes the head together with its first chunk.

    `sent` tells whether a byte of the request was handed to the socket; `stale` that the server had hung up before.
    """

    def __init__(self, stream: httpx.AsyncByteStream, timeout: float | None) -> None:
        super().__init__(stream)
        self._stream = stream
        self._timeout = timeout
        self.when_written = _nothing
        self.sent = False
        self.stale = False
        self._transport: asyncio.Transport | None = None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:  # noqa: ARG002 - aiohttp's
        """Write the head and the body."""
        written = False
        try:
            async for chunk in self._stream:
                self._start(writer)
                async with asyncio.timeout(self._timeout):
                    await writer.write(chunk)
            self._start(writer)  # an empty body: the head is written by the caller's `write_eof`
            written = True
        finally:
            if not written:
                self.abort()
        self.when_written()

    def _start(self, writer: AbstractStreamWriter) -> None:
        if not self.sent:
            self._transport = getattr(writer, "transport", None)
            self.stale = _hung_up(self._transport)
            if self.stale:
                raise aiohttp.ClientConnectionResetError("the server hung up before the request was sent")
            self.sent = True

    def abort(self) -> None:
        """Close the connection at once: a plain close would go on sending what was buffered."""
        if self._transport is not None:
            self._transport.abort()

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write all of it."""
        await self.write_with_length(writer, None)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's
        """Refuse: a stream has no text."""
        raise TypeError("a streamed body cannot be decoded")


def _nothing() -> None:
    pass


def _hung_up(transport: asyncio.Transport | None) -> bool:
    """Tell whether the server has closed the connection already, even if the event loop has not yet heard of it."""
    if transport is None or transport.is_closing():
        return True
    socket = transport.get_extra_info("socket")
    if socket is None:
        return False
    poll = select.poll()
    poll.register(socket.fileno(), _PEER_HUNG_UP)
    return bool(poll.poll(0))


class ResponseStream(httpx.AsyncByteStream):
    """The answer's body. Iterating may stop and go on later; `aclose` drops what was not read."""

    def __init__(self, answer: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._answer = answer
        self._request = request

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            self._answer.close()
            raise _kind(error, sent=True)(f"{type(error).__name__}: {error}", request=self._request) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end and the connection is back in the pool."""
        self._answer.close()


def _response(answer: aiohttp.ClientResponse, request: httpx.Request) -> httpx.Response:
    headers = answer.raw_headers
    if len(headers) > MAX_HEADER_FIELDS or _size(headers) > MAX_HEADER_BYTES:
        answer.close()
        raise httpx.RemoteProtocolError("the answer's headers are too large", request=request)
    return httpx.Response(answer.status, headers=headers, stream=ResponseStream(answer, request), request=request)


def _request_headers(request: httpx.Request) -> list[tuple[str, str]]:
    """Return the request's own headers; aiohttp itself writes how a body without a known length is framed."""
    raw = request.headers.raw
    return [(n.decode("ascii"), v.decode("latin-1")) for n, v in raw if n.lower() != b"transfer-encoding"]


def _size(headers: Iterable[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + len(": \r\n") for name, value in headers)


def _timeout(request: httpx.Request, name: str) -> float | None:
    timeout: float | None = request.extensions.get("timeout", {}).get(name)
    return timeout


def _kind(error: Exception, *, sent: bool, waiting: bool = False) -> type[httpx.TransportError]:
    """Choose the httpx exception for a failure; see the module's promise."""
    if not sent:
        return httpx.ConnectTimeout if isinstance(error, TimeoutError) else httpx.ConnectError
    if waiting or isinstance(error, aiohttp.ServerTimeoutError):
        return httpx.ReadTimeout
    if isinstance(error, TimeoutError):
        return httpx.WriteTimeout
    return httpx.RemoteProtocolError if isinstance(error, aiohttp.ClientResponseError) else httpx.ReadError

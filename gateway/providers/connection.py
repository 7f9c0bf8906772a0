"""Connection: one HTTP/1.1 connection to a provider, one exchange at a time, parsed by llhttp.

What a server sends beyond the limits here, or that is no HTTP/1.1, ends the connection; so does what nobody asked for.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque

import httptools
import httpx

from gateway.providers.within import within

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADER_FIELDS = 200
_MAX_HEADER_FIELD = 16 * 1024
_FIELD_OVERHEAD = len(": \r\n")
_FIRST_FINAL_STATUS = 200
_PEER_HUNG_UP = getattr(select, "POLLRDHUP", 0)  # Linux alone can tell a half-closed connection by polling

Fields = list[tuple[bytes, bytes]]


class Connection(asyncio.Protocol):
    """Made by the event loop. `begin` an exchange, `write` the request, wait for its `head`, then `read` the body."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._lost = False
        self._failure: tuple[type[httpx.TransportError], str] | None = None
        self._ended = True
        self._surplus = False
        self.idle_since = 0.0

    def begin(self, method: str) -> None:
        """Expect the answer to a request of this method, which is about to be written."""
        self._parser = httptools.HttpResponseParser(self)
        self._bodyless = method == "HEAD"
        self._in_head, self._ended, self._framed = True, False, True
        self._head_received = 0
        self._left = 0
        self._chunks: deque[bytes] = deque()
        self._pieces: list[bytes] = []
        self._paused = False
        self._keep = False
        self.status = 0
        self.fields: Fields = []

    def hung_up(self) -> bool:
        """Tell whether the server has closed the connection already, even if the event loop has not yet heard of it."""
        if self._lost or self._surplus or self._transport is None or self._transport.is_closing():
            return True
        return self._poll is not None and bool(self._poll.poll(0))

    @property
    def reusable(self) -> bool:
        """Whether the answer is in, and another request may follow it."""
        return self._ended and self._keep and not self._surplus and not self._lost and self._failure is None

    def write(self, data: bytes) -> bool:
        """Hand bytes to the socket; False if `room` must be awaited before more are written."""
        if self._failure is not None or self._transport is None:
            raise self._error()
        self._transport.write(data)
        return self._room is None

    async def room(self, seconds: float | None) -> None:
        """Wait until what was written has mostly left; raises TimeoutError, or what the exchange failed with."""
        if self._room is not None:
            await within(self._room, seconds)
        if self._failure is not None:
            raise self._error()

    async def head(self, written: asyncio.Future[None] | None, seconds: float | None) -> None:
        """Wait for the status line and headers, `seconds` at most from when `written` is done (None: it is)."""
        clock = asyncio.get_running_loop()
        deadline: float | None = None
        while self._in_head:
            if self._failure is not None:
                raise self._error()
            if deadline is None and seconds is not None and (written is None or written.done()):
                deadline = clock.time() + seconds
            await self._change(None if deadline is None else deadline - clock.time())

    async def read(self, seconds: float | None) -> bytes:
        """Return the next bytes of the body as they came, empty at its end; waits `seconds` at most."""
        while not self._chunks:
            if self._ended:
                return b""
            if self._failure is not None:
                raise self._error()
            self._resume()
            await self._change(seconds)
        return self._chunks.popleft()

    def wake(self) -> None:
        """Have whoever waits look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail(self, kind: type[httpx.TransportError], message: str) -> None:
        """End the exchange with an error, unless it has ended, and the connection at once."""
        if self._failure is None:
            self._failure = kind, message
        self.abort()
        self.wake()
        self._make_room()

    def abort(self) -> None:
        """Close at once: a plain close would go on sending what was buffered."""
        if self._failure is None:
            self._failure = httpx.ReadError, "the connection was closed"
        if self._transport is not None:
            self._transport.abort()

    async def _change(self, seconds: float | None) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await within(self._waiter, seconds)
        except TimeoutError:
            self.fail(httpx.ReadTimeout, "the server said nothing in time")
        finally:
            self._waiter = None

    def _error(self) -> httpx.TransportError:
        kind, message = self._failure or (httpx.ReadError, "the connection is not open")
        return kind(message)

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # over TCP, no other
        """Take note of the socket."""
        self._transport = transport
        socket = transport.get_extra_info("socket")
        if socket is not None and _PEER_HUNG_UP:
            self._poll = select.poll()
            self._poll.register(socket.fileno(), _PEER_HUNG_UP)

    def data_received(self, data: bytes) -> None:
        """Take what the server sends; a body of known length is passed on as it comes."""
        if self._ended:
            self._surplus = True
            self.abort()
        elif self._left and not self._in_head:
            self._take(data)
        else:
            self._parse(data)
        if self._chunks and not self._paused and not self._ended and self._transport is not None:
            self._paused = True  # what a slow reader has not asked for stays with the system and the sender
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end; it ends a body that nothing else marks the end of."""
        self._lost = True
        self._transport = None
        del self._parser  # it refers to this
        if not self._ended and not self._framed and not self._in_head and exc is None and self._failure is None:
            self._complete()
        if self._failure is None:
            self._failure = httpx.ReadError, "the server hung up" if exc is None else f"{type(exc).__name__}: {exc}"
        self.wake()
        self._make_room()

    def pause_writing(self) -> None:
        """Have the writer wait."""
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Let the writer go on."""
        self._make_room()

    def on_message_begin(self) -> None:
        """Refuse a second answer."""
        if self._ended:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, within limits; trailers count, and are thrown away."""
        self._head_received += len(name) + len(value) + _FIELD_OVERHEAD
        if self._head_received > MAX_HEADER_BYTES or max(len(name), len(value)) > _MAX_HEADER_FIELD:
            raise _TooLargeError
        if self._in_head:
            self.fields.append((name, value))
            if len(self.fields) > MAX_HEADER_FIELDS:
                raise _TooLargeError

    def on_headers_complete(self) -> None:
        """Learn from the headers where the body ends."""
        if self._ended:
            return
        parser = self._parser
        self.status = parser.get_status_code()
        if self.status < _FIRST_FINAL_STATUS:
            return
        if parser.get_http_version() not in ("1.1", "1.0"):
            raise httptools.HttpParserError("not HTTP/1.1")
        length = coding = None
        for name, value in self.fields:
            lowered = name.lower()
            if lowered == b"content-length":
                length = value
            elif lowered == b"transfer-encoding":
                coding = value
        self._in_head = False
        self._keep = parser.should_keep_alive()
        if self._bodyless:
            self._keep = False  # the parser takes what follows for a body
            self._complete()
        elif coding is not None:
            self._framed = coding.strip().lower().endswith(b"chunked")
        elif length is not None:
            self._left = int(length)
        else:
            self._framed = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if self._ended:
            return
        if self._left:
            self._left -= len(body)
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """End the answer, unless it was an interim one."""
        if self._in_head:
            self.fields = []
        elif not self._ended:
            self._complete()

    def _parse(self, data: bytes) -> None:
        before = len(data) if self._in_head else 0
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._ended:
                self._surplus = True
            else:
                cause = error.__context__
                told = "the answer's headers are too large" if isinstance(cause, _TooLargeError) else str(error)
                self.fail(httpx.RemoteProtocolError, told)
            return
        if self._in_head:
            self._head_received += before
            if self._head_received > MAX_HEADER_BYTES:
                self.fail(httpx.RemoteProtocolError, "the answer's headers are too large")
            return
        pieces = self._pieces
        if pieces:  # a read may bring many small chunks
            self._chunks.append(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            pieces.clear()
        self.wake()

    def _take(self, data: bytes) -> None:
        if len(data) > self._left:
            self._surplus = True
            data = data[: self._left]
        self._left -= len(data)
        self._chunks.append(data)
        if not self._left:
            self._complete()
        self.wake()

    def _complete(self) -> None:
        self._ended = True
        self._resume()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()


class _TooLargeError(Exception):
    """The head of an answer is beyond the limits."""

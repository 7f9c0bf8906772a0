"""Connection: one HTTP/1.1 connection to a server, one exchange at a time, parsed by llhttp.

What a server sends beyond the limits here, or that is no HTTP/1.1, ends the connection; so does what nobody asked for.
"""

from __future__ import annotations

import asyncio
from collections import deque

import httptools
import httpx

from gateway.http1.fields import Fields, framing_of
from gateway.http1.peer import Peer
from gateway.http1.within import within

MAX_HEADER_BYTES = 64 * 1024
"""Of a head, and of what comes between two pieces of a body: sizes and extensions of chunks, trailers."""
MAX_HEADER_FIELDS = 200
_MAX_HEADER_FIELD = 16 * 1024
_FIELD_OVERHEAD = len(": \r\n")
_FIRST_FINAL_STATUS = 200


class Connection(asyncio.Protocol):
    """Made by the event loop. `begin` an exchange, `write` the request, wait for its `head`, then `read` the body."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._below: asyncio.Transport | None = None
        self._peer: Peer | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._lost = False
        self._failure: tuple[type[httpx.TransportError], str] | None = None
        self._ended, self._asked = True, False
        self._surplus = False
        self.idle_since = self.good_until = self.idle = 0.0

    def begin(self, method: str) -> None:
        """Expect the answer to a request of this method, which is about to be written."""
        self._parser = httptools.HttpResponseParser(self)
        self._bodyless = method == "HEAD"
        self._in_head, self._ended, self._framed, self._asked = True, False, True, False
        self._head_received = self._fields_received = self._beside = 0
        self._left = 0
        self._chunks: deque[bytes] = deque()
        self._pieces: list[bytes] = []
        self._paused = False
        self._keep = False
        self.status = 0
        self.fields: Fields = []

    def hung_up(self) -> bool:
        """Tell whether the server has closed the connection already, even if the event loop has not yet heard of it."""
        return self._is_over() or (self._peer is not None and self._peer.look()[0])

    async def stale(self) -> bool:
        """Take in what the server has said by now; returns whether it is too late to write anything."""
        gone, spoke = self._peer.look() if self._peer is not None and not self._lost else (True, False)
        if spoke and self._peer is not None:
            await self._peer.heard()  # before anything was asked, that ends the connection
        return gone or self._is_over()

    def _is_over(self) -> bool:
        return self._lost or self._surplus or self._transport is None or self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Whether the answer is in, and another request may follow it."""
        return self._ended and self._keep and not self._surplus and not self._lost and self._failure is None

    def write(self, data: bytes) -> bool:
        """Hand bytes to the socket; False if `room` must be awaited before more are written."""
        if self._failure is not None or self._transport is None:
            raise self._error()
        self._asked = True
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
        deadline: float | None = None
        while not self._chunks:
            if self._ended:
                return b""
            if self._failure is not None:
                raise self._error()
            self._resume()
            now = asyncio.get_running_loop().time()
            deadline = now + seconds if deadline is None and seconds is not None else deadline
            await self._change(None if deadline is None else deadline - now)
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
        self._transport = self._below = transport
        self._peer = Peer(transport)

    def secured(self, transport: asyncio.Transport) -> None:
        """Speak TLS from here on. Reading is paused below it: what TLS itself keeps back is lost if the server ends."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what the server sends; a body of known length is passed on as it comes."""
        if self._ended or not self._asked:
            self._surplus = True
            self.abort()
            return
        if self._left and not self._in_head:
            self._take(data)
        else:
            self._parse(data)
        below = self._below
        if self._chunks and not (self._paused or self._ended) and below is not None and not below.is_closing():
            self._paused = True  # what a slow reader has not asked for stays with the system and the sender
            below.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end; it ends a body that nothing else marks the end of."""
        self._lost = True
        self._transport = self._below = None
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
        self._fields_received += len(name) + len(value) + _FIELD_OVERHEAD
        if self._fields_received > MAX_HEADER_BYTES or max(len(name), len(value)) > _MAX_HEADER_FIELD:
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
        length, coding, self.idle = framing_of(self.fields)
        self._in_head = False
        self._keep = parser.should_keep_alive()
        if self._bodyless:
            self._keep = False  # the parser takes what follows for a body
            self._complete()
        elif coding:
            self._framed = coding.strip().lower().endswith(b"chunked")
        elif length is not None:
            self._left = length
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
            self._head_received += len(data)
            if self._head_received > MAX_HEADER_BYTES:
                self.fail(httpx.RemoteProtocolError, "the answer's headers are too large")
            return
        pieces = self._pieces
        if pieces:  # a read may bring many small chunks
            self._chunks.append(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            pieces.clear()
            self._beside = 0
        elif not self._ended:
            self._beside += len(data)
            if self._beside > MAX_HEADER_BYTES:
                self.fail(httpx.RemoteProtocolError, "there is too much beside the answer's body")
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
        if self._paused and self._below is not None and not self._below.is_closing():
            self._paused = False
            self._below.resume_reading()


class _TooLargeError(Exception):
    """The head of an answer is beyond the limits."""

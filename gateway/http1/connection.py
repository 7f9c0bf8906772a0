"""Connection: one HTTP/1.1 connection to a server, one exchange at a time.

What a server sends beyond the limits of `received.py`, or that is no HTTP/1.1, ends the connection; so does what nobody
asked for.
"""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf

import httpx

from gateway.http1.peer import Peer
from gateway.http1.received import Received
from gateway.http1.timeout import TICK, within


class Connection(Received, asyncio.Protocol):
    """Made by the event loop. `begin` an exchange, `write` the request, wait for its `head`, then `read` the body."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._below: asyncio.Transport | None = None
        self._peer: Peer | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed = self._deadline = inf
        self._lost = self._paused = False
        self._failure: tuple[type[httpx.TransportError], str] | None = None
        self.idle_since = self.good_until = 0.0

    def quiet(self) -> bool:
        """Whether the server has neither said anything nor hung up by now, so that a request may be written."""
        transport = self._transport
        if transport is None or self._peer is None or self._surplus or transport.is_closing():
            return False
        return not self._peer.poll(0)

    async def stale(self) -> bool:
        """Take in what the server has said by now; returns whether it is too late to write anything."""
        gone, spoke = self._peer.look() if self._peer is not None and self._transport is not None else (True, False)
        if spoke and self._peer is not None:
            await self._peer.heard()  # before anything was asked, that ends the connection
        return gone or self._surplus or self._transport is None or self._transport.is_closing()

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

    def ask(self, method: str, data: bytes, seconds: float | None) -> asyncio.Future[None]:
        """Write a request whole; the future is done once the server says something, or the exchange failed.

        That is after `seconds` at most. While `in_head` is true then, `rest_of_head` is to be waited for.
        """
        self.begin(method)
        self.write(data)
        self._limit(seconds)
        self._waiter = waiter = self._loop.create_future()
        return waiter

    async def head(self, written: asyncio.Future[None] | None, seconds: float | None) -> None:
        """Wait for the status line and headers, `seconds` at most from when `written` is done (None: it is)."""
        self._deadline = inf
        while self.in_head and written is not None and not written.done():
            if self._failure is not None:
                raise self._error()
            self._waiter = self._loop.create_future()
            await self._waiter
        self._limit(seconds)
        await self.rest_of_head()

    async def rest_of_head(self) -> None:
        """Wait for the end of the headers, as long as was said before."""
        while self.in_head:
            if self._failure is not None:
                raise self._error()
            self._waiter = self._loop.create_future()
            await self._waiter

    async def read(self, seconds: float | None) -> bytes:
        """Return the next bytes of the body as they came, empty at its end; waits `seconds` at most."""
        limited = False
        while not self._chunks:
            if self._ended:
                return b""
            if self._failure is not None:
                raise self._error()
            if self._paused:
                self._resume()
            if not limited:
                limited = True
                self._limit(seconds)
            self._waiter = self._loop.create_future()
            await self._waiter
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

    def _limit(self, seconds: float | None) -> None:
        """Have the exchange fail if somebody still waits then; one timer serves all waits, and is seldom set."""
        self._deadline = inf if seconds is None else self._loop.time() + seconds
        if self._deadline < self._armed:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed, self._timer = self._deadline, self._loop.call_at(self._deadline, self._expire)

    def _expire(self, *, last: bool = False) -> None:
        self._armed, self._timer = inf, None
        if self._waiter is None or self._waiter.done() or self._deadline == inf:
            return
        if self._deadline > self._loop.time() + TICK:
            self._arm()
        elif not last:  # one turn of the loop reads what came while this process stood still
            self._armed, self._timer = self._deadline, self._loop.call_later(TICK, partial(self._expire, last=True))
        else:
            self.fail(httpx.ReadTimeout, "the server said nothing in time")

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
        """Take what the server sends, and no more of a body than is read."""
        if self._ended or not self._asked:
            self._surplus = True
            self.abort()
            return
        try:
            self._feed(data)
        except httpx.RemoteProtocolError as error:
            self.fail(httpx.RemoteProtocolError, str(error))
            return
        if self._ended:
            if self._paused:
                self._resume()
        elif self._chunks and not self._paused and self._below is not None and not self._below.is_closing():
            self._paused = True  # what a slow reader has not asked for stays with the system and the sender
            self._below.pause_reading()
        self.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end; it ends a body that nothing else marks the end of."""
        self._lost = True
        self._transport = self._below = None
        self._parser = None  # it refers to this
        if self._timer is not None:
            self._timer.cancel()
        if self._failure is None:
            if exc is None and not (self._ended or self._framed or self.in_head):
                self._ended = True
            self._failure = httpx.ReadError, "the server hung up" if exc is None else f"{type(exc).__name__}: {exc}"
        self.wake()
        self._make_room()

    def pause_writing(self) -> None:
        """Have the writer wait."""
        if self._room is None:
            self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let the writer go on."""
        self._make_room()

    def _resume(self) -> None:
        if self._below is not None and not self._below.is_closing():
            self._paused = False
            self._below.resume_reading()

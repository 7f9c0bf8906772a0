"""Relay: the pipe between a call that must be read to its end and a client that may leave at any moment.

The call's side writes; it waits while the client is slow, and never waits once the client is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from gateway.domain.errors import GatewayError
from gateway.domain.record import record
from gateway.ports import Headers, Outbound, Truncated

CAPACITY = 128 * 1024
"""Bytes that may wait for a slow client, those included that it is just taking."""

_EVENTS = "text/event-stream"


@record(frozen=True, slots=True)
class Written(Outbound):
    """An answer whose head is written already: `lines` are those of its headers, and tell of a body of `length`."""

    lines: bytes = b""
    length: int | None = None


class Relay(AsyncIterator[bytes]):
    """One answer on its way to one client."""

    __slots__ = (
        "_aborted",
        "_ended",
        "_error",
        "_head",
        "_passing",
        "_size",
        "_taken",
        "_waiting",
        "_watchers",
        "answered",
        "bytes_out",
        "client_gone",
        "lines",
        "on_leave",
    )

    def __init__(self) -> None:
        self.answered = False
        """Whether there is an answer to begin with, or the error in its place."""
        self.client_gone = False
        """Whether the client left before the end."""
        self.bytes_out = 0
        self.on_leave: Callable[[], None] | None = None
        """Called once, if the client leaves before the end."""
        self.lines: tuple[bytes, int | None] | None = None
        """What `end_to_end` has made of the headers, if it was asked already."""
        self._head: tuple[int, Headers] | None = None
        self._error: GatewayError | None = None
        self._waiting: list[bytes] = []  # few, and for a short answer one: a deque takes half a kilobyte at once
        self._watchers: list[asyncio.Future[None]] = []
        self._size = self._passing = 0
        self._ended = self._aborted = self._taken = False

    async def head(self) -> Outbound:
        """Wait for the status line and headers; raises the error if there is no answer."""
        try:
            while not self.answered:
                await self._change()
        except asyncio.CancelledError:
            self.leave()
            raise
        return self.outbound()

    def outbound(self, *, over: bool = False) -> Outbound:
        """Return the answer, once it has begun; raises the error in its place.

        `over` tells that nobody asks what becomes of it.
        """
        if self._head is None:
            try:
                raise self._error or RuntimeError("there is no answer yet")
            finally:
                self._error = None  # which refers to this now, by its traceback
        status, headers = self._head
        at_hand = over and self._ended and not (self._aborted or self.client_gone)
        whole = b"".join(self._waiting) if at_hand else None
        if self.lines is not None:
            return Written(status, headers, self, whole, *self.lines)
        return Outbound(status, headers, self, whole)

    def open(self, status: int, headers: Headers) -> None:
        """Give the client its status line; the body follows."""
        if not self.answered:
            self.answered, self._head = True, (status, headers)
            if self._watchers:
                self._changed()

    def give(self, status: int, headers: Headers, body: Sequence[bytes]) -> None:
        """Give the client a whole answer that is less than it may be behind with, where nothing was given before."""
        self.answered, self._head, self._ended = True, (status, headers), True
        if not self.client_gone:
            self._waiting.extend(filter(None, body))
            self._size = self.bytes_out = sum(map(len, body))
        if self._watchers:
            self._changed()

    def fail(self, error: GatewayError) -> None:
        """Give the client an error in place of an answer; after the status line, abort the connection."""
        if self.answered:
            self.abort()
            return
        self._taken = True  # the error is all there is
        if not self.client_gone:
            self.bytes_out = len(error.written())
        self.answered, self._error = True, error
        self._changed()

    @property
    def streaming(self) -> bool:
        """Whether some of an event stream has gone out, after which no client's library asks again by itself."""
        if self._head is None or self.bytes_out <= self._size + self._passing:
            return False
        return any(name == "content-type" and value.startswith(_EVENTS) for name, value in self._head[1])

    @property
    def behind(self) -> bool:
        """Whether the client has more to take than it should have; what is read meanwhile only fills memory."""
        return self._size + self._passing >= CAPACITY and not self.client_gone

    async def room(self) -> None:
        """Wait while the client is behind."""
        while self.behind:
            await self._change()

    async def write(self, chunk: bytes) -> None:
        """Pass on some bytes of the body, waiting while the client is behind."""
        await self.room()
        self.put(chunk)

    def put(self, chunk: bytes) -> None:
        """Pass on some bytes of the body, whether or not the client is behind."""
        if self.client_gone or not chunk:
            return
        self._waiting.append(chunk)
        self._size += len(chunk)
        self.bytes_out += len(chunk)
        if self._watchers:
            self._changed()

    @property
    def closed(self) -> bool:
        """Whether the body has its proper end: nothing may follow it."""
        return self._ended

    def close(self) -> None:
        """End the body properly."""
        self._ended = True
        if self._watchers:
            self._changed()

    def abort(self) -> None:
        """End the body so that the client sees that it is not whole."""
        self._aborted = True
        self._changed()

    async def __anext__(self) -> bytes:
        if self._passing:
            self._passing = 0
            if self._watchers:
                self._changed()
        while not self._waiting:
            if self._aborted:
                raise Truncated
            if self._ended or self.client_gone:
                self._taken = not self.client_gone
                if self._watchers:
                    self._changed()
                raise StopAsyncIteration
            await self._change()
        chunk = self._waiting.pop(0)
        self._passing = len(chunk)
        self._size -= self._passing
        if self._watchers:
            self._changed()
        return chunk

    async def aclose(self) -> None:
        """Take note that the client is gone, unless it has taken the body to its end."""
        if not self._taken:
            self.leave()

    async def until_taken(self) -> None:
        """Wait until the client has taken everything, or has left."""
        while not (self._taken or self.client_gone):
            await self._change()

    def leave(self) -> None:
        """Take note that the client is gone; the call's side goes on without it."""
        if not self.client_gone and self.on_leave is not None:
            self.on_leave()
        self.client_gone = True
        self.bytes_out -= self._size
        self._waiting.clear()
        self._size = 0
        self._changed()

    def _changed(self) -> None:
        """Wake whoever waits for a change."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def _change(self) -> None:
        watcher = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        await watcher

"""Relay: the pipe between a call that must be read to its end and a client that may leave at any moment.

The call's side writes; it waits while the client is slow, and never waits once the client is gone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from gateway.domain.errors import GatewayError
from gateway.ports import Headers, Outbound, Truncated

CAPACITY = 128 * 1024
"""Bytes that may wait for a slow client, those included that it is just taking."""


class Relay(AsyncIterator[bytes]):
    """One answer on its way to one client."""

    def __init__(self) -> None:
        self._head: asyncio.Future[tuple[int, Headers]] = asyncio.get_running_loop().create_future()
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._passing = 0
        self._ended = False
        self._aborted = False
        self._gone = False
        self._taken = False
        self._changed = asyncio.Event()
        self.bytes_out = 0
        self.on_leave: Callable[[], None] | None = None
        """Called once, if the client leaves before the end."""

    @property
    def client_gone(self) -> bool:
        """Whether the client left before the end."""
        return self._gone

    async def head(self) -> Outbound:
        """Wait for the status line and headers; raises the error if there is no answer."""
        try:
            return Outbound(*await asyncio.shield(self._head), self)
        except asyncio.CancelledError:
            self._leave()
            raise

    def open(self, status: int, headers: Headers) -> None:
        """Give the client its status line; the body follows."""
        if not self._head.done():
            self._head.set_result((status, headers))  # without what refers to this: nobody is to look for it

    def fail(self, error: GatewayError) -> None:
        """Give the client an error in place of an answer; after the status line, abort the connection."""
        if self._head.done():
            self.abort()
            return
        self._taken = True  # the error is all there is
        self._changed.set()
        self._head.set_exception(error)
        if self._gone:
            self._head.exception()  # nobody is left to hear of it

    async def room(self) -> None:
        """Wait while the client is behind; what is read before that only fills memory."""
        while self._size + self._passing >= CAPACITY and not self._gone:
            self._changed.clear()
            await self._changed.wait()

    async def write(self, chunk: bytes) -> None:
        """Pass on some bytes of the body, waiting while the client is behind."""
        await self.room()
        if self._gone or not chunk:
            return
        self._waiting.append(chunk)
        self._size += len(chunk)
        self.bytes_out += len(chunk)
        self._changed.set()

    def close(self) -> None:
        """End the body properly."""
        self._ended = True
        self._changed.set()

    def abort(self) -> None:
        """End the body so that the client sees that it is not whole."""
        self._aborted = True
        self._changed.set()

    async def __anext__(self) -> bytes:
        if self._passing:
            self._passing = 0
            self._changed.set()
        while not self._waiting:
            if self._aborted:
                raise Truncated
            if self._ended or self._gone:
                self._taken = not self._gone
                self._changed.set()
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        chunk = self._waiting.popleft()
        self._passing = len(chunk)
        self._size -= self._passing
        self._changed.set()
        return chunk

    async def aclose(self) -> None:
        """Take note that the client is gone, unless it has taken the body to its end."""
        if not self._taken:
            self._leave()

    async def until_taken(self) -> None:
        """Wait until the client has taken everything, or has left."""
        while not (self._taken or self._gone):
            self._changed.clear()
            await self._changed.wait()

    def _leave(self) -> None:
        if not self._gone and self.on_leave is not None:
            self.on_leave()
        self._gone = True
        self.bytes_out -= self._size
        self._waiting.clear()
        self._size = 0
        self._changed.set()

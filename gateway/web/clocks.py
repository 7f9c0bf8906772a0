"""The clocks of one connection: how long a head, an answer that nobody reads, and silence may last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.web.limits import HeadLimits


class Clocks:
    """Timers on one connection, seconds each. `late` is called where a head does not end in time."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        limits: HeadLimits,
        late: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._limits = limits
        self._late = late
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self.idle_since: float | None = None
        """Loop time of the end of the last answer, None while there is something to do."""

    def watch_head(self) -> None:
        """Give a head its time from now on, unless that is running already."""
        if self._head is None:
            self._head = self._loop.call_later(self._limits.seconds, self._head_ended)

    def stop_head(self) -> None:
        """Take no more note of how long a head takes."""
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _head_ended(self) -> None:
        self._head = None
        self._late()

    def watch_unread(self) -> None:
        """Drop the connection in a while, if there is anything left to be read by then."""
        if self._unread is None and self._transport.get_write_buffer_size():
            self._unread = self._loop.call_later(self._limits.unread_seconds, self._transport.abort)

    def stop_unread(self) -> None:
        """Leave it: the client has caught up."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def rest(self) -> None:
        """Close the connection where nothing comes for long; one timer looks for all answers on it."""
        self.idle_since = self._loop.time()
        if self._idle is None:
            self._idle = self._loop.call_later(self._limits.idle_seconds, self._look)

    def _look(self) -> None:
        self._idle = None
        if self.idle_since is None:
            return  # the next answer starts it again
        left = self.idle_since + self._limits.idle_seconds - self._loop.time()
        if left > 0:
            self._idle = self._loop.call_later(left, self._look)
        elif self._transport.get_write_buffer_size():
            self._transport.abort()  # the client has not even read the last answer
        else:
            self._transport.close()

    def stop(self) -> None:
        """Stop all: the connection is gone."""
        self.stop_head()
        self.stop_unread()
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

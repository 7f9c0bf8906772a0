"""Limits how many requests are processed at once between the end of their body and their hold.

A process has one processor. Where hundreds of requests that came together take turns on it, step by step, none is
answered before nearly all are, and what each has in hand is gone from the processor's caches when its turn comes. So
a few at a time are worked out and held. Whoever waits for a slot or for a provider keeps nobody back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

AT_ONCE = 32
"""Requests: as many as go to the store in one write, so that there is work while it writes to disk."""


class ConcurrencyLimiter:
    """A first-come, first-served semaphore for one process."""

    def __init__(self, places: int = AT_ONCE) -> None:
        self._free = places
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> Callable[[], None] | None:
        """Take a place, if one is free; returns what gives it back, to be called once, or None."""
        if not self._free:
            return None
        self._free -= 1
        return self._leave

    async def enter(self) -> Callable[[], None]:
        """Wait for a place, first come, first served; returns what gives it back, to be called once."""
        if (leave := self.take()) is not None:
            return leave
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # it was given a place while it left
                self._leave()
            raise
        return self._leave

    def _leave(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

"""Contact: how long this process has been continuously connected to the store."""

from __future__ import annotations

import time
from collections.abc import Callable


class Contact:
    """A process that was cut off cannot judge whether others are silent until it has been connected for `seconds`.

    After an outage all workers are silent at once; none may take another's tasks before that one could be heard.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since = self._last = clock()

    def made(self) -> None:
        """The store has answered."""
        now = self._clock()
        if now - self._last > self._seconds / 2:
            self._since = now
        self._last = now

    def lost(self) -> None:
        """The store did not answer."""
        self._since = self._last = self._clock()

    @property
    def steady(self) -> bool:
        """Whether it has lasted long enough."""
        now = self._clock()
        return now - self._last <= self._seconds / 2 and now - self._since >= self._seconds

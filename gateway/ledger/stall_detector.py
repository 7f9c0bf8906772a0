"""Stall detector: notices soon that the store has stopped answering, without taking slowness or an own pause for it.

Calls may wait for long behind each other; what tells is that nothing at all is answered, on any connection, while
calls wait. Silence is counted in ticks of the event loop's clock. A tick that comes late counts for nothing: then it
was this process that stood still, and replies may lie unread. Whoever counts seconds for a call is told of such pauses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TICKS = 8
"""Ticks a span. The one in which waiting began counts in full, so that no silence lasts longer than the span."""


class StallDetector:
    """Calls `on_silence`, if it is given, once nothing was heard for `span` seconds while something waited.

    `on_pause` is called with the seconds for which this process stood still meanwhile, if they are more than a tick.
    """

    def __init__(self, span: float, on_silence: Callable[[], None] | None, on_pause: Callable[[float], None]) -> None:
        self.tick = span / TICKS
        """Seconds; whoever is later than that stood still."""
        self.lasts = False
        """Whether nothing has been heard since it was last called silence."""
        self._on_silence = on_silence
        self._on_pause = on_pause
        self._waiting = 0
        self._counted = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Something waits for an answer from now on, until `end`."""
        if self._waiting == 0:
            self._counted = 0
        self._waiting += 1
        if self._timer is None:
            self._wind()

    def end(self) -> None:
        """It waits no longer."""
        self._waiting -= 1

    def heard(self) -> None:
        """The store said something."""
        self._counted, self.lasts = 0, False

    def answered(self) -> None:
        """It said what something waited for, which waits no longer."""
        self._counted, self.lasts = 0, False
        self._waiting -= 1

    def close(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wind(self, since: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._due = (loop.time() if since is None else since) + self.tick
        self._timer = loop.call_at(self._due, self._struck)

    def _struck(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        late = asyncio.get_running_loop().time() - self._due
        punctual = late < self.tick
        self._counted += punctual
        if not punctual:
            self._on_pause(late)
        elif self._counted >= TICKS and self._on_silence is not None:
            self._counted, self.lasts = 0, True
            self._on_silence()
        self._wind(self._due if punctual else None)

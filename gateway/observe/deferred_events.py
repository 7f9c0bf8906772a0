"""Deferred events: defers per-request events and processes them in groups a moment later.

No request waits for it then. And of what counting touches little is at hand after all else that a request does, while
the second of two events that are counted one after the other takes a fraction of the time of the first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.observe.event import Event

log = logging.getLogger(__name__)

TOGETHER_SECONDS = 0.02
"""How long the first event of a group waits for others."""

Takers = Sequence[Callable[[Any], None]]
"""What takes an event, one after the other."""


class DeferredEvents:
    """Passes events on to `takers`, by their type, a moment later, and at once where no event loop runs.

    What waits when the loop ends is passed on by then: `asyncio.run` cancels its tasks, and waits for them. What those
    tell while they are cancelled is passed on by `flush` alone.
    """

    def __init__(self, takers: Mapping[type[Event], Takers]) -> None:
        self._takers = takers
        self._waiting: list[Event] = []
        self._pause: asyncio.Task[None] | None = None

    def take(self, event: Event) -> None:
        """Pass one event on, later."""
        self._waiting.append(event)
        if self._pause is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self.flush()
            else:
                self._pause = loop.create_task(asyncio.sleep(TOGETHER_SECONDS))
                self._pause.add_done_callback(self._pass_on)  # however it ends, begun or not

    def flush(self) -> None:
        """Pass on what waits, now. A fault of one that takes an event is logged, and is nobody else's."""
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            for take in self._takers[type(event)]:
                try:
                    take(event)
                except Exception:
                    log.exception("an event could not be counted: %s", type(event).__name__)

    def _pass_on(self, _: asyncio.Task[None]) -> None:
        self._pause = None
        self.flush()

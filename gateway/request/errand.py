"""Errand: what the flight of a task needs that the flight of a request has not, or does otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.ports.provider import Submissions
from gateway.steps.reserve import Reserved


@dataclass(slots=True)
class Errand:
    """A task under way in this process.

    `queued` is the attempt that holds its money while it waits, given back in the step that takes the hold it is sent
    on. It may wait for room until `until` (seconds of a monotonic clock), behind those whose clients wait. `begins` is
    asked before each call with the route's name and the attempt, and tells whether the task is still this process's to
    send. `resumed` is a call that another process sent, to be followed.
    """

    queued: int | None
    until: float
    begins: Callable[[str, int], Awaitable[bool]]
    submissions: Submissions
    resumed: Reserved | None = None

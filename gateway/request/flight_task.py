"""Flight task: the extra state of a flight that runs for a task instead of a waiting client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fractions import Fraction

from gateway.domain.errors import ClientGone
from gateway.observe.event import Event
from gateway.ports.provider import Submissions
from gateway.steps.reserve import Reserved

NOT_HERE = "task_not_here"
"""The code of the error for a task that must not be sent from here any more."""
CANCELLED = "task_cancelled"
"""The code of the error for a task whose client wants it no more."""


@dataclass(slots=True)
class FlightTask:
    """A task under way in this process.

    `queued` is the attempt that holds its money while it waits, given back in the step that takes the hold it is sent
    on. It may wait for room until `until` (seconds of a monotonic clock), behind those whose clients wait. `begins` is
    asked before each call with what it is held on and the project's multiplier, and tells whether the task is still
    this process's to send. `unwanted` is asked after a call that failed, and tells whether its cancelling was asked
    for. `resumed` is a call that another process sent, to be followed. `told` is what tells of this try's end, and is
    true of the task only if no other try follows.
    """

    queued: int | None
    until: float
    begins: Callable[[Reserved, Fraction], Awaitable[bool]]
    submissions: Submissions
    unwanted: Callable[[], Awaitable[bool]]
    resumed: Reserved | None = None
    told: list[Event] = field(default_factory=list)


def cancelled() -> ClientGone:
    """Return the error that ends a task its client cancelled; only logs and metrics show it."""
    return ClientGone("The task was cancelled.", code=CANCELLED)

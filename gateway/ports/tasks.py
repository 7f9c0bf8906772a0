"""Where tasks and callbacks wait, for all gateways that share a store. Every method may raise LedgerUnavailable."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.task import TaskOrder, TaskRecord, TaskStatus


@dataclass(frozen=True, slots=True)
class Taken:
    """A task that this worker has, until it ends it, gives it back, or is not heard of for too long.

    `again` tells that a worker had it before, so that there may be calls or holds of that one for it, even if it was
    given back meanwhile by others who never looked; `token` proves who has it.
    """

    record: TaskRecord
    token: str
    again: bool


@dataclass(frozen=True, slots=True)
class KeepResult:
    """What came of `keep`: ids of tasks that this worker has no longer, and of those whose cancelling is asked for."""

    lost: Sequence[str] = ()
    cancelled: Sequence[str] = ()


class Tasks(Protocol):
    """The queue of tasks: fair between projects, each task with one worker at a time, none lost with its worker."""

    async def add(self, order: TaskOrder) -> None:
        """Put a task in its project's queue; it is `pending` and can be found. Again changes nothing.

        Its queued hold lasts as long as it may wait from now on. LedgerUnavailable too if that hold has lapsed, and
        ValueError for an order that is too large.
        """

    async def undo(self, order: TaskOrder) -> None:
        """Take a task back whose creation came to nothing, as if it had never been; whoever has it loses it.

        Nothing happens to one that is unknown, or has ended, or of which a call may have been sent.
        """

    async def find(self, task_id: str) -> TaskRecord | None:
        """Return what is known of a task; None once it is forgotten, a while after its end."""

    async def listed(
        self, project: str, *, after: str | None = None, limit: int = 20, status: TaskStatus | None = None
    ) -> Sequence[TaskRecord]:
        """Return tasks of a project, newest first, those created before the task `after`; none if that is unknown."""

    async def take(self, most: int, *, passing: Collection[str] = ()) -> Sequence[Taken]:
        """Take up to so many tasks in turn over all projects, those of silent workers first; returns at once.

        Of the projects in `passing` nothing is taken that nobody had yet; they keep their turns.
        """

    async def keep(self, tokens: Mapping[str, str]) -> KeepResult:
        """Say that this worker still has these tasks (id: token), and learn which it has lost or is to cancel."""

    async def began(self, task_id: str, token: str, *, route: str, attempt: int) -> bool:
        """Note that an attempt is about to be sent; False if the task was taken over or cancelled meanwhile."""

    async def submitted(
        self, task_id: str, number: int, submitted: Mapping[str, object], *, attempt: int | None = None
    ) -> None:
        """Note what a provider took on for the attempt that began last; ValueError if it is too large.

        With `attempt` nothing is noted if another one began meanwhile.
        """

    async def announced(
        self, task_id: str, token: str, number: int, submitted: Mapping[str, object], *, attempt: int
    ) -> bool:
        """Note what is about to be handed over for an attempt, before it is; ValueError if it is too large.

        False if another one began meanwhile or the task was taken over: then it must not be. LedgerUnavailable also if
        no replica has it in time, where there are any.
        """

    async def advanced(self, task_id: str, progress: int) -> bool:
        """Note how far it is; True if its cancelling is asked for."""

    async def end(
        self,
        task_id: str,
        token: str | None,
        status: TaskStatus,
        *,
        result: Mapping[str, object] | None = None,
        error: Mapping[str, object] | None = None,
        cost: int | None = None,
        callback_body: bytes | None = None,
    ) -> bool:
        """End a task, and queue its callback in the same step if it has a URL and this a body (UTF-8).

        False if it had ended before. Whoever lost it to another worker may still complete it, and gets False
        for anything else; without a token it is ended whoever has it. A hold that is still queued for it lapses at
        once. ValueError for what is too large.
        """

    async def give_back(self, task_id: str, token: str) -> None:
        """Let another have it at once, before those that wait: this worker stops."""

    async def cancel(self, task_id: str, *, callback_body: bytes | None = None) -> TaskRecord | None:
        """End a task that nobody has taken as cancelled; of one that is under way note that it is asked for.

        Returns how it stands then. `callback_body` (UTF-8) is posted if this ends it and it has a URL.
        """


@dataclass(frozen=True, slots=True)
class Callback:
    """A message that is due. `tries` counts those that failed; `body` is what is posted."""

    id: str
    project: str
    task_id: str
    url: str
    body: bytes
    tries: int
    created: float
    token: str = ""
    error: str = ""
    """What the last try met."""


class Callbacks(Protocol):
    """Messages to clients: delivered at least once, tried again at growing intervals, kept where nobody took them."""

    async def due(self, most: int) -> Sequence[Callback]:
        """Take up to so many that are due; whoever takes one and dies leaves it to another after a minute."""

    async def delivered(self, callback: Callback) -> None:
        """End it."""

    async def failed(self, callback: Callback, error: str, wait: float | None) -> None:
        """Try it again in so many seconds, or lay it with the dead if None."""

    async def put_off(self, callback: Callback, wait: float) -> None:
        """Give it back untried for so many seconds: its receiver is busy with others."""

    async def dead(self, project: str | None = None, limit: int = 100) -> Sequence[Callback]:
        """Return those that nobody took, newest first."""

    async def revive(self, callback_id: str) -> bool:
        """Send a dead one again from its first try on; False if there is none by that id."""

    async def callback_counts(self) -> Mapping[str, int]:
        """Return how many are `waiting` to be delivered and how many are `dead`."""

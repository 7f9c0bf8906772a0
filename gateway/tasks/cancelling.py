"""Cancelling: a task is given up where nothing is lost by it: while no call is under way, or if its provider agrees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.domain.errors import NotCancellable, NotFound, ledger_unavailable
from gateway.domain.route import Route
from gateway.domain.task import TaskRecord, TaskStatus, task_of
from gateway.domain.task_profile import TaskProfile, UrlPurpose
from gateway.observe.event import Observer
from gateway.ports import Ledger, LedgerUnavailable, Settlements
from gateway.ports.provider import Cancellable, Provider
from gateway.ports.tasks import Tasks
from gateway.request.flight_task import cancelled
from gateway.tasks.document import encoded
from gateway.tasks.submissions import read_submitted
from gateway.tasks.telling import Telling

PATIENCE = 15.0
"""Seconds in which a task that was given up is to have ended; one that has not by then is told of as it stands."""
_LOOK_EVERY = 0.2


@dataclass(frozen=True, slots=True)
class Cancelling:
    """Cancels tasks. `served_by` returns a route and its provider by the route's name, as policy has them now.

    `patience` is seconds.
    """

    tasks: Tasks
    ledger: Ledger
    settlements: Settlements
    served_by: Callable[[str], tuple[Route, Provider] | None]
    observer: Observer
    patience: float = PATIENCE

    def possible(self, record: TaskRecord) -> bool:
        """Tell whether a call that has been sent may still be taken back."""
        return bool(record.submitted) and self._provider(record) is not None

    def _provider(self, record: TaskRecord) -> tuple[Route, Cancellable] | None:
        served = self.served_by(record.route) if record.route is not None else None
        if served is None:
            return None
        route, provider = served
        profile = route.provider.profile
        known = isinstance(profile, TaskProfile) and UrlPurpose.CANCEL in {*profile.urls, *profile.told}
        return (route, provider) if known and isinstance(provider, Cancellable) else None

    async def cancel(self, record: TaskRecord) -> TaskRecord:
        """Cancel a task and return how it stands; NotCancellable, with the reason, if it goes on.

        One that its provider gives up ends once it is known what that costs, and may be under way still until then.
        A task under way for which this was asked makes no further call, even if the present one goes on.
        """
        try:
            return await self._cancel(record)
        except LedgerUnavailable as error:
            raise ledger_unavailable() from error

    async def _cancel(self, record: TaskRecord) -> TaskRecord:
        task_id = task_of(record.order.request_id)
        body = encoded(replace(record, status=TaskStatus.CANCELLED)) if record.order.callback_url else None
        now = record if record.status.ended else await self.tasks.cancel(task_id, callback_body=body)
        if now is not None and not now.status.ended:
            if not await self._came_to_nothing(now):
                return await self._given_up(now)
            ended = replace(now, status=TaskStatus.CANCELLED, cost=0)
            # It will never be sent, since its cancelling was asked for before; more of it may be known by now.
            body = encoded(ended) if ended.order.callback_url else None
            here = await self.tasks.end(task_id, None, TaskStatus.CANCELLED, cost=0, callback_body=body)
            if here:  # and not by the worker that has it
                Telling(self.observer, record.order).ended(cancelled())
            now = ended if here else await self.tasks.find(task_id)
        if now is None:
            raise NotFound("This task is no longer known.", param="id", code="task_not_found")
        if now.status is not TaskStatus.CANCELLED:
            raise NotCancellable(f"This task has {now.status} already.")
        if await self._came_to_nothing(now):
            await self._give_back(now.order.request_id)
        return now

    async def _came_to_nothing(self, record: TaskRecord) -> bool:
        """Tell whether no call began for it, or each that did surely cost nothing, as between two tries.

        Cancelling is noted in the step in which it is seen what call began last, and after that none does
        (`task_began`).
        """
        if record.attempt is None:
            return True
        states = {each["attempt"]: each["state"] for each in await self._attempts(record.order.request_id)}
        begun = [state for number, state in states.items() if number <= record.attempt]
        return record.attempt in states and all(state == "void" for state in begun)

    async def _give_back(self, request_id: str) -> None:
        """Give back all that is held for a task of which nothing is under way; a worker may have died holding."""
        for each in await self._attempts(request_id):
            if each["state"] in ("queued", "sent", "presumed"):
                await self.settlements.void(request_id, each["attempt"], "cancelled")

    async def _attempts(self, request_id: str) -> Sequence[Mapping[str, Any]]:
        kept = await self.ledger.request(request_id)
        return kept["attempts"] if kept is not None else ()

    async def _given_up(self, record: TaskRecord) -> TaskRecord:
        """Have the provider give up what it has taken on, and wait for the task's end by whoever follows that.

        It ends with what it cost. Calls of it that are taken on meanwhile are given up too.
        """
        task_id, asked, until = task_of(record.order.request_id), set[int](), time.monotonic() + self.patience
        while not record.status.ended:
            new = {number: each for number, each in record.submitted.items() if number not in asked}
            if new or not asked:
                await self._call_back(record, new)
                asked |= new.keys()
            if time.monotonic() > until:
                return record
            await asyncio.sleep(_LOOK_EVERY)
            found = await self.tasks.find(task_id)
            if found is None:
                raise NotFound("This task is no longer known.", param="id", code="task_not_found")
            record = found
        if record.status is not TaskStatus.CANCELLED:
            raise NotCancellable(f"This task has {record.status} already.")
        return record

    async def _call_back(self, record: TaskRecord, taken_on: Mapping[int, Mapping[str, object]]) -> None:
        """Ask the provider to give up what it has taken on; whoever follows it settles what came of it."""
        attempts = await self._attempts(record.order.request_id)
        if any(each["attempt"] == record.attempt and "batch" in each["facts"] for each in attempts):
            raise NotCancellable("It is in a batch, or on its way into one, and no line is taken out: it will be done.")
        if not taken_on:
            raise NotCancellable("The call to the provider is under way and cannot be taken back.")
        found = self._provider(record)
        if found is None:
            raise NotCancellable(f"What route {record.route} has taken on cannot be cancelled there.")
        route, provider = found
        every = [await provider.cancel(route, read_submitted(each)) for each in taken_on.values()]
        if not all(every):
            raise NotCancellable("The provider did not agree to give the work up; it may be nearly done.")

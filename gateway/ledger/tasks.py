"""The queue of tasks in Redis: a stream with a consumer group per project, each change one script, all or nothing.

A task is an entry in its project's stream from its first to its last moment, and a hash that is found by its id. Who
has it is what the group says. Nothing is known to one process alone: any gateway goes on with what another left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gateway.domain.task import TaskOrder, TaskRecord, TaskStatus, request_of, task_of
from gateway.ledger import calls, script, task_fields
from gateway.ledger.calls import Calls
from gateway.ledger.contact import Contact
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.names import Names
from gateway.ledger.own_holds import member
from gateway.ledger.replicas import Replicas, Written
from gateway.ledger.script import Script
from gateway.ledger.snapshot import batches
from gateway.ledger.store import Store
from gateway.ledger.task_fields import Holding, bounded, pairs, read_record
from gateway.ledger.wire import to_json
from gateway.observe.event import Observer
from gateway.ports import LedgerUnavailable
from gateway.ports.tasks import KeepResult, Taken

DAY = 86_400
AFTER_ITS_TIME = 60
"""Seconds that the hold of a queued task outlasts the moment at which it may begin at the latest."""
MOST = 200
"""Tasks taken by one script: it must not hold the server up."""
LOOKED_AT = 500
"""Tasks that one script looks at for those of a status."""
GONE = "3600000"
"""Milliseconds after which a worker that has nothing is forgotten."""
DONE = 100
FIRST = "1"
"""The delivery of an entry that nobody had before."""


class RedisTasks:
    """Implements `ports.tasks.Tasks` for one worker.

    Whoever was not heard of for `silence` seconds loses its tasks to others, at most a quarter of that later; `keep`
    is to be called several times meanwhile. A task is forgotten `kept` seconds after its end.
    """

    def __init__(
        self,
        store: Store,
        realm: str = "main",
        *,
        silence: float = 30.0,
        kept: float = 7 * DAY,
        worker: str | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._names = Names(realm)
        # Restore nothing here: `keep` re-sends lost task data where it can, and the ledger restores money.
        self._calls = Calls(store, self._names, observer)
        self._replicas = Replicas(store, self._names)
        self._worker = worker or calls.token()
        self._silence = str(round(silence * 1000))
        self._kept = str(round(kept * 1000))
        self._contact = Contact(silence)
        self._taking = asyncio.Lock()
        self._operation = calls.token()
        self._ends: dict[str, str] = {}
        """The operation of each end whose answer was lost, by the task's token: asked again, it is the same end."""
        self._begun: dict[str, tuple[str, str]] = {}
        """Route and attempt of each call that may have left here, by the task's token: a store may have lost it."""

    async def add(self, order: TaskOrder) -> None:
        """Put a task in its project's queue; see `ports.tasks.Tasks`."""
        names, task_id = self._names, task_of(order.request_id)
        keys = [names.due, names.task(task_id), names.queue(order.project), names.tasks_of(order.project)]
        keys += [names.task_turns, names.task_counts]
        lasts = round((order.not_after + AFTER_ITS_TIME) * 1000)
        args = [member(order.request_id, order.queued_hold), str(lasts), task_id, order.project]
        args += [task_fields.order_json(order), order.callback_url or ""]
        if await self._run(script.TASK_ADD, keys, args) == "LAPSED":
            raise LedgerRefused(f"task {task_id} cannot be queued: its hold has lapsed")
        await self._replicas.reached(Written(names.task(task_id), "hold", args[0]))  # its client is told of it next

    async def undo(self, order: TaskOrder) -> None:
        """Take a task back that came to nothing; see `ports.tasks.Tasks`."""
        names, task_id, project = self._names, task_of(order.request_id), order.project
        keys = [names.task(task_id), names.queue(project), names.tasks_of(project)]
        keys += [names.task_turns, names.task_looks, names.tasks_returned, names.task_counts]
        await self._run(script.TASK_UNDO, keys, [task_id, project])

    async def find(self, task_id: str) -> TaskRecord | None:
        """Return what is known of a task; None too for an id that cannot be one."""
        if request_of(task_id) is None:
            return None
        known = await self._calls.execute("HGETALL", self._names.task(task_id))
        return read_record(known) if known else None

    async def listed(
        self, project: str, *, after: str | None = None, limit: int = 20, status: TaskStatus | None = None
    ) -> Sequence[TaskRecord]:
        """Return tasks of a project, newest first; see `ports.tasks.Tasks`."""
        found: list[TaskRecord] = []
        keys, prefix = [self._names.tasks_of(project)], self._names.task_prefix
        look = str(LOOKED_AT if status else min(limit, LOOKED_AT))
        while len(found) < limit:
            args = [after or "", status or "", str(limit - len(found)), look, prefix]
            after, *rows = await self._calls.read(script.TASK_LIST, keys, args)
            found += [read_record(pairs(row)) for row in rows]
            if not after:
                break
        return found

    async def take(self, most: int, *, passing: Collection[str] = ()) -> Sequence[Taken]:
        """Take up to so many tasks, and 200 at most; see `ports.tasks.Tasks`.

        Those of a call whose answer was lost are the next one's answer.
        """
        names = self._names
        keys = [names.task_turns, names.task_looks, names.tasks_returned, names.tasks_ended, names.task_counts]
        keys.append(names.took(self._worker))
        async with self._taking:
            look = "1" if self._contact.steady else ""
            args = [self._operation, self._worker, str(min(most, MOST)), self._silence, look, names.prefix, GONE]
            args += passing
            rows, missing = await self._run(script.TASK_TAKE, keys, args)
            self._operation = calls.token()
        taken = [self._taken(row) for row in rows]
        for each in taken[most:]:  # of a call that asked for more, and was not answered
            await self.give_back(task_of(each.record.order.request_id), each.token)
        queues = names.queue("")
        how = [script.TASK_STRIKE_OFF if each[1].startswith(queues) else script.STRIKE_OFF for each in missing]
        await self._calls.strike_off("task", [(one, *each) for one, each in zip(how, missing, strict=True)])
        return taken[:most]

    def _taken(self, row: Sequence[Any]) -> Taken:
        _, project, entry, deliveries, record = row
        token = str(Holding(self._worker, deliveries, entry, project))
        return Taken(read_record(pairs(record)), token, again=deliveries != FIRST)

    async def keep(self, tokens: Mapping[str, str]) -> KeepResult:
        """Say that this worker still has these tasks; see `ports.tasks.Tasks`. Call it with none, too: it is heard."""
        answers: dict[str, int] = {}
        for batch in batches(tokens):
            held = [Holding.parse(tokens[task_id]) for task_id in batch]
            keys = [
                name
                for task_id, each in zip(batch, held, strict=True)
                for name in (self._names.task(task_id), self._names.queue(each.project))
            ]
            begun = [self._begun.get(tokens[task_id], ("", "0")) for task_id in batch]
            args = [
                part
                for each, call in zip(held, begun, strict=True)
                for part in (each.worker, each.entry, each.deliveries, *call)
            ]
            answers |= zip(batch, await self._run(script.TASK_KEEP, keys, args), strict=True)
        lost = tuple(task_id for task_id, answer in answers.items() if answer == 0)
        for task_id in lost:
            self._begun.pop(tokens[task_id], None)
        return KeepResult(
            lost=lost,
            cancelled=tuple(task_id for task_id, answer in answers.items() if answer > 1),
        )

    async def began(self, task_id: str, token: str, *, route: str, attempt: int) -> bool:
        """Note that an attempt is about to be sent; see `ports.tasks.Tasks`."""
        held = Holding.parse(token)
        keys = [self._names.task(task_id), self._names.queue(held.project)]
        args = [held.worker, held.entry, held.deliveries, route, str(attempt)]
        began = await self._run(script.TASK_BEGAN, keys, args) == "DONE"
        if began:  # whoever is asked next must know of the call
            self._begun[token] = (route, str(attempt))
            await self._replicas.reached(
                Written(keys[0], "begun", " ".join((held.worker, held.deliveries, str(attempt))))
            )
        return bool(began)

    async def submitted(
        self, task_id: str, number: int, submitted: Mapping[str, object], *, attempt: int | None = None
    ) -> None:
        """Note what a provider took on; see `ports.tasks.Tasks`."""
        told = bounded(to_json(dict(submitted)), task_fields.MOST_SUBMITTED, "what was submitted")
        await self._note(task_id, task_fields.submitted_field(number), told, "" if attempt is None else str(attempt))

    async def announced(
        self, task_id: str, token: str, number: int, submitted: Mapping[str, object], *, attempt: int
    ) -> bool:
        """Note what is about to be handed over; see `ports.tasks.Tasks`."""
        told = bounded(to_json(dict(submitted)), task_fields.MOST_SUBMITTED, "what was submitted")
        held = Holding.parse(token)
        keys = [self._names.task(task_id), self._names.queue(held.project)]
        what = Written(keys[0], task_fields.submitted_field(number), told)
        args = [held.worker, held.entry, held.deliveries, str(attempt), what.field, what.value]
        announced = await self._run(script.TASK_ANNOUNCED, keys, args) == "DONE"
        if announced and not await self._replicas.reached(what):  # whoever does not find it takes the line for not sent
            raise LedgerUnavailable("no replica of the store has caught up")
        return bool(announced)

    async def advanced(self, task_id: str, progress: int) -> bool:
        """Note how far it is, 0 to 100; True if its cancelling is asked for."""
        return await self._note(task_id, "progress", str(min(max(progress, 0), DONE)), "")

    async def _note(self, task_id: str, field: str, value: str, attempt: str) -> bool:
        return bool(await self._run(script.TASK_NOTE, [self._names.task(task_id)], [field, value, attempt]))

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
        """End a task, and queue its callback in the same step; see `ports.tasks.Tasks`."""
        self._begun.pop(token or "", None)
        said: dict[str, str] = {"progress": str(DONE)} if status is TaskStatus.COMPLETED else {}
        if result is not None:
            said["result"] = bounded(to_json(dict(result)), task_fields.MOST_RESULT, "a task's result")
        if error is not None:
            said["error"] = bounded(to_json(dict(error)), task_fields.MOST_ERROR, "a task's error")
        if cost is not None:
            said["cost"] = str(cost)
        body = _body(callback_body)
        held = Holding.parse(token) if token else None
        project = held.project if held else await self._project(task_id)
        if project is None:
            return False
        operation = self._ends.setdefault(token, calls.token()) if token else calls.token()
        args = [operation, task_id, str(status), self._kept, message_of(task_id), body]
        args += [held.worker, held.deliveries] if held else ["", ""]
        args += [part for pair in said.items() for part in pair]
        answer = await self._run(script.TASK_END, self._all_keys(task_id, project), args)
        self._ends.pop(token or "", None)
        return bool(answer == "DONE")

    async def give_back(self, task_id: str, token: str) -> None:
        """Let another have it at once; see `ports.tasks.Tasks`."""
        self._begun.pop(token, None)
        self._ends.pop(token, None)
        held, names = Holding.parse(token), self._names
        keys = [names.task(task_id), names.queue(held.project), names.tasks_returned, names.task_counts]
        await self._run(script.TASK_GIVE_BACK, keys, [held.worker, task_id, held.entry, held.deliveries])

    async def cancel(self, task_id: str, *, callback_body: bytes | None = None) -> TaskRecord | None:
        """Cancel a task, or ask for it; see `ports.tasks.Tasks`."""
        body, project = _body(callback_body), await self._project(task_id)
        if project is None:
            return None
        args = [calls.token(), task_id, self._kept, message_of(task_id), body]
        flat = await self._run(script.TASK_CANCEL, self._all_keys(task_id, project), args)
        return read_record(pairs(flat)) if flat else None

    async def counts(self) -> Mapping[TaskStatus, int]:
        """Return how many tasks there are by status, forgotten ones not counted."""
        known = await self._calls.execute("HMGET", self._names.task_counts, *TaskStatus)
        return {status: int(count or 0) for status, count in zip(TaskStatus, known, strict=True)}

    async def _project(self, task_id: str) -> str | None:
        if request_of(task_id) is None:
            return None
        project = await self._calls.execute("HGET", self._names.task(task_id), "project")
        return None if project is None else str(project)

    def _all_keys(self, task_id: str, project: str) -> list[str]:
        names = self._names
        keys = [names.due, names.request(str(request_of(task_id))), names.task(task_id), names.queue(project)]
        keys += [names.task_turns, names.task_looks, names.tasks_returned, names.tasks_ended, names.task_counts]
        return [*keys, names.callbacks_due, names.callback(message_of(task_id))]

    async def _run(self, what: Script, keys: Sequence[str], args: Sequence[str]) -> Any:
        try:
            reply = await self._calls.run("task", what, keys, args)
        except LedgerUnavailable:
            self._contact.lost()
            raise
        self._contact.made()
        return reply


def message_of(task_id: str) -> str:
    """Return the id of the message that tells of a task's end."""
    return f"msg_{task_id.removeprefix('task_')}"


def _body(body: bytes | None) -> str:
    return bounded((body or b"").decode(), task_fields.MOST_BODY, "a callback's body")

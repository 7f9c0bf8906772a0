"""A plain model of the queue of tasks and of its messages, driven beside the real scripts by random histories."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.domain.task import TaskStatus, task_of
from gateway.ledger.callbacks import RedisCallbacks
from gateway.ledger.names import Names
from gateway.ledger.own_holds import member
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks, message_of
from gateway.ports.tasks import Callback
from tests.ledger.work import fall_silent, new_request, order, watchful

PROJECTS = ("p", "q", "r")
ENDS = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)
PENDING, PROCESSING = TaskStatus.PENDING, TaskStatus.PROCESSING


@dataclass
class Plain:
    """A task as the model has it. `worker` has it by `token`; `silent` if it was not heard of for too long."""

    id: str
    project: str
    listens: bool
    status: TaskStatus = PENDING
    worker: int | None = None
    token: str = ""
    silent: bool = False
    returned: bool = False
    taken: bool = False
    cancel: bool = False
    attempt: int | None = None
    tokens: list[tuple[int, str]] = field(default_factory=list)

    @property
    def new(self) -> bool:
        """Whether nobody ever had it."""
        return not self.taken and not self.status.ended


class TaskModel(RuleBasedStateMachine):
    """Three workers on one store; the server must agree with the model after every step."""

    server = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.realm = secrets.token_hex(6)
        self.store = self.do(self._open())
        self.workers = [self._worker() for _ in range(3)]
        self.callbacks = RedisCallbacks(self.store, self.realm)
        self.tasks: dict[str, Plain] = {}
        self.turns: list[str] = []
        self.waiting: set[str] = set()
        self.had: dict[str, Callback] = {}
        self.dead: set[str] = set()
        self.begun: dict[str, int] = {}

    async def _open(self) -> Store:
        return Store(self.server, deadline=10.0, patience=30.0)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it on this history's loop."""
        return self.runner.run(work)

    def _worker(self) -> RedisTasks:
        return watchful(RedisTasks(self.store, self.realm))

    def pick(self, number: int, fits: Callable[[Plain], object] = lambda _: True) -> Plain | None:
        """Return one of the tasks that fit."""
        fitting = [task for task in self.tasks.values() if fits(task)]
        return fitting[number % len(fitting)] if fitting else None

    def ended(self, task: Plain, status: TaskStatus, *, told: bool) -> None:
        """A task ends, in the model."""
        task.status, task.worker, task.token, task.returned = status, None, "", False
        if told and task.listens:
            self.waiting.add(message_of(task.id))
        if all(each.status.ended for each in self.tasks.values() if each.project == task.project):
            self.turns = [project for project in self.turns if project != task.project]

    @rule(project=st.sampled_from(PROJECTS), listens=st.booleans(), twice=st.booleans())
    def add(self, project: str, listens: bool, twice: bool) -> None:
        """A client orders something; its money lies ready."""
        request = new_request()
        ordered = order(request, project, url="https://c.example/" if listens else None)
        self.do(self.store.execute("ZADD", Names(self.realm).due, 2**50, member(request, 1)))
        for _ in range(1 + twice):
            self.do(self.workers[0].add(ordered))
        self.tasks[task_of(request)] = Plain(task_of(request), project, listens)
        if project not in self.turns:
            self.turns.append(project)

    @initialize(projects=st.lists(st.sampled_from(PROJECTS), min_size=3, max_size=6))
    def begin(self, projects: list[str]) -> None:
        """Some are there from the first, taken by the first worker, and the first of them has ended."""
        for project in projects:
            self.add(project, listens=True, twice=False)
        self.take(0, 5)
        self.end(0, TaskStatus.COMPLETED, "latest")

    @rule(worker=st.integers(0, 2), most=st.integers(0, 5))
    def take(self, worker: int, most: int) -> None:
        """A worker takes what there is: what was given back, then of silent ones, then new ones in turn."""
        taken = self.do(self.workers[worker].take(most))
        ids = [task_of(each.record.order.request_id) for each in taken]
        returned = {task.id for task in self.tasks.values() if task.returned}
        silent = {task.id for task in self.tasks.values() if task.silent}
        first, rest = min(len(returned), most), max(most - len(returned), 0)
        second = min(len(silent), rest)
        assert set(ids[:first]) <= returned
        assert set(ids[first : first + second]) <= silent
        assert ids[first + second :] == self._next(rest - second)
        for each, task_id in zip(taken, ids, strict=True):
            task = self.tasks[task_id]
            assert (each.again, each.record.attempt, each.record.cancel_asked) == (
                task.taken,
                task.attempt,
                task.cancel,
            )
            assert each.token not in dict(task.tokens).values()
            task.status, task.worker, task.token, task.taken = PROCESSING, worker, each.token, True
            task.silent = task.returned = False
            task.tokens.append((worker, each.token))

    def _next(self, most: int) -> list[str]:
        found: list[str] = []
        while len(found) < most and self.turns:
            project = self.turns.pop(0)
            new = (
                task.id for task in self.tasks.values() if task.project == project and task.new and task.id not in found
            )
            if (task_id := next(new, None)) is not None:
                found.append(task_id)
                self.turns.append(project)
        return found

    @rule(worker=st.integers(0, 2), stale=st.booleans())
    def keep(self, worker: int, stale: bool) -> None:
        """A worker says what it has, or believes to have."""
        tokens = {task.id: task.token for task in self.tasks.values() if task.worker == worker}
        if stale:
            tokens = {task.id: token for task in self.tasks.values() for by, token in task.tokens[-1:] if by == worker}
        kept = self.do(self.workers[worker].keep(tokens))
        has = {task_id for task_id, token in tokens.items() if self.tasks[task_id].token == token}
        assert set(kept.lost) == tokens.keys() - has
        assert set(kept.cancelled) == {task_id for task_id in has if self.tasks[task_id].cancel}
        for task_id in has:
            task = self.tasks[task_id]
            task.silent, task.attempt = False, max(self.begun.get(task.token, 0), task.attempt or 0) or None

    @rule(number=st.integers(0, 99), latest=st.booleans(), attempt=st.integers(1, 3))
    def began(self, number: int, latest: bool, attempt: int) -> None:
        """Whoever has or had a task is about to send it."""
        if (task := self.pick(number, lambda task: task.tokens)) is None:
            return
        by, token = task.tokens[-1 if latest else 0]
        right = task.token == token and not task.cancel
        assert self.do(self.workers[by].began(task.id, token, route="r", attempt=attempt)) == right
        if right:
            task.attempt = self.begun[token] = attempt

    @rule(number=st.integers(0, 99))
    def lose_beginning(self, number: int) -> None:
        """The store comes back older: it knows of no call for a task that somebody has. Whoever has it tells it so."""
        if (task := self.pick(number, lambda task: task.token and task.attempt is not None)) is None:
            return
        self.do(self.store.execute("HDEL", Names(self.realm).task(task.id), "attempt", "route", "begun"))
        task.attempt = None

    @rule(number=st.integers(0, 99), latest=st.booleans())
    def give_back(self, number: int, latest: bool) -> None:
        """Whoever has or had a task gives it back."""
        if (task := self.pick(number, lambda task: task.tokens)) is None:
            return
        by, token = task.tokens[-1 if latest else 0]
        self.do(self.workers[by].give_back(task.id, token))
        self.begun.pop(token, None)
        if task.token == token:
            task.worker, task.token, task.silent, task.returned = None, "", False, True
            task.status = PENDING if task.attempt is None else PROCESSING

    @rule(
        number=st.integers(0, 99), status=st.sampled_from(ENDS), which=st.sampled_from(["latest", "first", "anybody"])
    )
    def end(self, number: int, status: TaskStatus, which: str) -> None:
        """Whoever has or had a task ends it, or whoever needs no token."""
        if (task := self.pick(number, lambda task: task.tokens or which == "anybody")) is None:
            return
        by, token = (0, None) if which == "anybody" else task.tokens[-1 if which == "latest" else 0]
        right = not task.status.ended and (token in (None, task.token) or status is TaskStatus.COMPLETED)
        assert self.do(self.workers[by].end(task.id, token, status, callback_body=b"{}")) == right
        self.begun.pop(token or "", None)
        if right:
            task.silent = False
            self.ended(task, status, told=True)

    @rule(number=st.integers(0, 99))
    def cancel(self, number: int) -> None:
        """A client thinks better of it."""
        if (task := self.pick(number)) is None:
            return
        record = self.do(self.workers[0].cancel(task.id, callback_body=b"{}"))
        if not task.status.ended:
            task.cancel = True
        if task.status is PENDING:
            self.ended(task, TaskStatus.CANCELLED, told=True)
        assert (record.status, record.cancel_asked) == (task.status, task.cancel)

    @rule(worker=st.integers(0, 2), then=st.sampled_from(["nothing", "dies", "keeps"]))
    def fall_silent(self, worker: int, then: str) -> None:
        """A worker is not heard of for too long; if it dies another stands in its place, and knows nothing."""
        self.do(fall_silent(self.store, self.realm, self.workers[worker]._worker))
        for task in self.tasks.values():
            task.silent = task.silent or task.worker == worker
        if then == "keeps":
            self.keep(worker, stale=False)
        elif then == "dies":
            self.workers[worker] = self._worker()
            self.begun = {
                token: attempt
                for token, attempt in self.begun.items()
                if not any((worker, token) in task.tokens for task in self.tasks.values())
            }
            for task in self.tasks.values():
                task.worker = None if task.worker == worker else task.worker

    @rule()
    def forget_scripts(self) -> None:
        """The server forgets its scripts, as after a restart."""
        self.do(self.store.execute("SCRIPT", "FLUSH"))

    @rule(most=st.integers(1, 3), minute=st.booleans())
    def due(self, most: int, minute: bool) -> None:
        """Somebody takes messages that are due, or a minute has passed for those taken."""
        names = Names(self.realm)
        if minute:
            for message in self.had:
                self.do(self.store.execute("ZADD", names.callbacks_due, "XX", 1, message))
            self.waiting |= self.had.keys()
        found = self.do(self.callbacks.due(most))
        assert len(found) == min(most, len(self.waiting))
        assert {each.id for each in found} <= self.waiting
        self.had.update({each.id: each for each in found})
        self.waiting -= {each.id for each in found}

    @precondition(lambda self: self.had)
    @rule(number=st.integers(0, 99), outcome=st.sampled_from(["dead", "delivered", "again", "stale"]))
    def tried(self, number: int, outcome: str) -> None:
        """A message was delivered, or failed to be."""
        message = list(self.had)[number % len(self.had)]
        callback = self.had[message]
        if outcome == "stale":
            other = Callback(**{name: getattr(callback, name) for name in callback.__slots__} | {"token": "other"})
            self.do(self.callbacks.failed(other, "e", None))
            return
        del self.had[message]
        self.waiting.discard(message)
        if outcome == "delivered":
            self.do(self.callbacks.delivered(callback))
            return
        self.do(self.callbacks.failed(callback, "e", 0 if outcome == "again" else None))
        (self.waiting if outcome == "again" else self.dead).add(message)

    @precondition(lambda self: self.dead)
    @rule(number=st.integers(0, 99))
    def revive(self, number: int) -> None:
        """Somebody sends a dead message again."""
        message = sorted(self.dead)[number % len(self.dead)]
        assert self.do(self.callbacks.revive(message))
        self.dead.discard(message)
        self.waiting.add(message)

    @invariant()
    def agree(self) -> None:
        """Statuses, counts, lists, and what is left in the store are the same in both."""
        counts = self.do(self.workers[0].counts())
        assert counts == {status: self._count(status) for status in TaskStatus}
        for project in PROJECTS:
            mine = [task for task in self.tasks.values() if task.project == project]
            found = self.do(self.workers[0].listed(project, limit=100))
            assert [task_of(record.order.request_id) for record in found] == [task.id for task in reversed(mine)]
            assert [(record.status, record.attempt) for record in found] == _reversed(mine)
            length = self.do(self.store.execute("XLEN", Names(self.realm).queue(project)))
            assert length == sum(not task.status.ended for task in mine)
        told = self.do(self.callbacks.callback_counts())
        assert told == {"waiting": len(self.waiting | self.had.keys()), "dead": len(self.dead)}

    def _count(self, status: TaskStatus) -> int:
        return sum(task.status is status for task in self.tasks.values())

    def teardown(self) -> None:
        """Work off what is left: each task can still be ended."""
        self.take(0, 5)
        for task in list(self.tasks.values()):
            if not task.status.ended:
                assert self.do(self.workers[0].end(task.id, None, TaskStatus.FAILED))
                self.ended(task, TaskStatus.FAILED, told=False)
        self.agree()
        self.do(self.store.aclose())
        self.runner.close()


def _reversed(tasks: Iterable[Plain]) -> list[tuple[TaskStatus, int | None]]:
    return [(task.status, task.attempt) for task in reversed(list(tasks))]

"""Task worker: takes tasks from the queue as far as this process has room, and sees each of them to its end.

Many gateways share one queue. Each says again and again which tasks it has; whoever falls silent loses them to others.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress

from gateway.domain.errors import Unavailable
from gateway.ports import LedgerUnavailable
from gateway.tasks.run import STORE_PAUSE, NotHere, TaskContext, TaskRun

log = logging.getLogger(__name__)

MOST = 6000
"""Tasks that one process has with providers at once."""
WAITING = 400
"""Tasks that it has besides: those that begin, wait for a route's slot, or rest before another try."""
MOST_PARKED = 20_000
"""Tasks that it has besides, for batches: those that wait for others of their kind, and those in one."""
AT_ONCE = 100
"""Tasks taken in one step."""
LOOK_EVERY = 1.0
"""Seconds between two looks for tasks that other gateways took in; those made here are looked for at once."""
KEEP_EVERY = 5.0
"""Seconds between two signs of life; a sixth of the silence after which tasks are taken over."""


class TaskWorker:
    """Works on tasks. One instance per process; `tell_waiting` is told how many it has without a call under way."""

    def __init__(
        self,
        context: TaskContext,
        *,
        keep_every: float = KEEP_EVERY,
        tell_waiting: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._context = context
        self._keep_every = keep_every
        self._tell_waiting = tell_waiting
        self._running: dict[asyncio.Task[None], TaskRun] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._asking = asyncio.Lock()
        self._wake = asyncio.Event()
        self._passing: list[str] = []
        self._stopping = False
        self._policy = context.current().policy
        context.met.update(self._policy.projects)

    def wake(self) -> None:
        """Look for tasks now."""
        self._wake.set()

    def rest(self) -> None:
        """Take nothing more from now on."""
        self._stopping = True

    async def run(self) -> None:
        """Take tasks and keep them, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take())
            group.create_task(self._keep())

    async def _take(self) -> None:
        while True:
            self._wake.clear()
            try:
                async with self._asking:
                    taken = await self._take_some()
            except LedgerUnavailable as error:
                log.warning("tasks wait for the store: %s", error)
                await asyncio.sleep(STORE_PAUSE)
                continue
            if taken < AT_ONCE:
                await self._pause(LOOK_EVERY)

    async def _take_some(self) -> int:
        """Take tasks as far as there is room and begin them; returns how many came."""
        if (free := self._free()) <= 0:
            return 0
        taken = await self._context.tasks.take(min(free, AT_ONCE), passing=self._passing)
        for each in taken:
            run = TaskRun(self._context, each, self._sent)
            if self._stopping:  # meanwhile
                self._end(self._give_back(run))
            else:
                self._start(run)
        return len(taken)

    def _free(self) -> int:
        """Return how many more tasks may be taken now, settle of which projects nothing new is, and tell how many wait.

        What waits is shared between the projects that have something waiting and one that may come, so that a route
        which is full for one of them leaves room for all others.
        """
        parked = sum(run.parked for run in self._running.values())
        waiting = Counter(run.project for run in self._running.values() if not (run.at_work or run.parked))
        self._tell_waiting(waiting.total())
        share = max(WAITING // (len(waiting) + 1), 1)
        self._passing = [project for project, count in waiting.items() if count >= share]
        at_work = len(self._running) - waiting.total() - min(parked, MOST_PARKED)
        return 0 if self._stopping else MOST - at_work

    def _sent(self) -> None:
        """A task waits no longer: there is room for the next one of its project, if it was passed over."""
        if self._passing and not self._stopping:
            self._wake.set()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):  # `wait_for` would swallow a cancellation that comes when it is woken
            async with asyncio.timeout(seconds * random.uniform(0.8, 1.0)):  # noqa: S311 - jitter
                await self._wake.wait()

    def _start(self, run: TaskRun) -> None:
        task = asyncio.create_task(run.run())
        self._running[task] = run
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        run = self._running.pop(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or isinstance(error, NotHere):
            self._end(self._give_back(run))
        elif error is not None:
            log.error("task %s failed", run.task_id, exc_info=error)
            self._end(run.fail())
        self._look_again()

    def _end(self, work: Coroutine[None, None, None]) -> None:
        """Do what nobody may cut, for then nobody would have the task until this worker counts as silent."""
        ending = asyncio.create_task(work)
        self._endings.add(ending)
        ending.add_done_callback(self._ended)

    def _ended(self, ending: asyncio.Task[None]) -> None:
        self._endings.discard(ending)
        self._look_again()

    def _look_again(self) -> None:
        """There is room for a task, or one to take."""
        if not self._stopping:
            self._wake.set()

    async def _give_back(self, run: TaskRun) -> None:
        """Let others have it; harmless if it has ended or is another's."""
        try:
            await run.give_back()
        except LedgerUnavailable as error:
            log.warning("task %s is left to be taken over: %s", run.task_id, error)

    async def _keep(self) -> None:
        """Tell which tasks are here, and let go of those that are not any more."""
        while True:
            await asyncio.sleep(self._keep_every * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not a secret
            runs = {run.task_id: (task, run) for task, run in self._running.items()}
            try:
                kept = await self._context.tasks.keep({name: run.token for name, (_, run) in runs.items()})
            except LedgerUnavailable as error:
                log.warning("tasks cannot be kept, the store does not answer: %s", error)
                continue
            for name in kept.lost:
                task, run = runs[name]
                if not run.begun:  # a call that was sent is read to its end: its answer is paid for
                    _let_go(task, run)
            for name in kept.cancelled:
                task, run = runs[name]
                run.cancelled = True
                if not run.begun:
                    _let_go(task, run)
            await self._send_away(runs.values())

    async def _send_away(self, runs: Iterable[tuple[asyncio.Task[None], TaskRun]]) -> None:
        """Let go of tasks that wait for whom nothing may be sent any more, or under a former policy.

        Taken again, they are decided anew. Those that gather for a batch are when it begins.
        """
        policy = self._context.current().policy
        changed, self._policy = policy is not self._policy, policy
        self._context.met.update(policy.projects)
        for task, run in runs:
            try:
                stays = run.parked if changed else True
                stays = run.begun or (stays and await self._context.serves(run.project, run.key_id))
            except Unavailable as error:
                log.warning("task %s waits on, nobody can tell for whom: %s", run.task_id, error)
                continue
            if not (stays or run.begun):
                _let_go(task, run)

    async def aclose(self, grace: float) -> None:
        """Take nothing more, let what was sent come to its end within `grace` seconds, and give back the rest."""
        self.rest()
        for task, run in list(self._running.items()):
            if not run.begun or run.parked:  # a batch is not over within any grace: another gateway follows it
                _let_go(task, run)
            run.leaving = True
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        left = dict(self._running)
        for task, run in left.items():
            _let_go(task, run)
        await asyncio.gather(*left, return_exceptions=True)
        async with self._asking:  # what was asked for before comes yet, to be given back
            await asyncio.gather(*self._endings, return_exceptions=True)


def _let_go(task: asyncio.Task[None], run: TaskRun) -> None:
    """Have it given back; once, for a second cancellation would cut what it does to let go of its money."""
    if not run.let_go:
        run.let_go = run.leaving = True
        task.cancel()

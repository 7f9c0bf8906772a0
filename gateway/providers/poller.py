"""Poller: looks at work under way when it is due, with one timer for all of it, however much there is.

Work belongs to a lane, one for each account: it bounds how many looks are under way and how many begin in a second,
and rests where the provider asks for it, so that one slow account holds up no other. Whoever waits awaits a future.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from gateway.domain.retry import jittered
from gateway.domain.task_profile import PollTimes

T = TypeVar("T")

LEAST_BETWEEN = 0.5
"""Seconds between two looks at the same work, however often it is hinted at."""


class Due(Protocol):
    """What is told when a time has come; thousands wait, and a method bound to each would be kept as well."""

    def fire(self) -> None:
        """Do what is due; what is not wanted any more by then must know so itself."""


class Poller:
    """Tells at times of the event loop's clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Due]] = []
        self._number = count()
        self._timer: asyncio.Handle | None = None
        self._armed = math.inf  # when the timer fires; uvloop's handles do not always tell

    def at(self, when: float, due: Due) -> None:
        """Tell at a time."""
        heapq.heappush(self._heap, (when, next(self._number), due))
        if when < self._armed:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = self._heap[0][0] if self._heap else math.inf
        self._timer = self._loop.call_at(self._armed, self._fire) if self._heap else None

    def _fire(self) -> None:
        self._timer, self._armed = None, math.inf
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now:
            _, _, due = heapq.heappop(self._heap)
            due.fire()
        self._arm()


_POLLERS: WeakKeyDictionary[asyncio.AbstractEventLoop, Poller] = WeakKeyDictionary()


def _poller() -> Poller:
    """Return the one poller of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _POLLERS:
        _POLLERS[loop] = Poller(loop)
    return _POLLERS[loop]


class Lane:
    """The work of one account, in the order in which it is due."""

    def __init__(self, times: PollTimes) -> None:
        self.times = times
        self._hurried: deque[Watch[object]] = deque()
        self._ready: deque[Watch[object]] = deque()
        self._looks: set[asyncio.Task[object]] = set()
        self._next = 0.0  # when the next look may begin
        self._woken = 0.0  # for when the lane has asked to be called

    def watch(self, look: Callable[[], Awaitable[T | None]], *, age: float = 0.0) -> Watch[T]:
        """Begin to look at work again and again, until `look` returns something or raises.

        `age` is how many seconds ago it was submitted; what is older than the first interval is looked at at once.
        """
        return Watch(self, _poller(), look, age)

    def rest(self, seconds: float) -> None:
        """Begin no look for so long."""
        self._next = max(self._next, asyncio.get_running_loop().time() + seconds)

    def ready(self, watch: Watch[object], *, hurried: bool) -> None:
        """Take in work that is due; what was hinted at goes before what is only looked after."""
        (self._hurried if hurried else self._ready).append(watch)
        self._pump()

    def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        while (queue := self._hurried or self._ready) and len(self._looks) < self.times.at_once:
            if not queue[0].waits:
                queue.popleft()
                continue
            now = loop.time()
            if now < self._next:
                self._wake()
                return
            if self.times.per_second is not None:
                self._next = max(now, self._next) + 1 / self.times.per_second
            task = queue.popleft().begin(loop)
            self._looks.add(task)
            task.add_done_callback(self._looked)

    def _wake(self) -> None:
        """Ask to be called when the next look may begin, unless that is so already."""
        if self._woken < self._next:
            self._woken = self._next
            _poller().at(self._next, self)

    def fire(self) -> None:
        """Begin the looks that may begin by now."""
        self._woken = 0.0
        self._pump()

    def _looked(self, task: asyncio.Task[object]) -> None:
        self._looks.discard(task)
        self._pump()

    async def aclose(self) -> None:
        """End all looks."""
        self._hurried.clear()
        self._ready.clear()
        for task in list(self._looks):
            task.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)


class Watch(Generic[T]):
    """Work that is looked at until it has ended: `await ended()`, then `close()`."""

    __slots__ = (
        "_again",
        "_began",
        "_due",
        "_hurried",
        "_lane",
        "_last",
        "_look",
        "_poller",
        "_queued",
        "_task",
        "_until",
        "future",
        "over",
    )

    def __init__(self, lane: Lane, poller: Poller, look: Callable[[], Awaitable[T | None]], age: float) -> None:
        self._lane, self._poller, self._look = lane, poller, look
        self._began = asyncio.get_running_loop().time() - age
        self._last = float("-inf")
        self._due, self._until = 0.0, math.inf
        self._queued = self._hurried = self._again = self.over = False
        self._task: asyncio.Task[object] | None = None
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._plan(jittered(max(lane.times.first - age, 0.0), random.random))

    @property
    def waits(self) -> bool:
        """Whether it is due and was not looked at since."""
        return self._queued and not self.over

    def ended(self, within: float) -> asyncio.Future[T]:
        """Return what will be what the last look returned or raised, or TimeoutError after `within` seconds."""
        self._until = asyncio.get_running_loop().time() + within
        self._poller.at(self._until, self)
        return self.future

    def hurry(self) -> None:
        """Look as soon as may be."""
        if self._task is not None:
            self._again = True
        elif not (self.over or self._hurried):
            self._plan(max(self._last + LEAST_BETWEEN - asyncio.get_running_loop().time(), 0.0), hurried=True)

    def close(self) -> None:
        """Stop looking; harmless when repeated."""
        self._stop()
        if self._task is not None:
            self._task.cancel()
        self.future.cancel()

    def _stop(self) -> None:
        """Let go of all that looking needs: plans that are void may be remembered for long."""
        self.over, self._look = True, _nothing

    def begin(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[object]:
        """Look once, for the lane."""
        self._queued = self._hurried = False
        self._task = loop.create_task(self._once())
        self._task.add_done_callback(self._looked)
        return self._task

    async def _once(self) -> object:
        return await self._look()

    def _looked(self, task: asyncio.Task[object]) -> None:
        self._task, self._last = None, asyncio.get_running_loop().time()
        error = None if task.cancelled() else task.exception()
        if self.over or task.cancelled() or self.future.done():
            self._stop()
        elif error is not None:
            self._stop()
            self.future.set_exception(error)
        elif (result := task.result()) is not None:
            self._stop()
            self.future.set_result(result)  # type: ignore[arg-type]  # the task ran `_look`
        elif self._again:
            self._again = False
            self._plan(LEAST_BETWEEN, hurried=True)
        else:
            self._plan(jittered(self._interval(), random.random))

    def _expire(self) -> None:
        if not self.future.done():
            self._stop()
            self.future.set_exception(TimeoutError())
            if self._task is not None:
                self._task.cancel()

    def _interval(self) -> float:
        times = self._lane.times
        age = asyncio.get_running_loop().time() - self._began
        return times.every if age < times.after else times.then

    def _plan(self, seconds: float, *, hurried: bool = False) -> None:
        """Be due after so long; an earlier plan is void."""
        self._due = asyncio.get_running_loop().time() + seconds
        self._hurried = hurried
        self._poller.at(self._due, self)

    def fire(self) -> None:
        """Be looked at, or given up; a void plan is one of a time before that of the plan in force, or after it."""
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            self._expire()
        if now < self._due:
            return
        self._due = math.inf
        if not self.over and self._task is None and (self._hurried or not self._queued):
            self._queued = True
            self._lane.ready(self, hurried=self._hurried)  # type: ignore[arg-type]  # a lane holds watches of any kind


async def _nothing() -> None:
    """Look at nothing."""

"""Waiting: requests whose routes are full queue here for a slot; nothing is held for them meanwhile.

There is a queue for each set of routes. Inside, projects take turns, and each project's requests go first come, first
served; tasks, for which no client waits, come after all others. Only the head of a queue asks the ledger: when a slot
should come free, and when a request in flight has ended. Queues are those of one process; several gateways share the
slots through the ledger.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Self

from gateway.domain.budget import Counted, Denied, Obstacle, Quota
from gateway.domain.errors import RateLimited, Unavailable
from gateway.domain.route import Quote
from gateway.request.wait_reason import WaitReason, gates_of, soonest, waited_for

MOST = 1000
"""Requests of one job type that may wait at once."""
LAG, LONGEST_LAG = 0.01, 1.0
"""How much later than the ledger says a slot is asked for, as a part of its window and in seconds at most: calls reach
the provider a little after they were counted here."""


class Turn(Enum):
    """What becomes of a request that waits."""

    ASK = auto()
    TOO_LATE = auto()
    LEFT = auto()
    CLOSED = auto()
    CHANGED = auto()


class _Queue:
    """Those who wait for the same routes. `asking` has the turn; nobody else asks meanwhile."""

    def __init__(self, key: frozenset[str], first: WaitReason) -> None:
        self.key = key
        self.projects: OrderedDict[str, dict[Place, None]] = OrderedDict()
        self.late: OrderedDict[str, dict[Place, None]] = OrderedDict()
        self.wait_reason = first
        self.due = first.due
        self.asking: Place | None = None
        self.missed: frozenset[str] = frozenset()  # where a request ended while somebody asked
        self.former = False  # the policy is another one now, and whoever is still here is about to leave
        self.timer: asyncio.TimerHandle | None = None

    def line(self, *, late: bool) -> OrderedDict[str, dict[Place, None]]:
        return self.late if late else self.projects

    @property
    def head(self) -> Place:
        return next(iter(next(iter((self.projects or self.late).values()))))

    def places(self) -> list[Place]:
        return [place for line in (self.projects, self.late) for places in line.values() for place in places]


class Room:
    """The queues of a process. `clock` is monotonic seconds; `draw`, from 0 to 1, keeps processes apart."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        most: int = MOST,
    ) -> None:
        self.clock = clock
        self._most = most
        self._lag = 1.0 + draw()
        self.queues: dict[frozenset[str], _Queue] = {}
        """Those in which somebody waits, by the routes that they wait for."""
        self._waiting: Counter[str] = Counter()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the gateway shuts down."""
        return self._closed

    def waiting(self) -> int:
        """Return how many wait."""
        return self._waiting.total()

    def ahead(self, quote: Quote, *, late: bool = False) -> WaitReason | None:
        """Return what those wait for who would be overtaken if the quote's route were taken now; None if nobody is.

        Those who wait `late` may be overtaken by whoever does not.
        """
        gates, queues = gates_of(quote), self.queues.values()
        return soonest(q.wait_reason for q in queues if gates & q.wait_reason.gates and (late or q.projects))

    def wait_reason(self, denied: Denied) -> WaitReason | None:
        """Return what to wait for after a denial; None if waiting for routes and accounts does not help."""
        ways = [way for way in denied.obstacles if way and all(map(waited_for, way))]
        return soonest(map(self._way, ways))

    def _way(self, obstacles: Sequence[Obstacle]) -> WaitReason:
        now, slot, due, live = self.clock(), 0.0, 0.0, False
        for obstacle in obstacles:
            rule = obstacle.line.rule
            slot = max(slot, obstacle.wait)
            due = max(due, obstacle.wait + self.lag(rule.seconds if isinstance(rule, Quota) else 0))
            live = live or (isinstance(rule, Quota) and rule.counted is Counted.CONCURRENT)
        return WaitReason(now + slot, now + due, frozenset(each.line.rule.scope.label() for each in obstacles), live)

    def lag(self, window: float) -> float:
        """Return by how many seconds a slot is asked for late, whose limit is by so many seconds."""
        return min(LAG * window, LONGEST_LAG) * self._lag

    def place(
        self,
        quotes: Iterable[Quote],
        project: str,
        job_type: str,
        wait_reason: WaitReason,
        bound: float,
        *,
        late: bool = False,
    ) -> Place:
        """Queue up for the routes of these quotes, until `bound` by the clock at most; leave by `with`.

        Whoever is `late` comes after all who are not. RateLimited if too many others wait already, Unavailable if the
        gateway shuts down.
        """
        if self._closed:
            raise shutting_down()
        if not late and self._waiting[job_type] >= self._most:
            message = f"{self._most} requests of job type {job_type!r} wait for a route already; please try again."
            raise RateLimited(message, retry_after=wait_reason.slot - self.clock(), should_retry=True)
        key = frozenset(quote.route.name for quote in quotes)
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = _Queue(key, wait_reason)
        place = Place(self, queue, project, job_type, bound, late=late)
        queue.line(late=late).setdefault(project, {})[place] = None
        self._waiting[job_type] += not late
        self._schedule(queue)
        return place

    def ended(self, quote: Quote) -> None:
        """Take note that a request in flight has ended: where such requests fill a route, the head asks at once."""
        if not self.queues:
            return
        gates = gates_of(quote)
        for queue in self.queues.values():
            if queue.asking is not None:
                queue.missed |= gates
            if queue.wait_reason.live and gates & queue.wait_reason.gates:
                queue.due = self.clock()
                self._schedule(queue)

    def changed(self) -> None:
        """Have everybody decided anew, whoever asks just now as soon as it is denied: the policy is another one now."""
        former, self.queues = self.queues, {}  # nobody shall wait for what was full under the former one
        for queue in former.values():
            queue.former = True
            self._schedule(queue)
            for place in queue.places():
                place.call(Turn.CHANGED)

    def close(self) -> None:
        """Send everybody away, whoever asks just now as soon as it is denied: the gateway shuts down."""
        self._closed = True
        for queue in self.queues.values():
            for place in queue.places():
                place.call(Turn.CLOSED)

    def _schedule(self, queue: _Queue) -> None:
        if queue.timer is not None:
            queue.timer.cancel()
            queue.timer = None
        if queue.asking is None and not queue.former and (queue.projects or queue.late):
            delay = max(queue.due - self.clock(), 0.0)
            queue.timer = asyncio.get_running_loop().call_later(delay, self._call, queue)

    def _call(self, queue: _Queue) -> None:
        """Give the head its turn."""
        queue.timer = None
        queue.asking, queue.missed = queue.head, frozenset()
        queue.asking.call(Turn.ASK)

    def denied(self, place: Place, wait_reason: WaitReason) -> None:
        """The head found no room. All whose time is up before there will be any are told now."""
        queue = place.queue
        if wait_reason.live and wait_reason.gates & queue.missed:  # it was judged before that one ended
            wait_reason = replace(wait_reason, due=self.clock())
        queue.asking, queue.wait_reason, queue.due = None, wait_reason, wait_reason.due
        turn = Turn.CLOSED if self._closed else Turn.CHANGED if queue.former else Turn.TOO_LATE
        for each in queue.places():
            if turn is not Turn.TOO_LATE or each.bound < wait_reason.due:
                each.call(turn)
        self._schedule(queue)

    def leave(self, place: Place, *, served: bool) -> None:
        """Somebody leaves; after the head the next one asks at once, of another project if this one was served."""
        queue = place.queue
        line = queue.line(late=place.late)
        places = line[place.project]
        del places[place]
        if not place.late:
            self._waiting -= Counter((place.job_type,))
        if served:
            line.move_to_end(place.project)
        if not places:
            del line[place.project]
        if queue.asking is place:
            queue.asking, queue.due = None, self.clock()
        self._schedule(queue)
        if not (queue.former or queue.projects or queue.late):
            del self.queues[queue.key]


class Place:
    """One request's place in a queue; `bound` is until when it waits, by the room's clock."""

    def __init__(
        self, room: Room, queue: _Queue, project: str, job_type: str, bound: float, *, late: bool = False
    ) -> None:
        self.queue = queue
        self.project = project
        self.job_type = job_type
        self.bound = bound
        self.late = late
        self._room = room
        self._served = False
        self._called: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.leave(self, served=self._served)

    @property
    def wait_reason(self) -> WaitReason:
        """What the head of its queue was last told."""
        return self.queue.wait_reason

    def call(self, turn: Turn) -> None:
        """Tell it what comes next; only the first call counts until it is denied."""
        if not self._called.done():
            self._called.set_result(turn)

    async def turn(self, left: asyncio.Task[None] | None = None) -> Turn:
        """Wait for what comes next. `left` is done once the client is gone."""
        every: list[asyncio.Future[Turn] | asyncio.Future[None]] = [self._called, *([left] if left is not None else [])]
        patience = max(self.bound - self._room.clock(), 0.0)
        await asyncio.wait(every, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if self._room.closed:
            return Turn.CLOSED
        if left is not None and left.done():
            return Turn.LEFT
        return self._called.result() if self._called.done() else Turn.TOO_LATE

    def denied(self, wait_reason: WaitReason) -> None:
        """There was no room; wait on, first of its project still."""
        self._called = asyncio.get_running_loop().create_future()
        self._room.denied(self, wait_reason)

    def served(self) -> None:
        """There was room."""
        self._served = True


def shutting_down() -> Unavailable:
    """Return the error for requests still waiting when the gateway stops."""
    message = "The gateway is shutting down; nothing was billed. Please try again."
    return Unavailable(message, code="shutting_down", retry_after=1.0)

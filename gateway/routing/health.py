"""Health: how each route is doing, by the calls of this process: which are left alone for a while, how fast all are.

A route that fails five times in a row is ejected: it goes last for a while, longer each time in a row (the numbers are
those of Envoy's outlier detection). Then it is half open: one request at a time tries it. Once that succeeds the route
gets a growing share of its work. Nothing is refused here: where every route is in trouble, all are tried as before.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from gateway.domain.job import AUTO, Job, Size
from gateway.domain.record import record
from gateway.domain.retry import jittered
from gateway.domain.route import Route
from gateway.observe.event import Observer, RouteEjected
from gateway.ports.provider import UpstreamFailure
from gateway.routing.capacity import Capacity, callee

FAILURES = 5
"""In a row, before a route is ejected."""
LEAST = 0.1
"""The share of its work that a route gets first when it is back."""
_SMALL, _MIDDLE = 1_200_000, 2_500_000
"""Pixels: the ends of the first two size classes."""
_NO_FAULT = frozenset({"status_429", "batch_full", "unsupported", "no_image", "no_room", "cancelled"})
"""Reasons that say nothing of a route's health."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long things last, in seconds."""

    ejection: float = 30.0
    """The first ejection; the second in a row lasts twice as long, and so on. As long in service forgets one."""
    longest: float = 300.0
    slow_start: float = 30.0
    claim: float = 5.0
    """How long a half-open route waits for the request that was let through to make its call."""
    probe: float = 300.0
    """How long it then waits for the result."""
    half_life: float = 300.0
    """After this a measured latency counts half."""
    memory: float = 900.0
    """A latency that was not measured for so long is not known any more."""


class Circuit(StrEnum):
    """In service, in service with a growing share, left alone, or tried by one request at a time."""

    CLOSED = "closed"
    SLOW_START = "slow_start"
    OPEN = "open"
    HALF_OPEN = "half_open"


@record(frozen=True, slots=True)
class RouteHealth:
    """A route as it is now. `seconds` is what is left of its ejection, `failures` how many there were in a row."""

    circuit: Circuit = Circuit.CLOSED
    seconds: float = 0.0
    weight: float = 1.0
    failures: int = 0
    ejections: int = 0

    @property
    def in_service(self) -> bool:
        """Whether it is neither ejected nor on trial."""
        return self.circuit in (Circuit.CLOSED, Circuit.SLOW_START)


@dataclass(slots=True, eq=False)
class Trial:
    """One call under way; whoever made it tells its end once, and what is told after that changes nothing."""

    route: Route
    job: Job
    era: object
    over: bool = False


class Health:
    """Implements `ports.Conditions`. One instance per process; `clock` is monotonic seconds, `draw` is from 0 to 1.

    `capacity` says whether a route has room now; it is asked first.
    """

    def __init__(
        self,
        observer: Observer,
        *,
        times: Times | None = None,
        capacity: Capacity | None = None,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._observer = observer
        self._times = times or Times()
        self._capacity = capacity
        self._clock = clock
        self._draw = draw
        self._routes: dict[str, _State] = {}
        self._latencies: dict[tuple[str, str, str], _Mean] = {}
        self._fallen: set[str] = set()  # those ejected that are not known to have come back to all of their work

    def begin(self, route: Route, job: Job) -> Trial:
        """Take note of a call that is about to be made; `succeeded`, `failed` or `dropped` is to follow."""
        state = self._routes.get(route.name) or self._routes.setdefault(route.name, _State())
        trial = Trial(route, job, state.era)
        if state.until is not None and self._is_of_now(route):
            now = self._clock()
            if now >= state.until and (state.probe is None or now >= state.taken):
                state.probe, state.taken = trial, now + self._times.probe
        return trial

    def suspects(self) -> Collection[str]:
        """Return the routes that may be in trouble: those that were ejected lately, or may have no room."""
        tight = self._capacity.tight() if self._capacity is not None else ()
        return self._fallen if not tight else {*self._fallen, *tight}

    def trouble(self, route: str) -> str | None:
        """Say why a route had better not be called now; None lets the caller be the one that tries a half-open route.

        A route that is coming back is in trouble by chance, as often as its weight says, so ask once per request.
        """
        if self._capacity is not None and (full := self._capacity.trouble(route)) is not None:
            return full
        state = self._routes.get(route)
        if state is None or (state.until is None and state.returned is None):
            return None
        now = self._clock()
        if state.until is None:
            weight = self._weight(state, now)
            if weight >= 1:
                self._fallen.discard(route)
            return "is coming back slowly after failures" if weight < 1 and self._draw() >= weight else None
        if now < state.until:
            return f"kept failing and is left alone for {math.ceil(state.until - now)} s"
        if now < state.taken:
            return "kept failing and is being tried by one request"
        state.taken = now + self._times.claim
        return None

    def latency(self, route: str, job: Job) -> float | None:
        """Return the decayed mean seconds of such jobs (size class, quality) on a route; None if it did none lately."""
        mean = self._latencies.get((route, _size_class(job.size), job.quality))
        return None if mean is None else mean.value(self._clock(), self._times)

    def of(self, route: str) -> RouteHealth:
        """Return how a route is doing, for whoever looks; changes nothing."""
        state = self._routes.get(route)
        if state is None:
            return RouteHealth()
        now = self._clock()
        weight = self._weight(state, now)
        if state.until is None:
            circuit = Circuit.CLOSED if weight == 1 else Circuit.SLOW_START
            return RouteHealth(circuit, 0.0, weight, state.failures, self._ejections(state, now))
        circuit = Circuit.OPEN if now < state.until else Circuit.HALF_OPEN
        return RouteHealth(circuit, max(state.until - now, 0.0), weight, state.failures, state.ejections)

    def adopt(self, before: Mapping[str, Route], after: Mapping[str, Route]) -> None:
        """Forget the routes that are gone under a new policy, or call something else now."""
        gone = {name for name, route in before.items() if callee(route) != callee(after.get(name))}
        self._routes = {name: state for name, state in self._routes.items() if name not in gone}
        self._latencies = {key: mean for key, mean in self._latencies.items() if key[0] not in gone}
        self._fallen -= gone

    def succeeded(self, trial: Trial, seconds: float) -> None:
        """Take note of a good answer, `seconds` from sending to its last byte."""
        if trial.over or not self._is_of_now(trial.route):
            return
        state = self._end(trial)
        now, name, job = self._clock(), trial.route.name, trial.job
        if job.quality == AUTO or job.quality in trial.route.capabilities.quality:  # a client's own words have no end
            key = (name, _size_class(job.size), job.quality)
            mean = self._latencies.get(key) or self._latencies.setdefault(key, _Mean(now))
            mean.add(seconds, now, self._times)
        if state is not None:
            state.failures = 0
            if state.until is not None:
                state.comes_back(now)

    def failed(self, trial: Trial, failure: UpstreamFailure) -> None:
        """Take note of a failure; the caller's own fault and a full account say nothing of the route's health."""
        if failure.pass_on or failure.reason in _NO_FAULT:
            self.dropped(trial)
            return
        state = self._end(trial)
        if state is None:
            return
        state.failures += 1
        if state.probe is trial or (state.until is None and state.failures >= FAILURES):
            self._eject(trial.route.name, state)

    def dropped(self, trial: Trial) -> None:
        """Take note of a call that ended otherwise, so that another one may try a half-open route."""
        state = self._end(trial)
        if state is not None and state.probe is trial:
            state.probe, state.taken = None, -math.inf

    def _end(self, trial: Trial) -> _State | None:
        """The route's state, but for a call that ended before, or began before the state's last change or a move.

        What such a call found says nothing of what came after.
        """
        state = self._routes.get(trial.route.name)
        over, trial.over = trial.over, True
        known = not over and self._is_of_now(trial.route)
        return state if known and state is not None and state.era is trial.era else None

    def _is_of_now(self, route: Route) -> bool:
        return self._capacity is None or self._capacity.is_of_now(route)

    def _eject(self, route: str, state: _State) -> None:
        now = self._clock()
        state.ejections = self._ejections(state, now) + 1
        seconds = jittered(min(self._times.ejection * state.ejections, self._times.longest), self._draw)
        state.goes(now + seconds)
        self._fallen.add(route)
        self._observer.emit(RouteEjected(route, seconds))

    def _ejections(self, state: _State, now: float) -> int:
        if state.until is not None or state.returned is None:
            return state.ejections
        return max(state.ejections - int((now - state.returned) / self._times.ejection), 0)

    def _weight(self, state: _State, now: float) -> float:
        if state.until is not None:
            return LEAST
        if state.returned is None:
            return 1.0
        return min(LEAST + (1 - LEAST) * (now - state.returned) / self._times.slow_start, 1.0)


@dataclass(slots=True)
class _State:
    """One route. `era` changes with each ejection and each return. Times are those of the clock."""

    failures: int = 0
    ejections: int = 0
    era: object = field(default_factory=object)
    until: float | None = None
    """The end of the ejection; half open after it. None in service."""
    returned: float | None = None
    """When it last came back."""
    probe: Trial | None = field(default=None, repr=False)
    taken: float = -math.inf
    """Until when a half-open route is spoken for."""

    def goes(self, until: float) -> None:
        """An ejection begins."""
        self.era = object()
        self.until, self.probe, self.taken = until, None, -math.inf

    def comes_back(self, now: float) -> None:
        """The route is back."""
        self.era = object()
        self.until, self.probe, self.taken, self.returned = None, None, -math.inf, now


@dataclass(slots=True)
class _Mean:
    """A mean in which each second counts less the longer ago it was measured."""

    at: float
    total: float = 0.0
    count: float = 0.0

    def add(self, seconds: float, now: float, times: Times) -> None:
        """Take in one measurement."""
        kept = 0.5 ** ((now - self.at) / times.half_life)
        self.total, self.count, self.at = self.total * kept + seconds, self.count * kept + 1, now

    def value(self, now: float, times: Times) -> float | None:
        """Return the mean, if it is not too old."""
        return None if now - self.at > times.memory else self.total / self.count


@lru_cache(256)
def _size_class(size: str) -> str:
    """A word for how much there is to draw; `auto` where that is the provider's choice."""
    parsed = Size.parse(size)
    if parsed is None:
        return AUTO
    return "small" if parsed.pixels <= _SMALL else "middle" if parsed.pixels <= _MIDDLE else "large"

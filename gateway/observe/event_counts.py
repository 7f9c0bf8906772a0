"""What happened, counted by name for the time being: what was denied, degraded, fell back, waited or failed, how fast.

The counts are the process's own and are taken away again and again by whoever adds them up over all processes.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gateway.observe.event import (
    NONE,
    Degraded,
    Event,
    FellBack,
    PolicyLoaded,
    Replaced,
    RequestDenied,
    RequestFinished,
    RouteEjected,
    UpstreamFailed,
    UpstreamFinished,
)

MOST_NAMES = 5_000
"""Different names between two takings; policy bounds them, and this what policy may say."""
MOST_REFUSALS = 50
"""Refusals told one by one between two takings; beyond it the newest are."""
REFUSED = 400
STEPS = 4
"""Of how a duration is counted: four steps for each doubling."""
SEPARATOR = "\t"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that came to nothing: when (Unix seconds), whose, and the error's status and code."""

    at: float
    request_id: str
    project: str
    job_type: str
    operation: str
    status: int
    code: str


class EventCounts:
    """An Observer that counts. `since` is when the policy was adopted that serves (Unix seconds)."""

    patient: Collection[type[Event]] = frozenset({UpstreamFinished, RequestFinished})
    """What every request brings."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str | int, ...], int] = {}
        self.takers: Mapping[type[Event], Callable[[Any], None]] = MappingProxyType(self._takers())
        self._refusals: deque[Refusal] = deque(maxlen=MOST_REFUSALS)
        self.since = time.time()
        self.digest = ""
        self.reload_failed: float | None = None
        """When a policy was refused last since the one that serves was adopted; None if none was."""

    def emit(self, event: Event) -> None:
        """Take note of one event."""
        if (take := self.takers.get(type(event))) is not None:
            take(event)

    def _takers(self) -> dict[type[Event], Callable[[Any], None]]:
        return {
            RequestFinished: self._finished,
            UpstreamFinished: self._took,
            UpstreamFailed: lambda event: self._add("failed", event.route, event.reason),
            FellBack: lambda event: self._add("fallback", event.from_route, event.to_route, event.reason),
            RequestDenied: lambda event: self._add("denied", event.project, event.reason),
            Degraded: lambda event: self._add("degraded", event.job_type, event.change),
            Replaced: lambda event: self._add("replaced", event.route, event.model, event.replacement),
            RouteEjected: lambda event: self._add("ejected", event.route),
            PolicyLoaded: self._loaded,
        }

    def take(self) -> tuple[dict[str, int], list[Refusal]]:
        """Return what was counted since the last time, and forget it."""
        counts: Counter[str] = Counter()
        for words, count in self._counts.items():
            counts[SEPARATOR.join(map(str, words))] += count
        refusals = list(self._refusals)
        self._counts = {}
        self._refusals.clear()
        return counts, refusals

    def give_back(self, counts: dict[str, int], refusals: list[Refusal]) -> None:
        """Count again what was taken in vain."""
        for name, count in counts.items():
            self._count(tuple(name.split(SEPARATOR)), count)
        for refusal in reversed(refusals[-(MOST_REFUSALS - len(self._refusals)) :]):
            if len(self._refusals) < MOST_REFUSALS:
                self._refusals.appendleft(refusal)

    def _finished(self, event: RequestFinished) -> None:
        self._add("status", event.status)
        if event.waited:
            self._add("waited", event.job_type)
            self._count(("waited_ms", event.job_type), round(event.waited * 1000))
        if event.status >= REFUSED and event.project != NONE:
            who = (event.request_id, event.project, event.job_type, event.operation)
            self._refusals.append(Refusal(event.at, *who, event.status, event.code))

    def _took(self, event: UpstreamFinished) -> None:
        self._add("took", event.route, step_of(event.seconds))

    def _loaded(self, event: PolicyLoaded) -> None:
        if event.ok:
            self.since, self.digest, self.reload_failed = time.time(), event.digest, None
        else:
            self.reload_failed = time.time()

    def _add(self, *words: str | int) -> None:
        try:
            self._counts[words] += 1
        except KeyError:
            self._count(words, 1)

    def _count(self, words: tuple[str | int, ...], count: int) -> None:
        if words in self._counts or len(self._counts) < MOST_NAMES:
            self._counts[words] = self._counts.get(words, 0) + count


def seconds_of(step: int) -> float:
    """Return the longest duration of a step, in seconds."""
    return float(2 ** (step / STEPS))


_FIRST = math.ceil(STEPS * math.log2(0.001))
_LONGEST = [seconds_of(step) for step in range(_FIRST, STEPS * 20)]
"""From a millisecond to twelve days."""


def step_of(seconds: float) -> int:
    """Return the step that a duration is counted in."""
    return _FIRST + bisect_left(_LONGEST, seconds)

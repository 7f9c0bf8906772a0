"""Heartbeat: what a process tells others through the store: that it lives, by which policy, how its routes are doing.

And what happened in it, so that whoever shows it to people sees every process of every gateway on the same store.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from gateway.ledger.calls import token
from gateway.ledger.heartbeats import Heartbeats
from gateway.observe.event_counts import EventCounts
from gateway.ports import LedgerUnavailable
from gateway.routing.health import RouteHealth

SECONDS = 2.0
"""Between two looks whether there is something to tell."""
SILENCE = 10.0
"""Seconds after which a process says that it is alive, though nothing happened."""
MOST_PROBLEMS = 20
HEALTHY = RouteHealth()


class Heartbeat:
    """Of one process. `health` returns how routes are doing that are not simply well; None of who makes no calls."""

    def __init__(self, heartbeats: Heartbeats, health: Callable[[], Mapping[str, RouteHealth]]) -> None:
        self.heartbeats = heartbeats
        self.event_counts = EventCounts()
        self.instance = token()
        self.problems: Sequence[str] = ()
        """Why the policy was refused that was read last."""
        self.makes_calls = True
        self._health = health
        self._started = time.time()
        self._told: dict[str, object] | None = None
        self._beat = float("-inf")

    def word(self) -> dict[str, object]:
        """Return what there is to say."""
        found = self.event_counts
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": self._started,
            "makes_calls": self.makes_calls,
            "policy": found.digest,
            "policy_since": found.since,
            "reload_failed": found.reload_failed,
            "problems": list(self.problems[:MOST_PROBLEMS]) if found.reload_failed else [],
            "routes": {name: _told(health) for name, health in self._health().items() if health != HEALTHY},
        }

    async def run(self) -> None:
        """Tell, until cancelled; then that this process ends."""
        try:
            while True:
                await self.beat()
                await asyncio.sleep(SECONDS)
        finally:
            with contextlib.suppress(LedgerUnavailable):
                await self.heartbeats.beat(self.instance, None, *self._taken())

    async def beat(self) -> None:
        """Publish what has changed, if anything; what the store does not accept is sent later."""
        word, now = self.word(), time.monotonic()
        counts, refusals = self.event_counts.take()
        if not counts and word == self._told and now - self._beat < SILENCE:
            return
        try:
            await self.heartbeats.beat(self.instance, word, counts, map(asdict, refusals))
            self._told, self._beat = word, now
        except LedgerUnavailable:
            self.event_counts.give_back(counts, refusals)

    def _taken(self) -> tuple[dict[str, int], list[dict[str, object]]]:
        counts, refusals = self.event_counts.take()
        return counts, [asdict(refusal) for refusal in refusals]


def _told(health: RouteHealth) -> dict[str, object]:
    return {
        "circuit": str(health.circuit),
        "ejected_for_seconds": round(health.seconds),
        "weight": round(health.weight, 2),
        "failures_in_a_row": health.failures,
        "ejections_in_a_row": health.ejections,
    }

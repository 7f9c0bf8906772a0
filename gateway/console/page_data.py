"""Page data: what is behind all console pages, queried once for all concurrent viewers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Generic, TypeVar

from gateway.console.follower import Follower
from gateway.domain.budget import Budget
from gateway.domain.policy import Policy
from gateway.ledger.heartbeats import hour_of
from gateway.ledger.wire import Balance
from gateway.observe.scrape import Snapshot
from gateway.process.app import Application, budgets_of

Value = TypeVar("Value")

FRESH_SECONDS, VIEW_SECONDS = 4.0, 1.0
MOST_QUERIES = 32
SHARE, LONGEST_SECONDS = 0.02, 8.0
"""Of the time that making one thing to look at may take, and how old it becomes at most."""
HOURS_TOLD = 24
"""Of what happened."""


@dataclass
class CachedValue(Generic[Value]):
    """Something that is asked for again only once it is so many seconds old; many who ask wait for one answer.

    What takes long is asked for less often, within bounds, so that looking takes a small share of the time.
    """

    ask: Callable[[], Awaitable[Value]]
    seconds: float = FRESH_SECONDS
    _until: float = float("-inf")
    _value: list[Value] = field(default_factory=list)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def now(self) -> Value:
        """Return it; raises what asking raises."""
        async with self._asking:
            began = time.monotonic()
            if not self._value or began > self._until:
                self._value = [await self.ask()]
                now = time.monotonic()
                self._until = now + min(max(self.seconds, (now - began) / SHARE), LONGEST_SECONDS)
            return self._value[0]

    def stale(self) -> None:
        """Ask anew next time."""
        self._until = float("-inf")


class PageData:
    """Of one process; `clock` is in UTC."""

    def __init__(self, application: Application, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.application = application
        self.clock = clock
        self.follower = Follower(application.store, application.realm, clock)
        self.snapshot: CachedValue[Snapshot] = CachedValue(application.snapshot)
        self.budgets = CachedValue(self._budgets)
        self.words = CachedValue(application.heartbeat.heartbeats.words, 2.0)
        self.happened = CachedValue(self._happened)
        self.not_ready = CachedValue(partial(application.service.ready, openly=True), 2.0)
        """What stands in the way of serving here, as `/readyz` tells."""
        self._hours: dict[str, Mapping[str, int]] = {}

    @property
    def policy(self) -> Policy:
        """The policy that this process serves by."""
        return self.application.policy

    async def _budgets(self) -> Sequence[tuple[Budget, Balance]]:
        rules = budgets_of(self.policy)
        return list(zip(rules, await self.application.ledger.balances(rules), strict=True))

    async def _happened(self) -> Mapping[str, int]:
        """What happened in the last hours, this one included, added up; hours that are over are asked for once."""
        now = self.clock()
        total: dict[str, int] = {}
        names = [hour_of((now - timedelta(hours=ago)).timestamp()) for ago in range(HOURS_TOLD)]
        self._hours = {name: counts for name, counts in self._hours.items() if name in names}
        for ago, name in enumerate(names):
            counts = self._hours.get(name)
            if counts is None:
                counts = await self.application.heartbeat.heartbeats.happened(name)
            if ago > 1:  # a process may be a little late with the hour before
                self._hours[name] = counts
            for what, count in counts.items():
                total[what] = total.get(what, 0) + count
        return total


class CachedViews:
    """One view, kept for each of the queries asked lately."""

    def __init__(self, data: PageData, view: Callable[[PageData, Mapping[str, str]], Awaitable[object]]) -> None:
        self._data = data
        self._view = view
        self._kept: dict[tuple[int, tuple[tuple[str, str], ...]], CachedValue[object]] = {}

    async def show(self, query: Mapping[str, str]) -> object:
        """Return what the view shows; raises what it raises."""
        key = (self._data.follower.stage, tuple(sorted(query.items())))
        kept = self._kept.pop(key, None)
        if kept is None:
            kept = CachedValue(lambda: self._view(self._data, query), VIEW_SECONDS)
        while len(self._kept) >= MOST_QUERIES:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = kept
        return await kept.now()

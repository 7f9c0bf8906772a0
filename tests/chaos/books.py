"""The books, read behind the gateway's back: limits, holds, entries against balances, and the provider's bill."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.load import load_policy
from gateway.domain.budget import Budget, Counted, Quota
from gateway.domain.policy import Policy
from gateway.ledger.entries import Entry, read_entries, read_exported
from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from gateway.process.app import budgets_of

SAMPLE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of the provider's bill: whose, its own id, the gateway's id of the request, when it came and when it was
    billed (Unix seconds), nano-USD."""

    account: str
    request: str
    client: str
    prompt: str
    began: float
    at: float
    nano_usd: int


def read_bill(path: Path) -> list[Charge]:
    """Every line of the bill."""
    return [Charge(**json.loads(line)) for line in path.read_text().splitlines()]


@dataclass
class Account:
    """What the entries say of one request: nano-USD by the route's price, by attempt; how it was known, in turn; and
    whether a hold of it lapsed."""

    cost: dict[int, int] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    lapsed: bool = False

    @property
    def total(self) -> int:
        """All attempts together."""
        return sum(self.cost.values())


class Books:
    """A realm's books, by raw reads of the store; `exports` is where older entries are to be found."""

    exports: tuple[Path, ...] = ()

    def __init__(self, store: Store, realm: str, policy: Policy) -> None:
        self._store = store
        self._names = Names(realm)
        self._realm = realm
        self._limits = {rule.meter: rule.limit for rule in _limits_of(policy)}

    async def cells(self) -> dict[str, tuple[int, int]]:
        """Spent and held of every cell that has them; rolling quotas have none."""
        raw: dict[str, str] = await self._store.execute("HGETALL", self._names.balances)
        pairs = {name: cell.split(" ") for name, cell in raw.items() if self._limit(name) is not None}
        return {name: (int(pair[0]), int(pair[1])) for name, pair in pairs.items()}

    def _limit(self, cell: str) -> int | None:
        return self._limits.get(cell.rpartition("@")[0] or cell)

    async def over_limit(self) -> list[str]:
        """Every cell that is over its limit now, in words."""
        cells = await self.cells()
        limits = {name: self._limit(name) or 0 for name in cells}
        return [f"{n}: {s} + {h} > {limits[n]}" for n, (s, h) in cells.items() if s + h > limits[n]]

    async def nearest(self) -> float:
        """How full the fullest cell is, 1 at its limit."""
        cells = await self.cells()
        return max((sum(pair) / (self._limit(name) or 1) for name, pair in cells.items()), default=0.0)

    async def held(self) -> list[str]:
        """Every hold and every cell that is still held, in words."""
        due: list[str] = await self._store.execute("ZRANGE", self._names.due, 0, -1)
        return [f"due {member}" for member in due] + [f"{n}: {h}" for n, (_, h) in (await self.cells()).items() if h]

    async def accounts(self) -> dict[str, Account]:
        """What was booked for each request; what the store lost and was told again counts as it was told last."""
        kept = [entry async for entry in read_entries(self._store, self._realm)]
        ids, again = {entry.id for entry in kept}, {_attempt(entry) for entry in kept if entry.kind.books}
        exported = list(read_exported(self.exports)) if self.exports else []
        lost = [entry for entry in exported if entry.id not in ids and _attempt(entry) not in again]
        found: dict[str, Account] = {}
        for entry in (*lost, *kept):
            account = found.setdefault(entry.request_id, Account())
            account.cost[entry.attempt] = account.cost.get(entry.attempt, 0) + entry.cost.route
            account.sources.append(entry.source)
            account.lapsed |= entry.reason == "expired"
        return found

    async def disagreements(self) -> list[str]:
        """Every money cell whose spent part is not the sum of its entries, in words."""
        sums: dict[str, int] = {n: int(v) for n, v in (await self._store.execute("HGETALL", self._names.base)).items()}
        async for entry in read_entries(self._store, self._realm):
            for name, micro in entry.lines.items():
                sums[name] = sums.get(name, 0) + micro
        spent = {name: pair[0] for name, pair in (await self.cells()).items() if name.startswith("usd|")}
        names = sorted(spent.keys() | sums.keys())
        pairs = [(name, spent.get(name, 0), sums.get(name, 0)) for name in names]
        return [
            f"{name}: {live} in the balance, {folded} in the entries" for name, live, folded in pairs if live != folded
        ]

    async def watch(self, violations: list[str]) -> None:
        """Sample until cancelled, noting whatever is over its limit."""
        while True:
            with contextlib.suppress(LedgerUnavailable):  # it was killed: the next sample counts
                violations += await self.over_limit()
            await asyncio.sleep(SAMPLE_SECONDS)


def _attempt(entry: Entry) -> tuple[str, int]:
    return entry.request_id, entry.attempt


def by_client(bill: Iterable[Charge]) -> Mapping[str, int]:
    """What each of the gateway's requests was billed, in nano-USD."""
    sums: dict[str, int] = {}
    for charge in bill:
        sums[charge.client] = sums.get(charge.client, 0) + charge.nano_usd
    return sums


def books_of(store: Store, realm: str, directory: Path, environ: Mapping[str, str]) -> Books:
    """The books of a fleet's realm under its policy."""
    loaded = load_policy(directory, environ={**os.environ, **environ})
    assert loaded.policy is not None, loaded.problems
    return Books(store, realm, loaded.policy)


def _limits_of(policy: Policy) -> list[Budget | Quota]:
    quotas = [quota for project in policy.projects.values() for quota in project.quotas]
    return [*budgets_of(policy), *(quota for quota in quotas if quota.counted is Counted.CONCURRENT)]

"""Leases: renewing this instance's holds, ending lapsed ones of any instance, giving back holds that nobody got."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

from gateway.domain.settlement import CostSource
from gateway.ledger import script, wire
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.names import Names
from gateway.ledger.script import Script
from gateway.observe.event import NONE, HoldEnded
from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
BATCH = 200
"""Members per renewal and lapsed holds per sweep: a script must never hold the server up."""


class Call(Protocol):
    """Runs a script on behalf of an operation."""

    def __call__(self, operation: str, what: Script, keys: Sequence[str], args: Sequence[str]) -> Awaitable[Any]:
        """Return the script's reply; raises LedgerUnavailable."""


class Leases:
    """The background half of the ledger. Everything here may run in any number of instances at once."""

    def __init__(
        self,
        call: Call,
        names: Names,
        *,
        lease: float,
        retention: str,
        on_expired: Callable[[HoldEnded], None] | None,
    ) -> None:
        self._call = call
        self._names = names
        self._lease = lease
        self._retention = retention
        self._on_expired = on_expired
        self._live: set[str] = set()
        self._dropped: dict[str, str] = {}

    def add(self, request_id: str, attempt: int) -> None:
        """Keep a hold alive from now on."""
        self._live.add(f"{request_id}:{attempt}")

    def remove(self, request_id: str, attempt: int) -> None:
        """Stop keeping a hold alive: it has ended."""
        self._live.discard(f"{request_id}:{attempt}")

    def drop(self, token: str, request_id: str) -> None:
        """Give back a hold whose answer nobody got, as soon as the store answers."""
        self._dropped[token] = request_id

    async def run(self) -> None:
        """Renew every third of a lease and sweep every second, each with some jitter, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._every(self._lease / 3, self.renew))
            tasks.create_task(self._every(SWEEP_SECONDS, self.sweep))

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        failing = False
        while True:
            try:
                if failing:
                    await self.renew()  # what lapsed while the store was away is still under way here
                await work()
            except LedgerUnavailable as error:
                if not failing:
                    log.warning("leases wait for the store: %s", error)
                failing = True
            else:
                failing = False
            await asyncio.sleep(seconds * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not a secret

    async def renew(self) -> None:
        """Move the deadline of every hold of this instance, in batches."""
        lease = str(round(self._lease * 1000))
        for batch in _batches(self._live):
            ended = await self._call("renew", script.RENEW, [self._names.due], [lease, *batch])
            self._live.difference_update(ended)

    async def sweep(self) -> None:
        """Give back dropped holds, then end what lapsed."""
        for token, request_id in list(self._dropped.items()):
            args = [token, request_id, "no_answer", self._retention]
            await self._call("void", script.DROP, self._keys(request_id), args)
            del self._dropped[token]
        lapsed = await self._call("expire", script.LAPSED, [self._names.due], [str(BATCH)])
        for member in lapsed:
            try:
                await self._expire(member)
            except (LedgerRefused, ValueError) as error:
                log.error("a lapsed hold cannot be ended: %s: %s", member, error)  # noqa: TRY400 - the message says it all

    async def _expire(self, member: str) -> None:
        request_id, _, attempt = member.rpartition(":")
        args = [request_id, attempt, self._retention]
        outcome, *rest = await self._call("expire", script.EXPIRE, self._keys(request_id), args)
        if outcome != "PRESUMED":
            return
        log.warning("a hold lapsed and is presumed spent", extra={"fields": {"request_id": request_id}})
        if self._on_expired is not None:
            self._on_expired(_presumed(*rest))

    def _keys(self, request_id: str) -> list[str]:
        names = self._names
        return [names.balances, names.request(request_id), names.due, names.entries]


def _presumed(about: str, facts: str, *cost: str) -> HoldEnded:
    said = json.loads(about) | json.loads(facts)
    return HoldEnded(
        project=str(said.get("project", NONE)),
        job_type=str(said.get("job_type", NONE)),
        route=str(said.get("route", NONE)),
        quality=str(said.get("quality", NONE)),
        cost=wire.views(cost),
        estimate=wire.views(cost),
        source=CostSource.PRESUMED,
        images=0,
    )


def _batches(members: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(list(members))
    while batch := list(islice(rest, BATCH)):
        yield batch

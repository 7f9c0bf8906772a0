"""Leases: renewing this instance's holds, ending lapsed ones of any instance, giving back holds that nobody got."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial

from gateway.domain.settlement import CostSource
from gateway.domain.task import task_of
from gateway.ledger import script, wire
from gateway.ledger.calls import Calls
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.names import Names
from gateway.ledger.own_holds import Ending, OwnHolds
from gateway.observe.event import NONE, HoldEnded
from gateway.observe.hold_ends import is_unconfirmed
from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
BATCH = 200
"""Members per renewal and lapsed holds per sweep: a script must never hold the server up."""
REMEMBERED_SECONDS = 30 * 86_400
"""For which a request is known after its end; a rebuild brings back those of exported entries younger than this."""


class Leases:
    """The background half of the ledger. Everything here may run in any number of instances at once."""

    def __init__(
        self,
        calls: Calls,
        names: Names,
        holds: OwnHolds,
        *,
        lease: float,
        on_expired: Callable[[HoldEnded], None] | None,
    ) -> None:
        self._calls = calls
        self._names = names
        self._holds = holds
        self._lease = lease
        self._on_expired = on_expired
        self.dropped: dict[str, list[str]] = {}
        """Tokens of holds that are still to be given back, by request."""

    def drop(self, token: str, request_id: str) -> None:
        """Give back a hold whose answer nobody got, as soon as the store answers."""
        self.dropped.setdefault(request_id, []).append(token)

    async def run(self) -> None:
        """Renew every third of a lease and sweep every second, each with some jitter, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._every(self._lease / 3, self.renew))
            tasks.create_task(self._every(SWEEP_SECONDS, partial(self.sweep, others_only=True)))

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
        """Move the deadline of every hold of this instance, in batches; without any, only ask how the store is."""
        lease = str(round(self._lease * 1000))
        due = self._holds.due
        for start in range(0, max(len(due), 1), BATCH):
            batch = due[start : start + BATCH]
            ended = await self._calls.write("renew", script.RENEW, [self._names.due], [lease, *batch])
            self._holds.lapsed(ended)

    async def give_back(self, request_id: str | None = None) -> None:
        """Give back dropped holds, of one request or of all."""
        for of in list(self.dropped) if request_id is None else [request_id]:
            for token in tuple(self.dropped.get(of, ())):
                keys = (*self._keys(of), self._names.task_prefix + task_of(of))
                args = (token, of, "no_answer", str(REMEMBERED_SECONDS))
                await self._calls.write("void", script.DROP, keys, args)
                self._holds.ended(Ending(of, None, "void", script.DROP, keys, args, None))
                self._forget(of, token)

    def _forget(self, request_id: str, token: str) -> None:
        tokens = self.dropped.get(request_id, [])
        if token in tokens:  # two may have given it back at once
            tokens.remove(token)
        if not tokens:
            self.dropped.pop(request_id, None)

    async def sweep(self, *, others_only: bool = False) -> None:
        """Give back dropped holds, then end what lapsed; with `others_only`, what is under way here is renewed."""
        await self.give_back()
        lapsed = await self._calls.read(script.LAPSED, [self._names.due], [str(BATCH)])
        under_way = set(self._holds.due) if others_only and lapsed else set()
        if not under_way.isdisjoint(lapsed):  # the store took as long as a lease for the renewal
            await self.renew()
        for member in lapsed:
            if member in under_way:
                continue
            try:
                await self._expire(member)
            except (LedgerRefused, ValueError) as error:
                log.error("a lapsed hold cannot be ended: %s: %s", member, error)  # noqa: TRY400 - the message says it all

    async def _expire(self, member: str) -> None:
        request_id, _, attempt = member.rpartition(":")
        args = [request_id, attempt, str(REMEMBERED_SECONDS)]
        outcome, *rest = await self._calls.write("expire", script.EXPIRE, self._keys(request_id), args)
        if outcome != "PRESUMED":
            return
        event = _presumed(*rest)
        if not is_unconfirmed(event.source, event.cost):
            return
        log.warning("a hold lapsed and is presumed spent", extra={"fields": {"request_id": request_id}})
        if self._on_expired is not None:
            self._on_expired(event)

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
        experiment=str(said.get("experiment", NONE)),
        arm=str(said.get("arm", NONE)),
        shadow=said.get("shadow") is True,
    )

"""One attempt in a store that comes back older again and again: whatever is told again, nothing is lost silently."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.route import Views
from gateway.domain.settlement import Adjustment, CostSource
from gateway.ledger.audit import audit
from gateway.ledger.entries import Entry, read_exported
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.export import export
from gateway.ledger.names import Names
from gateway.ledger.rebuild import Rebuilt, rebuild
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.segments import ExportError
from gateway.ledger.store import Store
from gateway.ledger.stream import position
from gateway.reporting.recorded import recorded_entries
from tests.ledger.older import copy
from tests.ledger.rules import budget, candidate, entries, hold, settlement

RULE = budget(1000)
HELD, LOWER = 80_000, 40_000
INVOICED = (25_000, 40_000, 50_000, 70_000)

Step = str | int
"""What happens to the store, what a gateway says, or the number of an invoice that is applied, perhaps once more."""

STEPS = ("put back", "lapse", "lower", "guess", "truth", "copy", "older", "older", "export", "trim", "rebuild")


class Retold:
    """A store, its export, and gateways that remember nothing but what each of them is to say."""

    def __init__(self, server: str, store: Store, realm: str, folder: Path, truth: int) -> None:
        self.server, self.store, self.realm, self.folder, self.truth = server, store, realm, folder, truth

    async def go_through(self, steps: list[Step]) -> None:
        """Take all steps; in the end an adjustment says what is right, and nothing is named any more."""
        await self.begin()
        for step in steps:
            await self.take(step)
        await self.take("lapse")
        await self.exported()
        done = await self.rebuilt()
        if done is not None and done.audit.findings:
            right = await self.right() or 0
            async with self.gateway() as gateway:
                await gateway.adjust(Adjustment("right", "x", 1, Views(right, right, right), "as it should be"))
            last = await self.rebuilt()
            assert last is not None
            assert last.audit.findings == []

    async def begin(self) -> None:
        """Hold, with a copy of what was before."""
        async with self.gateway() as first:
            self.saved = copy(self.server, self.realm)
            await hold(first, "x", candidate((RULE, HELD // 1000), worst=HELD))
            record = first.record_of("x", 1)
            assert record is not None
            self.record = record

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[RedisLedger]:
        """Another one each time: what is told again is a step of its own."""
        made = RedisLedger(self.store, self.realm)
        await made.open()
        try:
            yield made
        finally:
            await made.aclose()

    async def take(self, step: Step) -> None:
        """Do it; where the store does not know the attempt, or what is said is nothing new, it changes nothing."""
        if step in {"export", "trim"}:
            await self.exported(keep=0.0 if step == "trim" else None)
        elif step == "rebuild":
            await self.rebuilt()
        elif step == "copy":
            self.saved = copy(self.server, self.realm)
        elif step == "older":
            self.saved.put_back()
        else:
            async with self.gateway() as gateway:
                await self.said(gateway, step)

    async def said(self, gateway: RedisLedger, step: Step) -> None:
        """Let a gateway or an invoice say something of the attempt."""
        if isinstance(step, int):
            with suppress(LedgerRefused):  # it is still live
                await gateway.adjust(Adjustment(f"i{step}", "x", 1, Views(*3 * (INVOICED[step],)), "invoice"))
        elif step == "put back":
            await gateway.put_back(self.record)
        elif step == "lapse":
            await self.store.execute("ZADD", Names(self.realm).due, "XX", 1, "x:1")
            await gateway._leases.sweep()
        elif step == "guess":
            await gateway.void("x", 1, "not_begun")
        elif step == "lower":
            await gateway.settle(settlement("x", LOWER, source=CostSource.PRESUMED, images=0))
        else:
            await gateway.settle(settlement("x", self.truth))

    async def exported(self, keep: float | None = None) -> None:
        """Export, after a rebuild if that is wanted first."""
        try:
            await export(self.store, self.realm, self.folder, keep=keep)
        except ExportError:
            await self.rebuilt()
            await export(self.store, self.realm, self.folder, keep=keep)

    async def rebuilt(self) -> Rebuilt | None:
        """Rebuild, and check what came of it."""
        if not list(self.folder.glob("entries-*")):  # nothing was exported yet
            return None
        done = await rebuild(self.store, self.realm, export=[self.folder])
        assert (await rebuild(self.store, self.realm, export=[self.folder])).changes == []
        found = await audit(self.store, self.realm, export=[self.folder], thorough=True)
        assert all("says what request x, attempt 1 cost" in finding.message for finding in found.findings)
        assert found.findings == done.audit.findings
        amount, right = await self.amount(), await self.right()
        assert right is None or (amount == right) != bool(found.findings), (amount, right)
        return done

    async def amount(self) -> int:
        """What the attempt cost by the balance, by reports and by its record, which all say the same."""
        told = [each async for each in recorded_entries(self.store, self.realm, export=[self.folder])]
        amount = sum(each.cost.route for each in told)
        async with self.gateway() as gateway:
            [balance] = await gateway.balances([RULE])
            assert balance.used * 1000 == amount
            record: Any = await gateway.request("x")
            for attempt in record["attempts"] if record else []:
                assert "cost" not in attempt or attempt["cost"].route == amount
        return amount

    async def right(self) -> int | None:
        """What it cost by the invoice that was said last for the first time, else by who knows; None if nobody does."""
        told = {each.id: each for each in read_exported([self.folder])}
        told |= {each.id: each for each in await entries(self.store, self.realm)}
        invoices: dict[str, int] = {}
        known: int | None = None
        for each in sorted(told.values(), key=lambda entry: position(entry.id)):
            if each.adjustment:
                invoices.setdefault(each.adjustment, _comes_to(each))
            elif each.source == CostSource.USAGE:
                known = _comes_to(each)
        return [*invoices.values()][-1] if invoices else known


def _comes_to(entry: Entry) -> int:
    return entry.cost.route + (entry.was.route if entry.was else 0)


async def history(server: str, truth: int, steps: list[Step]) -> None:
    """Take the steps in a realm of their own."""
    with TemporaryDirectory() as folder:
        store = Store(server, deadline=10, patience=30)
        try:
            await Retold(server, store, secrets.token_hex(6), Path(folder), truth).go_through(steps)
        finally:
            await store.aclose()


def check(server: str, examples: int) -> None:
    """Let hypothesis look for a history that ends with something wrong, and unnamed."""
    steps = st.lists(st.sampled_from([*STEPS, *range(len(INVOICED))]), max_size=25)

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(truth=st.sampled_from([LOWER, 25_000, 60_000]), steps=steps)
    def histories(truth: int, steps: list[Step]) -> None:
        asyncio.run(history(server, truth, steps))

    histories()


def test_what_was_said_last_counts_or_is_named(server: str) -> None:
    """After any sequence of bookings, corrections, invoices, older copies, things told again, exports and rebuilds."""
    check(server, examples=40)


@pytest.mark.parametrize("truth", [LOWER, HELD])
def test_a_known_cost_in_whose_place_a_presumption_was_booked_is_named(server: str, truth: int) -> None:
    """The store came back from before the hold, which lapsed there: the export alone knows what it cost."""
    asyncio.run(history(server, truth, ["truth", "export", "older", "put back"]))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_was_said_last_counts_or_is_named_at_length(server: str) -> None:
    """A thousand histories."""
    check(server, examples=1000)

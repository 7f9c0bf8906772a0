"""A store that came back older, with an export that is newer: what is told again, or brought back, counts once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.domain.route import Views
from gateway.domain.settlement import Adjustment, Posting, SettleResult
from gateway.ledger.audit import audit
from gateway.ledger.entries import read_exported
from gateway.ledger.export import export
from gateway.ledger.names import Names
from gateway.ledger.rebuild import rebuild
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.superseded_entries import SupersededEntries
from gateway.reporting.recorded import recorded_entries, trimmed_until
from tests.ledger.older import copy
from tests.ledger.rules import candidate, entries, hold, settlement
from tests.ledger.test_lower_presumptions import COST, DONE, HELD, KNOWN, LATE, RULE, SAME, held, lapsed, presume

ADJUSTED = Views(60_000, 60_000, 60_000)


class Work:
    """One request whose cost is corrected late, one that an invoice changes, and an amount of no request."""

    def __init__(self, ledger: RedisLedger, store: Store, realm: str, folder: Path) -> None:
        self.ledger, self.store, self.realm, self.folder = ledger, store, realm, folder

    async def booked(self) -> None:
        """What the older store knows."""
        await held(self.ledger)
        await lapsed(self.ledger, self.store, self.realm)
        await hold(self.ledger, "a", candidate((RULE, 100), worst=100_000))
        await self.ledger.settle(settlement("a", KNOWN))

    async def late(self) -> SettleResult:
        """The truth about the first one."""
        return await self.ledger.settle(settlement("r", COST), token="t")

    async def invoiced(self) -> set[SettleResult]:
        """What an invoice says of the other two."""
        adjustment = Adjustment("a1", "a", 1, ADJUSTED, "invoice")
        posting = Posting("p1", Views(7_000, 7_000, 7_000), "invoice", {}, {f"{RULE.meter}@total": 7})
        return {await self.ledger.adjust(adjustment), await self.ledger.post(posting)}

    async def healed(self) -> None:
        """The gateway tells the store again what it remembers."""
        self.ledger._resync.begin()
        await self.ledger._resync.wait()

    async def agree(self, micro: int) -> None:
        """Balance, entries with the export, and the record of a request say this much is spent."""
        [balance] = await self.ledger.balances([RULE])
        told = [each async for each in recorded_entries(self.store, self.realm, export=[self.folder])]
        found = await audit(self.store, self.realm, export=[self.folder], thorough=True)
        assert (balance.used, balance.held) == (micro, 0)
        assert sum(each.cost.route for each in told) == micro * 1000
        assert [str(finding) for finding in found.findings] == []


@pytest.fixture
async def work(ledger: RedisLedger, store: Store, realm: str, tmp_path: Path) -> Work:
    """Begun."""
    await ledger.open()
    made = Work(ledger, store, realm, tmp_path)
    await made.booked()
    return made


async def test_corrections_that_were_lost_and_told_again_count_once(work: Work, server: str) -> None:
    """A late truth, an adjustment and a posting, all of which the export has as well; and a rebuild changes nothing."""
    old = copy(server, work.realm)
    assert await work.late() is LATE
    assert await work.invoiced() == {DONE}
    await export(work.store, work.realm, work.folder)
    old.put_back()
    await work.healed()
    assert await work.invoiced() == {DONE}
    await work.agree(92)
    await export(work.store, work.realm, work.folder)
    done = await rebuild(work.store, work.realm, export=[work.folder])
    assert done.changes == []
    await work.agree(92)


async def test_a_rebuild_brings_corrections_back_to_a_store_that_is_older(work: Work, server: str) -> None:
    """What is told again afterwards, by a gateway or an invoice, was booked; a second rebuild changes nothing."""
    old = copy(server, work.realm)
    assert await work.late() is LATE
    assert await work.invoiced() == {DONE}
    await export(work.store, work.realm, work.folder)
    old.put_back()
    await rebuild(work.store, work.realm, export=[work.folder])
    await work.agree(92)
    await work.healed()
    assert await work.invoiced() == {SAME}
    assert (await rebuild(work.store, work.realm, export=[work.folder])).changes == []
    await work.agree(92)


async def test_what_a_rebuild_brought_back_is_in_the_export_alone(work: Work, server: str) -> None:
    """Reports are to ask for it, as for entries that were trimmed."""
    old = copy(server, work.realm)
    await work.late()
    await export(work.store, work.realm, work.folder)
    assert await trimmed_until(work.store, work.realm) is None
    old.put_back()
    await rebuild(work.store, work.realm, export=[work.folder])
    *_, last = read_exported([work.folder])
    assert await trimmed_until(work.store, work.realm) == last.time


async def test_a_hold_that_the_older_store_knows_as_a_guess_is_booked_again(work: Work, server: str) -> None:
    """Its call was taken for never sent, and what it cost was booked late; told once more it changes nothing."""
    other = RedisLedger(work.store, work.realm)
    await hold(work.ledger, "g", candidate((RULE, 80), worst=HELD))
    await other.void("g", 1, "not_begun")
    old = copy(server, work.realm)
    assert await work.ledger.settle(settlement("g", COST), token="g") is LATE
    await export(work.store, work.realm, work.folder)
    old.put_back()
    await rebuild(work.store, work.realm, export=[work.folder])
    await work.healed()
    await work.agree(80 + 40 + 25)
    await other.aclose()


async def test_a_second_rebuild_leaves_what_was_corrected_since_the_first(work: Work, server: str) -> None:
    """The store knows the entries that it has: only what it lost is brought back to its records."""
    old = copy(server, work.realm)
    assert await presume(work.ledger, KNOWN) is LATE
    await export(work.store, work.realm, work.folder)
    old.put_back()
    await rebuild(work.store, work.realm, export=[work.folder])
    assert await work.late() is LATE
    await export(work.store, work.realm, work.folder)
    await rebuild(work.store, work.realm, export=[work.folder])
    record = await work.ledger.request("r")
    assert record is not None
    assert "'cost': Views(official=25000, route=25000, internal=25000)" in str(record["attempts"])
    await work.agree(65)


async def test_a_correction_says_what_was_booked_before(work: Work) -> None:
    """A first booking does not."""
    await work.late()
    await work.invoiced()
    told = await entries(work.store, work.realm)
    assert [(each.kind, each.was and each.was.route) for each in told] == [
        ("presume", None),
        ("settle", None),
        ("correct", HELD),
        ("adjust", KNOWN),
        ("adjust", None),
    ]


async def test_entries_of_earlier_versions_count_as_before(work: Work, server: str) -> None:
    """They don't say what was booked before: a rebuild brings them back, and beside newer ones none counts as lost."""
    old = copy(server, work.realm)
    await work.late()
    await work.invoiced()
    name = Names(work.realm).entries
    written = await work.store.execute("XRANGE", name, "-", "+")
    await work.store.execute("DEL", name)
    for entry_id, fields in written:
        fields.pop("was", None)
        await work.store.execute("XADD", name, entry_id, *(part for field in fields.items() for part in field))
    await export(work.store, work.realm, work.folder)
    old.put_back()
    await rebuild(work.store, work.realm, export=[work.folder])
    await work.healed()
    assert await work.invoiced() == {SAME}
    await work.agree(92)
    await work.ledger.adjust(Adjustment("a2", "a", 1, Views(1_000, 1_000, 1_000), "refund"))
    await work.agree(25 + 1 + 7)


def chain(*steps: tuple[int | None, int]) -> list[bool]:
    """Whether each of an attempt's corrections stands, told as what was booked before, and the change."""
    superseded = SupersededEntries()
    superseded.booked("a", (0, 0))
    for place, (was, change) in enumerate(steps, 1):
        superseded.corrected("a", (place, 0), None if was is None else (was,), (change,))
    return [superseded.stands("a", (place, 0)) for place in range(1, len(steps) + 1)]


@pytest.mark.parametrize(
    ("steps", "stand"),
    [
        ([(80, -40), (40, -15)], [True, True]),
        ([(80, -40), (40, -15), (80, -55)], [False, False, True]),
        ([(80, -40), (40, -15), (40, -10)], [True, False, True]),
        ([(80, -55), (25, 55), (80, -55)], [True, True, True]),
        ([(80, -40), (None, 40), (80, -55)], [True, True, True]),
        ([(80, -40), (30, -5), (30, -6)], [True, False, True]),
    ],
)
def test_a_correction_takes_the_place_of_what_led_elsewhere(
    steps: list[tuple[int | None, int]], stand: list[bool]
) -> None:
    """Since what was booked before it; what nobody can judge stands."""
    assert chain(*steps) == stand

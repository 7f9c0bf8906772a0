"""A store that came back older, with an export that is newer: what is told again, or brought back, counts once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.domain.route import Views
from gateway.domain.settlement import Adjustment, CostSource, Posting, SettleResult
from gateway.ledger.audit import audit
from gateway.ledger.entries import read_exported
from gateway.ledger.export import export
from gateway.ledger.names import Names
from gateway.ledger.rebuild import rebuild
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.superseded_entries import SupersededEntries, Weight, weight_of
from gateway.reporting.recorded import recorded_entries, trimmed_until
from tests.builders import report
from tests.ledger.older import copy, resynced
from tests.ledger.rules import candidate, entries, hold, settlement
from tests.ledger.test_lower_presumptions import COST, DONE, FIRST, HELD, KNOWN, LATE, RULE, SAME, held, lapsed, presume

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
        await resynced(self.ledger)

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
    assert await work.ledger.settle(settlement("g", COST), token="g") is FIRST
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


async def test_an_adjustment_of_what_a_gateway_tells_again_is_brought_back(work: Work, server: str) -> None:
    """The store lost both, and the gateway remembers the settlement alone: it counts once, however often it is told."""
    old = copy(server, work.realm)
    await hold(work.ledger, "b", candidate((RULE, 30), worst=30_000))
    await work.ledger.settle(settlement("b", 30_000), token="b")
    adjustment = Adjustment("a2", "b", 1, Views(50_000, 50_000, 50_000), "invoice")
    assert await work.ledger.adjust(adjustment) is DONE
    await export(work.store, work.realm, work.folder)
    old.put_back()
    await work.healed()

    done = await rebuild(work.store, work.realm, export=[work.folder])

    assert done.changes
    await work.agree(80 + 40 + 50)
    record: Any = await work.ledger.request("b")
    assert [each["cost"].route for each in record["attempts"]] == [50_000]
    assert await work.ledger.adjust(adjustment) is SAME
    assert (await rebuild(work.store, work.realm, export=[work.folder])).changes == []
    await work.ledger.adjust(Adjustment("a3", "b", 1, Views(10_000, 10_000, 10_000), "refund"))
    await export(work.store, work.realm, work.folder)
    assert (await rebuild(work.store, work.realm, export=[work.folder])).changes == []
    await work.agree(80 + 40 + 10)


async def test_what_an_invoice_confirmed_stays_confirmed_where_its_presumption_is_told_again(
    work: Work, server: str
) -> None:
    """Its entry comes behind the booking that it corrects, or reports would take that for presumed still."""
    old = copy(server, work.realm)
    await hold(work.ledger, "b", candidate((RULE, 30), worst=30_000))
    await work.ledger.settle(settlement("b", 30_000, source=CostSource.PRESUMED, images=0), token="b")
    await work.ledger.adjust(Adjustment("a2", "b", 1, Views(20_000, 20_000, 20_000), "invoice"))
    await export(work.store, work.realm, work.folder)
    old.put_back()
    await work.healed()

    await rebuild(work.store, work.realm, export=[work.folder])

    await work.agree(80 + 40 + 20)
    told = [each async for each in recorded_entries(work.store, work.realm, export=[work.folder])]
    _, total = report([each for each in told if each.request_id == "b"], ["project"])
    assert (total.route, total.unconfirmed) == (20_000, 0)


async def test_a_correction_of_another_amount_than_was_booked_again_is_named(work: Work, server: str) -> None:
    """Until somebody says what is right, were it what is booked already."""
    old = copy(server, work.realm)
    await hold(work.ledger, "b", candidate((RULE, 30), worst=30_000))
    await work.ledger.settle(settlement("b", 30_000))
    await work.ledger.adjust(Adjustment("a2", "b", 1, Views(50_000, 50_000, 50_000), "invoice"))
    [*_, adjusted] = await entries(work.store, work.realm)
    await export(work.store, work.realm, work.folder)
    old.put_back()
    other = RedisLedger(work.store, work.realm)
    await hold(other, "b", candidate((RULE, 40), worst=40_000))
    await other.settle(settlement("b", 40_000))

    done = await rebuild(work.store, work.realm, export=[work.folder])

    [finding] = done.audit.findings
    assert (finding.kind, finding.name) == ("export", adjusted.id)
    assert "says what request b, attempt 1 cost" in finding.message
    await other.adjust(Adjustment("a3", "b", 1, Views(40_000, 40_000, 40_000), "invoice"))
    await work.agree(80 + 40 + 40)
    await other.aclose()


def invoice(name: str, nano: int, request: str = "b") -> Adjustment:
    """What an attempt cost in truth."""
    return Adjustment(name, request, 1, Views(nano, nano, nano), name)


async def test_an_invoice_behind_a_late_truth_that_is_told_again_is_brought_back(work: Work, server: str) -> None:
    """The store knows the presumption, and its gateway tells the truth once more: what the invoice said stands."""
    old = copy(server, work.realm)
    assert await work.late() is LATE
    assert await work.ledger.adjust(invoice("a1", 50_000, "r")) is DONE
    await export(work.store, work.realm, work.folder)
    old.put_back()
    await work.healed()

    assert (await rebuild(work.store, work.realm, export=[work.folder])).changes

    await work.agree(50 + 40)
    record: Any = await work.ledger.request("r")
    assert [each["cost"].route for each in record["attempts"]] == [50_000]
    assert await work.ledger.adjust(invoice("a1", 50_000, "r")) is SAME


async def test_the_first_of_two_invoices_applied_again_brings_the_second_back(work: Work, server: str) -> None:
    """By its id; another invoice of the same amount is newer than both."""
    old = copy(server, work.realm)
    for name, nano in (("a1", 60_000), ("a2", 75_000)):
        assert await work.ledger.adjust(invoice(name, nano, "a")) is DONE
    await export(work.store, work.realm, work.folder)
    for name, micro in (("a1", 75), ("a3", 60)):
        old.put_back()
        assert await work.ledger.adjust(invoice(name, 60_000, "a")) is DONE
        await rebuild(work.store, work.realm, export=[work.folder])
        await work.agree(80 + micro)


async def test_an_invoice_that_is_named_is_brought_back_once_its_amount_is_told_again(work: Work, server: str) -> None:
    """The hold lapsed in the older store, so that another amount was booked; then its gateway tells the cost."""
    await hold(work.ledger, "b", candidate((RULE, 40), worst=40_000))
    old = copy(server, work.realm)
    await work.ledger.settle(settlement("b", 30_000), token="b")
    assert await work.ledger.adjust(invoice("a1", 50_000)) is DONE
    await export(work.store, work.realm, work.folder)
    old.put_back()
    other = RedisLedger(work.store, work.realm)
    await work.store.execute("ZADD", Names(work.realm).due, "XX", 1, "b:1")
    await other._leases.sweep()
    done = await rebuild(work.store, work.realm, export=[work.folder])
    assert [finding.kind for finding in done.audit.findings] == ["export"]
    await work.healed()

    await rebuild(work.store, work.realm, export=[work.folder])

    await work.agree(80 + 40 + 50)
    await other.aclose()


async def test_a_gateway_that_says_something_else_does_not_answer_what_is_named(work: Work, server: str) -> None:
    """Only who adjusts it does: the invoice may be right still."""
    await hold(work.ledger, "b", candidate((RULE, 40), worst=40_000))
    old = copy(server, work.realm)
    await work.ledger.settle(settlement("b", 30_000))
    assert await work.ledger.adjust(invoice("a1", 50_000)) is DONE
    await export(work.store, work.realm, work.folder)
    old.put_back()
    other = RedisLedger(work.store, work.realm)
    for source, nano in ((CostSource.PRESUMED, 40_000), (CostSource.USAGE, 35_000)):
        await other.settle(settlement("b", nano, source=source))
        done = await rebuild(work.store, work.realm, export=[work.folder])
        assert len(done.audit.findings) == 1
    assert await other.adjust(invoice("a1", 50_000)) is DONE
    await work.agree(80 + 40 + 50)
    await other.aclose()


async def test_what_a_forgotten_request_had_corrected_is_a_note(work: Work, server: str) -> None:
    """Nobody can adjust it any more, and a finding would stay for as long as the export is kept."""
    old = copy(server, work.realm)
    await hold(work.ledger, "b", candidate((RULE, 30), worst=30_000))
    await work.ledger.settle(settlement("b", 30_000))
    assert await work.ledger.adjust(invoice("a1", 50_000)) is DONE
    [*_, adjusted] = await entries(work.store, work.realm)
    await export(work.store, work.realm, work.folder)
    old.put_back()
    other = RedisLedger(work.store, work.realm)
    await hold(other, "b", candidate((RULE, 40), worst=40_000))
    await other.settle(settlement("b", 40_000))
    assert len((await rebuild(work.store, work.realm, export=[work.folder])).audit.findings) == 1
    await work.store.execute("DEL", Names(work.realm).request("b"))  # as after 30 days

    done = await rebuild(work.store, work.realm, export=[work.folder])

    assert await other.adjust(invoice("a2", 50_000)) is SettleResult.GONE
    assert done.audit.findings == []
    [note] = [each for each in done.audit.notes if "is forgotten" in each]
    assert note.startswith(f"entry {adjusted.id} says what request b, attempt 1 cost")
    await work.agree(80 + 40 + 40)
    await other.aclose()


async def test_records_are_brought_back_in_the_order_in_which_entries_count(work: Work, server: str) -> None:
    """A truth told again after one loss comes behind the invoice that goes on from it; the next loss takes all."""
    before = copy(server, work.realm)
    await hold(work.ledger, "b", candidate((RULE, 80), worst=HELD))
    await work.ledger.settle(settlement("b", HELD, source=CostSource.PRESUMED, images=0))
    old = copy(server, work.realm)
    assert await work.ledger.settle(settlement("b", COST)) is LATE
    assert await work.ledger.adjust(invoice("a1", 50_000)) is DONE
    await export(work.store, work.realm, work.folder)
    old.put_back()
    other = RedisLedger(work.store, work.realm)
    assert await other.settle(settlement("b", COST)) is LATE
    await export(work.store, work.realm, work.folder)
    before.put_back()
    await hold(other, "b", candidate((RULE, 80), worst=HELD))
    await other.settle(settlement("b", HELD, source=CostSource.PRESUMED, images=0))

    await rebuild(work.store, work.realm, export=[work.folder])

    record: Any = await other.request("b")
    assert [each["cost"].route for each in record["attempts"]] == [50_000]
    await work.agree(80 + 40 + 50)
    await other.aclose()


async def test_an_export_goes_on_after_a_store_that_lost_all_was_told_all_again(
    ledger: RedisLedger, store: Store, server: str, realm: str, tmp_path: Path
) -> None:
    """A rebuild has nothing to put right, but for where the export goes on."""
    await ledger.open()
    old = copy(server, realm)
    for turn in range(2):
        old.put_back()
        other = RedisLedger(store, realm)
        await hold(other, "b", candidate((RULE, 30), worst=30_000))
        await other.settle(settlement("b", 30_000))
        await other.aclose()
        if turn:
            await rebuild(store, realm, export=[tmp_path])
            assert (await rebuild(store, realm, export=[tmp_path])).changes == []
        done = await export(store, realm, tmp_path)
        assert done.written == 1


@pytest.mark.parametrize(
    ("lost", "told", "dropped"),
    [
        (("usage", 25), ("usage", 30), False),
        (("usage", 25), ("presumed", 40), True),
        (("usage", 25), ("void by not_begun", 0), True),
        (("usage", 25), ("void by refused", 0), False),
        (("presumed", 40), ("usage", 25), False),
        (("invoice", 50), ("usage", 25), True),
        (("invoice", 50), ("usage", 50), False),
        (("invoice", 50), ("invoice", 25), False),
    ],
    ids=str,
)
def test_what_is_lost_is_named_if_it_weighs_more(lost: tuple[str, int], told: tuple[str, int], dropped: bool) -> None:
    """Both go on from a presumption: of a guess, a gateway's word and an invoice, each outweighs those before."""
    superseded = SupersededEntries()
    superseded.booked("a", (1, 0), (80,), Weight.GUESS)
    for place, (said, amount) in enumerate((lost, told), 2):
        source, _, reason = said.partition(" by ")
        name = f"a{place}" if source == "invoice" else ""
        superseded.corrected("a", (place, 0), (80,), (amount - 80,), weight_of(source, reason), name)
    assert [superseded.stands("a", (place, 0)) for place in (2, 3)] == [False, True]
    assert superseded.dropped("a", (2, 0)) is dropped


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


@pytest.mark.parametrize(
    ("again", "stand", "dropped"),
    [
        (80, [True, True], [False, False]),
        (40, [False, True], [False, False]),
        (25, [False, False], [False, False]),
        (30, [False, False], [True, True]),
        (None, [False, False], [True, True]),
    ],
    ids=str,
)
def test_corrections_go_on_from_what_was_booked_again(
    again: int | None, stand: list[bool], dropped: list[bool]
) -> None:
    """Those up to its amount are in it; behind an amount that nobody corrected, all are gone and named."""
    superseded = SupersededEntries()
    superseded.booked("a", (1, 0), (80,))
    superseded.corrected("a", (2, 0), (80,), (-40,), Weight.INVOICE, "a1")
    superseded.corrected("a", (3, 0), (40,), (-15,), Weight.INVOICE, "a2")
    for place in (4, 5):  # a second time it is the same
        superseded.booked("a", (place, 0), None if again is None else (again,))
    places = [(2, 0), (3, 0)]
    assert [superseded.stands("a", place) for place in places] == stand
    assert [superseded.dropped("a", place) for place in places] == dropped
    assert [superseded.stands("a", (place, 0)) for place in (1, 4, 5)] == [False, False, True]

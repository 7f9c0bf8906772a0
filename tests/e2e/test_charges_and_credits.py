"""Charges and credits of one call on several invoices, in any order, then on one over all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.settlement import CostSource, Settlement
from tests.e2e.accounting import nano
from tests.e2e.books import Books, usd
from tests.e2e.test_reconcile_again import budgets, held_in_views, in_views, settled_in_views, spend

Row = tuple[str, str, int, timedelta]
"""The provider's id, ours, nano-USD, and how long after the calls it was billed."""

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
CUT = 30 * MINUTE
"""The first invoice goes until then."""


class Bill:
    """The books, and invoices of the hours around the calls that are in them."""

    def __init__(self, books: Books) -> None:
        self.books = books
        books.do(lambda _, ledger: ledger.open())
        settled_in_views(books, "r0", 10_000_000, "u0")
        self.now = datetime.now(UTC)

    def unbilled(self, request_id: str) -> None:
        """A call that was refused, and should cost nothing."""
        held_in_views(self.books, request_id)
        self.books.do(lambda _, ledger: ledger.void(request_id, 1, "refused"))

    def lost(self, request_id: str) -> None:
        """A call whose answer was lost."""
        held_in_views(self.books, request_id)
        presumed = Settlement(request_id, 1, in_views(10**9), CostSource.PRESUMED, 0, facts={})
        self.books.do(lambda _, ledger: ledger.settle(presumed))

    def applied(self, rows: Sequence[Row], since: timedelta, until: timedelta, edge: str = "0s") -> int:
        """Apply the invoice of a period; returns how many corrections were booked. All is settled then."""
        told = [(*names, usd(cost), (self.now + after).isoformat()) for *names, cost, after in rows]
        mine = [row for row, (*_, after) in zip(told, rows, strict=True) if since <= after < until]
        self.books.write(mine, "id,request,usd,time")
        period = [f"--since={(self.now + since).isoformat()}", f"--until={(self.now + until).isoformat()}"]
        named = ["--provider=v", "--columns=id=id,request=request,amount=usd,time=time"]
        told_as = ["--apply", "--format=json", f"--edge={edge}"]
        done = self.books.command("reconcile", "invoice.csv", *period, *named, *told_as)
        assert done.exit_code == 0, done.output
        said = json.loads(done.stdout)
        assert nano(said["left_usd"]) == 0
        return int(said["applied"]["booked"])

    def check(self, bill: int) -> None:
        """Everything says so."""
        assert spend(self.books).route == bill
        felt = budgets(self.books)
        for view, exact in zip(("official", "route", "internal"), (125, 100, 115), strict=True):
            assert abs(getattr(felt, view) - bill * exact // 100) < 5_000
        assert self.books.agrees()


@pytest.fixture
def bill(books: Books) -> Bill:
    """Books with one call that every invoice should have."""
    return Bill(books)


OTHER: Row = ("u0", "r0", 10_000_000, MINUTE)


@pytest.mark.parametrize("names", [("r1", ""), ("", "r1"), ("u1", "r1")], ids=["id", "request", "both"])
def test_a_call_thought_unbilled_is_charged_and_then_given_back_in_part(bill: Bill, names: tuple[str, str]) -> None:
    """One file over both finds each as it is booked: budgets feel what is billed, not what is given back."""
    bill.unbilled("r1")
    rows = [OTHER, (*names, 40_000_000, MINUTE), (*names, -15_000_000, CUT + MINUTE)]
    bill.applied(rows, -HOUR, CUT)
    bill.applied(rows, CUT, HOUR)
    assert bill.applied(rows, CUT, HOUR) == 0
    assert bill.applied(rows, -HOUR, HOUR) == 0
    assert (spend(bill.books), budgets(bill.books)) == (in_views(35_000_000), in_views(50_000_000))
    assert bill.books.agrees()


def test_budgets_feel_what_was_first_read_with_the_wrong_sign(bill: Bill) -> None:
    """Of a call thought unbilled, and of another amount of a call that another invoice bills."""
    bill.unbilled("r1")
    right = [OTHER, ("r1", "", 40_000_000, MINUTE), ("u0", "", 30_000_000, CUT + MINUTE)]
    wrong = [(*names, -cost, after) for *names, cost, after in right]
    for rows in (wrong, right):
        bill.applied(rows, -HOUR, CUT)  # type: ignore[arg-type]
        bill.applied(rows, CUT, HOUR)  # type: ignore[arg-type]
    bill.check(80_000_000)


@pytest.mark.parametrize("later", [(-20, -10), (9, -10), (-20,)], ids=str)
def test_credits_for_a_lost_answer_leave_its_charge_in_its_place(bill: Bill, later: Sequence[int]) -> None:
    """Each of them is booked once, and one file over all of them finds the call by our id."""
    bill.lost("r1")
    rows = [OTHER, ("u1", "r1", 70_000_000, MINUTE)]
    rows += [("u1", "r1", cost * 10**6, CUT + count * MINUTE) for count, cost in enumerate(later)]
    assert bill.applied(rows, -HOUR, CUT) == 1
    assert bill.applied(rows, CUT, HOUR) == len(later)
    assert bill.applied(rows, CUT, HOUR) == 0
    assert bill.books.attempt("r1")["cost"] == in_views(70_000_000)
    bill.applied(rows, -HOUR, HOUR)
    assert bill.applied(rows, -HOUR, HOUR) == 0
    bill.check(80_000_000 + sum(later) * 10**6)


@pytest.mark.parametrize("booked", [-2 * MINUTE, 2 * MINUTE], ids=["before the cut", "behind it"])
@pytest.mark.parametrize("order", ["12", "21", "1212", "2b12"])
def test_a_later_charge_of_a_call_at_a_cut_is_no_other_amount_of_it(bill: Bill, booked: timedelta, order: str) -> None:
    """Wherever it was booked: what comes more than the edge behind that is not what it cost at first."""
    cut = -booked
    rows = [("u0", "", 10_000_000, min(cut, timedelta()) - MINUTE), ("u0", "", 9_000_000, cut + HOUR)]
    periods = {"1": (cut - HOUR, cut), "2": (cut, cut + 2 * HOUR), "b": (cut - HOUR, cut + 2 * HOUR)}
    for each in order:
        bill.applied(rows, *periods[each], edge="10m")
    bill.check(19_000_000)


def test_a_credit_larger_than_the_charge_beside_it_is_of_the_same_call(bill: Bill) -> None:
    """One invoice near a cut has both: their sum is what the call cost, less than nothing."""
    rows = [("u0", "", 10_000_000, timedelta()), ("u0", "", -30_000_000, 20 * MINUTE)]
    for _ in range(2):
        bill.applied(rows, -MINUTE, HOUR, edge="10m")
    assert (spend(bill.books), budgets(bill.books)) == (in_views(-20_000_000), in_views(0))


@pytest.mark.parametrize("ours", [True, False], ids=["by our id too", "by the provider's alone"])
def test_a_charge_by_an_id_that_only_the_invoice_has_stays_beside_its_request(bill: Bill, *, ours: bool) -> None:
    """The request's own call is known by another id; applied again, each is found where it was booked."""
    rows = [("u0", "", 10_000_000, MINUTE), ("u9", "r0", 4_000_000, MINUTE)]
    rows += [("r0", "", 2_000_000, 2 * MINUTE)] if ours else []
    bill.applied(rows, -HOUR, CUT)
    for _ in range(2):
        assert bill.applied(rows, -HOUR, CUT) == 0
        assert spend(bill.books).route == sum(cost for *_, cost, _ in rows)


@pytest.mark.parametrize("name", [[], ["--id", "by hand"]], ids=["unnamed", "named"])
def test_an_adjustment_by_hand_takes_back_what_an_invoice_gave_beyond_the_cost(bill: Bill, name: list[str]) -> None:
    """Once: what a later invoice gives back stands beside it again, until another adjustment."""
    credit: Row = ("u0", "", -20_000_000, MINUTE)
    by_hand = ["ledger", "adjust", "r0", "--cost", "0.05", "--reason", "refund", "--json"]
    bill.applied([credit], -HOUR, HOUR)
    for booked, change in ((True, "0.07"), (False, "0.00")):
        told = json.loads(bill.books.command(*by_hand, *name).stdout)
        assert (told["booked"], told["change_usd"]) == (booked, change)
        bill.check(50_000_000)
    bill.applied([credit], -HOUR, HOUR)
    told = json.loads(bill.books.command(*by_hand, *name).stdout)
    assert told["booked"] is not bool(name)
    assert spend(bill.books).route == (-20_000_000 if name else 50_000_000)
    assert bill.books.agrees()

"""`image-gateway reconcile` on books that were corrected before, or whose store came back older."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.domain.budget import Scope, View
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Posting, Settlement
from tests.e2e.accounting import nano
from tests.e2e.books import Books, at, usd
from tests.ledger.older import copy
from tests.ledger.rules import balances, budget, candidate, entries, hold

WORST = Views(1_250_000_000, 1_000_000_000, 1_150_000_000)
"""What is held: the vendor's price is a quarter more, the project's 15 %."""


def in_views(route: int) -> Views:
    """A cost in the views' ratio."""
    return Views(route * 125 // 100, route, route * 115 // 100)


def held_in_views(books: Books, request_id: str) -> None:
    """Hold it on a budget of each view."""
    rules = [budget(10**10, scope=Scope(project="p"), view=view) for view in View]
    amounts = {View.OFFICIAL: WORST.official, View.ROUTE: WORST.route, View.INTERNAL: WORST.internal}
    route = candidate(*((rule, amounts[rule.view] // 1000) for rule in rules))
    worst = {"official": str(WORST.official), "route": str(WORST.route), "internal": str(WORST.internal)}
    route = replace(route, facts={**route.facts, "provider": "v", "worst": worst})
    books.do(lambda _, ledger: hold(ledger, request_id, route))


def settled_in_views(books: Books, request_id: str, cost: int, upstream: str) -> None:
    """Hold and settle it."""
    held_in_views(books, request_id)
    facts: dict[str, object] = {"upstream_request_id": upstream}
    books.do(
        lambda _, ledger: ledger.settle(Settlement(request_id, 1, in_views(cost), CostSource.USAGE, 1, facts=facts))
    )


def spend(books: Books, *options: str) -> Views:
    """What reports say was spent."""
    done = books.command("spend", "--window", "total", "--format", "json", *options)
    total = json.loads(done.stdout)["total"]
    return Views(nano(total["official_usd"]), nano(total["route_usd"]), nano(total["internal_usd"]))


def budgets(books: Books) -> Views:
    """What the budget of each view has spent, nano-USD."""
    cells = books.do(lambda store, _: balances(store, books.realm))
    spent = {cell.split("|")[2]: used for cell, (used, _) in cells.items()}
    return Views(spent["official"] * 1000, spent["route"] * 1000, spent["internal"] * 1000)


def applied(books: Books, rows: Sequence[tuple[str, int]], *options: str, status: int = 0) -> dict[str, int]:
    """Apply an invoice of these rows; returns what it says of that."""
    books.write([(name, usd(cost), at()) for name, cost in rows])
    done: dict[str, int] = books.found("--apply", *options, status=status)["applied"]
    return done


@pytest.mark.parametrize("unit", ["nano", "micro", "1/68"])
def test_an_invoice_that_was_read_in_a_wrong_unit_is_applied_again_in_the_right_one(books: Books, unit: str) -> None:
    """A known call, a forgotten one, and one that was thought unbilled: in every view and budget as if it never was."""
    settled_in_views(books, "r1", 80_000_000, "u1")
    settled_in_views(books, "r2", 60_000_000, "u2")
    held_in_views(books, "r3")
    books.do(lambda _, ledger: ledger.void("r3", 1, "refused"))
    books.do(lambda store, _: store.execute("DEL", books.names.request("r2")))
    rows = [("u1", 80_000_000), ("u2", 60_000_000), ("r3", 40_000_000)]
    applied(books, rows)
    applied(books, rows, "--currency-unit", unit)
    applied(books, rows)
    for said in (spend(books), budgets(books)):
        assert abs(said.route - 180_000_000) < 1_000
        assert abs(said.official - 225_000_000) < 10_000
        assert abs(said.internal - 207_000_000) < 10_000
    assert books.agrees()


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("between", [0, -20_000_000])
def test_what_was_taken_back_and_is_billed_again_is_felt_by_the_budgets_again(
    books: Books, between: int, *, forgotten: bool
) -> None:
    """Whatever the invoice said in between; its record says what the books say, and again is nothing."""
    settled_in_views(books, "r1", 70_000_000, "u1")
    if forgotten:
        books.do(lambda store, _: store.execute("DEL", books.names.request("r1")))
    for cost in (between, 50_000_000, 60_000_000):
        assert applied(books, [("u1", cost)])["booked"] == 1
        assert spend(books) == in_views(cost)
        assert budgets(books) == in_views(max(cost, 0))
    assert applied(books, [("u1", 60_000_000)])["booked"] == 0
    assert books.agrees()
    if not forgotten:
        assert books.attempt("r1")["cost"] == in_views(60_000_000)


def test_a_call_that_is_taken_back_keeps_its_views(books: Books) -> None:
    """One that was thought unbilled has no record to ask: what is booked of it knows the project's multiplier."""
    settled_in_views(books, "r1", 10_000_000, "u1")
    held_in_views(books, "r2")
    books.do(lambda _, ledger: ledger.void("r2", 1, "refused"))
    both = [("u1", 10_000_000), ("r2", 40_000_000)]
    for rows in (both, both[:1], both):
        applied(books, rows)
    assert spend(books) == budgets(books) == in_views(50_000_000)


def test_a_call_that_the_store_lost_waits_for_the_rebuild(books: Books) -> None:
    """The export has it, the store that came back older does not: it is told, and corrected once it is there again."""
    books.do(lambda _, ledger: ledger.open())
    books.book("r0", 500_000_000, "u0")
    old = copy(books.server, books.realm)
    books.book("r1", 70_000_000, "u1")
    assert books.command("ledger", "export", "--to", "exp").exit_code == 0
    old.put_back()
    rows = [("u0", 400_000_000), ("u1", 90_000_000)]
    told = applied(books, rows, "--export", "exp", status=1)
    assert (told["booked"], told["lost"]) == (1, 1)
    again = books.reconcile("--export", "exp", "--apply")
    assert "1 that the store came back without: `ledger rebuild --from`" in again.stdout
    assert books.command("ledger", "rebuild", "--from", "exp").exit_code == 0
    for cost in (90_000_000, 80_000_000):
        assert applied(books, [rows[0], ("u1", cost)], "--export", "exp")["booked"] == 1
        assert spend(books, "--export", "exp").route == 400_000_000 + cost
        assert books.spent() == {400_000 + cost // 1000}
        assert books.attempt("r1")["cost"].route == cost
    assert books.command("ledger", "verify", "--export", "exp").exit_code == 0


def test_what_was_posted_about_a_call_counts_beside_its_later_booking(books: Books) -> None:
    """A store that came back older is told the booking again: every report has both, and the invoice finds them."""
    books.do(lambda _, ledger: ledger.open())
    books.book("r0", 500_000_000, "u0")
    old = copy(books.server, books.realm)
    books.book("r1", 70_000_000, "u1")
    assert books.command("ledger", "export", "--to", "exp").exit_code == 0
    old.put_back()
    about: dict[str, object] = {"provider": "v", "project": "p", "request": "r1", "attempt": 1}
    taken = Posting("a", Views(-40_000_000, -40_000_000, -40_000_000), "invoice x", about)
    books.do(lambda _, ledger: ledger.post(taken))
    books.book("r1", 70_000_000, "u1")
    assert spend(books, "--export", "exp") == spend(books)
    assert spend(books).route == 530_000_000
    told = applied(books, [("u0", 500_000_000), ("u1", 30_000_000)], "--export", "exp")
    assert (told["booked"], spend(books).route) == (0, 530_000_000)


def test_a_hold_that_an_older_store_has_does_not_end_the_rest(books: Books) -> None:
    """The export has its booking: it is left to its settlement, and what comes behind it is booked."""
    books.do(lambda _, ledger: ledger.open())
    books.held("r1")
    old = copy(books.server, books.realm)
    settlement = Settlement("r1", 1, Views(70, 70, 70), CostSource.USAGE, 1, facts={"upstream_request_id": "u1"})
    books.do(lambda _, ledger: ledger.settle(settlement))
    assert books.command("ledger", "export", "--to", "exp").exit_code == 0
    old.put_back()
    books.book("r2", 300, "u2")
    told = applied(books, [("u1", 60), ("u2", 200)], "--export", "exp", status=1)
    assert told == {"booked": 1, "booked_before": 0, "still_running": 1, "lost": 0}
    assert books.total() == {"p": 200}


def test_a_correction_that_did_not_take_is_not_told_as_done(books: Books) -> None:
    """It was booked before, and the books differ still: what that is, is for people to find out."""
    books.book("r1", 1_000, "u1")
    applied(books, [("u1", 700)])

    last = books.do(lambda store, _: entries(store, books.realm))[-1]
    books.do(lambda store, _: store.execute("XDEL", books.names.entries, last.id))
    told = books.found("--apply")
    assert (told["applied"]["booked_before"], nano(told["left_usd"])) == (1, 300)


MANY = [("u1", "33000"), *(("u2", f"{400_000 + number}") for number in range(20))]
"""Amounts in micro-USD, read as USD: each row is what an entry can hold, the sum is not."""


@pytest.mark.parametrize(
    ("match", "rows"),
    [("day", MANY), ("request", MANY), ("request", [("u1", "33000"), ("r3", "4400000")])],
    ids=["a day", "a call", "another view"],
)
def test_what_no_entry_can_hold_is_refused_before_anything_is_booked(
    books: Books, match: str, rows: list[tuple[str, str]]
) -> None:
    """A sum of rows, or the vendor's price, a quarter more than what was billed for a call thought unbilled."""
    settled_in_views(books, "r1", 40_000_000, "u1")
    settled_in_views(books, "r2", 60_000_000, "u2")
    held_in_views(books, "r3")
    books.do(lambda _, ledger: ledger.void("r3", 1, "refused"))
    before = spend(books)
    books.write([(*row, at(), f"m{row[0]}") for row in rows], "id,usd,time,model")
    columns = "time=time,amount=usd,model=model" + (",id=id" if match == "request" else "")
    done = books.reconcile("--columns", columns, f"--match={match}", "--apply")
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert "is more than an entry can hold: is --currency-unit right? Nothing was booked" in done.stderr
    assert spend(books) == before

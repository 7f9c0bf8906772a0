"""Adjoining invoices: however time is cut into them, in any order, some twice, the books become the bill."""

from __future__ import annotations

import csv
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.domain.route import Views
from gateway.domain.settlement import Posting
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, billed, booked, crowd, nano, settled
from tests.e2e.books import SANDBOX_COLUMNS, Books, sandbox_invoice, usd
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Stack, running_gateway

START = datetime(2026, 6, 1, tzinfo=UTC)
DAYS = 3
END = START + timedelta(days=DAYS)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
EDGE_SECONDS = 600
COLUMNS = "id=id,request=request,amount=usd,time=time,model=model"


@pytest.fixture
def books(books: Books) -> Books:
    """Empty books that gateways may book in, too."""
    books.do(lambda _, ledger: ledger.open())
    return books


@dataclass(frozen=True)
class Call:
    """One call: when it was billed, and the time, amount and kind of its booking. No amount: not billed, not booked."""

    number: int
    at: datetime
    billed: int | None
    booked_at: datetime
    booked: int | None
    presumed: bool = False

    def row(self, *, ours: bool) -> list[object]:
        """Its row of an invoice, with the gateway's id if the provider keeps that."""
        return [
            f"u{self.number}",
            f"r{self.number}" if ours and self.booked is not None else "",
            usd(self.billed or 0),
            self.at.isoformat(),
            f"m{self.number % 2}-2026-01-01",
        ]

    def entry(self) -> list[str]:
        """What the gateway booked then, as it lies in the stream; the request itself was forgotten since."""
        answer = {} if self.presumed else {"upstream_request_id": f"u{self.number}"}
        facts = {"model": f"m{self.number % 2}", "upstream_model": f"m{self.number % 2}-2026-01-01", "provider": "v"}
        fields = {
            "kind": "presume" if self.presumed else "settle",
            "request": f"r{self.number}",
            "attempt": "1",
            "about": json.dumps({"project": "p"}),
            "facts": json.dumps(facts),
            "outcome": json.dumps({"facts": answer}),
            "source": "presumed" if self.presumed else "usage",
            "images": "1",
            "cost": " ".join([str(self.booked)] * 3),
            "lines": "[]",
        }
        return [part for pair in fields.items() for part in pair]


def calls(dice: random.Random, cuts: Sequence[datetime]) -> list[Call]:
    """Calls over the whole time, every second one near a cut, or on it; answers that were lost among them."""
    made = []
    for number in range(60):
        anywhere = START + timedelta(seconds=dice.randrange(3_600, DAYS * 86_400 - 3_600))
        offset = timedelta(seconds=dice.choice([-300, -1, 0, 1, 300, dice.randint(-EDGE_SECONDS, EDGE_SECONDS)]))
        at = dice.choice(cuts) + offset if cuts and number % 2 else anywhere
        later, amount = timedelta(seconds=dice.randrange(300)), dice.randrange(1, 10**9)
        kind = dice.choices(["known", "dearer", "lost", "unbilled", "strange"], [6, 2, 4, 3, 2])[0]
        presumed = kind in ("lost", "unbilled")
        books = None if kind == "strange" else amount + 10**6 if kind in ("dearer", "lost") else amount
        made.append(Call(number, at, None if kind == "unbilled" else amount, at + later, books, presumed))
        if kind in ("known", "dearer") and at + DAY < END:
            more = at + HOUR + timedelta(seconds=dice.randrange(80_000))
            made.append(Call(number, more, dice.choice([-amount // 3, amount // 5]), at, None))
    return made


CUTS = {
    "days": [START + timedelta(days=day) for day in range(1, DAYS)],
    "days of another zone": [START + timedelta(days=day, hours=15) for day in range(DAYS)],
    "parts of a day": [START + timedelta(hours=hours) for hours in (9, 10, 13, 47, 49, 60)],
}


def record(books: Books, made: Sequence[Call]) -> int:
    """Book them; returns the bill, nano-USD."""
    every = sorted((each for each in made if each.booked is not None), key=lambda each: each.booked_at)

    async def add(store: Store, _: RedisLedger) -> None:
        for count, each in enumerate(every):
            entry_id = f"{round(each.booked_at.timestamp() * 1000)}-{count}"
            await store.execute("XADD", books.names.entries, entry_id, *each.entry())

    books.do(add)
    return sum(each.billed or 0 for each in made)


def applied(
    books: Books, made: Sequence[Call], since: datetime, until: datetime, *options: str, ours: bool = False
) -> None:
    """Apply the invoice of this part of the time."""
    rows = [each.row(ours=ours) for each in made if each.billed is not None and since <= each.at < until]
    books.write(rows, "id,request,usd,time,model")
    period = [f"--since={since.isoformat()}", f"--until={until.isoformat()}", "--provider=v", "--columns", COLUMNS]
    done = books.command("reconcile", "invoice.csv", *period, "--apply", "--format=json", *options)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["left_usd"] == "0.00"


def in_books(books: Books) -> tuple[int, int]:
    """All that is booked, and what of it nobody knows still, nano-USD."""
    done = books.command("spend", "--since", f"{START - timedelta(days=1):%F}", "--format", "json")
    total = json.loads(done.stdout)["total"]
    return nano(total["route_usd"]), nano(total["unconfirmed_usd"])


def parts(dice: random.Random, cuts: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """The periods between the cuts in any order, some of them twice."""
    ends = [START, *sorted(cuts), END]
    once = list(itertools.pairwise(ends))
    return dice.sample(once, len(once)) + dice.sample(once, 2)


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_the_cuts_the_books_become_the_bill(books: Books, seed: int, cut: str, ours: bool) -> None:
    """Beside the bill they have what is presumed at an edge and on no invoice: a file over all of it tells of that."""
    dice = random.Random(f"{seed} {cut}")
    made = calls(dice, CUTS[cut])
    bill = record(books, made)
    for since, until in parts(dice, CUTS[cut]):
        applied(books, made, since, until, ours=ours)
    total, unknown = in_books(books)
    assert total - unknown == bill
    near = [each for each in made if each.billed is None and _distance(each.booked_at, CUTS[cut]) <= EDGE_SECONDS]
    open_before = [each for each in made if each.presumed and _distance(each.booked_at, CUTS[cut]) <= EDGE_SECONDS]
    assert near
    assert unknown <= sum(sorted(each.booked or 0 for each in open_before)[-len(near) :])
    applied(books, made, START, END, ours=ours)
    assert in_books(books) == (bill, 0)


def _distance(moment: datetime, cuts: Sequence[datetime]) -> float:
    return min(abs(moment - each).total_seconds() for each in cuts)


@pytest.mark.parametrize("cut", CUTS)
def test_sums_of_parts_of_days_become_the_bill_too(books: Books, cut: str) -> None:
    """What was corrected for one part of a day is no part of another one's sum."""
    dice = random.Random(cut)
    made = calls(dice, CUTS[cut])
    bill = record(books, made)
    for since, until in parts(dice, CUTS[cut]):
        applied(books, made, since, until, "--match=day")
    assert in_books(books)[0] == bill
    applied(books, made, START, END, "--match=day")
    assert in_books(books)[0] == bill


def test_rows_without_a_time_belong_to_the_period_of_their_invoice(books: Books) -> None:
    """Neither the invoice before it takes them back, nor one of a part of that period."""
    made = [Call(number, START + number * 9 * HOUR, 1_000 + number, START, None) for number in range(1, 5)]
    for since, until in [(START, START + 20 * HOUR), (START + 20 * HOUR, END), (START, START + 20 * HOUR)]:
        books.write([(f"u{each.number}", usd(each.billed or 0)) for each in made if since <= each.at < until], "id,usd")
        period = [f"--since={since.isoformat()}", f"--until={until.isoformat()}", "--provider=v"]
        done = books.command("reconcile", "invoice.csv", *period, "--columns=id=id,amount=usd", "--apply")
        assert done.exit_code == 0, done.output
    assert in_books(books) == (4_010, 0)
    applied(books, made, START, START + 10 * HOUR)
    assert in_books(books) == (4_010, 0)


def test_an_amount_that_names_its_day_alone_is_not_taken_back_by_a_part_of_the_day(books: Books) -> None:
    """Earlier versions wrote such: it is told, and the whole day decides."""
    about: dict[str, object] = {"provider": "v", "day": f"{START:%F}", "upstream_request_id": "u1"}
    books.do(lambda _, ledger: ledger.post(Posting("a", Views(70, 70, 70), "invoice x", about)))
    noon, midnight = START + 12 * HOUR, START + 24 * HOUR
    books.write([], "id,usd,time")
    asked = ["reconcile", "invoice.csv", "--provider=v", "--columns=id=id,amount=usd,time=time", "--apply"]
    for match in ("request", "day"):
        done = books.command(*asked, f"--since={noon:%FT%T}", f"--until={midnight:%FT%T}", f"--match={match}")
        assert done.exit_code == 0, done.output
        assert "1 at an edge, left alone" in done.stdout
    assert in_books(books)[0] == 70
    applied(books, [Call(1, START + HOUR, 70, START, None)], START, noon)
    assert in_books(books)[0] == 70
    applied(books, [], START, midnight)
    assert in_books(books)[0] == 0


def test_one_id_may_be_billed_on_several_invoices_of_a_day(books: Books) -> None:
    """A charge and a credit, hours apart: each is its own invoice's, and another time of the same row is no other."""
    charge, credit = Call(1, START + HOUR, 70, START, None), Call(1, START + 13 * HOUR, 70, START, None)
    for _ in range(2):
        applied(books, [charge], START, START + 12 * HOUR)
        applied(books, [credit], START + 12 * HOUR, END)
    assert in_books(books)[0] == 140
    for _ in range(2):
        applied(books, [Call(1, START + 2 * HOUR, 50, START, None)], START, START + 12 * HOUR)
    assert in_books(books)[0] == 50 + 70


@pytest.mark.parametrize("order", ["12", "21", "1212", "b12", "12b"])
def test_a_known_call_may_be_billed_on_several_invoices(books: Books, order: str) -> None:
    """A charge, then a credit or another charge on the next invoice: each counts, also of a call just before a cut."""
    cut = START + DAY
    known = [Call(number, at, 700, at + MINUTE, 700) for number, at in enumerate((START + 12 * HOUR, cut - 2 * MINUTE))]
    record(books, known)
    later = [Call(0, cut + 3 * HOUR, -100, cut, None), Call(1, cut + HOUR, -200, cut, None)]
    later += [Call(1, cut + 2 * HOUR, 400, cut, None)]
    periods = {"1": (START, cut), "2": (cut, END), "b": (START, END)}
    for each in order:
        applied(books, [*known, *later], *periods[each])
    assert in_books(books) == (1_400 + 100, 0)
    by_project = books.command("spend", "--since", f"{START:%F}", "--by", "project", "--format", "json")
    assert [row["project"] for row in json.loads(by_project.stdout)["rows"]] == ["p"]


def test_what_stands_for_a_presumption_waits_with_it(books: Books) -> None:
    """A row that could not be read may be the presumed call's: neither is booked before all can be read."""
    noon = START + 12 * HOUR
    made = [Call(1, noon - 2 * MINUTE, 500, noon - MINUTE, 900, presumed=True)]
    record(books, made)
    period = ["reconcile", "invoice.csv", f"--since={START:%F}", f"--until={noon:%FT%T}", "--provider=v", "--apply"]
    rows = [each.row(ours=False) for each in made]
    books.write([*rows, ["u9", "", "soon", noon.isoformat(), "m"]], "id,request,usd,time,model")
    done = books.command(*period, "--columns", COLUMNS, "--skip-bad")
    assert done.exit_code == 1
    assert "2 not to be booked before all rows can be read" in done.stdout
    assert in_books(books) == (900, 900)
    applied(books, made, START, noon)
    assert in_books(books) == (500, 0)


@pytest.mark.parametrize("ours", [True, False])
async def test_a_real_bill_in_pieces_is_booked_whole(tmp_path: Path, sandbox: Sandbox, *, ours: bool) -> None:
    """Real calls, some with lost answers, cut at the very moments in which some of them were billed."""
    with running_gateway(tmp_path, ONE_ACCOUNT, sandbox) as stack:
        sandbox.fault("lost_response", times=4)
        sandbox.fault("reset", times=2, billed=False)
        sandbox.fault("reset", times=2, billed=True)
        asks = [Ask({"prompt": f"boat {number}", "n": 1 + number % 3, "quality": "low"}) for number in range(24)]
        await crowd(asks, [stack], at_once=4)
        settled(stack)
        before = booked(stack)
        sandbox_invoice(sandbox, tmp_path / "bill.csv", ours=ours)
        _check_in_pieces(stack, tmp_path / "bill.csv", before.unconfirmed)


def _check_in_pieces(stack: Stack, bill: Path, presumed: int) -> None:
    with bill.open(newline="") as file:
        head, *rows = csv.reader(file)
    times = sorted(float(row[3]) for row in rows)
    now = datetime.now(UTC)
    cuts = [datetime.fromtimestamp(times[len(times) * part // 4], UTC) for part in (1, 2, 3)]
    ends = [now - 2 * HOUR, *cuts, now + HOUR]
    dice = random.Random(1)
    once = list(itertools.pairwise(ends))

    def apply(since: datetime, until: datetime) -> None:
        mine = [row for row in rows if since <= datetime.fromtimestamp(float(row[3]), UTC) < until]
        with (bill.parent / "part.csv").open("w", newline="") as file:
            csv.writer(file).writerows([head, *mine])
        period = ["--since", since.isoformat(), "--until", until.isoformat(), "--columns", SANDBOX_COLUMNS]
        done = stack.command("reconcile", str(bill.parent / "part.csv"), "--provider", "main", *period, "--apply")
        assert done.returncode == 0, done.stderr + done.stdout

    for since, until in dice.sample(once, len(once)) + dice.sample(once, 2):
        apply(since, until)
    after = booked(stack)
    assert after.route - after.unconfirmed == billed(stack.sandbox)
    assert 0 < after.unconfirmed < presumed
    apply(ends[0], ends[-1])
    after = booked(stack)
    assert (after.route, after.unconfirmed) == (billed(stack.sandbox), 0)
    assert stack.command("ledger", "verify").returncode == 0

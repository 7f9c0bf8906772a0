"""Reconciling: every difference between ledger and invoice found, classed, and corrected once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.corrections import Source, adjustment, belated, beside, needs_booking, posting
from gateway.domain.invoice import Match, Row
from gateway.domain.matching import reconcile
from gateway.domain.model_names import is_named
from gateway.domain.reconciling import Booked, Finding, Kind, Terms, unexplained
from gateway.domain.route import Views

START = datetime(2026, 11, 1, tzinfo=UTC)
NOON = START + timedelta(hours=12)
TERMS = Terms(START, START + timedelta(days=30))
SOURCE = Source("acme", "november.csv")


def views(route: int) -> Views:
    """A cost of which the vendor's price is the double and the project's 10 % more."""
    return Views(route * 2, route, -(-route * 11 // 10))


def booked(request: str = "r1", cost: int = 100, upstream: str | None = None, **changes: Any) -> Booked:
    """An attempt that was settled; the provider called it `upstream`."""
    plain = Booked(request, 1, NOON, views(cost), "m", "m-2026-01-01", {upstream} if upstream else set())
    return replace(plain, **changes)


def presumed(request: str = "r1", cost: int = 100, **changes: Any) -> Booked:
    """An attempt whose outcome nobody knows."""
    return booked(request, cost, **{"unconfirmed": cost, **changes})


def row(number: str = "", amount: int | Fraction = 100, **changes: Any) -> Row:
    """A row of an invoice by the provider's id."""
    plain = Row(2, Fraction(amount), id=number, time=NOON)
    return replace(plain, **changes)


def found(ours: Sequence[Booked], theirs: Sequence[Row], terms: Terms = TERMS) -> list[tuple[Kind, int]]:
    """Class and difference of each thing, matched by request."""
    return [(each.kind, each.difference) for each in reconcile(Match.REQUEST, ours, theirs, terms)]


def test_the_providers_id_finds_the_attempt() -> None:
    """Equal amounts match, others are told by how much."""
    assert found([booked(upstream="u1")], [row("u1")]) == [(Kind.MATCHED, 0)]
    assert found([booked(upstream="u1")], [row("u1", 130)]) == [(Kind.OTHER_AMOUNT, 30)]


@pytest.mark.parametrize(("number", "request_id"), [("r1", ""), ("", "r1"), ("u9", "r1")])
def test_the_gateways_id_finds_the_attempt_too(number: str, request_id: str) -> None:
    """It is on the invoice where the provider kept what it was sent, alone or beside an id that we never saw."""
    assert found([booked()], [row(number, request=request_id)]) == [(Kind.MATCHED, 0)]


def test_what_one_side_lacks() -> None:
    """Booked and not billed, billed and not booked."""
    assert found([booked(upstream="u1")], [row("u2", 70)]) == [(Kind.ONLY_OURS, -100), (Kind.ONLY_THEIRS, 70)]


def test_what_was_presumed_is_confirmed_or_not() -> None:
    """An unknown outcome was billed if the invoice has it, at whatever amount, and else was not."""
    assert found([presumed()], [row("r1")]) == [(Kind.PRESUMED_BILLED, 0)]
    assert found([presumed()], [row("r1", 60)]) == [(Kind.PRESUMED_BILLED, -40)]
    assert found([presumed()], []) == [(Kind.PRESUMED_UNBILLED, -100)]


def test_rows_of_one_request_are_summed_and_rounded_up_once() -> None:
    """An invoice that itemises, with fractions of a nano-dollar, is not off by one for each item."""
    items = [row("u1", Fraction(1, 3), model="in"), row("u1", Fraction(298, 3), model="out")]
    assert found([booked(upstream="u1")], items) == [(Kind.MATCHED, 0)]


def test_a_row_that_is_there_twice_is_named() -> None:
    """The second row is told with its own line and amount; the first is judged as if it were alone."""
    again = row("u1", line=3)
    findings = reconcile(Match.REQUEST, [booked(upstream="u1")], [row("u1"), again], TERMS)
    assert [(each.kind, each.difference) for each in findings] == [(Kind.MATCHED, 0), (Kind.DOUBLED, 100)]
    assert findings[1].rows == (again,)


def test_each_attempt_of_a_request_has_its_own_row() -> None:
    """Two attempts at one provider: by the provider's ids, by ours with the amounts, and what remains is a double."""
    first, second = presumed(cost=80), booked(attempt=2, upstream="u2")
    assert found([first, second], [row("u2"), row("u1", 80, request="r1")]) == [
        (Kind.PRESUMED_BILLED, 0),
        (Kind.MATCHED, 0),
    ]
    assert found([first, second], [row("r1", 100), row("r1", 80)]) == [(Kind.PRESUMED_BILLED, 0), (Kind.MATCHED, 0)]
    alike = [presumed(), booked(attempt=2)]
    assert found(alike, [row("r1"), row("r1")]) == [(Kind.PRESUMED_BILLED, 0), (Kind.MATCHED, 0)]
    assert found(alike, [row("r1"), row("r1"), row("r1")])[-1] == (Kind.DOUBLED, 100)
    assert found(alike, [row("r1", 100)]) == [(Kind.PRESUMED_BILLED, 0), (Kind.ONLY_OURS, -100)]
    assert found([first, second], [row("r1", 1), row("r1", 2), row("r1", 97)]) == [
        (Kind.PRESUMED_BILLED, -79),
        (Kind.OTHER_AMOUNT, -1),
    ]


def test_an_attempt_that_was_named_is_not_taken_for_another() -> None:
    """A row of another call under the same request is billed beyond what is booked."""
    assert found([booked(upstream="u1")], [row("u1"), row("u2", request="r1")]) == [
        (Kind.MATCHED, 0),
        (Kind.ONLY_THEIRS, 100),
    ]


def test_the_period_bounds_what_is_missed_not_what_is_found() -> None:
    """A row finds its request within `edge` outside; what is outside without a row is another invoice's business."""
    before, after = START - timedelta(minutes=1), TERMS.until + timedelta(minutes=1)
    near, soon = replace(TERMS, edge=timedelta(minutes=2)), START + timedelta(seconds=1)
    assert found([booked(upstream="u1", time=before)], [row("u1", time=soon)], near) == [(Kind.MATCHED, 0)]
    assert found([booked(time=before), booked("r2", time=after)], []) == []
    assert found([booked(time=START), booked("r2", time=TERMS.until)], []) == [(Kind.ONLY_OURS, -100)]
    assert found([booked(upstream="u1")], [row("u1", time=before), row("u2", time=after)]) == []


def test_near_an_edge_nothing_is_missed() -> None:
    """What may be on the invoice before or after this one is told apart and counts for nothing."""
    terms = replace(TERMS, edge=timedelta(minutes=10))
    late = booked(time=TERMS.until - timedelta(minutes=1))
    findings = reconcile(Match.REQUEST, [late, booked("r2")], [], terms)
    assert [each.kind for each in findings] == [Kind.AT_EDGE, Kind.ONLY_OURS]
    assert unexplained(findings) == 100


def test_a_tolerance_lets_rounded_invoices_match() -> None:
    """Up to it amounts are equal, beyond it they are not."""
    terms = replace(TERMS, tolerance=5)
    assert found([booked(upstream="u1")], [row("u1", 105)], terms) == [(Kind.MATCHED, 5)]
    assert found([booked(upstream="u1")], [row("u1", 94)], terms) == [(Kind.OTHER_AMOUNT, -6)]


def test_nothing_beside_nothing_is_no_finding() -> None:
    """An attempt adjusted to nothing is not missed; a row of nothing agrees with what is not booked."""
    assert found([booked(cost=0)], []) == []
    assert found([], [row("u1", 0)]) == [(Kind.MATCHED, 0)]


def days(ours: Sequence[Booked], theirs: Sequence[Row]) -> list[tuple[Kind, str, str, int]]:
    """Class, day, model and difference of each sum."""
    findings = reconcile(Match.DAY, ours, theirs, TERMS)
    return [(each.kind, str(each.day), each.model, each.difference) for each in findings]


def test_days_and_models_are_laid_side_by_side() -> None:
    """A cost export without ids is compared by the sums of each day and model."""
    another = booked("c", 7, time=NOON + timedelta(days=1), model="n", upstream_model="")
    ours = [booked("a", 60), booked("b", 40), another]
    theirs = [
        row(amount=70, model="m, input", cells=("a",)),
        row(amount=30, model="M-2026-01-01 image, output", cells=("b",)),
        row(amount=9, model="x", cells=("c",)),
    ]
    assert days(ours, theirs) == [
        (Kind.MATCHED, "2026-11-01", "m", 0),
        (Kind.ONLY_THEIRS, "2026-11-01", "x", 9),
        (Kind.ONLY_OURS, "2026-11-02", "n", -7),
    ]


def test_an_export_without_models_is_laid_beside_whole_days() -> None:
    """No model on any row: all that was booked on the day is one sum."""
    assert days([booked("a", 60), booked("b", 41, model="n")], [row(amount=100)]) == [
        (Kind.OTHER_AMOUNT, "2026-11-01", "", -1)
    ]


def test_rows_of_a_day_are_doubled_only_if_every_cell_is_the_same() -> None:
    """Two items may cost the same on a day; a whole row that comes again is a double."""
    rows = [row(amount=50, cells=("a",)), row(amount=50, cells=("b",)), row(amount=50, cells=("b",), line=4)]
    assert days([booked()], rows) == [(Kind.DOUBLED, "2026-11-01", "", 50), (Kind.MATCHED, "2026-11-01", "", 0)]


@pytest.mark.parametrize(
    ("text", "model", "expected"),
    [
        ("gpt-x", "gpt-x", True),
        ("GPT-X image, output", "gpt-x", True),
        ("gpt-x, input", "gpt-x", True),
        ("gpt-x-2", "gpt-x", False),
        ("gpt-x.5", "gpt-x", False),
        ("my gpt-x", "gpt-x", False),
    ],
)
def test_a_model_is_named_as_a_whole_word(text: str, model: str, expected: bool) -> None:
    """Line items add words to a model's name; another model may begin with it."""
    assert is_named(text, model) is expected


Truth = Counter[Kind]


def synthetic(count: int, seed: int) -> tuple[list[Booked], list[Row], Truth, int]:
    """That many requests, an invoice with every kind of fault, and the truth: classes and nano-USD of difference."""
    dice, truth, off = random.Random(seed), Truth(), 0
    ours: list[Booked] = []
    rows: list[Row] = []
    for number in range(count):
        cost, moment = dice.randrange(1, 10**9), START + timedelta(seconds=dice.randrange(30 * 86_400))
        kind = dice.choices(list(Kind)[:7], [80, 4, 4, 4, 3, 2, 3])[0]
        known, upstream = kind not in (Kind.PRESUMED_BILLED, Kind.PRESUMED_UNBILLED), f"u{number}"
        billed = cost
        if kind is not Kind.ONLY_THEIRS:
            make = booked if known else presumed
            ours.append(make(f"r{number}", cost, time=moment, **({"upstream": upstream} if known else {})))
        if kind is Kind.OTHER_AMOUNT or (kind is Kind.PRESUMED_BILLED and dice.random() < 0.8):
            billed = max(cost + dice.choice([-1, 1, 10**6, -(cost // 2) - 1]), 0) or cost + 1
        line = Row(number + 2, Fraction(billed), upstream, "" if known else f"r{number}", moment, "m")
        if kind not in (Kind.ONLY_OURS, Kind.PRESUMED_UNBILLED):
            rows.append(line)
        if kind is Kind.DOUBLED:
            truth[Kind.MATCHED] += 1
            rows.append(replace(line, line=number + 10**6))
        truth[kind] += 1
        off += cost if kind in (Kind.ONLY_OURS, Kind.ONLY_THEIRS, Kind.DOUBLED, Kind.PRESUMED_UNBILLED) else 0
        off += abs(billed - cost) if kind in (Kind.OTHER_AMOUNT, Kind.PRESUMED_BILLED) else 0
    dice.shuffle(ours)
    dice.shuffle(rows)
    return ours, rows, truth, off


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_fault_among_ten_thousand_rows_is_found_and_classed(seed: int) -> None:
    """Missing, extra, doubled and dearer rows, unknown outcomes: each in its class, and the sum to the nano-dollar."""
    ours, rows, truth, off = synthetic(10_000, seed)
    findings = reconcile(Match.REQUEST, ours, rows, TERMS)
    assert Counter(each.kind for each in findings) == truth
    assert unexplained(findings) == off


def corrected(ours: Sequence[Booked], findings: Sequence[Finding], *, forgotten: bool = False) -> list[Booked]:
    """What the ledger has once the corrections are booked; those of `forgotten` requests by amounts of their own."""
    books: dict[tuple[object, ...], Booked] = {
        (each.request_id, each.attempt, *sorted(each.upstream_ids)): each for each in ours
    }
    for finding in filter(needs_booking, findings):
        each, wanted = finding.booked, adjustment(finding, SOURCE)
        if each is None:
            posted = posting(finding, SOURCE)
            named = str(posted.about["upstream_request_id"])
            books["-", named] = Booked("-", 0, NOON, posted.cost, "m", upstream_ids={named}, about=posted.about)
            continue
        cost = wanted.cost if wanted and not forgotten else added(each.cost, posting(finding, SOURCE).cost)
        books[each.request_id, each.attempt, *sorted(each.upstream_ids)] = replace(
            each, cost=cost, unconfirmed=0, changes=each.changes + 1
        )
    return list(books.values())


def added(one: Views, other: Views) -> Views:
    """The sum of two amounts."""
    return Views(one.official + other.official, one.route + other.route, one.internal + other.internal)


@pytest.mark.parametrize("forgotten", [False, True])
def test_corrections_bring_the_ledger_to_what_was_billed(forgotten: bool) -> None:
    """Afterwards only the doubled rows are left, and the sum booked is the invoice without them; again is nothing."""
    ours, rows, truth, _ = synthetic(1_000, seed=4)
    after = corrected(ours, reconcile(Match.REQUEST, ours, rows, TERMS), forgotten=forgotten)
    left = [each for each in reconcile(Match.REQUEST, after, rows, TERMS) if not each.is_settled]
    assert Counter(each.kind for each in left) == {Kind.DOUBLED: truth[Kind.DOUBLED]}
    assert sum(each.cost.route for each in after) == sum({each.id: int(each.amount) for each in rows}.values())


def only(ours: Sequence[Booked], theirs: Sequence[Row], match: Match = Match.REQUEST) -> Finding:
    """The one finding."""
    (finding,) = reconcile(match, ours, theirs, TERMS)
    return finding


def test_an_adjustment_scales_every_view() -> None:
    """What the invoice says stands in the route view; official and internal change by the same ratio."""
    wanted = adjustment(only([booked(upstream="u1")], [row("u1", 50)]), SOURCE)
    assert wanted is not None
    assert (wanted.request_id, wanted.attempt, wanted.cost) == ("r1", 1, Views(100, 50, 55))
    assert wanted.reason == "invoice november.csv:2: other amount"


def test_the_same_correction_has_the_same_id_and_another_one_has_another() -> None:
    """Applied twice it is booked once; a later invoice, or the same after another correction, is booked again."""

    def name(cost: int = 50, **changes: Any) -> str:
        wanted = adjustment(only([booked(upstream="u1", **changes)], [row("u1", cost)]), SOURCE)
        assert wanted is not None
        return wanted.id

    assert name() == name()
    assert len({name(), name(51), name(changes=2), name(attempt=2)}) == 4


def test_a_forgotten_request_is_corrected_by_the_difference() -> None:
    """The amount names the attempt and its day, and each budget feels it in its own view, rounded up."""
    lines = {"usd|a@2026-11": 100, "usd|b|internal|total@total": 110}
    ours = booked(cost=100_000, upstream="u1", lines=lines, about={"project": "team"})
    posted = posting(only([ours], [row("u1", 33_000)]), SOURCE)
    assert posted.cost == Views(66_000 - 200_000, 33_000 - 100_000, 36_300 - 110_000)
    assert posted.lines == {"usd|a@2026-11": -67, "usd|b|internal|total@total": -73}
    assert posted.about == {
        "project": "team",
        "provider": "acme",
        "invoice": "november.csv",
        "model": "m",
        "day": "2026-11-01",
        "request": "r1",
        "attempt": 1,
    }


def test_what_was_booked_at_nothing_is_corrected_in_the_views_of_its_hold() -> None:
    """A call that was refunded: each budget feels it in its own view."""
    cells = ("usd|a|route|month@2026-11", "usd|a|official|total@total", "usd|a|internal|total@total")
    ours = booked(cost=0, upstream="u1", held=Views(200_000, 100_000, 110_000), lines=dict.fromkeys(cells, 0))
    finding = only([ours], [row("u1", 50_000)])
    wanted = adjustment(finding, SOURCE)
    assert wanted is not None
    assert wanted.cost == posting(finding, SOURCE).cost == Views(100_000, 50_000, 55_000)
    assert posting(finding, SOURCE).lines == dict(zip(cells, (50, 100, 55), strict=True))


def test_what_only_they_have_is_posted_under_its_own_id() -> None:
    """The same amount in every view, no budget, and the ids by which it is found the next time."""
    posted = posting(only([], [row("u1", 70, model="x", request="r9")]), SOURCE)
    assert (posted.cost, posted.lines) == (Views(70, 70, 70), {})
    assert posted.about["upstream_request_id"] == "u1"
    assert posted.about["request"] == "r9"
    assert "attempt" not in posted.about


def test_a_call_that_was_thought_unbilled_is_posted_under_its_request() -> None:
    """Its project and budgets pay for it, in the ratio of its worst case."""
    record = {
        "about": {"project": "team", "key": "key_1", "tags": {"a": "b"}, "size": "auto"},
        "facts": {
            "route": "main",
            "size": "1024x1024",
            "worst": {"official": "200", "route": "100", "internal": "110"},
        },
        "lines": [{"meter": "usd|a@2026-11", "amount": 10}, {"meter": "images|a|60", "amount": 1}],
    }
    posted = belated(only([], [row("u1", 50, request="r9")]), SOURCE, record)
    assert (posted.cost, posted.lines) == (Views(100, 50, 55), {"usd|a@2026-11": 5})
    said = {name: posted.about[name] for name in ("project", "key", "route", "size", "tags")}
    assert said == {"project": "team", "key": "key_1", "route": "main", "size": "1024x1024", "tags": {"a": "b"}}


def test_a_day_is_corrected_by_an_amount_of_its_own() -> None:
    """It names day and model, and has another id the next time that something was booked on the day."""
    posted = posting(only([booked(cost=60), booked("b", 40)], [row(amount=90)], Match.DAY), SOURCE)
    assert (posted.cost.route, posted.lines) == (-10, {})
    assert posted.about == {"provider": "acme", "invoice": "november.csv", "day": "2026-11-01"}
    later = posting(only([booked(cost=60), booked("b", 30), booked("c", 10)], [row(amount=90)], Match.DAY), SOURCE)
    assert later.id != posted.id


def test_money_given_back_beyond_what_was_billed_is_an_amount_of_its_own() -> None:
    """A credit larger than the charge cannot be what an attempt cost: that is nothing, the rest stands beside it."""
    finding = only([booked(upstream="u1")], [row("u1", -20)])
    wanted, rest = adjustment(finding, SOURCE), beside(finding, SOURCE)
    assert wanted is not None
    assert rest is not None
    assert (wanted.cost, rest.cost, rest.lines) == (Views(0, 0, 0), Views(-40, -20, -22), {})
    assert posting(finding, SOURCE).cost == Views(-240, -120, -132)  # of one that is forgotten


def test_what_was_posted_about_an_attempt_is_taken_back_when_its_record_is_adjusted() -> None:
    """Both together would count twice."""
    ours = booked(cost=-20, upstream="u1", posted=views(-120), posted_lines={"usd|a@total": -1})
    finding = only([ours], [row("u1", 50)])
    wanted, rest = adjustment(finding, SOURCE), beside(finding, SOURCE)
    assert wanted is not None
    assert rest is not None
    assert (wanted.cost, rest.cost, rest.lines) == (Views(100, 50, 55), views(120), {"usd|a@total": 1})


def test_another_amount_for_a_call_of_another_invoice_is_of_its_project() -> None:
    """In the ratio of its views; budgets feel what is billed, and not what is given back."""
    late, lines = row("u1", 50_000, time=NOON), {"usd|a|official|total@total": 200}
    ours = booked(cost=100_000, upstream="u1", time=START - timedelta(hours=1), lines=lines, about={"project": "team"})
    finding = only([ours], [late])
    posted = posting(finding, SOURCE)
    assert (finding.kind, finding.of, finding.difference) == (Kind.ONLY_THEIRS, ours, 50_000)
    assert (posted.cost, posted.lines) == (Views(100_000, 50_000, 55_000), {"usd|a|official|total@total": 100})
    assert (posted.about["project"], posted.about["time"]) == ("team", NOON.isoformat())
    credit = posting(only([ours], [replace(late, amount=Fraction(-50_000))]), SOURCE)
    assert (credit.cost, credit.lines) == (Views(-100_000, -50_000, -55_000), dict.fromkeys(lines, 0))


@given(
    st.lists(
        st.builds(booked, st.sampled_from("ab"), st.integers(0, 9), st.sampled_from(["u1", "u2", None])), max_size=4
    )
)
def test_no_row_is_lost_and_none_counts_twice(ours: list[Booked]) -> None:
    """However attempts share ids, the findings have each row exactly once."""
    rows = [row("u1"), row("u2", request="a"), row("a"), row("", request="b"), row("x"), row("x", line=9)]
    findings = reconcile(Match.REQUEST, ours, rows, TERMS)
    assert sorted(map(id, (each for finding in findings for each in finding.rows))) == sorted(map(id, rows))


def test_days_are_dates() -> None:
    """A finding by request names the day of its row, else of its booking."""
    assert only([booked()], []).day == date(2026, 11, 1)

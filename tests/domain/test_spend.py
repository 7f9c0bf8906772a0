"""Spend reports: entries add up by any dimension, and presumed money is told apart until it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.route import Views
from gateway.domain.spend import DIMENSIONS, is_dimension
from tests.builders import report


@dataclass(frozen=True)
class Entry:
    """An entry as the ledger yields it; `cost` is nano-USD."""

    cost: Views
    kind: str = "settle"
    request_id: str = "r1"
    attempt: int = 1
    images: int = 1
    time: datetime = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
    project: str = "team"
    key: str = "key_1"
    job_type: str = "draft"
    route: str = "main"
    model: str = "m"
    provider: str = "v"
    operation: str = "generate"
    quality: str = "low"
    size: str = "1024x1024"
    source: str = "usage"
    tags: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


def same(nano: int) -> Views:
    """The same amount in every view."""
    return Views(nano, nano, nano)


def test_entries_add_up_by_group_dearest_first() -> None:
    """Rows are sums of requests, images and all three views; their own sum is the total."""
    entries = [
        Entry(Views(10, 8, 9), request_id="a", project="one", images=2),
        Entry(Views(100, 80, 90), request_id="b", project="two"),
        Entry(Views(1, 1, 1), request_id="c", project="one"),
    ]
    rows, total = report(entries, ["project"])
    assert [(row.group, row.requests, row.images, row.route) for row in rows] == [
        (("two",), 1, 1, 80),
        (("one",), 2, 3, 9),
    ]
    assert (total.requests, total.images, total.official, total.route, total.internal) == (3, 4, 111, 89, 100)
    assert total.savings == 22


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_every_dimension_can_be_reported_by(dimension: str) -> None:
    """Each known dimension names a value of the entry."""
    assert is_dimension(dimension)
    in_trial = {"experiment": "trial", "arm": "control"}
    rows, _ = report([Entry(same(5), about=in_trial)], [dimension])
    assert rows[0].group != ("-",)


def test_days_are_utc_dates_and_missing_tags_a_dash() -> None:
    """A day is a date in UTC; a tag that was not given, or is empty, is a dash."""
    rows, _ = report([Entry(same(5), tags={"team": "web"})], ["day", "tag:team", "tag:other"])
    assert rows[0].group == ("2026-11-20", "web", "-")


@pytest.mark.parametrize("name", ["", "tag:", "cost", "kind", "request_id", "Project", "__class__"])
def test_what_is_no_dimension_is_refused(name: str) -> None:
    """Neither unknown names nor attributes that happen to exist can be reported by."""
    assert not is_dimension(name)


def test_presumed_money_is_unconfirmed_until_it_is_corrected() -> None:
    """A presumed cost counts at once and is marked; its correction takes the mark away and books the difference."""
    presumed = Entry(same(100), kind="presume", images=0)
    _, total = report([presumed], ["project"])
    assert (total.route, total.unconfirmed, total.requests) == (100, 100, 1)
    _, total = report([presumed, Entry(same(-40), kind="correct", images=1)], ["project"])
    assert (total.route, total.unconfirmed, total.requests, total.images) == (60, 0, 1, 1)


def test_money_that_is_presumed_lower_is_unconfirmed_still() -> None:
    """What is left of it keeps the mark, until it is known."""
    entries = [Entry(same(100), kind="presume", images=0)]
    entries.append(Entry(same(-30), kind="correct", images=0, source="presumed"))
    _, total = report(entries, ["project"])
    assert (total.route, total.unconfirmed, total.requests) == (70, 70, 1)
    entries.append(Entry(same(-20), kind="correct"))
    _, total = report(entries, ["project"])
    assert (total.route, total.unconfirmed, total.requests) == (50, 0, 1)
    entries.append(Entry(same(-10), kind="correct", images=0, source="presumed"))
    assert report(entries, [])[1].unconfirmed == 0


def test_a_correction_touches_its_own_attempt_alone() -> None:
    """Another request's or another attempt's presumed cost stays marked."""
    entries = [
        Entry(same(100), kind="presume", request_id="a"),
        Entry(same(70), kind="presume", request_id="a", attempt=2),
        Entry(same(50), kind="presume", request_id="b"),
        Entry(same(-10), kind="correct", request_id="a"),
    ]
    _, total = report(entries, [])
    assert (total.route, total.unconfirmed, total.requests) == (210, 120, 3)


def test_a_correction_without_what_it_corrects_changes_only_the_sum() -> None:
    """Where the presumed entry lies before the reported window, nothing is taken off what is unconfirmed."""
    _, total = report([Entry(same(-10), kind="correct")], [])
    assert (total.route, total.unconfirmed, total.requests) == (-10, 0, 0)


def test_hours_days_and_months_are_those_of_the_booking_in_utc() -> None:
    """The calendar dimensions name when an entry was booked, coarser from one to the next."""
    rows, _ = report([Entry(same(5))], ["hour", "day", "month"])
    assert rows[0].group == ("2026-11-20T23:00", "2026-11-20", "2026-11")


def test_an_adjustment_is_no_new_request_and_confirms_what_was_presumed() -> None:
    """What an invoice changes adds its difference, counts no request, and takes the mark of the presumed part away."""
    _, total = report([Entry(same(100), kind="presume"), Entry(same(-30), kind="adjust", images=0)], [])
    assert (total.route, total.unconfirmed, total.requests) == (70, 0, 1)
    _, total = report([Entry(same(100)), Entry(same(20), kind="adjust", images=0)], [])
    assert (total.route, total.unconfirmed, total.requests) == (120, 0, 1)


def test_a_call_that_was_never_begun_is_none() -> None:
    """One that was presumed and then given back counts for nothing, until it is known to have been made after all."""
    presumed = Entry(same(100), kind="presume", source="presumed", images=0)
    given_back = Entry(same(-100), kind="correct", source="void", images=0)
    after_all = Entry(same(80), kind="correct", source="usage")
    corrected = Entry(same(-20), kind="correct", source="usage")
    histories = [[presumed], [presumed, given_back], [presumed, given_back, after_all], [presumed, corrected]]
    assert [report(history, [])[1].requests for history in histories] == [1, 0, 1, 1]


def test_a_call_that_was_given_back_and_presumed_after_all_is_unconfirmed() -> None:
    """Until its cost is known: whoever guessed that nothing was sent was wrong, and who sent it does not know more."""
    given_back = Entry(same(-100), kind="correct", source="void", images=0)
    after_all = Entry(same(90), kind="correct", source="presumed", images=0)
    known = Entry(same(-20), kind="correct", source="usage")
    history = [Entry(same(100), kind="presume", source="presumed", images=0), given_back, after_all]
    assert (report(history, [])[1].route, report(history, [])[1].unconfirmed) == (90, 90)
    assert (report([*history, known], [])[1].route, report([*history, known], [])[1].unconfirmed) == (70, 0)


def test_an_adjustment_stands_where_the_answer_put_what_it_adjusts() -> None:
    """An invoice says nothing of quality and size: its differences go to the row of the attempt's own answer."""
    adjusted = Entry(same(5), kind="adjust", images=0, quality="auto", size="auto")
    rows, _ = report([Entry(same(100)), adjusted], ["quality", "size"])
    assert [(row.group, row.route) for row in rows] == [(("low", "1024x1024"), 105)]


def test_an_amount_without_a_request_counts_under_what_it_says_of_itself() -> None:
    """It is booked late and belongs to the day it names; what it does not name is a dash."""
    posted = Entry(same(7), "adjust", "-", 0, 0, project="", about={"day": "2026-10-31"})
    rows, total = report([posted], ["project", "day", "month", "provider"])
    assert rows[0].group == ("-", "2026-10-31", "2026-10", "v")
    assert (total.requests, total.images, total.route) == (0, 0, 7)


def test_an_amount_for_a_forgotten_request_confirms_what_was_presumed_of_it() -> None:
    """The request is gone from the store, but the amount names it, and its presumed part is confirmed."""
    about = {"request": "r1", "attempt": 1, "day": "2026-11-20"}
    posted = Entry(same(-100), "adjust", "-", 0, 0, about=about)
    _, total = report([Entry(same(100), kind="presume"), posted], [])
    assert (total.route, total.unconfirmed, total.requests) == (0, 0, 1)


def test_no_entries_are_an_empty_report() -> None:
    """Nothing spent is no rows and a total of zero."""
    rows, total = report([], ["project"])
    assert rows == []
    assert (total.requests, total.route, total.savings) == (0, 0, 0)


entries_of_any_kind = st.builds(
    Entry,
    cost=st.builds(Views, *(st.integers(0, 2**52) for _ in range(3))),
    kind=st.sampled_from(["settle", "presume", "correct", "adjust"]),
    request_id=st.sampled_from("abc"),
    attempt=st.integers(1, 2),
    images=st.integers(0, 10),
    project=st.sampled_from(["one", "two"]),
    quality=st.sampled_from(["low", "high"]),
)


@given(st.lists(entries_of_any_kind, max_size=30))
def test_rows_always_add_up_to_the_total(entries: list[Entry]) -> None:
    """However entries are grouped, no nano-USD and no image is lost or counted twice."""
    for by in ([], ["project"], ["project", "quality", "day"]):
        rows, total = report(entries, by)
        for name in ("requests", "images", "official", "route", "internal", "unconfirmed"):
            assert sum(getattr(row, name) for row in rows) == getattr(total, name)
        assert total.route == sum(entry.cost.route for entry in entries)
        assert total.unconfirmed >= 0

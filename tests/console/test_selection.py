"""Figures of one project and job type together, and what a rollup keeps and forgets."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

from gateway.console.budgets import cell_of
from gateway.console.figures import OTHERS, SHOWN, spend_series
from gateway.console.rollup import DAY, DAYS_KEPT, HOUR, MOST_OF_EACH, PARTS, Rollup
from gateway.console.selection import Only, selected
from gateway.domain.budget import Budget, Scope, Window
from gateway.ledger.entries import Entry, decode
from tests.builders import report

NOON = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def entry(
    at: datetime, number: int, *, project: str = "team", job_type: str = "draft", nano: int = 1000, cell: str = "usd|x"
) -> Entry:
    """An entry as the ledger has it."""
    about = {"project": project, "key": "key_1", "job_type": job_type, "operation": "generate"}
    fields = {
        "kind": "presume" if number % 5 == 0 else "settle",
        "request": f"req_{number}",
        "attempt": "1",
        "about": json.dumps(about),
        "facts": json.dumps({"route": f"r{number % 3}", "model": f"m{number % 2}", "provider": "p"}),
        "outcome": "{}",
        "source": "usage",
        "images": "1",
        "cost": f"{nano + 1} {nano} {nano * 2}",
        "lines": json.dumps([[cell, str(nano // 1000)]]),
    }
    return decode(f"{int(at.timestamp() * 1000)}-{number}", fields)


def test_a_selection_is_a_report_of_its_entries_alone() -> None:
    """By every dimension and span, of a project, a job type or both, sums are those of a report over these entries."""
    draw = random.Random(4)
    entries = [
        entry(
            NOON - timedelta(minutes=13 * n),
            n,
            project=f"p{draw.randrange(3)}",
            job_type=f"j{draw.randrange(3)}",
            nano=1000 + n,
        )
        for n in range(300, 0, -1)
    ]
    rollup = Rollup()
    for each in entries:
        rollup.add(each)
    for only in (Only("p1", "j2"), Only("p1"), Only(None, "j2"), Only("p1", "nothing"), Only()):
        mine = [each for each in entries if only.takes(each.project, each.job_type)]
        sums = selected(rollup, only)
        for dimension in PARTS:
            rows, total = report(mine, (dimension,))
            for span in (HOUR, DAY):
                assert sorted(map(str, sums.sums(dimension, span, 0).values())) == sorted(map(str, rows))
                found = sums.total(span, 0)
                assert (found.route, found.requests, found.unconfirmed) == (total.route, len(mine), total.unconfirmed)


def test_a_name_that_is_that_of_the_rest_takes_nothing_away() -> None:
    """A project that is called as the chart calls all that it does not name has a series of its own."""
    rollup = Rollup()
    for number in range(SHOWN + 4):
        rollup.add(entry(NOON, number, project=OTHERS if number == SHOWN + 3 else f"p{number}", nano=1000 + number))
    told = spend_series(rollup, NOON, "project", "24h")
    series = told["series"]
    assert isinstance(series, list)
    assert [each["name"] for each in series].count(OTHERS) == 2
    assert len(series) == SHOWN + 1
    shown = sum(round(float(usd) * 1e9) for each in series for usd in each["usd"])
    assert shown == rollup.total(HOUR, 0).route


def test_windows_that_are_over_take_no_memory() -> None:
    """What was booked on past windows of a budget is forgotten once nobody can ask for it; what goes on is not."""
    rollup = Rollup()
    budgets = {window: Budget(Scope(), window, 10) for window in Window}
    number = 0
    for hour in range(DAYS_KEPT * 24, -1, -1):
        at = NOON - timedelta(hours=hour)
        for budget in budgets.values():
            number += 1
            rollup.add(entry(at, number, cell=cell_of(budget, at)))
    kept = {window: sum(rollup.cell(cell_of(budget, NOON)).values()) for window, budget in budgets.items()}
    rollup.prune(NOON)
    assert kept == {window: sum(rollup.cell(cell_of(budget, NOON)).values()) for window, budget in budgets.items()}
    assert len(rollup._cells) < 20


def test_the_newest_of_each_are_known_behind_any_number_of_others() -> None:
    """The ids of a project's newest entries are kept, newest first, however many of others came since."""
    rollup = Rollup()
    for number in range(MOST_OF_EACH + 10):
        rollup.add(entry(NOON, number, project="rare"))
    for number in range(2000):
        rollup.add(entry(NOON + timedelta(seconds=1), number))
    found = rollup.newest(Only("rare").takes, MOST_OF_EACH)
    assert [int(each.partition("-")[2]) for each in found] == list(range(MOST_OF_EACH + 9, 9, -1))
    assert rollup.newest(Only("rare", "other").takes, MOST_OF_EACH) == []


def test_absurd_amounts_end_nothing() -> None:
    """Whoever writes to the store can make sums absurd, and no more than that."""
    rollup = Rollup()
    for number in range(1, 1200):
        rollup.add(entry(NOON, 5 * number + 1, nano=4 * 10**15))
    total = selected(rollup, Only("team")).total(DAY, 0)
    assert total.requests == 1199
    assert total.route <= rollup.total(DAY, 0).route

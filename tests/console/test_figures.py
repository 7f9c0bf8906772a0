"""The figures behind the console: the same as reports, of every process, and never read twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from gateway.console.event_summary import of_routes
from gateway.console.follower import Follower
from gateway.console.forecast import burn_down, forecast, window_of
from gateway.console.rollup import DAY, DIMENSIONS, HOUR, Rollup
from gateway.domain.budget import Window
from gateway.ledger.entries import Entry, decode
from gateway.ledger.heartbeats import Heartbeats
from gateway.ledger.store import Store
from gateway.observe.event import Degraded, FellBack, RequestDenied, UpstreamFailed, UpstreamFinished
from gateway.observe.event_counts import MOST_REFUSALS, EventCounts, Refusal, seconds_of, step_of
from tests.builders import report
from tests.ledger.conftest import realm, server, store  # noqa: F401 - fixtures of a real server

NOON = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
MILLION = 1_000_000


def _entry(
    at: datetime,
    number: int,
    *,
    kind: str = "settle",
    nano: int = 5_000_000,
    project: str = "team",
    source: str = "usage",
) -> Entry:
    return decode(f"{int(at.timestamp() * 1000)}-{number}", {**_fields(kind, number, nano, project), "source": source})


def _fields(kind: str, number: int, nano: int, project: str) -> dict[str, str]:
    about = {"project": project, "key": "key_1", "job_type": "draft", "operation": "generate"}
    return {
        "kind": kind,
        "request": f"req_{number}",
        "attempt": "1",
        "about": json.dumps(about),
        "facts": json.dumps({"route": f"r{number % 3}", "model": "m", "provider": "p"}),
        "outcome": "{}",
        "source": "usage",
        "images": "1",
        "cost": f"{nano + 1} {nano} {nano * 2}",
        "lines": json.dumps([[f"usd|project:{project}|route|day@2026-11-20", str(nano // 1000)]]),
    }


def test_a_rollup_is_a_report() -> None:
    """By every dimension, hour or day, the sums are those of a spend report, unconfirmed money included."""
    entries = [
        _entry(NOON - timedelta(minutes=40 * n), n, project=f"p{n % 4}", nano=1000 + n) for n in range(60, 4, -1)
    ]
    entries.append(_entry(NOON, 3, kind="presume", nano=9_000_000))
    entries.append(_entry(NOON, 2, kind="presume", nano=7_000_000))
    entries.append(_entry(NOON, 2, kind="correct", nano=-6_000_000))
    entries.append(_entry(NOON, 3, kind="correct", nano=-4_000_000, source="presumed"))
    rollup = Rollup()
    for entry in entries:
        rollup.add(entry)
    for dimension in ("project", "job_type", "route", "model"):
        rows, total = report(entries, (dimension,))
        for span in (HOUR, DAY):
            sums = rollup.sums(dimension, span, 0)
            assert sorted(map(str, sums.values())) == sorted(map(str, rows))
            assert rollup.total(span, 0).route == total.route
            assert rollup.total(span, 0).unconfirmed == total.unconfirmed == 5_000_000
    assert [(entry.request_id, route) for entry, route in rollup.unconfirmed()] == [("req_3", 5_000_000)]
    assert sum(rollup.cell("usd|project:team|route|day@2026-11-20").values()) == 6_000


def test_what_cost_nothing_is_not_unconfirmed() -> None:
    """A path without a price has a hold for quotas alone; if it lapses no money is in doubt."""
    rollup = Rollup()
    rollup.add(_entry(NOON, 1, kind="presume", nano=0, source="presumed"))
    assert rollup.unconfirmed() == []
    rollup.add(_entry(NOON, 2, kind="presume", nano=1, source="presumed"))
    assert [entry.request_id for entry, _ in rollup.unconfirmed()] == ["req_2"]


@pytest.mark.parametrize("hours", [0, 3, 30])
def test_what_is_confirmed_is_so_where_it_was_presumed(hours: int) -> None:
    """However much later: no hour and no day has less than nothing unconfirmed, and in all it is what is presumed."""
    entries = [
        _entry(NOON - timedelta(hours=hours), 1, kind="presume", nano=9_000_000),
        _entry(NOON - timedelta(hours=hours), 2, kind="presume", nano=7_000_000),
        _entry(NOON, 1, kind="correct", nano=-4_000_000, source="presumed"),
        _entry(NOON, 2, kind="correct", nano=-6_000_000),
    ]
    rollup = Rollup()
    for entry in entries:
        rollup.add(entry)
    now, _ = report(entries[2:], ("project",))
    for span in (HOUR, DAY):
        assert rollup.total(span, 0).unconfirmed == 5_000_000
        every = [rollup.sums(name, span, at, at + 1) for name in DIMENSIONS for at in rollup.buckets(name, span)]
        every += [{row.group[0]: row} for at in rollup.parts[span].buckets() for row in rollup.parts[span].rows(at)]
        assert all(row.unconfirmed >= 0 for rows in every for row in rows.values())
        began = int(NOON.timestamp()) // span * span
        if entries[0].time.timestamp() < began:
            assert rollup.total(span, began).unconfirmed == now[0].unconfirmed == 0


def test_calls_that_failed_are_calls() -> None:
    """A route that nobody reaches has as many calls as failures, and no time that they took."""
    happened = EventCounts()
    for event in (UpstreamFailed("away", "connect"), UpstreamFailed("main", "timeout"), UpstreamFinished("main", 2.0)):
        happened.emit(event)
    routes = of_routes(happened.take()[0])
    assert routes["away"] == {"calls": 1, "failed": 1, "p50": None, "p95": None}
    assert (routes["main"]["calls"], routes["main"]["failed"]) == (2, 1)


def test_what_is_too_old_is_forgotten() -> None:
    """Hours of more than a week ago and days of more than two months ago take no memory."""
    rollup = Rollup()
    for days in (100, 30, 0):
        rollup.add(_entry(NOON - timedelta(days=days), days))
    rollup.prune(NOON)
    assert len(rollup.buckets("project", HOUR)) == 1
    assert len(rollup.buckets("project", DAY)) == 2


@pytest.mark.parametrize("window", [Window.HOUR, Window.DAY, Window.WEEK, Window.MONTH])
def test_windows_lie_around_now(window: Window) -> None:
    """A window begins before now, ends after it, and the next one begins where it ends."""
    begins, ends = window_of(window, NOON)
    assert begins is not None
    assert ends is not None
    assert begins <= NOON < ends
    assert window_of(window, ends)[0] == ends


def test_a_forecast_goes_on_at_the_pace_of_the_window() -> None:
    """Half a day in with half of the money gone a budget just lasts; with more gone it says when it runs out."""
    noon = NOON.replace(minute=0)
    lasts = forecast(Window.DAY, 10 * MILLION, 5 * MILLION, {}, noon)
    assert (lasts.at_end, lasts.runs_out) == (10 * MILLION, None)
    runs_out = forecast(Window.DAY, 10 * MILLION, 8 * MILLION, {}, noon)
    assert runs_out.at_end == 16 * MILLION
    assert runs_out.runs_out == noon + timedelta(hours=3)
    assert forecast(Window.DAY, 10 * MILLION, 10 * MILLION, {}, noon).runs_out == noon
    assert forecast(Window.TOTAL, 10 * MILLION, 8 * MILLION, {}, noon).at_end is None


def test_a_month_goes_by_its_last_week() -> None:
    """What was spent before the last seven days says nothing of the pace."""
    hour = int(NOON.timestamp()) // HOUR * HOUR
    booked = {hour - 14 * DAY: 100 * MILLION, hour - DAY: 7 * MILLION}
    found = forecast(Window.MONTH, 500 * MILLION, 107 * MILLION, booked, NOON)
    assert round(found.pace_per_hour * 24) == MILLION


def test_a_burn_down_ends_at_what_is_used() -> None:
    """It is flat where nothing was booked, never falls behind the balance, and times only grow."""
    start = int(window_of(Window.DAY, NOON)[0].timestamp())  # type: ignore[union-attr]  # a day begins
    times, points = burn_down(window_of(Window.DAY, NOON)[0], 12, {start + 5 * HOUR: 4, start + 9 * HOUR: 6}, NOON)
    assert points == [2, 2, 6, 6, 12, 12]
    assert times == sorted(set(times))
    assert times[-1] == int(NOON.timestamp())


@asynccontextmanager
async def _following(store: Store, realm: str) -> AsyncIterator[Follower]:  # noqa: F811 - not the fixtures
    follower = Follower(store, realm)
    running = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _write(store: Store, realm: str, *numbers: int) -> None:  # noqa: F811
    for number in numbers:
        fields = [part for pair in _fields("settle", number, 1000, "team").items() for part in pair]
        await store.execute("XADD", f"igw:{{{realm}}}:entries", "*", *fields)


async def _until(follower: Follower, entries: int) -> None:
    async with asyncio.timeout(60):
        while not (follower.complete and follower.rollup.entries == entries):
            follower.watch()
            await asyncio.sleep(0.02)


async def test_nothing_is_read_before_somebody_looks(store: Store, realm: str) -> None:  # noqa: F811
    """A console that nobody opens costs nothing; once somebody looks everything is read, once, and what comes after."""
    await _write(store, realm, *range(250))
    async with _following(store, realm) as follower:
        await asyncio.sleep(0.2)
        assert follower.rollup.entries == 0
        await _until(follower, 250)
        await _write(store, realm, 250, 251)
        await _until(follower, 252)
        assert follower.rollup.total(DAY, 0).requests == 252


async def test_a_store_that_came_back_older_is_read_anew(store: Store, realm: str) -> None:  # noqa: F811
    """Where the newest entry is gone, what was added up is given up too."""
    await _write(store, realm, *range(5))
    async with _following(store, realm) as follower:
        await _until(follower, 5)
        await store.execute("DEL", f"igw:{{{realm}}}:entries")
        async with asyncio.timeout(100):
            while follower.rollup.entries:
                follower.watch()
                await asyncio.sleep(0.1)


async def test_a_store_that_lost_its_newest_and_went_on_is_read_anew(store: Store, realm: str) -> None:  # noqa: F811
    """Entries that are gone count no more, also where others came after them before anybody looked."""
    key = f"igw:{{{realm}}}:entries"
    await _write(store, realm, *range(5))
    async with _following(store, realm) as follower:
        await _until(follower, 5)
        [(newest, _)] = await store.execute("XREVRANGE", key, "+", "-", "COUNT", 1)
        await store.execute("XDEL", key, newest)
        await _write(store, realm, 5, 6, 7)
        await _until(follower, 7)
        assert follower.rollup.total(DAY, 0).requests == 7


async def test_counts_of_all_processes_add_up(store: Store, realm: str) -> None:  # noqa: F811
    """Two processes' counts of the same thing are one sum; refusals are kept newest first; a process ends its word."""
    heartbeats = Heartbeats(store, realm)
    hour = datetime.now(UTC).strftime("%Y-%m-%dT%H")
    for instance in ("one", "two"):
        await heartbeats.beat(instance, {"started": 1.0, "host": "h"}, {"denied\tteam\tx": 2}, [{"n": instance}])
    found = await heartbeats.happened(hour)
    assert found.get("denied\tteam\tx") == 4 or hour != datetime.now(UTC).strftime("%Y-%m-%dT%H")
    assert [each["n"] for each in await heartbeats.refused(10)] == ["two", "one"]
    assert [word["instance"] for word in await heartbeats.words()] == ["one", "two"]
    await heartbeats.beat("one", None, {}, [])
    assert [word["instance"] for word in await heartbeats.words()] == ["two"]


def test_a_duration_is_counted_in_the_first_step_that_it_does_not_exceed() -> None:
    """From less than a millisecond to a day, at a step's very end and just beyond it."""
    for step in range(-39, 70):
        assert step_of(seconds_of(step)) == step
        assert step_of(seconds_of(step) * 1.0001) == step + 1
    assert step_of(0.0) == step_of(0.001) == -39


def test_what_could_not_be_told_is_told_later() -> None:
    """Counts that were taken in vain are added to what came meanwhile, and refusals keep their bound and order."""
    seen = EventCounts()
    for event in (RequestDenied("team", "x"), Degraded("draft", "quality=low"), FellBack("a", "b", "reset")):
        seen.emit(event)
    counts, refusals = seen.take()
    seen.emit(RequestDenied("team", "x"))
    seen.emit(UpstreamFinished("a", 0.5))
    seen.give_back(counts, refusals)
    again, _ = seen.take()
    assert again["denied\tteam\tx"] == 2
    assert again["fallback\ta\tb\treset"] == 1
    many = [Refusal(float(n), "", "", "", "", 429, "") for n in range(MOST_REFUSALS + 10)]
    seen.give_back({}, many)
    assert [each.at for each in seen.take()[1]] == [float(n) for n in range(10, MOST_REFUSALS + 10)]

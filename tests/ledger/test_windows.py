"""Calendar windows by the store's clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from importlib.resources import files

import pytest

from gateway.domain.budget import Scope, Window
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.rules import balances, budget, candidate, hold, settlement

DAY_MS = 86_400_000
FIRST, LAST = date(2000, 1, 1), date(2104, 12, 31)


def _source() -> str:
    scripts = files("gateway.ledger") / "scripts"
    parts = [(scripts / f"{part}.lua").read_text() for part in ("numbers", "windows")]
    loop = """
    local found = {}
    for day = tonumber(ARGV[2]), tonumber(ARGV[3]) do
      local id, turns = calendar(ARGV[1], day * 86400000 + 86399999)
      table.insert(found, id .. ' ' .. string.format('%.0f', turns))
    end
    return found
    """
    return "\n".join([*parts, loop])


def _expected(window: Window, day: date) -> str:
    following = {
        Window.HOUR: day + timedelta(days=1),
        Window.DAY: day + timedelta(days=1),
        Window.WEEK: day - timedelta(days=day.weekday()) + timedelta(days=7),
        Window.MONTH: (day.replace(day=28) + timedelta(days=4)).replace(day=1),
    }[window]
    ids = {
        Window.HOUR: f"{day}T23",
        Window.DAY: f"{day}",
        Window.WEEK: f"{day - timedelta(days=day.weekday())}",
        Window.MONTH: f"{day:%Y-%m}",
    }
    return f"{ids[window]} {(following - date(1970, 1, 1)).days * DAY_MS}"


@pytest.mark.parametrize("window", [Window.HOUR, Window.DAY, Window.WEEK, Window.MONTH])
async def test_every_day_of_a_century_has_the_right_window(window: Window, store: Store) -> None:
    """Ids and turns agree with Python's calendar, leap years and 2100 included."""
    days = [FIRST + timedelta(days=i) for i in range((LAST - FIRST).days + 1)]
    first, last = ((day - date(1970, 1, 1)).days for day in (FIRST, LAST))
    found = await store.execute("EVAL", _source(), 0, str(window), first, last)
    assert found == [_expected(window, day) for day in days]


async def test_each_window_counts_in_a_cell_of_its_own(ledger: RedisLedger, store: Store, realm: str) -> None:
    """The window's id is in the cell's name, so that a new window starts from nothing."""
    rules = [budget(100, window) for window in Window]
    await hold(ledger, "r", candidate(*((rule, 5) for rule in rules)))
    now = datetime.now(UTC)
    monday = now.date() - timedelta(days=now.weekday())
    expected = {
        f"{rules[0].meter}@{now:%Y-%m-%dT%H}",
        f"{rules[1].meter}@{now:%Y-%m-%d}",
        f"{rules[2].meter}@{monday}",
        f"{rules[3].meter}@{now:%Y-%m}",
        f"{rules[4].meter}@total",
    }
    assert set(await balances(store, realm)) == expected


async def test_a_job_settles_into_the_window_it_was_held_in(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Work that is held before midnight and billed after it belongs to the day it was admitted."""
    rule = budget(100, Window.DAY, scope=Scope(project="p"))
    await hold(ledger, "r", candidate((rule, 50)))
    today, yesterday = f"{rule.meter}@{datetime.now(UTC):%Y-%m-%d}", f"{rule.meter}@2026-01-01"
    names = ledger._names
    await store.execute("HDEL", names.balances, today)
    await store.execute("HSET", names.balances, yesterday, "7 50")
    held = await store.execute("HGET", names.request("r"), "a1")
    await store.execute("HSET", names.request("r"), "a1", held.replace(today, yesterday))
    await ledger.settle(settlement("r", 30_000))
    assert await balances(store, realm) == {yesterday: (37, 0)}

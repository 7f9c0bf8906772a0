"""Budgets as the console shows them: where each stands, how it got there, and where it is going."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from gateway.console.forecast import burn_down, forecast, iso
from gateway.console.page_data import PageData
from gateway.console.rollup import Rollup
from gateway.domain import money
from gateway.domain.budget import Budget
from gateway.domain.errors import NotFound
from gateway.domain.period import window_id
from gateway.ledger.wire import Balance

FULL, WARNING = 1.0, 0.8


def budget_rows(stands: Sequence[tuple[Budget, Balance]], rollup: Rollup, now: datetime) -> list[dict[str, object]]:
    """Return every budget, the most used first."""
    rows = [_row(budget, balance, rollup.cell(cell_of(budget, now)), now) for budget, balance in stands]
    return sorted(rows, key=lambda row: (-float(str(row["share"])), str(row["scope"])))


async def budgets(data: PageData, _: Mapping[str, str]) -> dict[str, object]:
    """Return all budgets; LedgerUnavailable."""
    return {"budgets": budget_rows(await data.budgets.now(), data.follower.rollup, data.clock())}


async def burning(data: PageData, query: Mapping[str, str]) -> dict[str, object]:
    """Return one budget and its course since the window began; NotFound, LedgerUnavailable."""
    stands = await data.budgets.now()
    now, rollup = data.clock(), data.follower.rollup
    for budget, balance in stands:
        if budget.meter == query.get("id"):
            booked = rollup.cell(cell_of(budget, now))
            course = forecast(budget.window, budget.limit, balance.used, booked, now)
            times, points = burn_down(course.begins, balance.used, booked, now)
            return {
                **_row(budget, balance, booked, now),
                "times": times,
                "spent": [usd(micro) for micro in points],
            }
    raise NotFound("There is no such budget.", param="id")


def _row(budget: Budget, balance: Balance, booked: Mapping[int, int], now: datetime) -> dict[str, object]:
    course = forecast(budget.window, budget.limit, balance.used, booked, now)
    taken = balance.used + balance.held
    share = taken / budget.limit if budget.limit else 1.0
    return {
        "id": budget.meter,
        "scope": budget.scope.label(),
        "window": str(budget.window),
        "view": str(budget.view),
        "limit": usd(budget.limit),
        "used": usd(balance.used),
        "held": usd(balance.held),
        "left": usd(max(budget.limit - taken, 0)),
        "share": round(share, 4),
        "begins": iso(course.begins),
        "ends": iso(course.ends),
        "pace_per_hour": usd(round(course.pace_per_hour)),
        "forecast": None if course.at_end is None else usd(course.at_end),
        "runs_out": iso(course.runs_out),
        "level": "spent" if share >= FULL else "warn" if share >= WARNING or course.runs_out else "fine",
    }


def cell_of(budget: Budget, now: datetime) -> str:
    """Return the balance cell of a budget's present window."""
    return f"{budget.meter}@{window_id(budget.window, now)}"


def usd(micro: int) -> str:
    """Micro-USD as a decimal string of USD."""
    return money.format_usd(micro * money.NANO_PER_MICRO)

"""Figures: what the overview and the spend page show, all of the ledger; money as decimal strings of USD."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from gateway.console.attention import attention, retirements
from gateway.console.budgets import budget_rows
from gateway.console.event_summary import causes
from gateway.console.forecast import iso
from gateway.console.page_data import PageData
from gateway.console.rollup import DAY, DIMENSIONS, HOUR, HOURS_KEPT, Rollup, bucket_of, month_start
from gateway.console.selection import Only, Sums, selected
from gateway.domain import money
from gateway.domain.errors import InvalidRequest
from gateway.domain.period import day_start
from gateway.domain.spend import Row
from gateway.ledger.entries import Entry

SHOWN = 8
"""Names told apart in a chart; the rest is one."""
OTHERS = "others"
RANGES = ("24h", "7d", "30d", "month")
MOST_UNCONFIRMED = 50
MOST_BUDGETS = 8
MOST_ROWS = 1000


async def overview(data: PageData, query: Mapping[str, str]) -> dict[str, object]:
    """Return what an operator looks at first; LedgerUnavailable."""
    stands = await data.budgets.now()
    snapshot, words = await data.snapshot.now(), await data.words.now()
    happened, not_ready = await data.happened.now(), await data.not_ready.now()
    now, rollup = data.clock(), data.follower.rollup  # of the moment that `state` tells of: another may come meanwhile
    budgets = budget_rows(stands, rollup, now)
    by = query.get("by", "project")
    return {
        **state(data),
        "sums": _sums(rollup, now),
        "spend": spend_series(rollup, now, _dimension(by), _range(query.get("range", "30d"))),
        "budgets": budgets[:MOST_BUDGETS],
        "budgets_in_all": len(budgets),
        "attention": attention(data, budgets, words, snapshot.callbacks_dead or 0, not_ready),
        "happened": causes(happened),
        "retirements": retirements(data),
        "unconfirmed": [_unconfirmed(*each) for each in rollup.unconfirmed()[:MOST_UNCONFIRMED]],
    }


async def spend(data: PageData, query: Mapping[str, str]) -> dict[str, object]:
    """Return spend by one dimension over a range, of all or of a project, a job type or both; InvalidRequest."""
    by, span = _dimension(query.get("by", "project")), _range(query.get("range", "30d"))
    now, sums = data.clock(), selected(data.follower.rollup, Only.of(query))
    size, since = _since(span, now)
    rows = sorted(sums.sums(by, size, since).values(), key=lambda row: (-row.route, row.group))
    return {
        **state(data),
        "spend": spend_series(sums, now, by, span),
        "rows": [told(row) | {"name": row.group[0]} for row in rows[:MOST_ROWS]],
        "total": told(sums.total(size, since)),
        "projects": sorted(data.policy.projects),
        "job_types": sorted(data.policy.job_types),
    }


def state(data: PageData) -> dict[str, object]:
    """Return how far the figures reach."""
    follower = data.follower
    return {
        "at": iso(data.clock()),
        "version": follower.version,
        "entries": follower.rollup.entries,
        "read": round(follower.progress(), 3),
        "trouble": follower.trouble,
    }


def told(row: Row) -> dict[str, object]:
    """Return a row as JSON."""
    usd = {"official": row.official, "route": row.route, "internal": row.internal, "savings": row.savings}
    usd["unconfirmed"] = row.unconfirmed
    return {"requests": row.requests, "images": row.images} | {
        name: money.format_usd(nano) for name, nano in usd.items()
    }


def _sums(rollup: Rollup, now: datetime) -> dict[str, object]:
    today, month = day_start(now), month_start(now)
    yesterday = bucket_of(today - timedelta(days=1), DAY)
    last_month = bucket_of(month_start(month - timedelta(days=1)), DAY)
    so_far = last_month + bucket_of(now, DAY) - bucket_of(month, DAY) + DAY
    return {
        "today": told(rollup.total(DAY, bucket_of(today, DAY))),
        "yesterday": told(rollup.total(DAY, yesterday, bucket_of(today, DAY))),
        "month": told(rollup.total(DAY, bucket_of(month, DAY))),
        "last_month_so_far": told(rollup.total(DAY, last_month, min(so_far, bucket_of(month, DAY)))),
        "presumed": money.format_usd(sum(route for _, route in rollup.unconfirmed())),
        "presumed_requests": len(rollup.unconfirmed()),
    }


def spend_series(sums: Sums, now: datetime, by: str, span: str) -> dict[str, object]:
    """Return a series by name, the dearest first and the rest as one, each a value by bucket."""
    size, since = _since(span, now)
    dearest = sorted(sums.sums(by, size, since).values(), key=lambda row: (-row.route, row.group))
    names = [row.group[0] for row in dearest[:SHOWN]]
    times = list(range(since, bucket_of(now, size) + size, size))
    buckets = sums.buckets(by, size)
    series = [(name, [_route(buckets, at, name) for at in times]) for name in names]
    if len(dearest) > SHOWN:
        totals = [sum(row.route for row in buckets.get(at, {}).values()) for at in times]
        shown = [sum(values) for values in zip(*(values for _, values in series), strict=True)]
        series.append((OTHERS, [total - part for total, part in zip(totals, shown, strict=True)]))
    return {
        "by": by,
        "range": span,
        "step": size,
        "times": times,
        "series": [{"name": name, "usd": [money.format_usd(nano) for nano in values]} for name, values in series],
        "names": len(dearest),
    }


def _route(buckets: Mapping[int, Mapping[str, Row]], at: int, name: str) -> int:
    row = buckets.get(at, {}).get(name)
    return 0 if row is None else row.route


def _since(span: str, now: datetime) -> tuple[int, int]:
    """Return the size of buckets and the first of them."""
    if span == "24h":
        return HOUR, bucket_of(now - timedelta(hours=23), HOUR)
    if span == "7d":
        return HOUR, bucket_of(now - timedelta(hours=HOURS_KEPT - 1), HOUR)
    return DAY, bucket_of(month_start(now) if span == "month" else now - timedelta(days=29), DAY)


def _dimension(name: str) -> str:
    if name not in DIMENSIONS:
        raise InvalidRequest(f"by must be one of {', '.join(DIMENSIONS)}.", param="by")
    return name


def _range(name: str) -> str:
    if name not in RANGES:
        raise InvalidRequest(f"range must be one of {', '.join(RANGES)}.", param="range")
    return name


def _unconfirmed(entry: Entry, route: int) -> dict[str, object]:
    return {
        "request": entry.request_id,
        "at": iso(entry.time),
        "project": entry.project,
        "route": entry.route,
        "usd": money.format_usd(route),
        "why": entry.reason,
    }

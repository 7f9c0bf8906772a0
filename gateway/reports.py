"""Reports: what was spent, for the command line and the admin plane alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.domain import money
from gateway.domain.budget import Window
from gateway.domain.spend import DIMENSIONS, Row, is_dimension, report
from gateway.ledger.entries import read_entries
from gateway.ledger.store import Store

COLUMNS = ("requests", "images", "official_usd", "route_usd", "internal_usd", "savings_usd", "unconfirmed_usd")


class ReportError(ValueError):
    """A report was asked for by something that does not exist; the message names what does."""


@dataclass(frozen=True, slots=True)
class SpendReport:
    """Rows by `by`, and their sum; `since` is None for all there is."""

    by: tuple[str, ...]
    since: datetime | None
    rows: list[Row]
    total: Row

    def as_json(self) -> dict[str, object]:
        """Return the report as JSON values, money as decimal strings of USD."""
        return {
            "by": list(self.by),
            "since": self.since.isoformat() if self.since else None,
            "rows": [{**dict(zip(self.by, row.group, strict=True)), **cells(row)} for row in self.rows],
            "total": cells(self.total),
        }


def cells(row: Row) -> dict[str, object]:
    """Return a row's figures by column."""
    usd = (row.official, row.route, row.internal, row.savings, row.unconfirmed)
    return dict(zip(COLUMNS, (row.requests, row.images, *map(money.format_usd, usd)), strict=True))


def check_dimensions(by: Sequence[str]) -> None:
    """Raise ReportError if a report cannot be made by one of these."""
    unknown = [name for name in by if not is_dimension(name)]
    if unknown:
        raise ReportError(f"cannot report by {unknown[0]!r}; by one of {', '.join(DIMENSIONS)}, or tag:NAME")


async def spend_report(
    store: Store, realm: str, *, by: Sequence[str], window: Window, project: str | None = None
) -> SpendReport:
    """Return what was spent in the current calendar window (UTC), of one project or all; ReportError for bad names."""
    check_dimensions(by)
    since = window_start(window, datetime.now(UTC))
    entries = [
        entry async for entry in read_entries(store, realm, since=since) if project is None or entry.project == project
    ]
    rows, total = report(entries, by)
    return SpendReport(tuple(by), since, rows, total)


def window_start(window: Window, now: datetime) -> datetime | None:
    """Return when the calendar window that `now` lies in began; None for all time."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = {
        Window.HOUR: now.replace(minute=0, second=0, microsecond=0),
        Window.DAY: day,
        Window.WEEK: day - timedelta(days=day.weekday()),
        Window.MONTH: day.replace(day=1),
        Window.TOTAL: None,
    }
    return starts[window]

"""Rollup: the entries of the ledger, added up once by hour and by day, so that nobody reads them again for a look.

By each of a few dimensions, and by the balance cells that they were booked on, in the very terms of spend reports.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from gateway.domain.spend import Presumptions, Row, is_shadow
from gateway.ledger.entries import Entry

ALL = "all"
DIMENSIONS = (ALL, "project", "job_type", "route", "model")
HOUR, DAY = 3600, 86_400
HOURS_KEPT, DAYS_KEPT = 7 * 24, 62
MOST_RECENT = 500

Rows = dict[str, Row]
"""By the name of a project, job type, …; "" where all are one."""


class Rollup:
    """Entries come in once each, oldest first. Buckets are Unix times of the beginning of an hour or a day (UTC)."""

    def __init__(self) -> None:
        self.entries = 0
        self.recent: deque[Entry] = deque(maxlen=MOST_RECENT)
        self.presumptions = Presumptions()
        self._spans: dict[int, dict[str, dict[int, Rows]]] = {
            span: {dimension: {} for dimension in DIMENSIONS} for span in (HOUR, DAY)
        }
        self._cells: dict[str, dict[int, int]] = {}

    def add(self, entry: Entry) -> None:
        """Add an entry; what shadow requests spent belongs to no project and is left out, but for their own budgets."""
        self.entries += 1
        at = entry.time.timestamp()
        hour = int(at) // HOUR * HOUR
        for cell, micro in entry.lines.items():
            of_cell = self._cells.setdefault(cell, {})
            of_cell[hour] = of_cell.get(hour, 0) + micro
        if is_shadow(entry):
            return
        change = self.presumptions.change(entry)
        names = {ALL: "", "project": entry.project, "job_type": entry.job_type, "route": entry.route}
        names["model"] = entry.model
        day = hour // DAY * DAY
        for span, bucket in ((HOUR, hour), (DAY, day)):
            for dimension, buckets in self._spans[span].items():
                rows, name = buckets.setdefault(bucket, {}), names[dimension] or "-"
                row = rows.get(name)
                if row is None:
                    row = rows[name] = Row((name,))
                row.add(entry, change)
        self.recent.append(entry)

    def prune(self, now: datetime) -> None:
        """Forget what is too old to be shown."""
        oldest = {HOUR: now - timedelta(hours=HOURS_KEPT), DAY: now - timedelta(days=DAYS_KEPT)}
        for span, since in oldest.items():
            for buckets in self._spans[span].values():
                for bucket in [each for each in buckets if each < since.timestamp() - span]:
                    del buckets[bucket]
        horizon = oldest[DAY].timestamp()
        for cell in [cell for cell, hours in self._cells.items() if max(hours) < horizon]:
            del self._cells[cell]

    def sums(self, dimension: str, span: int, since: int, until: int | None = None) -> Rows:
        """Return what came in buckets from `since` until before `until`, by name."""
        total: Rows = {}
        for bucket, rows in self._spans[span][dimension].items():
            if bucket >= since and (until is None or bucket < until):
                for name, row in rows.items():
                    _merge(total.setdefault(name, Row((name,))), row)
        return total

    def total(self, span: int, since: int, until: int | None = None) -> Row:
        """Return the sum of everything in these buckets."""
        return self.sums(ALL, span, since, until).get("-", Row(("-",)))

    def buckets(self, dimension: str, span: int) -> Mapping[int, Rows]:
        """Return what is known by bucket."""
        return self._spans[span][dimension]

    def cell(self, name: str) -> Mapping[int, int]:
        """Return what was booked on a balance cell, micro-USD by hour."""
        return self._cells.get(name, {})

    def unconfirmed(self) -> list[Entry]:
        """Return bookings that are presumed still, newest first."""
        found = [entry for entry in self.presumptions.open.values() if isinstance(entry, Entry)]
        return sorted(found, key=lambda entry: entry.time, reverse=True)


def _merge(total: Row, row: Row) -> None:
    total.requests += row.requests
    total.images += row.images
    total.official += row.official
    total.route += row.route
    total.internal += row.internal
    total.unconfirmed += row.unconfirmed


def bucket_of(moment: datetime, span: int) -> int:
    """Return the bucket that a moment lies in."""
    return int(moment.timestamp()) // span * span


def month_start(now: datetime) -> datetime:
    """Return when the month began that a moment (UTC) lies in."""
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)

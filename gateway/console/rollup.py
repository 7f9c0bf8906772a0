"""Rollup: the entries of the ledger, added up once by hour and by day, so that nobody reads them again for a look.

By each of a few dimensions, by all of them together, and by the balance cells that they were booked on, in the very
terms of spend reports.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from gateway.console.grouped_sums import GroupedSums
from gateway.domain.budget import Window
from gateway.domain.spend import Calls, Presumptions, Row, attempt_of, is_shadow
from gateway.ledger.entries import Entry
from gateway.ledger.stream import position

ALL = "all"
PARTS = ("project", "job_type", "route", "model")
DIMENSIONS = (ALL, *PARTS)
HOUR, DAY = 3600, 86_400
HOURS_KEPT, DAYS_KEPT = 7 * 24, 62
MOST_RECENT = 500
MOST_OF_EACH = 50
"""Ids of the newest entries of each project and job type."""
LONGEST: Mapping[str, int] = {Window.HOUR: HOUR, Window.DAY: DAY, Window.WEEK: 7 * DAY, Window.MONTH: 31 * DAY}
"""Seconds that a window lasts at most."""

Rows = dict[str, Row]
"""By the name of a project, job type, …; "" where all are one."""


class Rollup:
    """Entries come in once each, oldest first. Buckets are Unix times of the beginning of an hour or a day (UTC).

    Each is added by every dimension alone, for a look at everything, and in `parts` by all of them together, of which
    selections are summed up: there may be as many parts as entries, too many to sum up for every look.
    """

    def __init__(self) -> None:
        self.entries = 0
        self.recent: deque[Entry] = deque(maxlen=MOST_RECENT)
        self.presumptions = Presumptions()
        self._calls = Calls()
        self._spans: dict[int, dict[str, dict[int, Rows]]] = {
            span: {dimension: {} for dimension in DIMENSIONS} for span in (HOUR, DAY)
        }
        self.parts = {HOUR: GroupedSums(), DAY: GroupedSums()}
        self._newest: dict[tuple[str, str], deque[str]] = {}
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
        presumed = self.presumptions.open.get(attempt_of(entry))
        change = self.presumptions.change(entry)
        project, job_type, route, model = map(_name, (entry.project, entry.job_type, entry.route, entry.model))
        part = (project, job_type, route, model)
        own = Row(part)
        own.add(entry, self._calls.change(entry), change)
        if presumed is not None and change:  # it is confirmed where it was presumed: no span shows less than nothing
            earlier = Row(part, requests=min(own.requests, 0), unconfirmed=change)
            own.requests, own.unconfirmed = max(own.requests, 0), 0
            self._merge(bucket_of(presumed.entry.time, HOUR), part, earlier)
        self._merge(hour, part, own)
        self.recent.append(entry)
        newest = self._newest.get(part[:2])
        if newest is None:
            newest = self._newest[part[:2]] = deque(maxlen=MOST_OF_EACH)
        newest.append(entry.id)

    def _merge(self, hour: int, part: tuple[str, str, str, str], own: Row) -> None:
        for span, bucket in ((HOUR, hour), (DAY, hour // DAY * DAY)):
            for buckets, name in zip(self._spans[span].values(), ("-", *part), strict=True):
                rows = buckets.setdefault(bucket, {})
                row = rows.get(name)
                if row is None:
                    row = rows[name] = Row((name,))
                merge(row, own)
            self.parts[span].add(bucket, part, own)

    def prune(self, now: datetime) -> None:
        """Forget what is too old to be shown."""
        oldest = {HOUR: now - timedelta(hours=HOURS_KEPT), DAY: now - timedelta(days=DAYS_KEPT)}
        for span, since in oldest.items():
            before = since.timestamp() - span
            for buckets in self._spans[span].values():
                for bucket in [each for each in buckets if each < before]:
                    del buckets[bucket]
            self.parts[span].forget(before)
        for cell in [cell for cell, hours in self._cells.items() if _is_over(cell, max(hours), now.timestamp())]:
            del self._cells[cell]

    def sums(self, dimension: str, span: int, since: int, until: int | None = None) -> Rows:
        """Return what came in buckets from `since` until before `until`, by name."""
        return add_up(self._spans[span][dimension], since, until)

    def total(self, span: int, since: int, until: int | None = None) -> Row:
        """Return the sum of everything in these buckets."""
        return self.sums(ALL, span, since, until).get("-", Row(("-",)))

    def buckets(self, dimension: str, span: int) -> Mapping[int, Rows]:
        """Return what is known by bucket."""
        return self._spans[span][dimension]

    def newest(self, takes: Callable[[str, str], bool], most: int) -> list[str]:
        """Return ids of the newest entries of projects and job types that `takes` says yes to, newest first."""
        found = [entry_id for part, ids in self._newest.items() if takes(*part) for entry_id in ids]
        return sorted(found, key=position, reverse=True)[:most]

    def cell(self, name: str) -> Mapping[int, int]:
        """Return what was booked on a balance cell, micro-USD by hour."""
        return self._cells.get(name, {})

    def unconfirmed(self) -> list[tuple[Entry, int]]:
        """Return bookings of which something is presumed still, newest first, and how much: nano-USD (route view)."""
        presumed = [each for each in self.presumptions.open.values() if each.route > 0]
        found = [(each.entry, each.route) for each in presumed if isinstance(each.entry, Entry)]
        return sorted(found, key=lambda each: each[0].time, reverse=True)


def _name(text: str) -> str:
    """Return the one string for all entries that name the same."""
    return sys.intern(text or "-")


def add_up(buckets: Mapping[int, Rows], since: int, until: int | None = None) -> Rows:
    """Return what is in buckets from `since` until before `until`, by name."""
    total: Rows = {}
    for bucket, rows in buckets.items():
        if bucket >= since and (until is None or bucket < until):
            for name, row in rows.items():
                merge(total.setdefault(name, Row((name,))), row)
    return total


def merge(total: Row, row: Row) -> None:
    """Add a row to a sum."""
    total.requests += row.requests
    total.images += row.images
    total.official += row.official
    total.route += row.route
    total.internal += row.internal
    total.unconfirmed += row.unconfirmed


def _is_over(cell: str, last: int, now: float) -> bool:
    """Tell whether a cell's window has ended for sure, by the hour of the last booking in it."""
    window = cell.rpartition("@")[0].rpartition("|")[2]
    return last + HOUR + LONGEST.get(window, DAYS_KEPT * DAY) < now


def bucket_of(moment: datetime, span: int) -> int:
    """Return the bucket that a moment lies in."""
    return int(moment.timestamp()) // span * span


def month_start(now: datetime) -> datetime:
    """Return when the month began that a moment (UTC) lies in."""
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)

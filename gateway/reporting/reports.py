"""Reports: what was spent, and what it would have cost, for the command line and the admin plane alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.config.problems import did_you_mean, shown
from gateway.domain import money
from gateway.domain.budget import Window
from gateway.domain.period import day_start, parse_moment
from gateway.domain.policy import Policy
from gateway.domain.repricing import Repricer
from gateway.domain.spend import DIMENSIONS, Row, Tally, is_dimension, is_shadow
from gateway.ledger.entries import Entry
from gateway.ledger.keys import pages, records_by_digest
from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.reporting.recorded import recorded_entries, trimmed_until

COLUMNS = ("requests", "images", "official_usd", "route_usd", "internal_usd", "savings_usd", "unconfirmed_usd")
REPRICED_COLUMNS = (
    "requests",
    "images",
    "official_usd",
    "repriced_official_usd",
    "route_usd",
    "repriced_route_usd",
    "difference_usd",
    "internal_usd",
    "repriced_internal_usd",
)


NO_REQUESTS = "No requests in this period."
"""What a report says that has nothing to show."""


class ReportError(ValueError):
    """A report was asked for by something that does not exist; the message names what does."""


class UnknownName(ReportError):
    """A report was asked for of something that nobody knows."""

    def __init__(self, kind: str, name: str, known: Collection[str], where: str) -> None:
        super().__init__(f"there is no {kind} {shown(name)} in {where}{did_you_mean(name, known)}")


@dataclass(frozen=True, slots=True)
class Period:
    """From when until when (not included), by the time of booking; None is without end."""

    since: datetime | None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReportSource:
    """What is reported of: what was booked in a period, of one project or all; LedgerUnavailable where it is read.

    `export` are files or directories of an export, for what was trimmed from the store; ExportError if it is not whole.
    """

    store: Store
    realm: str
    period: Period
    project: str | None = None
    export: Sequence[Path] = ()

    async def entries(self, *, shadows: bool = False) -> AsyncIterator[Entry]:
        """Yield the entries, oldest first; with `shadows` those of shadow requests too.

        These are paid for by budgets of their own and by no project.
        """
        since, until = self.period.since, self.period.until
        async for entry in recorded_entries(self.store, self.realm, since=since, until=until, export=self.export):
            if (self.project is None or entry.project == self.project) and (shadows or not is_shadow(entry)):
                yield entry

    async def lacking(self) -> datetime | None:
        """Return when the last entry was booked that the store no longer has; None if it has all."""
        trimmed, since = None if self.export else await trimmed_until(self.store, self.realm), self.period.since
        return trimmed if trimmed and (since is None or trimmed >= since) else None


@dataclass(frozen=True, slots=True)
class SpendReport:
    """Rows by `by`, and their sum. `trimmed` is when the last entry was booked that the report lacks, None if none."""

    by: tuple[str, ...]
    period: Period
    rows: list[Row]
    total: Row
    trimmed: datetime | None = None

    columns = COLUMNS

    def table(self) -> list[tuple[tuple[str, ...], dict[str, object]]]:
        """Return each row's group and figures by column."""
        return [(row.group, cells(row)) for row in self.rows]

    def sums(self) -> dict[str, object]:
        """Return the figures of the sum by column."""
        return cells(self.total)

    def as_json(self) -> dict[str, object]:
        """Return the report as JSON values, money as decimal strings of USD."""
        return _as_json(self)


@dataclass(frozen=True, slots=True)
class RepricedReport:
    """A report with, for each row, what the same entries come to under another policy, which `digest` names.

    `kept_requests` and `kept_corrections` have no price there and count as they were booked.
    """

    booked: SpendReport
    repriced: dict[tuple[str, ...], Row]
    repriced_total: Row
    digest: str
    kept_requests: int
    kept_corrections: int

    columns = REPRICED_COLUMNS

    @property
    def by(self) -> tuple[str, ...]:
        """What rows are told apart by."""
        return self.booked.by

    @property
    def period(self) -> Period:
        """From when until when."""
        return self.booked.period

    @property
    def trimmed(self) -> datetime | None:
        """As in the report of what was spent."""
        return self.booked.trimmed

    def table(self) -> list[tuple[tuple[str, ...], dict[str, object]]]:
        """Return each row's group and figures by column."""
        return [(row.group, _compared(row, self.repriced[row.group])) for row in self.booked.rows]

    def sums(self) -> dict[str, object]:
        """Return the figures of the sum by column."""
        return _compared(self.booked.total, self.repriced_total)

    def as_json(self) -> dict[str, object]:
        """Return the report as JSON values, money as decimal strings of USD."""
        kept = {"requests": self.kept_requests, "corrections": self.kept_corrections}
        return {**_as_json(self), "policy": self.digest, "without_price": kept}

    def words(self) -> str:
        """Say what could not be priced; empty if all could."""
        counts = ((self.kept_requests, "request"), (self.kept_corrections, "correction"))
        parts = [f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts if count]
        verbs = (
            "has no price there and keeps" if sum(count for count, _ in counts) == 1 else "have no price there and keep"
        )
        return f"{' and '.join(parts)} {verbs} what was booked" if parts else ""


def cells(row: Row) -> dict[str, object]:
    """Return a row's figures by column."""
    usd = (row.official, row.route, row.internal, row.savings, row.unconfirmed)
    return dict(zip(COLUMNS, (row.requests, row.images, *map(money.format_usd, usd)), strict=True))


def _compared(row: Row, new: Row) -> dict[str, object]:
    usd = (row.official, new.official, row.route, new.route, new.route - row.route, row.internal, new.internal)
    return dict(zip(REPRICED_COLUMNS, (row.requests, row.images, *map(money.format_usd, usd)), strict=True))


def _as_json(found: SpendReport | RepricedReport) -> dict[str, object]:
    since, until = found.period.since, found.period.until
    return {
        "by": list(found.by),
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
        "rows": [{**dict(zip(found.by, group, strict=True)), **figures} for group, figures in found.table()],
        "total": found.sums(),
        **({"trimmed_until": found.trimmed.isoformat()} if found.trimmed else {}),
    }


def check_dimensions(by: Sequence[str]) -> None:
    """Raise ReportError if a report cannot be made by these: one is none, or is there twice."""
    unknown = [name for name in by if not is_dimension(name)]
    if unknown:
        raise ReportError(f"cannot report by {unknown[0]!r}; by one of {', '.join(DIMENSIONS)}, or tag:NAME")
    if twice := next((name for number, name in enumerate(by) if name in by[:number]), None):
        raise ReportError(f"{twice!r} is there twice: name each once")


def period_of(window: Window, since: str | None = None, until: str | None = None) -> Period:
    """Return the current calendar window (UTC), or the period that is named instead; ReportError for no time."""
    now = datetime.now(UTC)
    if since is None and until is None:
        return Period(window_start(window, now))
    try:
        begins, ends = (None if given is None else parse_moment(given, now) for given in (since, until))
        period = Period(begins, ends)
    except ValueError as error:
        raise ReportError(str(error)) from error
    if period.since and period.until and period.since >= period.until:
        raise ReportError(f"the period ends ({until}) before it begins ({since})")
    return period


async def spend_report(source: ReportSource, by: Sequence[str], *, shadows: bool = False) -> SpendReport:
    """Return what was booked; ReportError for bad names."""
    check_dimensions(by)
    tally = Tally(by)
    async for entry in source.entries(shadows=shadows):
        tally.add(entry)
    return SpendReport(tuple(by), source.period, tally.rows, tally.total, await source.lacking())


async def repriced_report(
    source: ReportSource, policy: Policy, by: Sequence[str], *, shadows: bool = False
) -> RepricedReport:
    """Return what was booked, and what the same work costs under another policy; errors as above."""
    check_dimensions(by)
    booked, repriced, repricer = Tally(by), Tally(by), Repricer(policy)
    async for entry in source.entries(shadows=shadows):
        booked.add(entry)
        repriced.add(replace(entry, cost=repricer.cost(entry)))
    return RepricedReport(
        booked=SpendReport(tuple(by), source.period, booked.rows, booked.total, await source.lacking()),
        repriced={row.group: row for row in repriced.rows},
        repriced_total=repriced.total,
        digest=policy.digest,
        kept_requests=repricer.kept_requests,
        kept_corrections=repricer.kept_corrections,
    )


async def check_project(source: ReportSource, *, known: Collection[str] = ()) -> None:
    """Raise UnknownName for a project that has no key and of which nothing was ever booked, if all entries are there.

    Those `known` by a policy are none. LedgerUnavailable, and ExportError as for reports.
    """
    store, realm, project, export = source.store, source.realm, source.project, source.export
    if project is None or project in known:
        return
    if not export and await trimmed_until(store, realm) is not None:
        return
    names = {entry.project async for entry in recorded_entries(store, realm, export=export)} - {""} | {*known}
    async for page in pages(store, Names(realm).keys):
        names |= {record.project for record in records_by_digest(page).values()}
    if project not in names:
        where = "the policy or the books" if known else "the books"
        raise UnknownName("project", project, names, f"{where}, and none with a key")


def window_start(window: Window, now: datetime) -> datetime | None:
    """Return when the calendar window that `now` lies in began; None for all time."""
    day = day_start(now)
    starts = {
        Window.HOUR: now.replace(minute=0, second=0, microsecond=0),
        Window.DAY: day,
        Window.WEEK: day - timedelta(days=day.weekday()),
        Window.MONTH: day.replace(day=1),
        Window.TOTAL: None,
    }
    return starts[window]

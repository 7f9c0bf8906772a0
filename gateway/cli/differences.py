"""How `image-gateway reconcile` shows what it found: classes, differences, and one figure."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click
from rich.table import Table

from gateway.cli.tables import show
from gateway.domain import money
from gateway.domain.corrections import Source, needs_booking
from gateway.domain.invoice import Match
from gateway.domain.reconciling import Finding, Kind, Terms, may_be_in, unexplained
from gateway.domain.spend import NO_REQUEST
from gateway.reporting.applying import Applied

COLUMNS = (
    "class",
    "day",
    "model",
    "request",
    "attempt",
    "provider_id",
    "lines",
    "ours_usd",
    "theirs_usd",
    "difference_usd",
    "unconfirmed_usd",
    "our_images",
    "their_images",
)
_MONEY = ("ours_usd", "theirs_usd", "difference_usd")
_MOST_LINES = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; `unread` are the cells of rows left out; `applied` is None where nothing was to be booked."""

    match: Match
    terms: Terms
    source: Source
    findings: tuple[Finding, ...]
    unread: frozenset[str] = frozenset()
    applied: Applied | None = None

    @property
    def differences(self) -> list[Finding]:
        """What does not match, the largest difference first."""
        found = [finding for finding in self.findings if not finding.is_settled]
        return sorted(found, key=lambda finding: -abs(finding.difference))

    @property
    def bookable(self) -> list[Finding]:
        """What corrections are booked for."""
        return [finding for finding in self.findings if needs_booking(finding) and not self._is_held(finding)]

    @property
    def held(self) -> int:
        """How many corrections wait until all rows can be read."""
        return sum(needs_booking(finding) and self._is_held(finding) for finding in self.findings)

    @property
    def left(self) -> list[Finding]:
        """What still differs now that the corrections are booked."""
        if self.applied is None:
            return self.differences
        unsure = {id(finding) for finding in self.applied.left}
        return [
            finding
            for finding in self.differences
            if not needs_booking(finding) or self._is_held(finding) or id(finding) in unsure
        ]

    def _is_held(self, finding: Finding) -> bool:
        """Tell whether a row that was left out may be about it; any may be part of a day's sum."""
        return may_be_in(finding, self.unread) or (self.match is Match.DAY and bool(self.unread))

    @property
    def is_settled(self) -> bool:
        """Whether ledger and invoice now say the same."""
        return not self.left and not (self.applied and self.applied.running)

    def classes(self) -> list[dict[str, object]]:
        """Return count and amounts of each class that has any."""
        return [
            _sums(kind, [finding for finding in self.findings if finding.kind is kind])
            for kind in Kind
            if any(finding.kind is kind for finding in self.findings)
        ]


def _sums(kind: str, findings: Sequence[Finding]) -> dict[str, object]:
    ours = sum(finding.ours or 0 for finding in findings)
    theirs = sum(finding.theirs or 0 for finding in findings)
    usd = map(money.format_usd, (ours, theirs, theirs - ours))
    return {"class": str(kind), "count": len(findings), **dict(zip(_MONEY, usd, strict=True))}


def print_outcome(outcome: Outcome, form: str, top: int) -> None:
    """Print it: all differences as CSV or JSON, the first `top` of them as a table."""
    if form == "json":
        click.echo(json.dumps(_as_json(outcome), indent=2))
        return
    if form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(COLUMNS)
        writer.writerows(_cells(finding).values() for finding in outcome.differences)
    else:
        _print_tables(outcome, top)
    for line in _words(outcome):
        click.echo(line, err=form == "csv")


def _as_json(outcome: Outcome) -> dict[str, object]:
    applied = outcome.applied
    return {
        "provider": outcome.source.provider,
        "invoice": outcome.source.invoice,
        "match": str(outcome.match),
        "since": outcome.terms.since.isoformat(),
        "until": outcome.terms.until.isoformat(),
        "classes": outcome.classes(),
        "total": _sums("total", outcome.findings),
        "differences": [_cells(finding) for finding in outcome.differences],
        "unexplained_usd": money.format_usd(unexplained(outcome.findings)),
        "left_usd": money.format_usd(unexplained(outcome.left)),
        "applied": None
        if applied is None
        else {
            "booked": applied.booked,
            "booked_before": applied.before,
            "still_running": applied.running,
            "lost": applied.lost,
        },
    }


def _cells(finding: Finding) -> dict[str, object]:
    booked, rows, named = finding.booked, finding.rows, finding.booked or finding.of
    has_request = named is not None and named.request_id != NO_REQUEST
    images = [row.images for row in rows if row.images is not None]
    values = (
        str(finding.kind),
        finding.day.isoformat() if finding.day else None,
        finding.model or None,
        named.request_id if named and has_request else next((row.request for row in rows if row.request), None),
        named.attempt if named and has_request else None,
        next((row.id for row in rows if row.id), None) or (min(booked.upstream_ids, default=None) if booked else None),
        _places(row.line for row in rows),
        None if finding.ours is None else money.format_usd(finding.ours),
        None if finding.theirs is None else money.format_usd(finding.theirs),
        money.format_usd(finding.difference),
        money.format_usd(booked.unconfirmed) if booked else None,
        booked.images if booked else None,
        sum(images) if images else None,
    )
    return dict(zip(COLUMNS, values, strict=True))


def _places(lines: Iterable[int]) -> str:
    every = list(lines)
    more = f" +{len(every) - _MOST_LINES}" if len(every) > _MOST_LINES else ""
    return " ".join(map(str, every[:_MOST_LINES])) + more


def _print_tables(outcome: Outcome, top: int) -> None:
    since, until = outcome.terms.since, outcome.terms.until
    title = f"{outcome.source.invoice} beside the ledger, {outcome.source.provider}, {since:%F %R} to {until:%F %R} UTC"
    classes = Table(title=title, title_justify="left")
    for name in ("class", "count", *_MONEY):
        classes.add_column(name.removesuffix("_usd"), justify="left" if name == "class" else "right", no_wrap=True)
    for sums in outcome.classes():
        classes.add_row(*map(str, sums.values()))
    classes.add_section()
    classes.add_row(*map(str, _sums("total", outcome.findings).values()))
    show(classes)
    shown = outcome.differences[:top]
    if not shown:
        return
    found = len(outcome.differences)
    table = Table(title=f"Differences, USD{f', {len(shown)} of {found}' if found > len(shown) else ''}")
    table.title_justify = "left"
    for name in COLUMNS:
        is_usd = name in _MONEY
        head = name.removesuffix("_usd").replace("_", " ")
        table.add_column(head, justify="right" if is_usd else "left", no_wrap=is_usd)
    for finding in shown:
        table.add_row(*("-" if value in (None, "") else str(value) for value in _cells(finding).values()))
    show(table)


def _words(outcome: Outcome) -> list[str]:
    said = [f"unexplained: {money.format_usd(unexplained(outcome.findings))} USD"]
    applied = outcome.applied
    at_edge = sum(finding.kind is Kind.AT_EDGE for finding in outcome.findings)
    if at_edge:
        said.append(f"{at_edge} at an edge, left alone: the invoice beside this one tells, or a file over both")
    if outcome.held:
        said.append(f"{outcome.held} not to be booked before all rows can be read: those left out may be about them")
    if applied is None:
        waiting = len(outcome.bookable)
        return [*said, f"{waiting} to be booked: run again with --apply"] if waiting else said
    said.append(f"booked {applied.booked}; {applied.before} had been booked before")
    if applied.running:
        said.append(f"{applied.running} on the invoice still run here: reconcile again when they have ended")
    if applied.lost:
        said.append(f"{applied.lost} that the store came back without: `ledger rebuild --from`, then run it again")
    said.append(f"left unexplained: {money.format_usd(unexplained(outcome.left))} USD")
    return said

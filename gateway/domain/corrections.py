"""Corrections: what is to be booked so that the ledger says what the invoice says.

Every correction carries an id made of what it corrects, how often that was corrected before, and the amount: however
often an invoice is applied, each is booked once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gateway.domain import money
from gateway.domain.adjusting import held_of, scaled
from gateway.domain.budget import View, view_of
from gateway.domain.reconciling import Booked, Finding, Kind
from gateway.domain.route import NOTHING, Views
from gateway.domain.settlement import Adjustment, Posting
from gateway.domain.spend import NO_REQUEST, OF_TRIALS


@dataclass(frozen=True, slots=True)
class Source:
    """Which invoice: the provider's name, and the file's, for the record."""

    provider: str
    invoice: str


def needs_booking(finding: Finding) -> bool:
    """Tell whether something is to be booked: not for what matches, what cannot be judged, or what was billed twice."""
    return finding.kind not in {Kind.MATCHED, Kind.AT_EDGE, Kind.DOUBLED}


def adjustment(finding: Finding, source: Source) -> Adjustment | None:
    """Return what replaces the cost of an attempt; None where there is no attempt, or the invoice gives money back."""
    booked, target = finding.booked, finding.theirs or 0
    if booked is None or booked.request_id == NO_REQUEST or target < 0 or booked.cost.route < 0:
        return None
    return Adjustment(
        id=_digest("adjust", source.provider, booked.request_id, booked.attempt, booked.changes, target),
        request_id=booked.request_id,
        attempt=booked.attempt,
        cost=scaled(booked.cost, target, booked.held),
        reason=_reason(finding, source),
    )


def posting(finding: Finding, source: Source) -> Posting:
    """Return the difference as an amount of its own, for what has no attempt or one that the ledger has forgotten."""
    booked, target = finding.booked, finding.theirs or 0
    before = booked.cost if booked else NOTHING
    held = booked.held if booked else NOTHING
    after = scaled(before, target, held) if target >= 0 else Views(target, target, target)
    return Posting(
        id=_digest("post", source.provider, *_named(finding), booked.changes if booked else 0, target),
        cost=after - before,
        reason=_reason(finding, source),
        about=_about(finding, source),
        lines=_line_differences(booked, target) if booked else {},
    )


def belated(finding: Finding, source: Source, record: Mapping[str, Any]) -> Posting:
    """Return a posting for a call that was thought to be unbilled, under its own project, route and budgets.

    `record` has `about`, `facts` (with the worst case by view) and `lines` ({"meter", "amount"}) of its attempt.
    """
    target = finding.theirs or 0
    held = held_of(record["facts"])
    ratio = Fraction(target, held.route) if held.route else Fraction(0)
    return Posting(
        id=_digest("post", source.provider, *_named(finding), 0, target),
        cost=scaled(held, target) if target >= 0 else Views(target, target, target),
        reason=_reason(finding, source),
        about={**told_of(record["about"], record["facts"]), **_about(finding, source)},
        lines={
            line["meter"]: -(-line["amount"] * ratio.numerator // ratio.denominator)
            for line in record["lines"]
            if ratio and line["meter"].startswith("usd|")
        },
    )


def told_of(about: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, object]:
    """Return what reports go by, from the record of a request and of its attempt."""
    said = {
        name: about.get(name) or facts.get(name)
        for name in ("project", "key", "job_type", "operation", "route", "model", "provider", "tags", *OF_TRIALS)
    }
    said |= {name: facts.get(name) or about.get(name) for name in ("size", "quality")}
    return {name: value for name, value in said.items() if value}


def _about(finding: Finding, source: Source) -> dict[str, object]:
    booked, rows = finding.booked, finding.rows
    about: dict[str, object] = dict(booked.about) if booked else {}
    about |= {"provider": source.provider, "invoice": source.invoice}
    if booked is not None and _is_posted(booked):
        return about  # of the amount that it corrects, wherever this invoice has it
    if finding.model:
        about["model"] = finding.model
    if finding.day:
        about["day"] = finding.day.isoformat()
    if booked is not None and booked.request_id != NO_REQUEST:
        return about | {"request": booked.request_id, "attempt": booked.attempt}
    named = {"upstream_request_id": rows[0].id, "request": rows[0].request} if rows else {}
    billed = {"time": finding.time, "until": finding.until}
    about |= {name: moment.isoformat() for name, moment in billed.items() if moment is not None}
    about |= {name: value for name, value in named.items() if value}
    return about


def _line_differences(booked: Booked, target: int) -> dict[str, int]:
    if booked.cost.route == 0:
        now = scaled(booked.cost, max(target, 0), booked.held)
        views = {View.ROUTE: now.route, View.OFFICIAL: now.official, View.INTERNAL: now.internal}
        new = {cell: money.micro_from_nano(views[view_of(cell)]) for cell in booked.lines}
    else:
        ratio = Fraction(max(target, 0), booked.cost.route)
        new = {cell: -(-micro * ratio.numerator // ratio.denominator) for cell, micro in booked.lines.items()}
    return {cell: new[cell] - micro for cell, micro in booked.lines.items() if new[cell] != micro}


def _named(finding: Finding) -> tuple[object, ...]:
    booked, rows = finding.booked, finding.rows
    if booked is not None and booked.request_id != NO_REQUEST:
        return "attempt", booked.request_id, booked.attempt
    when: tuple[object, ...] = (finding.day, finding.time, finding.until)
    if booked is not None and _is_posted(booked):
        when = (booked.time, booked.until, booked.about.get("request"))
    row_ids = sorted({(row.id, row.request) for row in rows if row.id or row.request})
    if row_ids:
        return "row", row_ids[0], *when
    return "sum", *when, finding.model, sorted(booked.upstream_ids) if booked else ()


def _is_posted(booked: Booked) -> bool:
    """Tell whether this is one amount without a request, rather than an attempt or the sum of a day."""
    return booked.request_id == NO_REQUEST and bool(booked.about)


def _reason(finding: Finding, source: Source) -> str:
    places = ",".join(str(row.line) for row in finding.rows[:3])
    return f"invoice {source.invoice}{f':{places}' if places else ''}: {finding.kind.replace('_', ' ')}"


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()

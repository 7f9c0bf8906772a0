"""Corrections: what is to be booked so that the ledger says what the invoice says.

Every correction carries an id made of what it corrects, how often that was corrected before, and the amount: however
often an invoice is applied, each is booked once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
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
    """Return what replaces the cost in the record of an attempt, 0 or more; None where there is no attempt.

    What an invoice gives back beyond that, and what was posted about the attempt before, is told by `beside`.
    """
    booked, target = finding.booked, finding.theirs or 0
    if booked is None or booked.request_id == NO_REQUEST:
        return None
    return Adjustment(
        id=_digest("adjust", source.provider, booked.request_id, booked.attempt, booked.changes, target),
        request_id=booked.request_id,
        attempt=booked.attempt,
        cost=_in_views(booked.cost - booked.posted, max(target, 0), booked.held),
        reason=_reason(finding, source),
    )


def beside(finding: Finding, source: Source) -> Posting | None:
    """Return what is to be posted about an attempt whose record is adjusted; None where nothing is.

    No attempt costs less than nothing: what an invoice gives back beyond its cost stands beside its record, and nothing
    else does; no budget feels it.
    """
    booked, target = finding.booked, finding.theirs or 0
    assert booked is not None
    wanted = _in_views(booked.cost, min(target, 0), booked.held)
    if booked.posted.route == wanted.route and not any(booked.posted_lines.values()):
        return None
    return Posting(
        id=_digest("beside", source.provider, *_named(finding), booked.changes, target),
        cost=wanted - booked.posted,
        reason=_reason(finding, source),
        about=_about(finding, source),
        lines={cell: -micro for cell, micro in booked.posted_lines.items() if micro},
    )


def posting(finding: Finding, source: Source) -> Posting:
    """Return the difference as an amount of its own, for what has no attempt or one that the ledger has forgotten."""
    booked, target = finding.booked, finding.theirs or 0
    if finding.of is not None:
        return _more(finding, finding.of, source)
    before = booked.cost if booked else NOTHING
    held = booked.held if booked else NOTHING
    return Posting(
        id=_digest("post", source.provider, *_named(finding), booked.changes if booked else 0, target),
        cost=_in_views(before, target, held) - before,
        reason=_reason(finding, source),
        about=_about(finding, source),
        lines=_line_differences(booked, target) if booked else {},
    )


def _more(finding: Finding, of: Booked, source: Source) -> Posting:
    """What is billed for an attempt beside what another invoice has of it. Budgets feel no money given back."""
    target = finding.theirs or 0
    cost = _in_views(of.cost, target, of.held)
    about = {**of.about, "worst": asdict(of.held)} if of.held != NOTHING else dict(of.about)
    return Posting(
        id=_digest("post", source.provider, *_named(finding), 0, target),
        cost=cost,
        reason=_reason(finding, source),
        about=about | _about(finding, source),
        lines=_lines(cost if target > 0 else NOTHING, of.lines),
    )


def is_too_much(finding: Finding, source: Source, record: Mapping[str, Any] | None = None) -> bool:
    """Tell whether what is to be booked is more, in any view, than an entry can hold; `record` is that of `belated`."""
    made: list[Adjustment | Posting | None]
    if record is not None:
        made = [belated(finding, source, record)]
    elif finding.booked is None or finding.booked.request_id == NO_REQUEST:
        made = [posting(finding, source)]
    else:
        made = [adjustment(finding, source), beside(finding, source), posting(finding, source)]
    return any(abs(view) > money.MAX_MICRO for each in made if each is not None for view in astuple(each.cost))


def belated(finding: Finding, source: Source, record: Mapping[str, Any]) -> Posting:
    """Return a posting for a call that was thought to be unbilled, under its own project, route and budgets.

    `record` has `about`, `facts` (with the worst case by view) and `lines` ({"meter", "amount"}) of its attempt. The
    posting keeps the worst case, so that a later correction knows the views' ratio.
    """
    target, facts = finding.theirs or 0, record["facts"]
    held = held_of(facts)
    ratio = Fraction(max(target, 0), held.route) if held.route else Fraction(0)
    told = told_of(record["about"], facts) | ({"worst": facts["worst"]} if held != NOTHING else {})
    return Posting(
        id=_digest("post", source.provider, *_named(finding), 0, target),
        cost=_in_views(held, target),
        reason=_reason(finding, source),
        about=told | _about(finding, source),
        lines={
            line["meter"]: -(-line["amount"] * ratio.numerator // ratio.denominator)
            for line in record["lines"]
            if line["meter"].startswith("usd|")
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
    new = _lines(_in_views(booked.cost, max(target, 0), booked.held), booked.lines)
    return {cell: new[cell] - micro for cell, micro in booked.lines.items() if new[cell] != micro}


def _lines(cost: Views, cells: Iterable[str]) -> dict[str, int]:
    """What each balance cell feels of a cost, micro-USD: from the cost, since what lies there was rounded."""
    views = {View.ROUTE: cost.route, View.OFFICIAL: cost.official, View.INTERNAL: cost.internal}
    return {cell: money.micro_from_nano(views[view_of(cell)]) for cell in cells}


def _in_views(views: Views, route: int, held: Views = NOTHING) -> Views:
    """Return `scaled` views, of money given back too."""
    taken = views if views.route >= 0 else NOTHING - views
    return scaled(taken, route, held) if route >= 0 else NOTHING - scaled(taken, -route, held)


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

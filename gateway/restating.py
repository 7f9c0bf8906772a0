"""Restating: what recorded work costs on the route that another policy chooses for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction

from gateway.domain import money
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import Reading, Usage
from gateway.domain.spend import ADJUST, PRESUME
from gateway.ledger.entries import Entry
from gateway.steps.settle import settle

NOTHING = Views(0, 0, 0)


class Fate(StrEnum):
    """What becomes of a booking under the other policy."""

    KEPT = "kept"
    """Same route, same picture, same price: it costs what it cost."""
    REPRICED = "repriced"
    """Same route, but another picture or another price."""
    MOVED = "moved"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an entry adds under the other policy, nano-USD; and what became of the booking that it is about.

    `reason` is the error's code of a denial. `estimated` tells that nothing on record says what it would have cost.
    """

    fate: Fate
    cost: Views
    route: str
    degraded: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Past:
    """A booking as it was decided: its quote where that is another than the record's, and what is booked on it."""

    verdict: Verdict
    quote: Quote | None
    booked: Views
    recorded: Views


def denied(entry: Entry, code: str) -> Past:
    """Return the booking that is refused with this error's code."""
    return Past(Verdict(Fate.DENIED, NOTHING, entry.route, reason=code), None, NOTHING, entry.cost)


def served(entry: Entry, quote: Quote, multiplier: Fraction) -> Past | None:
    """Return the booking on the quote that was chosen; None if that is what was done, at the same price."""
    facts, made = entry.facts, (quote.job.size, quote.job.quality, quote.job.n)
    same_route = quote.route.name == entry.route
    if same_route and made == (facts.get("size"), facts.get("quality"), entry.n) and quote.worst == entry.worst:
        return None
    cost, estimated = _cost(entry, quote, multiplier)
    verdict = Verdict(
        Fate.REPRICED if same_route else Fate.MOVED, cost, quote.route.name, quote.degraded, estimated=estimated
    )
    return Past(verdict, quote, cost, entry.cost)


def _cost(entry: Entry, quote: Quote, multiplier: Fraction) -> tuple[Views, bool]:
    """What a booking costs by a quote, and whether that is an estimate: without the same picture there is no usage."""
    if entry.kind == PRESUME:
        return quote.worst, True
    said = {name: int(count) for name, count in (entry.usage or {}).items() if name in Usage.__slots__}
    facts = entry.facts
    same = (quote.job.size, quote.job.quality, quote.job.n) == (facts.get("size"), facts.get("quality"), entry.n)
    usage = Usage(**said) if said and same and quote.route.model.name == entry.model else None
    if usage is None and quote.route_price.tokens is not None:
        return _probable(quote), True
    reading = Reading(
        usage=usage, size=entry.size if same else None, images=min(entry.images, quote.job.n), complete=True
    )
    return settle(entry.request_id, entry.attempt, quote, reading, multiplier).cost, False


def _probable(quote: Quote) -> Views:
    worst = quote.worst
    if not quote.expected or not worst.route:
        return worst
    ratio = Fraction(quote.expected, worst.route)
    return Views(money.times(worst.official, ratio), quote.expected, money.times(worst.internal, ratio))


def followed(entry: Entry, past: Past, multiplier: Fraction) -> tuple[Verdict, Past]:
    """Return what a correction comes to: by its usage if it has any, else in proportion to what it changed."""
    recorded = _sum(past.recorded, entry.cost)
    verdict = past.verdict
    if verdict.fate is Fate.KEPT:
        return replace(verdict, cost=entry.cost), replace(past, booked=recorded, recorded=recorded)
    if verdict.fate is Fate.DENIED:
        return replace(verdict, cost=NOTHING), replace(past, recorded=recorded)
    quote, booked = past.quote, past.booked
    if entry.kind != ADJUST and recorded.route and quote is not None:
        booked, _ = _cost(replace(entry, images=max(entry.images, 0)), quote, multiplier)
    elif past.recorded.route:
        booked = _times(past.booked, Fraction(recorded.route, past.recorded.route))
    return replace(verdict, cost=_difference(booked, past.booked)), replace(past, booked=booked, recorded=recorded)


def _times(views: Views, ratio: Fraction) -> Views:
    official, route, internal = (money.times(view, ratio) for view in (views.official, views.route, views.internal))
    return Views(official, route, internal)


def _sum(one: Views, other: Views) -> Views:
    return Views(one.official + other.official, one.route + other.route, one.internal + other.internal)


def _difference(one: Views, other: Views) -> Views:
    return Views(one.official - other.official, one.route - other.route, one.internal - other.internal)

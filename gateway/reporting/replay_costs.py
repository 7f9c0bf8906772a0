"""Replay costs: what recorded work costs on the route that another policy chooses for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction

from gateway.domain import money, pricing
from gateway.domain.job import AUTO, Job, Size
from gateway.domain.naming import translated
from gateway.domain.output_tokens import output_tokens
from gateway.domain.price import Price
from gateway.domain.recorded_calls import answered_tokens, recorded_calls
from gateway.domain.route import NOTHING, Model, Quote, Views
from gateway.domain.settlement import CostSource, PartReading, Reading, Usage
from gateway.domain.spend import ADJUST, PRESUME, is_booking, presumes
from gateway.ledger.entries import Entry
from gateway.steps.settle import settle


class Fate(StrEnum):
    """What becomes of a booking under the other policy."""

    KEPT = "kept"
    """Same route, same picture, same price: it costs what it cost."""
    REPRICED = "repriced"
    """Same route, but another picture or another price."""
    LEFT = "left"
    """Nothing on record, or in the policy, says what it would have been: it costs what it cost."""
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
class ReplayedBooking:
    """A booking as it was decided: its quote where that is another than the record's, and what is booked on it.

    `maker` is the model that made the pictures on record, where the policy knows it. `same_work` tells that what the
    project is charged for it is another, and nothing else.
    """

    verdict: Verdict
    quote: Quote | None
    booked: Views
    recorded: Views
    maker: Model | None = None
    same_work: bool = False


def denied(entry: Entry, code: str) -> ReplayedBooking:
    """Return the booking that is refused with this error's code."""
    return ReplayedBooking(Verdict(Fate.DENIED, NOTHING, entry.route, reason=code), None, NOTHING, entry.cost)


def served(entry: Entry, quote: Quote, multiplier: Fraction, maker: Model | None) -> ReplayedBooking | None:
    """Return the booking on the quote that was chosen; None if that is what was done, at the same price.

    `maker` is the model that made the pictures on record, where the policy knows it.
    """
    facts, made = entry.facts, (quote.job.size, quote.job.quality, quote.job.n)
    same_route = quote.route.name == entry.route
    if same_route and made == (facts.get("size"), facts.get("quality"), entry.n):
        worst, then = quote.worst, entry.worst
        if worst == then:
            return None
        if then is not None and (worst.official, worst.route) == (then.official, then.route):
            cost = _charged(entry.cost, multiplier)
            verdict = Verdict(Fate.REPRICED, cost, entry.route, quote.degraded)
            return ReplayedBooking(verdict, quote, cost, entry.cost, maker, same_work=True)
    cost, estimated = _cost(entry, quote, multiplier, maker)
    verdict = Verdict(
        Fate.REPRICED if same_route else Fate.MOVED, cost, quote.route.name, quote.degraded, estimated=estimated
    )
    return ReplayedBooking(verdict, quote, cost, entry.cost, maker)


def _charged(booked: Views, multiplier: Fraction) -> Views:
    """What was booked, as this multiplier charges it to a project."""
    return pricing.views(booked.official, booked.route, multiplier)


def _cost(entry: Entry, quote: Quote, multiplier: Fraction, maker: Model | None) -> tuple[Views, bool]:
    """What a booking costs by a quote, and whether that is an estimate: the usage of another picture is not known."""
    if entry.kind == PRESUME:
        return quote.worst, True
    if not entry.answer.get("charged_for"):
        return _answered(entry, entry.usage, quote, multiplier, maker)
    refused, said = _refused(entry, quote, multiplier), answered_tokens(entry.usage, entry.answer)
    if refused is None:
        return _charged(entry.cost, multiplier), True
    if not (entry.images or said):
        return refused
    answered, estimated = _answered(entry, said, quote, multiplier, maker)
    both = answered + refused[0]
    return pricing.views(both.official, both.route, multiplier), estimated or refused[1]


def _answered(
    entry: Entry, tokens: Mapping[str, int] | None, quote: Quote, multiplier: Fraction, maker: Model | None
) -> tuple[Views, bool]:
    """What was answered costs by a quote, and whether that is an estimate; `tokens` are those of the answers.

    Each of the calls that it takes by that quote has its fee.
    """
    said = {name: int(count) for name, count in (tokens or {}).items() if name in Usage.__slots__}
    facts = entry.facts
    same = (quote.job.size, quote.job.quality, quote.job.n) == (facts.get("size"), facts.get("quality"), entry.n)
    exact = bool(said) and same and quote.route.model.name == entry.model
    made = quote.job if exact else _as_delivered(entry, quote, maker)
    calls = recorded_calls(entry.n, entry.images if is_booking(entry) else 0, facts, entry.answer)
    made = replace(made, n=calls.asked) if calls.asked < min(made.n, entry.n) else made
    more = -(-calls.answered * quote.calls // calls.every) - 1
    usage = Usage(**said) if exact else None
    estimated = usage is None and quote.route_price.tokens is not None
    if estimated:
        usage = _in_proportion(Usage(**said), entry, replace(quote, job=made), maker) if said else None
        if usage is None:
            return _probable(quote, made, more, multiplier), True
    reading = Reading(
        usage=usage, size=entry.size if same else None, images=min(entry.images, quote.job.n), complete=True
    )
    restated = settle(entry.request_id, entry.attempt, replace(quote, job=made), reading, multiplier)
    cost, estimated = restated.cost, estimated or restated.source is CostSource.ESTIMATE
    if not more or restated.source is CostSource.PRESUMED:
        return cost, estimated
    official, route = (more * pricing.fee_of_call(price) for price in (quote.official_price, quote.route_price))
    return pricing.views(cost.official + official, cost.route + route, multiplier), estimated


def _refused(entry: Entry, quote: Quote, multiplier: Fraction) -> tuple[Views, bool] | None:
    """What refusals cost by a quote, and whether that is an estimate: tokens are those of one model.

    None where they were counted, and that was not written down, as by earlier versions.
    """
    word, tokens = str(entry.answer["charged_for"]), entry.answer.get("charged_tokens")
    each, first = (Reading(), Reading()) if tokens is None else (Reading(usage=Usage()), Reading(usage=Usage(**tokens)))
    calls = recorded_calls(entry.n, 0, entry.facts, entry.answer)
    readings, n = (first, *[each] * (calls.refused - 1)), quote.job.n
    share = n if tokens is not None else max(n // calls.every, 1)  # the tokens of all are in one of them
    parts = tuple(PartReading(share, reading, word) for reading in readings)
    restated = settle(entry.request_id, entry.attempt, quote, Reading(parts=parts), multiplier)
    if restated.source is CostSource.PRESUMED and entry.source == CostSource.USAGE:
        return None
    return restated.cost, tokens is None or quote.route.model.name != entry.model


def _as_delivered(entry: Entry, quote: Quote, maker: Model | None) -> Job:
    """The quote's job; where it leaves size and quality open they are what was delivered, if its route makes that."""
    job, can = quote.job, quote.route.capabilities
    size = Size.parse(entry.size)
    if job.size == AUTO and size is not None and can.sizes.refusal(size) is None:
        job = replace(job, size=str(size))
    quality = translated(entry.quality, maker, quote.route.model) if maker else entry.quality
    return replace(job, quality=quality) if job.quality == AUTO and quality in can.quality else job


def _in_proportion(usage: Usage, entry: Entry, quote: Quote, maker: Model | None) -> Usage | None:
    """What was reported, with image tokens by what either model takes for its picture; None where that is not known."""
    model, count = quote.route.model, max(entry.images, 0) or entry.n or 1
    then, now = _tokens(maker, entry.size, entry.quality), _tokens(model, quote.job.size, quote.job.quality)
    if maker is None or not then or not now:
        return None
    out = Fraction(now * min(count, quote.job.n), then * count)
    known = maker.input_image_tokens and model.input_image_tokens
    into = Fraction(model.input_image_tokens, maker.input_image_tokens) if known else Fraction(1)
    return replace(
        usage,
        image_out=math.ceil(usage.image_out * out),
        image_in=math.ceil(usage.image_in * into),
        image_in_cached=math.ceil(usage.image_in_cached * into),
    )


def _tokens(model: Model | None, size: str, quality: str) -> int:
    """Output tokens of one such image; 0 where nobody can say."""
    parsed = Size.parse(size)
    if model is None or parsed is None or quality not in model.capabilities.quality:
        return 0
    return output_tokens(model, (parsed,), (quality,))


def _probable(quote: Quote, made: Job, more: int, multiplier: Fraction) -> Views:
    """What it will probably cost by the quote, or the part of it that is `made`, by so many calls more than one."""
    worst = quote.worst
    if made != quote.job:

        def likely(price: Price) -> int:
            route, text = quote.route, pricing.likely_text(made.prompt_bytes)
            rates = pricing.tariff(made, route.model, price, sizes=(), qualities=route.capabilities.quality)
            return rates.nano(text, made.n, made.n) + more * pricing.fee_of_call(price)

        official, own = min(likely(quote.official_price), worst.official), min(likely(quote.route_price), worst.route)
        return pricing.views(official, own, multiplier)
    if not quote.expected or not worst.route:
        return worst
    ratio = Fraction(quote.expected, worst.route)
    return Views(money.times(worst.official, ratio), quote.expected, money.times(worst.internal, ratio))


def followed(entry: Entry, past: ReplayedBooking, multiplier: Fraction) -> tuple[Verdict, ReplayedBooking]:
    """Return what a correction comes to: by its usage if it has any, else in proportion to what it changed."""
    recorded = past.recorded + entry.cost
    verdict = past.verdict
    if verdict.fate is Fate.KEPT:
        return replace(verdict, cost=entry.cost), replace(past, booked=recorded, recorded=recorded)
    if verdict.fate is Fate.DENIED:
        return replace(verdict, cost=NOTHING), replace(past, recorded=recorded)
    quote, booked = past.quote, past.booked
    if past.same_work:
        booked = _charged(recorded, multiplier)
    elif entry.kind != ADJUST and not presumes(entry) and recorded.route and quote is not None:
        booked, _ = _cost(replace(entry, images=max(entry.images, 0)), quote, multiplier, past.maker)
    elif past.recorded.route:
        booked = past.booked.times(Fraction(recorded.route, past.recorded.route))
    return replace(verdict, cost=booked - past.booked), replace(past, booked=booked, recorded=recorded)

"""Settle: what a call cost, by what the provider reports, else by what it counts, else by the estimate.

Never nothing for work done, unless the price row is a free one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from operator import add
from typing import NamedTuple

from gateway.domain import pricing
from gateway.domain.job import Job, Size
from gateway.domain.price import Bills, Price
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import CostSource, Outcome, PartReading, Reading, Settlement
from gateway.ports.provider import UpstreamFailure

ABSURD = 10
"""Times the worst case; what would cost more is a mistake of the provider's, not a bill."""


def settle(
    request_id: str,
    attempt: int,
    quote: Quote,
    reading: Reading,
    multiplier: Fraction,
    *,
    upstream_request_id: str | None = None,
    seconds: float | None = None,
) -> Settlement:
    """Return the settlement of an answer that was read as far as it came.

    What it reports if that is sound, else what it counts (tokens, images, seconds, units), else the estimate from what
    it says it made. An answer that broke off, or made nothing and says nothing of cost, is presumed to cost the worst
    case; so is a stream with an image missing. `seconds` is how long the call took, for the record. Of several calls
    each is judged by itself, within its share of the worst case; the sum is no better known than the worst known of
    them.
    """
    parts = [(_share(quote, part.n), part) for part in reading.parts] or [(quote, PartReading(quote.job.n, reading))]
    priced = [_price(own, part, multiplier) for own, part in parts]
    known = [each.reading.usage for each in priced if each.source is not CostSource.PRESUMED and not each.charged_for]
    usages = [usage for usage in known if usage is not None]
    problem = next((each.reading.usage_problem for each in priced if each.reading.usage_problem), None)
    told = reading if reading.parts else priced[0].reading
    return Settlement(
        request_id=request_id,
        attempt=attempt,
        cost=_total(priced, multiplier),
        source=_source(priced),
        images=reading.images,
        usage=reduce(add, usages) if usages and len(usages) == len(known) else None,
        facts=_facts(replace(told, usage_problem=problem), upstream_request_id, seconds) | _calls(quote, priced),
    )


def charge(
    request_id: str, attempt: int, quote: Quote, failure: UpstreamFailure, multiplier: Fraction
) -> Settlement | None:
    """Return the settlement of a refusal for which the route's price row charges; None if it charges nothing.

    By what the provider said of the cost, else the price of one image. Of several calls each is judged by itself.
    """
    each = _charges(quote, failure, multiplier)
    if not any(priced.cost.route for priced in each):
        return None
    return Settlement(
        request_id=request_id,
        attempt=attempt,
        cost=_total(each, multiplier),
        source=_source(each),
        images=0,
        facts={"reason": failure.reason, **_calls(quote, each)},
    )


def presume(
    request_id: str, attempt: int, quote: Quote, why: UpstreamFailure | str, multiplier: Fraction = Fraction(1)
) -> Settlement:
    """Return the settlement of a call whose outcome nobody knows: the worst case, unconfirmed.

    `why` is the failure, or its reason. Of several calls only those count that may be billed, by their share, and
    those that were refused at a charge.
    """
    facts: dict[str, object] = {"reason": why if isinstance(why, str) else why.reason}
    images = None if isinstance(why, str) else why.images
    cost = quote.worst
    if isinstance(why, UpstreamFailure) and images is not None:
        facts |= {"calls": quote.calls, "unknown_images": images}
        charges = _charges(quote, why, multiplier)
        facts |= _refusals(charges)
        share = _share(quote, min(images, quote.job.n)).worst
        cost = _sum([share, *(each.cost for each in charges)])
    return Settlement(
        request_id=request_id,
        attempt=attempt,
        cost=cost,
        source=CostSource.PRESUMED,
        images=0,
        facts=facts,
    )


class _Priced(NamedTuple):
    """What one call cost, how that is known, and what was believed of its answer; why, if it was refused."""

    job: Job
    cost: Views
    source: CostSource
    reading: Reading
    charged_for: str | None = None


def _price(quote: Quote, part: PartReading, multiplier: Fraction) -> _Priced:
    if part.charged_for is not None:
        return _charged(quote, part.charged_for, part.reading, multiplier)
    reading = _believed(quote, part.reading)
    if _is_unknown(quote, reading):
        return _Priced(quote.job, quote.worst, CostSource.PRESUMED, reading)
    return _Priced(quote.job, *_cost(quote, reading, multiplier), reading)


def _charges(quote: Quote, failure: UpstreamFailure, multiplier: Fraction) -> list[_Priced]:
    """What the refusals cost that a failure stands for."""
    refused = [
        each
        for each in (failure, *failure.others)
        if each.charged_for is not None and each.outcome is not Outcome.UNKNOWN
    ]
    return [_charged(quote, each.charged_for or "", each.reading or Reading(), multiplier) for each in refused]


def _charged(quote: Quote, word: str, said: Reading, multiplier: Fraction) -> _Priced:
    """What a refusal of this kind costs: the price of one image in either view whose row charges for such."""
    one = replace(quote, job=replace(quote.job, n=1))
    reading = _believed(one, said)
    cost, source = _cost(one, reading, multiplier)
    if source is CostSource.USAGE and reading == Reading():
        source = CostSource.ESTIMATE  # it said nothing: the price of an image is our own reading of the row
    official = cost.official if word in quote.official_price.charged_for else 0
    if word not in quote.route_price.charged_for:
        return _Priced(one.job, Views(official, 0, 0), CostSource.REPORTED, reading, word)
    return _Priced(one.job, replace(cost, official=official), source, reading, word)


def _total(priced: Sequence[_Priced], multiplier: Fraction) -> Views:
    if len(priced) == 1:
        return priced[0].cost
    total = _sum([each.cost for each in priced])
    return pricing.views(total.official, total.route, multiplier)


def _sum(costs: Sequence[Views]) -> Views:
    official, route, internal = (
        sum(views) for views in zip(*((each.official, each.route, each.internal) for each in costs), strict=True)
    )
    return Views(official, route, internal)


def _source(priced: Sequence[_Priced]) -> CostSource:
    return max((each.source for each in priced), key=list(CostSource).index)


def _share(quote: Quote, n: int) -> Quote:
    """The quote of one of several calls, which makes `n` of the images and does not stream."""

    def share(most: int) -> int:
        return -(-most * n // quote.job.n)

    worst = Views(share(quote.worst.official), share(quote.worst.route), share(quote.worst.internal))
    return replace(quote, job=replace(quote.job, n=n, stream=False, partial_images=0), worst=worst)


def _calls(quote: Quote, priced: Sequence[_Priced]) -> dict[str, object]:
    """What the record says of calls: how many, the refusals charged, and the images of unknown outcome."""
    facts = _refusals(priced)
    if quote.calls == 1:
        return facts
    unknown = sum(each.job.n for each in priced if each.source is CostSource.PRESUMED)
    return facts | {"calls": quote.calls} | ({"unknown_images": unknown} if unknown else {})


def _refusals(priced: Sequence[_Priced]) -> dict[str, object]:
    """What the record says of refusals that cost something."""
    words = [each.charged_for for each in priced if each.charged_for is not None and each.cost.route]
    return {"charged_for": words[0], "charged_calls": len(words)} if words else {}


def _believed(quote: Quote, reading: Reading) -> Reading:
    """The reading without what nobody would bill: one such mistake must not empty a project's budget.

    Nor is it believed that images cost nothing.
    """
    usage, reported, price, most = reading.usage, reading.reported, quote.route_price, ABSURD * quote.worst.route
    least = 1 if reading.images else 0
    rows = ((quote.official_price, ABSURD * quote.worst.official), (price, most))
    if usage is not None and any(row.tokens and pricing.cost_of_usage(usage, row.tokens) > top for row, top in rows):
        reading = replace(reading, usage=None, usage_problem="absurd")
    if reported is not None and not least <= reported <= most:
        reading = replace(reading, reported=None, usage_problem=reading.usage_problem or "absurd")
    if price.seconds is not None and reading.seconds is not None:
        cost = pricing.cost_of_work(quote.job, price, quote.route.model, reading)
        if reading.seconds < 0 or cost is None or not least <= cost <= most:
            reading = replace(reading, seconds=None, usage_problem=reading.usage_problem or "absurd")
    if (price.units or price.reported_unit) and reading.units is not None:
        cost = pricing.cost_of_work(quote.job, price, quote.route.model, reading)
        if reading.units < 0 or cost is None or not least <= cost <= most:
            reading = replace(reading, units=None, usage_problem=reading.usage_problem or "absurd")
    made = _as_made(quote, reading)
    works = ((pricing.cost_of_work(made, row, quote.route.model, reading), top) for row, top in rows)
    if any(cost is not None and cost > top for cost, top in works):
        images, problem = min(reading.images, quote.job.n), reading.usage_problem or "absurd"
        reading = replace(reading, size=None, quality=None, images=images, usage_problem=problem)
    return reading


def _cost(quote: Quote, reading: Reading, multiplier: Fraction) -> tuple[Views, CostSource]:
    """What the work cost in three views, and how the route's own is known."""
    made, model = _as_made(quote, reading), quote.route.model

    def known(price: Price) -> int | None:
        return pricing.cost_of_work(made, price, model, reading)

    official, route = known(quote.official_price), known(quote.route_price)
    if official is None:
        official = _estimate(quote, made, quote.official_price, reading.images)
    source = CostSource.USAGE
    if reading.reported is not None:
        route, source = reading.reported, CostSource.REPORTED
    elif route is None:
        route, source = _estimate(quote, made, quote.route_price, reading.images), CostSource.ESTIMATE
    return pricing.views(official, route, multiplier), source


def _is_unknown(quote: Quote, reading: Reading) -> bool:
    """Tell whether work may have been billed that the answer says nothing of; a stream names usage by the image."""
    price = quote.route_price
    counted = price.seconds is not None and reading.seconds is not None
    counted = counted or ((price.units or price.reported_unit) is not None and reading.units is not None)
    if reading.usage is None and reading.reported is None and not counted:
        return not (reading.complete and reading.images)
    return quote.job.stream and reading.images < quote.job.n


def _as_made(quote: Quote, reading: Reading) -> Job:
    """The job with `auto` resolved as the answer says it was; its quality may be the provider's word for ours."""
    job, route = quote.job, quote.route
    size = reading.size if reading.size and Size.parse(reading.size) else job.size
    meant = [own for own in route.model.capabilities.quality if route.quality_names.get(own, own) == reading.quality]
    quality = job.quality if job.quality in meant or not meant else meant[-1]
    return replace(job, size=size, quality=quality)


def _estimate(quote: Quote, made: Job, price: Price, images: int) -> int:
    """What work of which nothing was counted costs: tokens at their most, anything else as it usually is."""
    model, qualities, case = quote.route.model, quote.route.capabilities.quality, pricing.worst_case
    if price.tokens is None:
        case = pricing.usual_case
        made = made if price.bills is Bills.REQUESTED else replace(made, n=images or made.n)
    return min(
        case(made, model, price, sizes=(), qualities=qualities),
        pricing.worst_case(quote.job, model, price, sizes=(), qualities=qualities),
    )


def _facts(reading: Reading, upstream_request_id: str | None, seconds: float | None) -> dict[str, object]:
    facts: dict[str, object] = {
        "size": reading.size,
        "quality": reading.quality,
        "output_format": reading.output_format,
        "usage_problem": reading.usage_problem,
        "error": reading.error,
        "complete": reading.complete,
        "upstream_request_id": upstream_request_id,
        "seconds": None if seconds is None else round(seconds, 3),
        "billed_seconds": None if reading.seconds is None else str(reading.seconds),
        "billed_units": None if reading.units is None else str(reading.units),
    }
    return {name: value for name, value in facts.items() if value is not None}

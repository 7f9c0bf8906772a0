"""Settle: what a call cost, by what the provider said, else by the estimate; never nothing for work done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from operator import add
from typing import NamedTuple

from gateway.domain import pricing
from gateway.domain.job import AUTO, Job, Size
from gateway.domain.route import Price, Quote, Views
from gateway.domain.settlement import CostSource, Reading, Settlement
from gateway.ports import UpstreamFailure

ABSURD = 10
"""Times the worst case; usage that would cost more is a mistake of the provider's, not a bill."""


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

    Usage if it is sound, else the estimate from what the answer says it made. An answer that broke off, or made
    nothing and says nothing of cost, is presumed to cost the worst case; so is a stream with an image missing.
    `seconds` is how long the call took, for the record. Of several calls each is judged by itself, within its share of
    the worst case; the sum is no better known than the worst known of them.
    """
    calls = [(_share(quote, part.n), part.reading) for part in reading.parts] or [(quote, reading)]
    priced = [_price(own, said, multiplier) for own, said in calls]
    cost = priced[0].cost
    if len(priced) > 1:
        official, route = (sum(views) for views in zip(*((p.cost.official, p.cost.route) for p in priced), strict=True))
        cost = pricing.views(official, route, multiplier)
    known = [each.reading.usage for each in priced if each.source is not CostSource.PRESUMED]
    usages = [usage for usage in known if usage is not None]
    problem = next((each.reading.usage_problem for each in priced if each.reading.usage_problem), None)
    return Settlement(
        request_id=request_id,
        attempt=attempt,
        cost=cost,
        source=max((each.source for each in priced), key=list(CostSource).index),
        images=reading.images,
        usage=reduce(add, usages) if usages and len(usages) == len(known) else None,
        facts=_facts(replace(reading, usage_problem=problem), upstream_request_id, seconds) | _calls(quote, priced),
    )


def presume(request_id: str, attempt: int, quote: Quote, why: UpstreamFailure | str) -> Settlement:
    """Return the settlement of a call whose outcome nobody knows: the worst case, unconfirmed.

    `why` is the failure, or its reason. Of several calls only those count that may be billed, by their share.
    """
    facts: dict[str, object] = {"reason": why if isinstance(why, str) else why.reason}
    images = None if isinstance(why, str) else why.images
    if images is not None:
        facts |= {"calls": quote.calls, "unknown_images": images}
    return Settlement(
        request_id=request_id,
        attempt=attempt,
        cost=quote.worst if images is None else _share(quote, min(images, quote.job.n)).worst,
        source=CostSource.PRESUMED,
        images=0,
        facts=facts,
    )


class _Priced(NamedTuple):
    """What one call cost, how that is known, and what was believed of its answer."""

    job: Job
    cost: Views
    source: CostSource
    reading: Reading


def _price(quote: Quote, reading: Reading, multiplier: Fraction) -> _Priced:
    reading = _believed(quote, reading)
    return _Priced(quote.job, *_cost(quote, reading, multiplier), reading)


def _share(quote: Quote, n: int) -> Quote:
    """The quote of one of several calls, which makes `n` of the images and does not stream."""

    def share(most: int) -> int:
        return -(-most * n // quote.job.n)

    worst = Views(share(quote.worst.official), share(quote.worst.route), share(quote.worst.internal))
    return replace(quote, job=replace(quote.job, n=n, stream=False, partial_images=0), worst=worst)


def _calls(quote: Quote, priced: Sequence[_Priced]) -> dict[str, object]:
    """What the record says of several calls: how many there were, and for how many images the outcome is unknown."""
    if quote.calls == 1:
        return {}
    unknown = sum(each.job.n for each in priced if each.source is CostSource.PRESUMED)
    facts: dict[str, object] = {"calls": quote.calls}
    return facts | ({"unknown_images": unknown} if unknown else {})


def _believed(quote: Quote, reading: Reading) -> Reading:
    """The reading without a usage that nobody would bill: one such mistake must not empty a project's budget."""
    usage = reading.usage
    if usage is None:
        return reading
    worst = ((quote.official_price, quote.worst.official), (quote.route_price, quote.worst.route))
    if any(price.tokens and pricing.cost_of_usage(usage, price.tokens) > ABSURD * most for price, most in worst):
        return replace(reading, usage=None, usage_problem="absurd")
    return reading


def _cost(quote: Quote, reading: Reading, multiplier: Fraction) -> tuple[Views, CostSource]:
    if _is_unknown(quote.job, reading):
        return quote.worst, CostSource.PRESUMED
    by_usage = reading.usage is not None
    made = _as_made(quote.job, reading)

    def cost(price: Price) -> int:
        if price.tokens is None:
            return pricing.cost_of_images(reading.images or quote.job.n, Size.parse(made.size), price)
        if reading.usage is not None:
            return pricing.cost_of_usage(reading.usage, price.tokens)
        return _estimate(quote, made, price)

    views = pricing.views(cost(quote.official_price), cost(quote.route_price), multiplier)
    by_images = quote.route_price.tokens is None
    return views, CostSource.USAGE if by_usage or by_images else CostSource.ESTIMATE


def _is_unknown(job: Job, reading: Reading) -> bool:
    """Tell whether work may have been billed that the answer says nothing of; a stream names usage by the image."""
    if reading.usage is None:
        return not (reading.complete and reading.images)
    return job.stream and reading.images < job.n


def _as_made(job: Job, reading: Reading) -> Job:
    """The job with `auto` resolved as the answer says it was."""
    size = reading.size if reading.size and Size.parse(reading.size) else job.size
    quality = reading.quality if reading.quality and reading.quality != AUTO else job.quality
    return replace(job, size=size, quality=quality)


def _estimate(quote: Quote, made: Job, price: Price) -> int:
    can = quote.route.capabilities
    worst: Callable[[Job], int] = lambda job: pricing.worst_case(  # noqa: E731
        job, quote.route.model, price, sizes=(), qualities=can.quality
    )
    return min(worst(made), worst(quote.job))


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
    }
    return {name: value for name, value in facts.items() if value is not None}

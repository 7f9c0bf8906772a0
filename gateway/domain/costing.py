"""Costing: what work cost by what was said of it: which of that is believed, and what it comes to in each view."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Final

from gateway.domain import pricing
from gateway.domain.job import Job, Size
from gateway.domain.money import ONE
from gateway.domain.price import Bills, Price
from gateway.domain.record import record
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import CostSource, Reading, Usage

_USAGE: Final = CostSource.USAGE
ABSURD = 10
"""Times the worst case; what would cost more is a mistake of the provider's, not a bill."""


@record(frozen=True, slots=True)
class Weighed:
    """What is believed of an answer, the job as it says that it was made, and what that costs by each row, nano-USD.

    None where the row charges for what the answer does not say.
    """

    reading: Reading
    made: Job
    official: int | None
    route: int | None


def believed(quote: Quote, reading: Reading) -> Weighed:
    """The reading without what nobody would bill: one such mistake must not empty a project's budget.

    Nor is it believed that images cost nothing.
    """
    if _is_plain(quote, reading):
        weighed = _weighed(quote, reading)
        if weighed.route is not None and weighed.route <= ABSURD * min(quote.worst.route, quote.worst.official):
            return weighed
    usage, reported, price, most = reading.usage, reading.reported, quote.route_price, ABSURD * quote.worst.route
    least = 1 if reading.images else 0
    if usage is not None and _is_absurd(quote, usage):
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
    weighed = _weighed(quote, reading)
    if (weighed.official or 0) > ABSURD * quote.worst.official or (weighed.route or 0) > most:
        images, problem = min(reading.images, quote.job.n), reading.usage_problem or "absurd"
        return _weighed(quote, replace(reading, size=None, quality=None, images=images, usage_problem=problem))
    return weighed


def _is_plain(quote: Quote, reading: Reading) -> bool:
    """Tell whether tokens alone are charged, at the vendor's own price: then what they come to tells if they can be."""
    price = quote.route_price
    if price is not quote.official_price or price.multiplier is not ONE or price.tokens is None:
        return False
    return reading.reported is None and reading.seconds is None and reading.units is None


def _is_absurd(quote: Quote, usage: Usage) -> bool:
    """Tell whether so many tokens are a mistake by either row."""
    own, official, worst = quote.route_price, quote.official_price, quote.worst
    if own is official:
        return _is_too_much(usage, own, min(worst.route, worst.official))
    return _is_too_much(usage, official, worst.official) or _is_too_much(usage, own, worst.route)


def _is_too_much(usage: Usage, row: Price, worst: int) -> bool:
    return row.tokens is not None and pricing.cost_of_usage(usage, row.tokens) > ABSURD * worst


def _weighed(quote: Quote, reading: Reading) -> Weighed:
    made, model = as_made(quote, reading), quote.route.model
    official = route = pricing.cost_of_work(made, quote.route_price, model, reading)
    if quote.official_price is not quote.route_price:
        official = pricing.cost_of_work(made, quote.official_price, model, reading)
    return Weighed(reading, made, official, route)


def cost(quote: Quote, weighed: Weighed, multiplier: Fraction) -> tuple[Views, CostSource]:
    """What the work cost in three views, and how the route's own is known."""
    reading, made, official, route = weighed.reading, weighed.made, weighed.official, weighed.route
    if official is None:  # at its most it would be a saving that nobody made, where the route's own cost is known
        known = route is not None or reading.reported is not None
        official = _estimate(quote, made, quote.official_price, reading.images, likely=known)
    source = _USAGE
    if reading.reported is not None:
        route, source = reading.reported, CostSource.REPORTED
    elif route is None:
        route, source = _estimate(quote, made, quote.route_price, reading.images), CostSource.ESTIMATE
    return pricing.views(official, route, multiplier), source


def is_metered(price: Price, reading: Reading) -> bool:
    """Tell whether seconds or units were counted that the row has a price for."""
    if price.seconds is not None and reading.seconds is not None:
        return True
    return (price.units is not None or price.reported_unit is not None) and reading.units is not None


def as_made(quote: Quote, reading: Reading) -> Job:
    """The job with `auto` resolved as the answer says it was; its quality may be the provider's word for ours."""
    job, route = quote.job, quote.route
    if reading.size in (None, job.size) and reading.quality in (None, job.quality) and not route.quality_names:
        return job
    size = reading.size if reading.size and Size.parse(reading.size) else job.size
    meant = [own for own in route.model.capabilities.quality if route.quality_names.get(own, own) == reading.quality]
    quality = job.quality if job.quality in meant or not meant else meant[-1]
    return job if (size, quality) == (job.size, job.quality) else replace(job, size=size, quality=quality)


def _estimate(quote: Quote, made: Job, price: Price, images: int, *, likely: bool = False) -> int:
    """What work of which nothing was counted costs: tokens at their most unless `likely`, all else as it usually is."""
    model, qualities, case = quote.route.model, quote.route.capabilities.quality, pricing.worst_case
    if likely or price.tokens is None:
        case = pricing.usual_case
        made = made if price.bills is Bills.REQUESTED else replace(made, n=images or made.n)
    return min(
        case(made, model, price, sizes=(), qualities=qualities),
        pricing.worst_case(quote.job, model, price, sizes=(), qualities=qualities),
    )

"""Settle: what a call cost, by what the provider reports, else by what it counts, else by the estimate.

Never nothing for work done, unless the price row is a free one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from functools import reduce
from operator import add

from gateway.domain import pricing
from gateway.domain.costing import believed, cost, is_metered
from gateway.domain.job import Job
from gateway.domain.price import Price
from gateway.domain.record import record
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import PRESUMED, CostSource, Outcome, PartReading, Reading, Settlement, Usage
from gateway.ports.provider import UpstreamFailure


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
    multiplier = _held_by(quote, multiplier)
    if not reading.parts:
        one = _answered(quote, reading, multiplier)
        facts = _facts(one.reading, upstream_request_id, seconds)
        if quote.calls > 1:
            facts |= _calls(quote, [one])
        presumed = one.source is PRESUMED
        usage = None if presumed else one.reading.usage
        return Settlement(request_id, attempt, one.cost, one.source, reading.images, usage, facts)
    priced = [_price(_share(quote, part.n, multiplier), part, multiplier) for part in reading.parts]
    problem = next((each.reading.usage_problem for each in priced if each.reading.usage_problem), None)
    told = reading if reading.usage_problem == problem else replace(reading, usage_problem=problem)
    return Settlement(
        request_id=request_id,
        attempt=attempt,
        cost=_total(priced, multiplier),
        source=_source(priced),
        images=reading.images,
        usage=_usage(priced),
        facts=_facts(told, upstream_request_id, seconds) | _calls(quote, priced),
    )


def charge(
    request_id: str, attempt: int, quote: Quote, failure: UpstreamFailure, multiplier: Fraction
) -> Settlement | None:
    """Return the settlement of a refusal that costs something; None if it costs nothing.

    What the provider bills, whatever the row says; else by the row, where that charges for such: the price of an image,
    or the worst case, unconfirmed, where the provider tells what it bills and did not. Of several calls each is judged
    by itself.
    """
    multiplier = _held_by(quote, multiplier)
    each = _charges(quote, failure, multiplier)
    if not any(priced.cost.route for priced in each):
        return None
    return Settlement(
        request_id=request_id,
        attempt=attempt,
        cost=_total(each, multiplier),
        source=_source(each),
        images=0,
        usage=_usage(each),
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
    amounts = quote.worst
    if isinstance(why, UpstreamFailure) and images is not None:
        facts["calls"], multiplier = quote.calls, _held_by(quote, multiplier)
        every = _charges(quote, why, multiplier)
        charges = [each for each in every if each.source is not PRESUMED]
        lost = sum(each.outcome is Outcome.UNKNOWN for each in (why, *why.others)) + len(every) - len(charges)
        images += sum(each.job.n for each in every if each.source is PRESUMED)
        facts |= {"unknown_images": images} | _refusals(charges)
        share = _share(quote, min(images, quote.job.n), multiplier, min(lost, quote.calls - len(charges))).worst
        amounts = _in_all([share, *(each.cost for each in charges)], multiplier)
    return Settlement(
        request_id=request_id,
        attempt=attempt,
        cost=amounts,
        source=PRESUMED,
        images=0,
        facts=facts,
    )


def _held_by(quote: Quote, multiplier: Fraction) -> Fraction:
    """The multiplier that a quote was held by, where that was noted, else the project's."""
    return multiplier if quote.multiplier is None else quote.multiplier


_SOURCES = tuple(CostSource)
"""From the best known to the least."""


@record(frozen=True, slots=True)
class _Priced:
    """What one call cost, how that is known, and what was believed of its answer; why, if it was refused."""

    job: Job
    cost: Views
    source: CostSource
    reading: Reading
    charged_for: str | None = None


def _price(quote: Quote, part: PartReading, multiplier: Fraction) -> _Priced:
    if part.charged_for is not None:
        return _charged(quote, part.charged_for, part.reading, multiplier)
    return _answered(quote, part.reading, multiplier)


def _answered(quote: Quote, reading: Reading, multiplier: Fraction) -> _Priced:
    weighed = believed(quote, reading)
    if _is_unknown(quote, weighed.reading):
        return _Priced(quote.job, quote.worst, PRESUMED, weighed.reading)
    amounts, source = cost(quote, weighed, multiplier)
    return _Priced(quote.job, amounts, source, weighed.reading)


def _charges(quote: Quote, failure: UpstreamFailure, multiplier: Fraction) -> list[_Priced]:
    """What the refusals cost that a failure stands for."""
    refused = [
        each
        for each in (failure, *failure.others)
        if each.charged_for is not None and each.outcome is not Outcome.UNKNOWN
    ]
    less, more = divmod(quote.job.n, quote.calls)
    found: list[_Priced] = []
    for each in refused:  # nobody tells which calls they were: those that are presumed are the largest
        presumed = sum(one.source is PRESUMED for one in found)
        own = quote if quote.calls == 1 else _share(quote, less + (presumed < more), multiplier)
        found.append(_charged(own, each.charged_for or "", each.reading or Reading(), multiplier))
    return found


def _charged(quote: Quote, word: str, said: Reading, multiplier: Fraction) -> _Priced:
    """What a refusal of this kind costs; `quote` is that of its call alone.

    A bill that was told counts whatever the row says. Without one a view costs what was announced, or the price of an
    image, where its row charges for such; and what a bill would say that is missing, or cannot be believed, nobody
    knows.
    """
    one, charges = replace(quote, job=replace(quote.job, n=1)), word in quote.route_price.charged_for
    if said.announced and (said.units is not None or is_metered(quote.route_price, said)):
        said = replace(said, reported=None, announced=False)
    weighed = believed(one, said)
    reading, (amounts, source) = weighed.reading, cost(one, weighed, multiplier)
    official = amounts.official if word in quote.official_price.charged_for else 0
    metered = is_metered(quote.route_price, reading)
    if not (charges or metered or _tells_bill(said)) or (reading.units == 0 and not metered):
        return _Priced(one.job, Views(official, 0, 0), CostSource.REPORTED, reading, word)
    if reading.reported is None and not metered and (_tells_bill(said) or _would_tell(quote, reading)):
        return _Priced(quote.job, quote.worst, PRESUMED, reading)
    if not charges:
        source = CostSource.REPORTED  # by the provider's word alone, which no other row would change
    elif said.announced or (source is CostSource.USAGE and reading == Reading()):
        source = CostSource.ESTIMATE  # it said nothing of its cost: that it costs this is our own reading of the row
    return _Priced(one.job, replace(amounts, official=official), source, reading, word)


def _tells_bill(reading: Reading) -> bool:
    """Tell whether a reading says what work that failed is billed; what was announced at its beginning is no bill."""
    return reading.units is not None or (reading.reported is not None and not reading.announced)


def _would_tell(quote: Quote, reading: Reading) -> bool:
    """Tell whether what a refusal costs is told where it costs anything: here no amount was."""
    price = quote.route_price
    if price.tokens is not None and reading.usage is not None:
        return False
    metered = price.seconds or price.units or price.reported_unit or price.tokens
    return metered is not None or quote.route.provider.profile.reported is not None


def _total(priced: Sequence[_Priced], multiplier: Fraction) -> Views:
    if len(priced) == 1:
        return priced[0].cost
    return _in_all([each.cost for each in priced], multiplier)


def _in_all(costs: Sequence[Views], multiplier: Fraction) -> Views:
    """Costs of several calls together: what a project is charged is rounded up once."""
    return pricing.views(sum(each.official for each in costs), sum(each.route for each in costs), multiplier)


def _source(priced: Sequence[_Priced]) -> CostSource:
    return max((each.source for each in priced), key=_SOURCES.index)


def _share(quote: Quote, n: int, multiplier: Fraction, calls: int = 1) -> Quote:
    """The quote of some of several calls, which make `n` of the images and do not stream: fees go by calls."""

    def share(most: int, price: Price) -> int:
        fee = min(pricing.fee_of_call(price), most // quote.calls)
        return min(most, calls * fee - (-(most - quote.calls * fee) * n // quote.job.n))

    official, route = share(quote.worst.official, quote.official_price), share(quote.worst.route, quote.route_price)
    worst = pricing.views(official, route, multiplier)
    return replace(quote, job=replace(quote.job, n=n, stream=False, partial_images=0), worst=worst)


def _calls(quote: Quote, priced: Sequence[_Priced]) -> dict[str, object]:
    """What the record says of calls: how many, the refusals charged, and the images of unknown outcome."""
    facts = _refusals(priced)
    if quote.calls == 1:
        return facts
    unknown = sum(each.job.n for each in priced if each.source is PRESUMED)
    return facts | {"calls": quote.calls} | ({"unknown_images": unknown} if unknown else {})


def _refusals(priced: Sequence[_Priced]) -> dict[str, object]:
    """What the record says of refusals that cost something, with their own tokens if all of them counted some."""
    refused = _charged_for(priced)
    if not refused:
        return {}
    tokens = _added(refused)
    counted = {} if tokens is None else {"charged_tokens": asdict(tokens)}
    return {"charged_for": refused[0].charged_for, "charged_calls": len(refused), **counted}


def _charged_for(priced: Sequence[_Priced]) -> list[_Priced]:
    return [each for each in priced if each.charged_for is not None and each.cost.route]


def _usage(priced: Sequence[_Priced]) -> Usage | None:
    """The tokens of all calls that are billed; None where an answer named none. Of refusals all count, or none."""
    answered = [each for each in priced if each.source is not PRESUMED and each.charged_for is None]
    refused = _charged_for(priced)
    return _added(answered if _added(refused) is None else [*answered, *refused])


def _added(priced: Sequence[_Priced]) -> Usage | None:
    usages = [each.reading.usage for each in priced if each.reading.usage is not None]
    return reduce(add, usages) if usages and len(usages) == len(priced) else None


def _is_unknown(quote: Quote, reading: Reading) -> bool:
    """Tell whether work may have been billed that the answer says nothing of; a stream tells image by image."""
    missing = quote.job.stream and reading.images < quote.job.n
    silent = reading.usage is None and reading.reported is None and not is_metered(quote.route_price, reading)
    return missing or (silent and not (reading.complete and reading.images))


def _facts(reading: Reading, upstream_request_id: str | None, seconds: float | None) -> dict[str, object]:
    facts: dict[str, object] = {}
    if reading.size is not None:
        facts["size"] = reading.size
    if reading.quality is not None:
        facts["quality"] = reading.quality
    if reading.output_format is not None:
        facts["output_format"] = reading.output_format
    if reading.usage_problem is not None:
        facts["usage_problem"] = reading.usage_problem
    if reading.error is not None:
        facts["error"] = reading.error
    facts["complete"] = reading.complete
    if upstream_request_id is not None:
        facts["upstream_request_id"] = upstream_request_id
    if seconds is not None:
        facts["seconds"] = round(seconds * 1000) / 1000  # in half the time of `round(seconds, 3)`
    if reading.seconds is not None:
        facts["billed_seconds"] = str(reading.seconds)
    if reading.units is not None:
        facts["billed_units"] = str(reading.units)
    return facts

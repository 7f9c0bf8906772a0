"""Responses settle: what a conversation's response cost: the text model by its usage, the image tool by its own.

Whatever part says nothing that can be believed is counted at its most, and the record says which part that was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from gateway.domain import pricing
from gateway.domain.costing import ABSURD, as_made
from gateway.domain.job import Size
from gateway.domain.output_tokens import output_tokens
from gateway.domain.price import Bills, Price
from gateway.domain.responses import ENDED, Said, TextTerms
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import CostSource, Reading, Settlement
from gateway.steps import settle as images_alone


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
    """Return the settlement of any answer that was read as far as it came: of a response, or of images alone."""
    if quote.text is None:
        return images_alone.settle(
            request_id,
            attempt,
            quote,
            reading,
            multiplier,
            upstream_request_id=upstream_request_id,
            seconds=seconds,
        )
    said = reading.said or Said()
    told: dict[str, object] = {
        "response": said.id,
        "status": said.status,
        "error": reading.error,
        "size": reading.size,
        "quality": reading.quality,
        "upstream_request_id": upstream_request_id,
        "seconds": None if seconds is None else round(seconds, 3),
        **_told_of_text(quote.text, said),
    }
    if not reading.complete or said.status not in ENDED:
        cost, source, usage = quote.worst, CostSource.PRESUMED, None
        told["text_nano_usd"] = quote.text.worst
    else:
        cost, told["text_nano_usd"], estimated = _cost(quote, quote.text, reading, said, multiplier)
        told["estimated"] = ", ".join(estimated) or None
        source, usage = CostSource.ESTIMATE if estimated else CostSource.USAGE, reading.usage
    facts = {name: value for name, value in told.items() if value is not None}
    return Settlement(request_id, attempt, cost, source, reading.images, usage, facts)


def _cost(
    quote: Quote, terms: TextTerms, reading: Reading, said: Said, multiplier: Fraction
) -> tuple[Views, int, Sequence[str]]:
    """What a response cost that has ended, its text model's part in nano-USD, and what of it had to be estimated."""
    estimated = []
    text = terms.worst if said.text is None else terms.cost(said.text)
    if said.text is None or text > ABSURD * terms.worst:
        text, estimated = terms.worst, ["text"]
    known = _believed(quote, reading)
    silent = said.status != "completed" and said.text is None and reading.usage is None
    calls = max(said.calls, quote.job.n) if silent else said.calls  # what broke off need not list what it began
    rows: list[int] = []
    for row in (quote.official_price, quote.route_price):
        cost = 0 if not calls and reading.usage is None else None if silent else _of_images(quote, row, known, said)
        if cost is None:
            estimated = [*estimated, "images"] if "images" not in estimated else estimated
            cost = _most(quote, row, max(calls, 1))
        rows.append(cost)
    return pricing.views(rows[0] + text, rows[1] + text, multiplier), text, estimated


def _of_images(quote: Quote, row: Price, known: Reading, said: Said) -> int | None:
    """What the tool's images cost by a row; where it counts no tokens, each by the size and quality it says it has."""
    model = quote.route.model
    if row.tokens is not None or not said.made:
        return pricing.cost_of_work(replace(quote.job, n=max(said.calls, 1)), row, model, known)
    every = [replace(known, images=1, size=size, quality=quality) for size, quality in said.made]
    if row.bills is Bills.REQUESTED:
        every += [replace(known, images=1, size=None, quality=None)] * (said.calls - len(every))
    costs = [pricing.cost_of_work(replace(as_made(quote, each), n=1), row, model, each) for each in every]
    return None if None in costs else sum(cost for cost in costs if cost is not None)


def _believed(quote: Quote, reading: Reading) -> Reading:
    """The reading without usage that nobody would bill, or that leaves out an image: the vendor may skip calls."""
    rows, top = (quote.official_price, quote.route_price), ABSURD * max(quote.worst.official, quote.worst.route)
    usage = reading.usage
    if usage is None:
        return reading
    absurd = any(row.tokens and pricing.cost_of_usage(usage, row.tokens) > top for row in rows)
    return replace(reading, usage=None) if absurd or usage.image_out < _least(quote, reading) else reading


def _least(quote: Quote, reading: Reading) -> int:
    """The fewest tokens that images of which there are several take together, by what is told of each."""
    made = reading.said.made if reading.said is not None else ()
    if len(made) < 2:  # noqa: PLR2004 - usage that leaves out the only one is none at all
        return 0
    qualities, total = quote.route.capabilities.quality, 0
    for said_size, said_quality in made:
        size, quality = Size.parse(said_size or quote.job.size), said_quality or quote.job.quality
        if size is not None and quality in qualities:
            total += output_tokens(quote.route.model, (size,), (quality,))
    return total


def _most(quote: Quote, row: Price, calls: int) -> int:
    """The most that so many calls of the tool cost."""
    qualities = quote.route.capabilities.quality
    one = pricing.worst_case(replace(quote.job, n=1), quote.route.model, row, sizes=(), qualities=qualities)
    return calls * one


def _told_of_text(terms: TextTerms, said: Said) -> dict[str, object]:
    used = said.text
    tokens = None
    if used is not None:
        tokens = {"in": used.tokens_in, "cached": used.cached, "written": used.written, "out": used.tokens_out}
    searches = said.searches or None
    return {"text_model": terms.model, "text_tokens": tokens, "text_problem": said.problem, "web_searches": searches}

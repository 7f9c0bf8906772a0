"""Terms: what settling a response later takes, as it lies in the store while its work goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from datetime import date
from fractions import Fraction
from typing import Any

from gateway.domain.job import Job, Operation
from gateway.domain.policy import Policy
from gateway.domain.price import Price
from gateway.domain.price_record import prices_of, records_of
from gateway.domain.responses import TextPrice, TextRates, TextTerms
from gateway.domain.route import Quote, Route, Views
from gateway.domain.trial import Arm
from gateway.observe.event import NONE
from gateway.ports.responses import Remembered


def followed(
    response: Remembered,
    attempt: int,
    quote: Quote,
    multiplier: Fraction,
    arm: Arm | None = None,
    *,
    upstream_request_id: str | None = None,
    counted: bool = False,
) -> Remembered:
    """Return a response with what settling it later takes; `upstream_request_id` as the answer that began it said.

    `counted` tells that its call counts already.
    """
    terms = terms_of(attempt, quote, multiplier, arm)
    return replace(response, terms={**terms, "upstream_request_id": upstream_request_id, "counted": counted})


def terms_of(attempt: int, quote: Quote, multiplier: Fraction, arm: Arm | None = None) -> dict[str, object]:
    """Return what settling a quote's call later takes, and telling of it, as JSON values."""
    text, job = quote.text, quote.job
    assert text is not None
    price, rates = text.price, text.price.rates
    return {
        "attempt": attempt,
        "route": quote.route.name,
        "model": quote.route.model.name,
        "job": [job.n, job.size, job.quality, job.references, job.mask, job.partial_images, job.prompt_bytes],
        "prices": [quote.official_price.valid_from.isoformat(), quote.route_price.valid_from.isoformat()],
        "rows": records_of(quote.official_price, quote.route_price),
        "text": [text.model, text.most_in, text.most_out, rates.text_in, rates.text_in_cached, rates.text_out],
        "rates": [astuple(rates), price.above, price.long and astuple(price.long)],
        "worst": [quote.worst.official, quote.worst.route, quote.worst.internal],
        "multiplier": str(multiplier),
        "since": time.time(),
        "arm": [arm.experiment, arm.name] if arm else [NONE, NONE],
    }


def quote_of(terms: Mapping[str, Any], policy: Policy) -> Quote | None:
    """Return the quote again; None where policy has its model no more, or not the prices of an older version.

    Its prices are with it, so any route of its model tells the rest where its own was renamed.
    """
    route = _route_of(terms, policy)
    if route is None:
        return None
    official, own = prices_of(terms["rows"]) if "rows" in terms else _dated(route, terms["prices"])
    if official is None or own is None:
        return None
    n, size, quality, references, mask, partial, prompt = terms["job"]
    name, most_in, most_out, *older = terms["text"]
    job = Job(
        Operation.RESPOND,
        None,
        1,
        prompt,
        n=n,
        size=size,
        quality=quality,
        references=references,
        mask=mask,
        partial_images=partial,
    )
    text = TextTerms(name, _text_price(terms.get("rates"), older), most_in, most_out)
    return Quote(route, job, {}, Views(*terms["worst"]), official, own, text=text)


def _route_of(terms: Mapping[str, Any], policy: Policy) -> Route | None:
    own, others = policy.routes.get(terms["route"]), policy.routes.values() if "rows" in terms else ()
    every = [own, own.successor, *others] if own is not None else [*others]
    return next((route for route in every if route is not None and route.model.name == terms["model"]), None)


def _text_price(told: Sequence[Any] | None, older: Sequence[int]) -> TextPrice:
    """The text model's prices; `older` is all that a version knew which had one price for what is read."""
    if told is None:
        text_in, cached, text_out = older
        return TextPrice(date.min, "", TextRates(text_in, cached, text_in, text_out))
    rates, above, long = told
    return TextPrice(date.min, "", TextRates(*rates), above, long and TextRates(*long))


def _dated(route: Route, days: Sequence[str]) -> Sequence[Price | None]:
    """The vendor's row of policy and the route's that are valid from these days: older versions kept no more."""
    every = (route.model.prices, route.prices or route.model.prices)
    return [
        next((row for row in rows if row.valid_from.isoformat() == day), None)
        for rows, day in zip(every, days, strict=True)
    ]

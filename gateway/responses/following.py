"""Following: responses whose work goes on at their provider are looked at until they have ended, and settled then.

Each process follows its own; those of one that died are taken over by others. What is needed to settle lies in
the store, so it makes no difference who does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import date
from fractions import Fraction
from typing import Any

from gateway.domain.job import Job, Operation
from gateway.domain.policy import Policy
from gateway.domain.price import Price
from gateway.domain.price_record import prices_of, records_of
from gateway.domain.responses import ENDED, TextPrice, TextRates, TextTerms
from gateway.domain.route import Quote, Route, Views
from gateway.domain.settlement import CostSource, Reading, Settlement, SettleResult
from gateway.domain.trial import Arm
from gateway.observe.event import NONE, HoldEnded, Observer
from gateway.ports import LedgerUnavailable, Settlements
from gateway.ports.provider import UpstreamFailure
from gateway.ports.responses import Passages, Remembered, Responses
from gateway.responses.settle import settle

log = logging.getLogger(__name__)

FIRST, LONGEST = 0.5, 5.0
"""Seconds before the first look and between two looks; they grow from one to the other."""
GROWTH = 1.4
AT_ONCE = 20
"""Looks under way."""
TICK = 0.25
PATIENCE = 24 * 3600.0
"""Seconds after which work that does not end is booked at its worst case."""
NOT_FOUND = 404
FORGOTTEN = 60.0
"""Seconds before an account that does not know a response is believed: one just made may not be everywhere yet."""
AGAIN = 1.0
"""Seconds between the tries to have the store remember responses that it could not be told of."""
MOST_UNTOLD = 10_000
"""Responses kept for that; what comes beyond them takes the place of the oldest."""


@dataclass(slots=True)
class _Following:
    response: Remembered
    due: float
    pause: float = FIRST
    looking: bool = False


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


@dataclass(slots=True)
class Follower:
    """Follows responses. One instance per process; `silence` is seconds after which others take over."""

    responses: Responses
    passages: Passages
    settlements: Settlements
    observer: Observer
    policy: Callable[[], Policy]
    silence: float = 30.0
    _mine: dict[str, _Following] = field(default_factory=dict)
    _looks: set[asyncio.Task[None]] = field(default_factory=set)
    untold: dict[str, Remembered] = field(default_factory=dict)
    """What the store could not be told of, oldest first: their clients have the ids and will ask for them."""

    def follow(self, response: Remembered) -> None:
        """Follow a response from now on."""
        self._mine[response.id] = _Following(response, time.monotonic() + FIRST)

    def tell_later(self, response: Remembered) -> None:
        """Have the store remember a response as soon as it answers again."""
        self.untold[response.id] = response
        if len(self.untold) > MOST_UNTOLD:
            del self.untold[next(iter(self.untold))]

    async def run(self) -> None:
        """Look at what is due, tell the store, and take over from others, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look())
                group.create_task(self._keep())
                group.create_task(self._tell())
        finally:
            for look in self._looks:
                look.cancel()
            await asyncio.gather(*self._looks, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            due = [each for each in self._mine.values() if each.due <= now and not each.looking]
            for each in due[: max(AT_ONCE - len(self._looks), 0)]:
                each.looking = True
                look = asyncio.create_task(self._see_to(each))
                self._looks.add(look)
                look.add_done_callback(self._looked)

    def _looked(self, look: asyncio.Task[None]) -> None:
        self._looks.discard(look)
        if not look.cancelled() and (error := look.exception()) is not None:
            log.error("a response could not be looked at", exc_info=error)

    async def _keep(self) -> None:
        while True:
            try:
                await self.responses.keep(list(self._mine))
                for response in await self.responses.lapsed(AT_ONCE):
                    self.follow(response)
            except LedgerUnavailable as error:
                log.warning("responses are followed without the store: %s", error)
            await asyncio.sleep(self.silence / 6 * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not a secret

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(AGAIN)
            with contextlib.suppress(LedgerUnavailable):
                for response in list(self.untold.values()):
                    await remember(self.responses, response)
                    if self.untold.get(response.id) is response:
                        del self.untold[response.id]

    async def _see_to(self, each: _Following) -> None:
        try:
            reading = await self._reading(each)
            if reading is not None:
                await self._settle(each.response, reading)
        finally:
            each.looking = False
            each.pause = min(each.pause * GROWTH, LONGEST)
            each.due = time.monotonic() + each.pause * random.uniform(0.8, 1.0)  # noqa: S311 - jitter, not a secret

    async def _reading(self, each: _Following) -> Reading | None:
        """Return what is to be settled by; None while the work goes on."""
        response = each.response
        assert response.terms is not None
        since = response.terms["since"]
        age = time.time() - since if isinstance(since, float) else 0.0
        over = age > PATIENCE
        try:
            reading = await self.passages.look(response.provider, response.id)
        except UpstreamFailure as failure:
            return Reading() if over or (failure.status == NOT_FOUND and age > FORGOTTEN) else None
        return reading if over or _has_ended(reading) else None

    async def settle_if_ended(self, response: Remembered) -> None:
        """Settle a response by what its account says of it now, if it has ended; else nothing changes."""
        with contextlib.suppress(UpstreamFailure):
            reading = await self.passages.look(response.provider, response.id)
            if _has_ended(reading):
                await self._settle(response, reading)

    async def _settle(self, response: Remembered, reading: Reading) -> None:
        terms: Mapping[str, Any] = response.terms or {}
        quote, (experiment, arm) = quote_of(terms, self.policy()), terms.get("arm", (NONE, NONE))
        own_id = terms.get("upstream_request_id")
        if quote is None:
            worst = Views(*terms["worst"])
            facts: dict[str, object] = {"reason": "route_gone", "response": response.id}
            facts |= {"upstream_request_id": own_id} if own_id else {}
            settlement = Settlement(response.request_id, terms["attempt"], worst, CostSource.PRESUMED, 0, None, facts)
        else:
            multiplier = Fraction(terms["multiplier"])
            settlement = settle(
                response.request_id, terms["attempt"], quote, reading, multiplier, upstream_request_id=own_id
            )
        if await self.settlements.settle(settlement) in (SettleResult.DONE, None):
            self.observer.emit(
                HoldEnded(
                    project=response.project,
                    job_type=response.job_type,
                    route=terms["route"],
                    quality=str(settlement.facts.get("quality") or terms["job"][2]),
                    cost=settlement.cost,
                    estimate=Views(*terms["worst"]),
                    source=settlement.source,
                    images=settlement.images,
                    usage=settlement.usage,
                    experiment=experiment,
                    arm=arm,
                )
            )
        self._mine.pop(response.id, None)
        try:
            await self.responses.done(response.id)
        except LedgerUnavailable as error:
            log.warning("response %s will be looked at again: %s", response.id, error)


def _has_ended(reading: Reading) -> bool:
    """Tell whether nothing more is to be learned: also of what is too long to be read, which is booked at its most."""
    ended = reading.unread or (reading.said is not None and reading.said.status in ENDED)
    return reading.complete and ended


async def remember(responses: Responses, response: Remembered) -> None:
    """Have the store remember a response; raises LedgerUnavailable."""
    if not await responses.remember(response):
        log.error("response %s is another project's already, or has no usable id", response.id)


def followed(
    response: Remembered,
    attempt: int,
    quote: Quote,
    multiplier: Fraction,
    arm: Arm | None = None,
    *,
    upstream_request_id: str | None = None,
) -> Remembered:
    """Return a response with what settling it later takes; `upstream_request_id` as the answer that began it said."""
    terms = terms_of(attempt, quote, multiplier, arm)
    return replace(response, terms={**terms, "upstream_request_id": upstream_request_id})

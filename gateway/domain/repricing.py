"""Repricing: what recorded work would have cost under another catalog and policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from fractions import Fraction
from typing import Any, Protocol

from gateway.domain import pricing
from gateway.domain.about import job_of
from gateway.domain.batch import batch_prices
from gateway.domain.job import AUTO, Job, Operation, Size
from gateway.domain.policy import Policy
from gateway.domain.price import Price
from gateway.domain.pricing import NoPrice
from gateway.domain.recorded_calls import answered_tokens, recorded_calls
from gateway.domain.responses import TextTerms, TextUsage
from gateway.domain.route import NOTHING, Model, Views
from gateway.domain.settlement import CostSource, Reading, Usage
from gateway.domain.spend import ADJUST, GIVEN_BACK, AttemptKey, Spent, attempt_of, is_booking, presumes

_TOKENS = frozenset(field.name for field in fields(Usage))


class Priced(Spent, Protocol):
    """What repricing needs of an entry besides. `size` and `quality` are the answer's, if it said."""

    @property
    def project(self) -> str:
        """Whose."""

    @property
    def route(self) -> str:
        """The route's name."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def operation(self) -> str:
        """What was done."""

    @property
    def n(self) -> int:
        """How many images were asked for."""

    @property
    def size(self) -> str:
        """`WIDTHxHEIGHT` or `auto`."""

    @property
    def quality(self) -> str:
        """A quality or `auto`."""

    @property
    def usage(self) -> Mapping[str, int] | None:
        """Tokens that the provider reported, by their names in `Usage`."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was sent: its size and quality after policy's defaults."""

    @property
    def answer(self) -> Mapping[str, Any]:
        """What the provider's answer said."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What applies to an entry under the other policy: the model, the official price and the route's."""

    model: Model
    qualities: tuple[str, ...]
    official: Price
    route: Price


@dataclass(slots=True)
class _State:
    """An attempt as far as its entries were seen: what is booked, and what it comes to under the other policy."""

    day: date
    booked: Views
    repriced: Views


class Repricer:
    """Prices entries, oldest first, by another policy.

    Usage that was reported is priced at the rates in force on the day it was booked; work without it at the estimate by
    size, quality and images, and what is presumed at the worst case of what was asked for. What an invoice changed
    changes in the same proportion. What went by batch goes by the price of a batch there: by the account's terms, or by
    those on record where it has none. A conversation is priced by what both of its models used. An entry that cannot be
    priced there keeps what was booked, and is counted.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._attempts: dict[AttemptKey, _State] = {}
        self.kept_requests = 0
        self.kept_corrections = 0

    def cost(self, entry: Priced) -> Views:
        """Return what the entry adds under the other policy, nano-USD."""
        key = attempt_of(entry)
        state = self._attempts.get(key)
        if not is_booking(entry) and state is None:
            self.kept_corrections += 1  # what it corrects was booked before the period, or cannot be priced
            return entry.cost
        day = state.day if state else entry.time.date()
        booked = state.booked + entry.cost if state else entry.cost
        repriced = self._truth(entry, state, booked, day)
        if repriced is None:
            self._attempts.pop(key, None)
            self._keep(entry)
            return entry.cost
        self._attempts[key] = _State(day, booked, repriced)
        return repriced - state.repriced if state else repriced

    def price(self, entry: Priced) -> Views | None:
        """Return what a booking comes to by itself, nano-USD; None if it cannot be said."""
        return self._by_policy(entry, entry.cost, entry.time.date())

    def _truth(self, entry: Priced, state: _State | None, booked: Views, day: date) -> Views | None:
        """What the whole attempt comes to once this entry is in; None if that cannot be said."""
        if state is not None and entry.kind == ADJUST:
            if state.booked.route == 0:
                return None if booked.route else state.repriced
            return state.repriced.times(Fraction(booked.route, state.booked.route))
        if entry.source == GIVEN_BACK:
            return NOTHING
        return self._by_policy(entry, booked, day)

    def _by_policy(self, entry: Priced, booked: Views, day: date) -> Views | None:
        if entry.source == CostSource.INVOICE:
            return None  # a refusal that was billed after all: no row says at what
        try:
            rates = self._rates(entry, day)
        except NoPrice:
            return None
        if rates is None:
            return None
        text = _text(entry, self._policy, day)
        if text is None or _is_uncounted(entry, rates):
            return None
        reported = entry.source == CostSource.REPORTED
        official = text + _of_images(entry, rates, rates.official, likely=reported)
        route = text + _of_images(entry, rates, rates.route)
        if reported and entry.route in self._policy.routes:
            route = booked.route  # what the provider itself reported holds by any catalog
        return pricing.views(official, route, self._multiplier(entry.project, booked))

    def _rates(self, entry: Priced, day: date) -> Rates | None:
        if entry.operation == Operation.PASSTHROUGH:
            return None
        route = self._policy.routes.get(entry.route)
        if route is not None:
            official, own = pricing.prices_of(route, day)
            if "batch" in entry.facts:
                terms = route.provider.batch
                factor = terms.multiplier if terms else Fraction(str(entry.facts["batch"]))
                official, own = batch_prices(official, own, factor)
            return Rates(route.model, route.capabilities.quality, official, own)
        model = self._policy.models.get(entry.model)
        if model is None:
            return None
        official = pricing.price_on(model.prices, day)
        if "batch" in entry.facts:
            official, _ = batch_prices(official, official, Fraction(str(entry.facts["batch"])))
        return Rates(model, model.capabilities.quality, official, official)

    def _multiplier(self, project: str, booked: Views) -> Fraction:
        """The project's; one that is not there keeps the ratio at which it was charged."""
        if project in self._policy.projects:
            return self._policy.projects[project].multiplier
        return Fraction(booked.internal, booked.route) if booked.route > 0 else Fraction(1)

    def _keep(self, entry: Priced) -> None:
        if is_booking(entry):
            self.kept_requests += 1
        else:
            self.kept_corrections += 1


def _text(entry: Priced, policy: Policy, day: date) -> int | None:
    """What a conversation's text model cost, nano-USD; 0 for all else, None where the record or policy does not say."""
    if entry.operation != Operation.RESPOND:
        return 0
    answer = entry.answer
    model, said = policy.text_models.get(str(answer.get("text_model"))), answer.get("text_tokens")
    price = model.price_on(day) if model else None
    if model is None or price is None or not isinstance(said, Mapping) or answer.get("estimated"):
        return None
    used = TextUsage(int(said["in"]), int(said["cached"]), int(said["out"]), int(said.get("written", 0)))
    return TextTerms(model.name, price, 0, 0).cost(used)


def _of_images(entry: Priced, rates: Rates, price: Price, *, likely: bool = False) -> int:
    """What the images cost; a conversation may have made none. `likely`: tokens nobody counted, as they usually are."""
    spoke_alone = entry.operation == Operation.RESPOND and not entry.images and entry.usage is None
    return 0 if spoke_alone else _cost(entry, rates, price, likely=likely)


def _cost(entry: Priced, rates: Rates, price: Price, *, likely: bool) -> int:
    asked = _asked(entry)
    made = replace(asked, size=entry.size) if Size.parse(entry.size) else asked
    made = replace(made, quality=entry.quality) if entry.quality not in ("", AUTO) else made
    calls = recorded_calls(asked.n, entry.images if is_booking(entry) else 0, entry.facts, entry.answer)
    said = answered_tokens(entry.usage, entry.answer)
    charges, unknown = _charges(entry, asked, rates, price), calls.unknown_images
    if calls.refused and not (unknown or entry.images or said):
        return charges
    if presumes(entry) and not 0 < unknown < asked.n:
        return _worst(asked, rates, price, calls.every)
    answered = lost = 0
    if entry.images or said or not unknown:  # else of several calls all others were refused
        made, own = replace(made, n=calls.asked), replace(asked, n=calls.asked)
        answered = _known(entry, made, own, rates, price, calls=calls.answered, likely=likely)
    if unknown:
        lost = _worst(replace(asked, n=unknown, stream=False, partial_images=0), rates, price, calls.unknown)
    return charges + answered + lost


def _is_uncounted(entry: Priced, rates: Rates) -> bool:
    """Tell whether refusals were booked by their tokens, which earlier versions did not write down."""
    counted = bool(entry.answer.get("charged_for")) and entry.source == CostSource.USAGE
    return counted and rates.route.tokens is not None and "charged_tokens" not in entry.answer


def _charges(entry: Priced, asked: Job, rates: Rates, price: Price) -> int:
    """What refusals cost that were charged, by a row that charges for such: their tokens, else an image each."""
    if entry.answer.get("charged_for") not in price.charged_for:
        return 0
    one, calls = replace(asked, n=1), int(entry.answer.get("charged_calls") or 1)
    tokens = entry.answer.get("charged_tokens")
    if tokens is not None and price.tokens is not None:
        counted = Reading(usage=Usage(**tokens)), *[Reading(usage=Usage())] * (calls - 1)  # each call has its fee
        return sum(pricing.cost_of_work(one, price, rates.model, each) or 0 for each in counted)
    case = pricing.usual_case if price.tokens is None else pricing.worst_case
    return calls * case(one, rates.model, price, sizes=(), qualities=rates.qualities)


def _known(entry: Priced, made: Job, asked: Job, rates: Rates, price: Price, *, calls: int, likely: bool) -> int:
    """What answers to so many calls cost, by what they say was made of what was asked for."""
    said = answered_tokens(entry.usage, entry.answer)
    reading = Reading(
        images=entry.images,
        usage=None if said is None else Usage(**{name: said[name] for name in said.keys() & _TOKENS}),
        seconds=_count(entry.answer.get("billed_seconds")),
        units=_count(entry.answer.get("billed_units")),
    )
    known, own = (pricing.cost_of_work(made, row, rates.model, reading) for row in (price, rates.route))
    if known is not None:
        told = price.reported_unit is not None and reading.units is not None  # fees and all
        return known if told else known + _more_fees(price, calls)
    most = _worst(asked, rates, price, calls)
    if price.tokens is not None and not likely and own is None:
        return min(_worst(made, rates, price, calls), most)
    usual = pricing.usual_case(
        replace(made, n=entry.images or asked.n), rates.model, price, sizes=(), qualities=rates.qualities
    )
    return min(usual + _more_fees(price, calls), most)


def _more_fees(price: Price, calls: int) -> int:
    """The fees of all calls but the first."""
    return (calls - 1) * pricing.fee_of_call(price)


def _count(recorded: object) -> Fraction | None:
    """Return a count as it was recorded, `7/2` or `3`; None if there is none."""
    return Fraction(recorded) if isinstance(recorded, str) else None


def _worst(job: Job, rates: Rates, price: Price, calls: int) -> int:
    one = pricing.worst_case(job, rates.model, price, sizes=(), qualities=rates.qualities)
    return one + _more_fees(price, calls)


def _asked(entry: Priced) -> Job:
    """The job as it was sent, as far as its record goes."""
    about, facts = entry.about, entry.facts
    size, quality = (str(facts.get(name) or about.get(name) or AUTO) for name in ("size", "quality"))
    return replace(job_of(about, entry.operation), n=max(entry.n, 1), size=size, quality=quality)

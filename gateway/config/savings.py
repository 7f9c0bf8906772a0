"""What requests of a job type may cost on each rung of its ladder, asked of the very step that prices real ones."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from itertools import product

from gateway.config.ability import faces
from gateway.config.samples import Sample, samples
from gateway.domain import pricing
from gateway.domain.errors import InvalidRequest
from gateway.domain.job import Job
from gateway.domain.ladder import Rung, rungs
from gateway.domain.offer import Offer
from gateway.domain.policy import JobType, Order, Project
from gateway.domain.route import Route
from gateway.domain.trial import PRODUCTION
from gateway.steps.classify import MAX_N
from gateway.steps.price import offers, price

_ANYBODY = Project(name="anybody", job_types=(), default_job_type=None, lanes=frozenset({"production", "testing"}))
_BYTES_PER_CHAR = 4
_MOST_PRICED = 10_000
_MOST_ASKED = 30_000
"""Prices worked out, and asked for, to answer one question: a policy of many routes is read in seconds all the same."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A route on a rung of the ladder."""

    rung: Rung
    route: Route

    def images(self, offer: Offer, job: Job, n: int) -> int | None:
        """Return how many images are made where n are asked for; None if the route makes none of so many."""
        most = self.rung.fields.get("n", n)
        n = min(n, int(most))
        route = offer.quote.route
        limits = (route.limits.images_per_minute, route.provider.limits.images_per_minute)
        too_many = any(limit is not None and n > limit for limit in limits)
        return None if too_many or (job.partial_images and n > offer.per_call) else n


def saves(job_type: JobType, before: Rung, after: Rung) -> bool | None:
    """Tell whether any request could cost less after than before; None if that cannot be told.

    Which route serves rests on what fails, what it may cost and what the client asks for: each route that may serve
    before is compared with each that may serve after in its place. Days past and to come are asked too, so that the
    answer does not change because a date passes.
    """
    before, after = _with_trials(job_type, before, after)
    prices, told = _Prices(job_type), False
    for was, becomes in _pairs(before, after):
        if was.route.name == becomes.route.name and before.fields == after.fields:
            told = True
            continue
        asked = samples(job_type, (was.route, becomes.route))
        for sample, day in product(asked, prices.days(was.route, becomes.route)):
            found = prices.compared(was, becomes, sample, day)
            if found or prices.used_up:
                return found or None
            told = told or found is not None
    return False if told else None


def least_above(job_type: JobType, limit: int) -> Fraction | None:
    """Return what the cheapest image may cost, nano-USD, if that is above the limit.

    None if one is within it, on whichever rung and in whichever arm of an experiment, or if that cannot be told.
    """
    prices, least = _Prices(job_type), None
    trials = job_type.experiment.routes if job_type.experiment else ()
    places = [_Place(rung, route) for rung in rungs(job_type) for route in (*rung.routes, *trials)]
    for place in places:
        dearest_first = samples(job_type, (place.route,), plain=True)
        for sample, day in product(reversed(list(dearest_first)), prices.days(place.route)):
            each = prices.least(place, sample, day)
            if prices.used_up or (each is not None and each <= limit):
                return None
            least = each if least is None or (each is not None and each < least) else least
    return least


def cost(job_type: JobType, rung: Rung, job: Job, day: date) -> Fraction | None:
    """Return the worst case of a job, nano-USD; the mean where several routes may come first, None if none can."""
    try:
        quotes, _ = price(job, job_type, _ANYBODY, "testing", day, rung=rung)
    except InvalidRequest:
        return None
    if not quotes:
        return None
    if rung.order is Order.LISTED:
        return Fraction(quotes[0].worst.route)
    if rung.order is Order.CHEAPEST:
        return Fraction(min(quotes, key=lambda quote: quote.expected).worst.route)
    return Fraction(sum(quote.worst.route for quote in quotes), len(quotes))


def _with_trials(job_type: JobType, before: Rung, after: Rung) -> tuple[Rung, Rung]:
    """The rungs with the routes of the job type's experiment, which come first where a step names no others."""
    trials = job_type.experiment.routes if job_type.experiment else ()
    if not trials:
        return before, after
    same = after.routes == before.routes
    routes = (*trials, *(route for route in before.routes if route.name not in {trial.name for trial in trials}))
    return replace(before, routes=routes), replace(after, routes=routes) if same else after


def _pairs(before: Rung, after: Rung) -> Iterator[tuple[_Place, _Place]]:
    """Yield which route may serve after in whose place, the first choices first.

    Where both orders are the same, of two routes that either rung has the same one goes first.
    """
    first, then = [route.name for route in before.routes], [route.name for route in after.routes]
    for at, to in sorted(product(range(len(first)), range(len(then))), key=sum):
        both = {first[at], then[to]} <= {*first} & {*then}
        if first[at] != then[to] and both and before.order == after.order:
            listed = before.order is Order.LISTED
            if not listed or at > first.index(then[to]) or to > then.index(first[at]):
                continue
        yield _Place(before, before.routes[at]), _Place(after, after.routes[to])


class _Prices:
    """What routes ask for samples, worked out once for each day on which it changes."""

    def __init__(self, job_type: JobType) -> None:
        self._job_type = job_type
        self._known: dict[object, Offer | None] = {}
        self._days: dict[str, list[date]] = {}
        self._asked = 0

    @property
    def used_up(self) -> bool:
        """Whether it was asked more often than there is time for."""
        return self._asked > _MOST_ASKED or len(self._known) > _MOST_PRICED

    def days(self, *routes: Route) -> list[date]:
        """Return the days on which a price of the routes, or what serves for one of them, changes, the last first."""
        return sorted({day for route in routes for day in self._changes(route)}, reverse=True)

    def least(self, place: _Place, sample: Sample, day: date) -> Fraction | None:
        """Return the most that an image may cost in as many as make it cheapest, nano-USD; None if there is none."""
        offer = self._of(place, sample, day)
        if offer is None:
            return None
        made = (place.images(offer, sample[0], n) for n in range(1, MAX_N + 1))
        return min((Fraction(_most(offer, n, 1), n) for n in made if n is not None), default=None)

    def compared(self, was: _Place, becomes: _Place, sample: Sample, day: date) -> bool | None:
        """Tell whether such a request may cost less on the second; None if one of them cannot do it."""
        now, then = self._of(was, sample, day), self._of(becomes, sample, day)
        if now is None or then is None:
            return None
        longest = min(offer.quote.route.capabilities.prompt_chars for offer in (now, then)) * _BYTES_PER_CHAR
        job = sample[0]
        for n, prompt in product(range(1, MAX_N + 1), (1, longest)):
            made, makes = was.images(now, job, n), becomes.images(then, job, n)
            if made is None or makes is None or _most(then, makes, prompt) >= _most(now, made, prompt):
                continue
            if self._takes_over(was, becomes, sample, day):
                return True
        return False

    def _takes_over(self, was: _Place, becomes: _Place, sample: Sample, day: date) -> bool:
        """Whether the second may serve where the first did, as both rungs order them."""
        if was.route.name == becomes.route.name:
            return True
        names = [{route.name for route in place.rung.routes} for place in (was, becomes)]
        if not all({was.route.name, becomes.route.name} <= each for each in names):
            return True
        other, same = replace(was, route=becomes.route), replace(becomes, route=was.route)
        return self._goes_first(was, other, sample, day) and self._goes_first(becomes, same, sample, day)

    def _goes_first(self, one: _Place, other: _Place, sample: Sample, day: date) -> bool:
        """Whether one route of a rung may be tried before another."""
        if one.rung.order is Order.LISTED:
            listed = [route.name for route in one.rung.routes]
            return listed.index(one.route.name) < listed.index(other.route.name)
        if one.rung.order is not Order.CHEAPEST or {one.route.lane, other.route.lane} != {PRODUCTION}:
            return True
        mine, others = self._of(one, sample, day), self._of(other, sample, day)
        return (
            mine is None
            or others is None
            or any(_expected(mine, n) <= _expected(others, n) for n in range(1, MAX_N + 1))
        )

    def _of(self, place: _Place, sample: Sample, day: date) -> Offer | None:
        job, speaker = sample
        self._asked += 1
        period = bisect_right(self._changes(place.route), day)
        key = (place.route.name, tuple(place.rung.fields.items()), job, speaker.name, period)
        if key not in self._known:
            rung = replace(place.rung, routes=(place.route,))
            try:
                found, _ = offers(job, self._job_type, _ANYBODY, "testing", day, speaker=speaker, rung=rung)
            except InvalidRequest:
                found = []
            self._known[key] = found[0] if found else None
        return self._known[key]

    def _changes(self, route: Route) -> list[date]:
        if route.name not in self._days:
            models = [face.model for face in faces(route)]
            rows = [row for face in faces(route) for row in (*face.prices, *face.model.prices)]
            days = {*(row.valid_from for row in rows), *(model.retires for model in models if model.retires)}
            self._days[route.name] = sorted(days)
        return self._days[route.name]


def _most(offer: Offer, images: int, prompt_bytes: int) -> int:
    return offer.own.nano(pricing.most_text(prompt_bytes), images, offer.per_call)


def _expected(offer: Offer, images: int) -> int:
    return offer.likely.pico(pricing.likely_text(1), images, offer.per_call)

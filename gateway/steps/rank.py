"""Rank: the quotes in the order in which they are tried, under the project's policy and the client's own limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from gateway.domain import money
from gateway.domain.about import About
from gateway.domain.errors import (
    BudgetExceeded,
    Forbidden,
    GatewayError,
    InvalidRequest,
    NotFound,
    UnsupportedByEveryRoute,
)
from gateway.domain.job import JOB_PREFIX, Job, Wishes
from gateway.domain.naming import in_place_of, is_retired, model_named, serving
from gateway.domain.offer import Offer
from gateway.domain.policy import ClientModel, JobType, Order, Policy, Project
from gateway.domain.record import record
from gateway.domain.route import Model, Quote, Refusal, Route
from gateway.domain.trial import Arm
from gateway.ports.provider import Conditions

GOES_LAST = "goes last: "
"""How the reason begins for which a route was not passed over but put behind the others: it was in trouble."""
_MOST_ABLE = 5
"""Routes elsewhere that an error names at most."""


@record(frozen=True, slots=True)
class Ranked:
    """Quotes in the order to try, never empty, and why the other routes of the job type were passed over.

    Where the job type has a ladder, its rungs follow one another, each quote with the rung's range of budget use.
    """

    quotes: Sequence[Quote]
    refusals: tuple[Refusal, ...]
    arm: Arm | None = None
    """Of the job type's experiment, if the request is in it."""
    settled: bool = False
    """Whether neither chance nor how routes are doing had a say, nor a maximum cost."""
    about: About | None = field(default=None, init=False, compare=False, repr=False)
    """What the ledger's record said of the last request that came to this."""

    def keep(self, about: About) -> None:
        """Keep what the record says; it changes nothing else."""
        object.__setattr__(self, "about", about)


def check_lane(wishes: Wishes, project: Project) -> None:
    """Raise Forbidden if the client asks for a lane that its project has not."""
    if wishes.lane is not None and wishes.lane not in project.lanes:
        message = f"Lane {wishes.lane!r} is not open to project {project.name!r}: {', '.join(sorted(project.lanes))}."
        raise Forbidden(message, code="lane_not_allowed", param="X-Gateway-Lane")


@dataclass(frozen=True, slots=True)
class Named:
    """The model that the client asked for, where policy heeds it. `serving` names what serves for it, itself first."""

    text: str
    model: Model
    serving: tuple[str, ...]
    alone: bool
    retired: bool

    def means(self, route: Route) -> bool:
        """Tell whether a route is one of those that the client asked for."""
        return route.model.name in self.serving or route.upstream_model == self.text


def named(job: Job, job_type: JobType, project: Project, policy: Policy, today: date) -> Named | None:
    """Return what the client's model means for the choice of routes; None if nothing.

    Where it must be honoured: NotFound if policy knows no such model, Forbidden if the job type has no route for it.
    """
    client_model = job.client_model
    if client_model is None or client_model.startswith(JOB_PREFIX) or project.client_model is ClientModel.IGNORE:
        return None
    model = model_named(client_model, policy) or _sold_as(client_model, job_type)
    alone = project.client_model is ClientModel.HONOUR
    if model is None and not alone:
        return None
    if model is None:
        message = f"The model {client_model[:100]!r} does not exist or you do not have access to it."
        raise NotFound(f"{message} GET /v1/models lists yours.", param="model", code="model_not_found")
    names = tuple(each.name for each in in_place_of(model, policy, today))
    found = Named(client_model, model, names, alone, is_retired(model, today))
    of_old = model_named(job.retired_model, policy)
    if alone and not any(
        found.means(route) or found.means(serving(route, today) or route) for route in job_type.routes
    ):
        raise _not_allowed(job.retired_model or client_model, model, job_type, of_old)
    return found if of_old is None else replace(found, model=of_old, retired=True)


def _sold_as(name: str, job_type: JobType) -> Model | None:
    """Return the model that one of the job type's providers calls so."""
    return next((route.model for route in job_type.routes if route.upstream_model == name), None)


def _not_allowed(wanted: str, model: Model, job_type: JobType, of_old: Model | None) -> GatewayError:
    served = ", ".join(sorted({route.model.name for route in job_type.routes}))
    gone = f" It was retired by its vendor on {model.retires}." if model.retires and not model.prices else ""
    if of_old is not None:  # by the name that the client sent
        gone = f" It was retired by its vendor on {of_old.retires} and stands for {model.name!r}."
    message = f"The model {wanted!r} is not allowed for job type {job_type.name!r}.{gone} Use one of: {served}."
    return Forbidden(message, param="model", code="model_not_allowed")


def dropping_old(job: Job, wanted: Named | None) -> Job:
    """Return the job with the fields among its `dropped` that the client's own model took, if that has retired.

    So they reach no route but one that takes them, whether it serves first, after another's failure or degraded.
    """
    if wanted is None or not wanted.retired or wanted.model.legacy is None:
        return job
    return replace(job, dropped=tuple(dict.fromkeys((*job.dropped, *wanted.model.legacy.drop))))


def of_model(
    offers: Sequence[Offer], refusals: Sequence[Refusal], wanted: Named, routes: Sequence[Route]
) -> tuple[list[Offer], list[Refusal]]:
    """Return the offers with those of the client's model marked where it has retired, and alone if it is honoured."""
    meant = {route.name for route in routes if wanted.means(route)}
    kept: list[Offer] = []
    elsewhere: list[Refusal] = []
    for offer in offers:
        route = offer.quote.route
        if route.name in meant or wanted.means(route):
            kept.append(_standing_in(offer, wanted))
        elif wanted.alone:
            elsewhere.append(Refusal(route.name, f"the client asked for {wanted.text}"))
        else:
            kept.append(offer)
    if not wanted.alone:
        return kept, list(refusals)
    own = [refusal for refusal in refusals if refusal.route in meant]
    return kept, [*refusals, *elsewhere] if kept else own


def _standing_in(offer: Offer, wanted: Named) -> Offer:
    """The offer, telling that it stands in for the client's own model where that has been replaced."""
    quote, model = offer.quote, wanted.model
    if not wanted.retired or quote.replaced is not None or quote.route.model.name == model.name:
        return offer
    return replace(offer, quote=replace(quote, replaced=model.name, retired=model.retires))


def put_first(offers: Sequence[Offer], wanted: Named | None, arm: Arm | None) -> Sequence[Offer]:
    """Return the offers with those first that the client prefers, and before them that of its arm on trial."""
    if wanted is not None and not wanted.alone:
        name = wanted.model.name
        offers = sorted(offers, key=lambda offer: not (wanted.means(offer.quote.route) or offer.quote.replaced == name))
    if arm is not None and arm.route is not None:
        on_trial = arm.route.name
        offers = sorted(offers, key=lambda offer: offer.quote.route.name != on_trial)
    return offers


def ordered(
    offers: Sequence[Offer],
    order: Order,
    *,
    prompt_bytes: int,
    weights: Mapping[str, int],
    conditions: Conditions | None,
    draw: Callable[[], float],
) -> Sequence[Offer]:
    """Return the offers in policy's order; ties, and routes of which nothing is known, go by the list.

    A testing route is offered to those alone who asked for its lane, and is then ordered like any other.
    `draw` returns random numbers from 0 to 1; it is used by `Order.WEIGHTED` alone, once for each offer.
    """
    if order is Order.CHEAPEST:
        return sorted(offers, key=lambda offer: offer.expected(prompt_bytes))
    if order is Order.FASTEST and conditions is not None:
        latency = conditions.latency
        return sorted(offers, key=lambda offer: latency(offer.quote.route.name, offer.quote.job) or 0.0)
    if order is Order.WEIGHTED:
        return _drawn(offers, weights, draw)
    return offers


def _drawn(offers: Sequence[Offer], weights: Mapping[str, int], draw: Callable[[], float]) -> list[Offer]:
    """Draw without replacement by weight: the shortest of exponential delays is first (Efraimidis, Spirakis)."""

    def delay(offer: Offer) -> float:
        return -math.log(1.0 - draw()) / weights.get(offer.quote.route.name, 1)

    return sorted(offers, key=delay)


def troubled_last(offers: Sequence[Offer], troubles: Mapping[str, str]) -> tuple[Sequence[Offer], list[Refusal]]:
    """Return the offers with routes in trouble last, and why those do not come first; as they were if all are."""
    last = [offer for offer in offers if offer.quote.route.name in troubles]
    if not last or len(last) == len(offers):
        return offers, []
    well = [offer for offer in offers if offer.quote.route.name not in troubles]
    names = [offer.quote.route.name for offer in last]
    return [*well, *last], [Refusal(name, GOES_LAST + troubles[name]) for name in names]


def affordable(
    offers: Sequence[Offer], prompt_bytes: int, wishes: Wishes, job_type: JobType
) -> tuple[Sequence[Offer], list[Refusal]]:
    """Return the offers within the client's and the job type's maximum cost, and why not the others."""
    if wishes.max_cost is None and job_type.max_cost_per_image is None:
        return offers, []
    kept: list[Offer] = []
    dear: list[Refusal] = []
    for offer in offers:
        limit, worst = maximum(offer.quote, wishes, job_type), offer.worst(prompt_bytes)
        if limit is None or worst <= limit:
            kept.append(offer)
        else:
            reason = f"may cost ${money.format_usd(worst)}, the limit is ${money.format_usd(limit)}"
            dear.append(Refusal(offer.quote.route.name, reason))
    return kept, dear


def maximum(quote: Quote, wishes: Wishes, job_type: JobType) -> int | None:
    """Return the most that a request may cost, all its attempts together, if it ends with this quote; None: no bound.

    Nano-USD in the route view. What policy says of an image says nothing of a conversation's text.
    """
    per_image = job_type.max_cost_per_image if quote.text is None else None
    limits = (wishes.max_cost, None if per_image is None else per_image * quote.job.n)
    return min((limit for limit in limits if limit is not None), default=None)


def unsupported(
    refusals: Sequence[Refusal], job_type: JobType, able: Sequence[str], *, hint: str = ""
) -> InvalidRequest:
    """Return the error for a job that no route can do. `able` names routes that could, elsewhere; `hint` comes last."""
    fields = {refusal.field for refusal in refusals if refusal.field is not None}  # a lane is nothing of the body
    reasons = "; ".join(f"{refusal.route}: {refusal.reason}" for refusal in refusals)
    more = f" and {len(able) - _MOST_ABLE} more" if len(able) > _MOST_ABLE else ""
    could = f" What could: {', '.join(able[:_MOST_ABLE])}{more}." if able else ""
    return UnsupportedByEveryRoute(
        f"No route of job type {job_type.name!r} can do this. {reasons}.{could}{hint}",
        param=fields.pop() if len(fields) == 1 else None,
    )


def too_dear(offers: Sequence[Offer], prompt_bytes: int, wishes: Wishes, job_type: JobType) -> BudgetExceeded:
    """Return the error for a job that costs too much on every route, however far it may be degraded."""
    cheapest = min(offers, key=lambda offer: offer.worst(prompt_bytes))
    limit = maximum(cheapest.quote, wishes, job_type)
    by_client = wishes.max_cost is not None and limit == wishes.max_cost
    whose = "X-Gateway-Max-Cost" if by_client else f"max_cost_per_image of job type {job_type.name!r}"
    lowered = ", ".join(f"{name}={value}" for name, value in cheapest.quote.degraded.items())
    what = f"The cheapest route may cost ${money.format_usd(cheapest.worst(prompt_bytes))}"
    hint = " A batch's lower price does not count for this." if job_type.batch is not None else ""
    return BudgetExceeded(
        f"{what}{f' even with {lowered}' if lowered else ''}; {whose} allows "
        f"${money.format_usd(limit or 0)}. Ask for a lower quality, a smaller size or fewer images.{hint}",
        code="max_cost_exceeded",
        param="X-Gateway-Max-Cost" if by_client else None,
    )


def degraded_alone(job_type: JobType) -> BudgetExceeded:
    """Return the error for a client that forbids degrading where policy serves nothing else."""
    message = (
        f"Policy serves job type {job_type.name!r} degraded alone, and X-Gateway-Degrade: never forbids that. "
        "Send X-Gateway-Degrade: allow, or leave it out."
    )
    return BudgetExceeded(message, param="X-Gateway-Degrade", should_retry=False)

"""Rank: the quotes in the order in which they are tried, under the project's policy and the client's own limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain import money
from gateway.domain.errors import (
    BudgetExceeded,
    Forbidden,
    GatewayError,
    InvalidRequest,
    NotFound,
    UnsupportedByEveryRoute,
)
from gateway.domain.job import JOB_PREFIX, Wishes
from gateway.domain.policy import ClientModel, JobType, Policy, Project
from gateway.domain.route import Model, Quote, Refusal, Route


@dataclass(frozen=True, slots=True)
class Ranked:
    """Quotes in the order to try, never empty, and why the other routes of the job type were passed over."""

    quotes: tuple[Quote, ...]
    refusals: tuple[Refusal, ...]


def rank(
    quotes: Sequence[Quote],
    refusals: Sequence[Refusal],
    *,
    client_model: str | None,
    wishes: Wishes,
    job_type: JobType,
    project: Project,
    policy: Policy,
    able: Sequence[str] = (),
) -> Ranked:
    """Return what to try; raises the error that says why nothing is left. `able` names routes that could, elsewhere."""
    if wishes.lane is not None and wishes.lane not in project.lanes:
        message = f"Lane {wishes.lane!r} is not open to project {project.name!r}: {', '.join(sorted(project.lanes))}."
        raise Forbidden(message, code="lane_not_allowed", param="X-Gateway-Lane")
    wanted = None if client_model is None or client_model.startswith(JOB_PREFIX) else client_model
    if wanted is not None and project.client_model is not ClientModel.IGNORE:
        quotes, refusals = _for_model(wanted, quotes, refusals, job_type=job_type, project=project, policy=policy)
    if not quotes:
        raise _unsupported(refusals, job_type, able)
    affordable, too_dear = _affordable(quotes, wishes, job_type)
    if not affordable:
        raise _too_dear(quotes, wishes, job_type)
    return Ranked(tuple(affordable), (*refusals, *too_dear))


def _for_model(
    wanted: str,
    quotes: Sequence[Quote],
    refusals: Sequence[Refusal],
    *,
    job_type: JobType,
    project: Project,
    policy: Policy,
) -> tuple[list[Quote], list[Refusal]]:
    if not any(_names(wanted, model) for model in policy.models.values()):
        message = f"The model {wanted!r} does not exist or you do not have access to it."
        raise NotFound(message, param="model", code="model_not_found")
    matching = {route.name for route in job_type.routes if _serves(wanted, route)}
    if project.client_model is ClientModel.PREFER:
        return sorted(quotes, key=lambda quote: quote.route.name not in matching), list(refusals)
    if not matching:
        raise _not_allowed(wanted, job_type, policy)
    elsewhere = [
        Refusal(quote.route.name, f"the client asked for {wanted}")
        for quote in quotes
        if quote.route.name not in matching
    ]
    kept = [quote for quote in quotes if quote.route.name in matching]
    own = [refusal for refusal in refusals if refusal.route in matching]
    return kept, own if not kept else [*refusals, *elsewhere]


def _names(wanted: str, model: Model) -> bool:
    return wanted in (model.name, model.snapshot)


def _serves(wanted: str, route: Route) -> bool:
    return _names(wanted, route.model) or wanted == route.upstream_model


def _not_allowed(wanted: str, job_type: JobType, policy: Policy) -> GatewayError:
    model = next(model for model in policy.models.values() if _names(wanted, model))
    served = ", ".join(sorted({route.model.name for route in job_type.routes}))
    gone = f" It was retired by its vendor on {model.retires}." if model.retires and not model.prices else ""
    message = f"The model {wanted!r} is not allowed for job type {job_type.name!r}.{gone} Use one of: {served}."
    return Forbidden(message, param="model", code="model_not_allowed")


def _unsupported(refusals: Sequence[Refusal], job_type: JobType, able: Sequence[str]) -> InvalidRequest:
    fields = {refusal.field for refusal in refusals}
    reasons = "; ".join(f"{refusal.route}: {refusal.reason}" for refusal in refusals)
    could = f" What could: {', '.join(able)}." if able else ""
    return UnsupportedByEveryRoute(
        f"No route of job type {job_type.name!r} can do this. {reasons}.{could}",
        param=fields.pop() if len(fields) == 1 else None,
    )


def _affordable(quotes: Sequence[Quote], wishes: Wishes, job_type: JobType) -> tuple[list[Quote], list[Refusal]]:
    kept: list[Quote] = []
    too_dear: list[Refusal] = []
    for quote in quotes:
        limit = _limit(quote, wishes, job_type)
        if limit is None or quote.worst.route <= limit:
            kept.append(quote)
        else:
            reason = f"may cost ${money.format_usd(quote.worst.route)}, the limit is ${money.format_usd(limit)}"
            too_dear.append(Refusal(quote.route.name, reason))
    return kept, too_dear


def _limit(quote: Quote, wishes: Wishes, job_type: JobType) -> int | None:
    per_image = job_type.max_cost_per_image
    limits = (wishes.max_cost, None if per_image is None else per_image * quote.job.n)
    return min((limit for limit in limits if limit is not None), default=None)


def _too_dear(quotes: Sequence[Quote], wishes: Wishes, job_type: JobType) -> BudgetExceeded:
    cheapest = min(quotes, key=lambda quote: quote.worst.route)
    limit = _limit(cheapest, wishes, job_type)
    by_client = wishes.max_cost is not None and limit == wishes.max_cost
    whose = "X-Gateway-Max-Cost" if by_client else f"max_cost_per_image of job type {job_type.name!r}"
    return BudgetExceeded(
        f"The cheapest route may cost ${money.format_usd(cheapest.worst.route)}; {whose} allows "
        f"${money.format_usd(limit or 0)}. Ask for a lower quality, a smaller size or fewer images.",
        code="max_cost_exceeded",
        param="X-Gateway-Max-Cost" if by_client else None,
    )

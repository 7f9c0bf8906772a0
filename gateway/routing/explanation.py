"""Explanation: a decision in words and figures, as a dry run answers it; and what became of it, as the record tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import Any

from gateway.domain import money
from gateway.domain.budget import Budget, Candidate, Line, Obstacle, Quota
from gateway.domain.choosing import Choice, Standing, State, use_of
from gateway.domain.denial import span
from gateway.domain.errors import GatewayError
from gateway.domain.job import JOB_PREFIX
from gateway.domain.naming import serving
from gateway.domain.policy import JobType
from gateway.domain.route import Quote, Route, Views
from gateway.domain.settlement import CostSource
from gateway.ports import LedgerUnavailable
from gateway.routing.dry_run import Decided, Undecided
from gateway.routing.task_terms import TaskTerms
from gateway.steps.classify import holds
from gateway.steps.write import RETIREMENT_NOTICE

Balances = Callable[[Sequence[Budget | Quota]], Awaitable[Sequence[Standing]]]
"""Tells where rules stand now, in the same order; raises LedgerUnavailable."""


async def explanation_now(decided: Decided, balances: Balances | None) -> dict[str, object]:
    """Return the decision with what every budget and quota says of it now, as far as the ledger answers."""
    if balances is None:
        return explanation(decided)
    rules = decided.rules()
    try:
        found = await balances(rules)
    except LedgerUnavailable:
        return explanation(decided)
    stands = dict(zip(rules, found, strict=True))
    return explanation(decided, stands.__getitem__)


def explanation(decided: Decided, state: State | None = None) -> dict[str, object]:
    """Return what would be done, at what price, and why other routes were passed over; money in USD.

    With `state` it says too where each rule stands, which candidate would be held on, and what stands in the way of
    those before it; `route` is None then and `denied` the error if there is none.
    """
    asked, quotes = decided.asked, decided.ranked.quotes
    candidates = decided.candidates
    choice = None if state is None else decided.choice(state)
    chosen = 0 if choice is None else choice.index
    arm = decided.ranked.arm
    told: dict[str, object] = {
        "object": "gateway.decision",
        "project": asked.project.name,
        "job_type": decided.job_type.name,
        "job_type_from": found_by(decided),
        "operation": str(asked.job.operation),
        "date": asked.today.isoformat(),
        "policy": asked.policy.digest,
        "order": str(decided.job_type.order),
        "route": None if chosen is None else quotes[chosen].route.name,
        "chosen": chosen,
        "live": state is not None,
        "task": _task(decided.task_terms),
        "experiment": {"name": arm.experiment, "arm": arm.name} if arm else None,
        "candidates": [
            {**_candidate(quote), **_held_on(candidate, state), **_verdict(index, candidate, choice, state)}
            for index, (quote, candidate) in enumerate(zip(quotes, candidates, strict=True))
        ],
        "passed_over": [{"route": refusal.route, "reason": refusal.reason} for refusal in decided.ranked.refusals],
        "retirements": _retirements(decided.job_type, asked.today),
    }
    if choice is not None and chosen is None:
        told["denied"] = _shown(decided.denial(choice))
    return told


def _task(terms: TaskTerms | None) -> dict[str, object] | None:
    """Return the terms of the task that a request becomes; None where it is answered when it is done."""
    return None if terms is None else {"callback_url": terms.callback_url, "max_wait_seconds": terms.max_wait}


def refusal(undecided: Undecided) -> dict[str, object]:
    """Return the decision that nothing serves a request, in the same form: `denied` is the error its client gets."""
    error, job_type = undecided.error, undecided.job_type
    return {
        "object": "gateway.decision",
        "job_type": job_type.name if job_type else None,
        "route": None,
        "chosen": None,
        "candidates": [],
        "passed_over": [],
        "denied": _shown(error),
    }


def _shown(error: GatewayError) -> dict[str, object]:
    return {"status": error.status, "code": error.code, "message": error.message}


def found_by(decided: Decided) -> str:
    """Return what named the job type: header, model, key, match or default."""
    asked, match = decided.asked, decided.job_type.match
    if asked.wishes.job_type is not None:
        return "header"
    if (asked.job.client_model or "").startswith(JOB_PREFIX):
        return "model"
    if asked.caller.job_type is not None:
        return "key"
    return "match" if match is not None and holds(match, asked.job) else "default"


def _candidate(quote: Quote) -> dict[str, object]:
    told: dict[str, object] = {
        "route": quote.route.name,
        "provider": quote.route.provider.name,
        "model": quote.route.model.name,
        "size": quote.job.size,
        "quality": quote.job.quality,
        "n": quote.job.n,
        "calls": quote.calls,
        "cost_estimate": in_usd(quote.worst),
        "cost_expected": money.format_usd(quote.expected) if quote.expected else None,
        "price_from": quote.route_price.valid_from.isoformat(),
        "degraded": dict(quote.degraded),
        "replaces": quote.replaced,
    }
    at_least, below = quote.pressure.at_least, quote.pressure.below
    if at_least or below is not None:
        told["budget_used"] = {"from": percent(at_least), "below": None if below is None else percent(below)}
    return told


def _held_on(candidate: Candidate, state: State | None) -> dict[str, object]:
    return {"holds_on": [_line(line, state) for line in candidate.lines]}


def _line(line: Line, state: State | None) -> dict[str, object]:
    rule, stands = line.rule, None if state is None else state(line.rule)
    if isinstance(rule, Budget):
        told: dict[str, object] = {
            "scope": rule.scope.label(),
            "window": str(rule.window),
            "view": str(rule.view),
            "limit_usd": _usd(rule.limit),
            "takes_usd": _usd(line.amount),
        }
        left = {} if stands is None else {"used_usd": _usd(stands.used), "held_usd": _usd(stands.held)}
        return told | left
    told = {"scope": rule.scope.label(), "counted": str(rule.counted), "seconds": rule.seconds, "limit": rule.limit}
    told["takes"] = line.amount
    return told if stands is None else told | {"used": stands.used, "held": stands.held}


def _verdict(index: int, candidate: Candidate, choice: Choice | None, state: State | None) -> dict[str, object]:
    """What would become of a candidate now, in a word and in words; nothing where budgets were not asked."""
    if choice is None or state is None:
        return {}
    if index == choice.index:
        return {"now": "chosen", "because": []}
    if index >= len(choice.obstacles):
        return {"now": "not needed", "because": []}
    obstacles = choice.obstacles[index]
    if obstacles:
        return {"now": "refused", "because": [in_words(obstacle, candidate) for obstacle in obstacles]}
    used, start = percent(use_of(candidate, state)), percent(candidate.pressure.at_least)
    return {"now": "not reached", "because": [f"the most used of its budgets is at {used}, it serves from {start}"]}


def in_words(obstacle: Obstacle, candidate: Candidate) -> str:
    """Return what stood in the way of a candidate, as a sentence without its end."""
    rule, taken = obstacle.line.rule, obstacle.used + obstacle.held
    if isinstance(rule, Quota):
        per = "in flight" if rule.seconds == 0 else f"per {span(rule.seconds)}"
        full = f"{rule.limit} {rule.counted} {per} for {rule.scope.label()}"
        return f"{full}: {taken} taken, {obstacle.line.amount} more asked for"
    limit = f"${_usd(rule.limit)} {'in total' if rule.window == 'total' else f'per {rule.window}'}"
    whose = f"{limit} for {rule.scope.label()}"
    if taken + obstacle.line.amount <= rule.limit:
        return f"{whose}: ${_usd(taken)} is used, and it serves below {percent(candidate.pressure.below or 0)}"
    return f"{whose}: ${_usd(taken)} is used, and it may cost ${_usd(obstacle.line.amount)}"


def _retirements(job_type: JobType, today: date) -> list[dict[str, object]]:
    """Routes of the job type whose model has retired or will within the time of notice, and what serves from then."""

    def told(route: Route, retires: date) -> dict[str, object]:
        successor, serves = route.successor, serving(route, max(retires, today))
        return {
            "route": route.name,
            "model": route.model.name,
            "retires": retires.isoformat(),
            "retired": retires <= today,
            "after": str(route.after_retirement),
            "replacement": successor.model.name if successor else route.model.replacement,
            "served_by": serves.model.name if serves else None,
        }

    ends = [(route, route.model.retires) for route in job_type.routes]
    return [told(route, end) for route, end in ends if end is not None and end - today <= RETIREMENT_NOTICE]


def percent(points: int) -> str:
    """Return basis points as a percentage: `80%`, `33.3%`."""
    return f"{points / 100:g}%"


def _usd(micro: int) -> str:
    return money.format_usd(micro * money.NANO_PER_MICRO)


def in_usd(views: Views) -> dict[str, str]:
    """Return the three views as decimal strings of USD."""
    return {
        "official": money.format_usd(views.official),
        "route": money.format_usd(views.route),
        "internal": money.format_usd(views.internal),
    }


def record(kept: Mapping[str, Any]) -> dict[str, object]:
    """Return the ledger's record of a request as `GET /v1/requests/{id}` shows it, money in USD."""
    about = dict(kept["about"])
    attempts = [_attempt(attempt) for attempt in kept["attempts"]]
    last = attempts[-1]
    unconfirmed = any(attempt["state"] == "presumed" for attempt in attempts)
    passed_over, experiment, arm = about.pop("passed_over", []), about.pop("experiment", None), about.pop("arm", None)
    return {
        "id": kept["id"],
        "object": "gateway.request",
        "created": int(kept["created"]),
        "project": about.pop("project"),
        "key": about.pop("key"),
        "job_type": about.pop("job_type"),
        "operation": about.pop("operation"),
        "tags": about.pop("tags", {}),
        "state": _state([str(attempt["state"]) for attempt in attempts]),
        "unconfirmed": unconfirmed,
        "route": last["route"],
        "model": last["model"],
        "images": sum(attempt.get("images") or 0 for attempt in kept["attempts"]),
        "cost_estimate": last["cost_estimate"],
        "cost": _total(kept["attempts"]),
        "cost_source": str(CostSource.PRESUMED) if unconfirmed else last["cost_source"],
        "usage": last["usage"],
        "attempts": attempts,
        "passed_over": passed_over,
        "experiment": {"name": experiment, "arm": arm} if experiment else None,
        "request": about,
    }


def _state(states: Sequence[str]) -> str:
    """How the request stands: as its last attempt, but where that was given back as what earlier ones cost says."""
    if states[-1] != "void":
        return states[-1]
    return next((state for state in ("presumed", "settled") if state in states), "void")


def _total(attempts: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """What all attempts cost together; None while the last one runs."""
    costs = [_views(attempt["cost"]) for attempt in attempts if attempt.get("cost") is not None]
    if attempts[-1].get("cost") is None:
        return None
    return in_usd(
        Views(
            sum(cost.official for cost in costs),
            sum(cost.route for cost in costs),
            sum(cost.internal for cost in costs),
        )
    )


def _views(cost: Views | Mapping[str, int]) -> Views:
    return cost if isinstance(cost, Views) else Views(**cost)


def _attempt(kept: Mapping[str, Any]) -> dict[str, object]:
    facts = dict(kept["facts"])
    worst = facts.pop("worst")
    cost = kept.get("cost")
    return {
        "attempt": kept["attempt"],
        "state": kept["state"],
        **facts,
        "held_at": kept.get("held_at"),
        "ended_at": kept.get("ended_at"),
        "cost_estimate": in_usd(Views(**{view: int(nano) for view, nano in worst.items()})),
        "cost": None if cost is None else in_usd(_views(cost)),
        "cost_source": kept.get("source"),
        "images": kept.get("images") or 0,
        "usage": kept.get("usage"),
        "reason": kept.get("reason"),
        "answer": kept.get("answer") or {},
    }

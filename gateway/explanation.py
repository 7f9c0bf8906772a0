"""Explanation: a decision in words and figures, as a dry run answers it; and what became of it, as the record tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.domain import money
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import CostSource
from gateway.exchange import Admitted


def explanation(admitted: Admitted) -> dict[str, object]:
    """Return what would be done, at what price, and why other routes were passed over."""
    quotes = admitted.ranked.quotes
    return {
        "object": "gateway.decision",
        "project": admitted.project.name,
        "job_type": admitted.job_type.name,
        "operation": str(admitted.job.operation),
        "route": quotes[0].route.name,
        "candidates": [_candidate(quote) for quote in quotes],
        "passed_over": [{"route": refusal.route, "reason": refusal.reason} for refusal in admitted.ranked.refusals],
    }


def _candidate(quote: Quote) -> dict[str, object]:
    return {
        "route": quote.route.name,
        "model": quote.route.model.name,
        "size": quote.job.size,
        "quality": quote.job.quality,
        "n": quote.job.n,
        "cost_estimate": in_usd(quote.worst),
    }


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
    passed_over = about.pop("passed_over", [])
    return {
        "id": kept["id"],
        "object": "gateway.request",
        "created": int(kept["created"]),
        "project": about.pop("project"),
        "key": about.pop("key"),
        "job_type": about.pop("job_type"),
        "operation": about.pop("operation"),
        "tags": about.pop("tags", {}),
        "state": last["state"],
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
        "request": about,
    }


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

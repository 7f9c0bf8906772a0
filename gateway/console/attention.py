"""Attention: what somebody should look at this morning, and which models retire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from gateway.console.page_data import PageData
from gateway.steps.write import RETIREMENT_NOTICE

BAD, WARN = "bad", "warn"
MOST = 8

Word = Mapping[str, Any]
Notice = tuple[str, str, str]
"""Level, words, and the page that has more."""


def attention(
    data: PageData, budgets: Sequence[Mapping[str, object]], words: Sequence[Word], dead: int, not_ready: Sequence[str]
) -> list[dict[str, str]]:
    """Return what somebody should look at, worst first; `not_ready` is what stands in the way of serving."""
    found: list[Notice] = [(BAD, f"The gateway is not ready: {reason}", "overview") for reason in not_ready]
    if data.follower.trouble and not found:
        found.append((BAD, f"The store does not answer: {data.follower.trouble}", "overview"))
    found += [*_of_policy(words), *_of_budgets(budgets), *_of_routes(words)]
    if unconfirmed := len(data.follower.rollup.unconfirmed()):
        found.append((WARN, f"{_counted(unconfirmed, 'booking')} presumed, not confirmed", "overview"))
    if dead:
        found.append((WARN, f"{_counted(dead, 'callback')} that nobody took", "tasks"))
    soon = [each for each in retirements(data) if each["soon"]]
    found += [(WARN, f"Model {each['model']} retires on {each['retires']}", "policy") for each in soon]
    unique = dict.fromkeys(sorted(found, key=lambda each: each[0] != BAD))
    return [{"level": level, "text": text, "page": page} for level, text, page in unique][:MOST]


def _of_policy(words: Sequence[Word]) -> Iterator[Notice]:
    for word in words:
        if word.get("reload_failed"):
            yield BAD, f"A changed policy does not check; {word['host']} serves the one before", "policy"
    if len({str(word.get("policy")) for word in words}) > 1:
        yield WARN, "Gateways on this store serve different policies", "policy"


def _of_budgets(budgets: Sequence[Mapping[str, object]]) -> Iterator[Notice]:
    for budget in budgets:
        name = f"{budget['scope']} per {budget['window']}"
        if budget["level"] == "spent":
            yield BAD, f"The budget of {name} is used up", "budgets"
        elif budget["runs_out"] is not None and budget["window"] != "hour":
            yield WARN, f"The budget of {name} runs out before its {budget['window']} ends", "budgets"


def _of_routes(words: Sequence[Word]) -> Iterator[Notice]:
    for word in words:
        for route, health in word.get("routes", {}).items():
            if health.get("circuit") in ("open", "half_open"):
                yield WARN, f"Route {route} is ejected on {word['host']}", "routes"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def retirements(data: PageData) -> list[dict[str, object]]:
    """Return models in use that their vendor will retire, or has, soonest first, and who uses them."""
    today, policy = data.clock().date(), data.policy
    found: dict[str, tuple[date, set[str], str | None]] = {}
    for route in policy.routes.values():
        if route.model.retires is not None:
            known = found.setdefault(route.model.name, (route.model.retires, set(), route.model.replacement))
            known[1].add(route.name)
    return [
        {
            "model": model,
            "retires": on.isoformat(),
            "days": (on - today).days,
            "soon": on - today <= RETIREMENT_NOTICE,
            "routes": sorted(routes),
            "job_types": sorted(
                name for name, kind in policy.job_types.items() if any(route.name in routes for route in kind.routes)
            ),
            "replacement": replacement,
        }
        for model, (on, routes, replacement) in sorted(found.items(), key=lambda each: each[1][0])
    ]

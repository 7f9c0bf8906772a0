"""Wait reason: why a route is full for now, and when waiting for it may succeed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.domain.budget import Obstacle, Quota, Scope
from gateway.domain.route import Quote


@dataclass(frozen=True, slots=True)
class WaitReason:
    """What keeps a request waiting: `slot` is when room may come, `due` when to ask for it, both of a monotonic clock.

    `gates` are the scopes (of routes and providers) that are full; `live` tells that requests in flight are what fills
    them.
    """

    slot: float
    due: float
    gates: frozenset[str]
    live: bool = False


def soonest(wait_reasons: Iterable[WaitReason]) -> WaitReason | None:
    """Return several as one: the first slot of any, and all that is full; None if there are none."""
    every = list(wait_reasons)
    if not every:
        return None
    return WaitReason(
        min(each.slot for each in every),
        min(each.due for each in every),
        frozenset().union(*(each.gates for each in every)),
        any(each.live for each in every),
    )


def gates_of(quote: Quote) -> frozenset[str]:
    """Return the scopes of the limits that a quote's route and its account have."""
    route = quote.route
    return frozenset((Scope(route=route.name).label(), Scope(provider=route.provider.name).label()))


def waited_for(obstacle: Obstacle) -> bool:
    """Whether an obstacle is a limit of a route or an account that time removes; a project's own are not waited for."""
    rule = obstacle.line.rule
    return isinstance(rule, Quota) and obstacle.line.amount <= rule.limit and rule.scope.is_upstream

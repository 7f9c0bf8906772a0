"""Route state: a route's current availability, from its health and its remaining limits."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.domain.budget import Counted, Quota
from gateway.ledger.wire import Balance
from gateway.observe.scrape import LimitState, RouteState
from gateway.routing.health import RouteHealth


def route_state(health: RouteHealth, name: str, limits: Sequence[tuple[Quota, Balance]]) -> RouteState:
    """A route is available while it is not ejected and each limit, its own or its account's, has room for one more."""
    states = tuple(
        LimitState(
            quota.scope.label(), quota.counted, quota.seconds, quota.limit, max(quota.limit - now.used - now.held, 0)
        )
        for quota, now in limits
    )
    images = [state.left for state in states if state.counted == Counted.IMAGES]
    available = health.in_service and all(state.left for state in states)
    return RouteState(name, available, images_remaining=min(images, default=None), limits=states)

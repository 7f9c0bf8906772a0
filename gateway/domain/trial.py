"""Trials: which arm of an experiment a caller meets, and which requests a shadow repeats. Hashes decide, not chance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gateway.domain.policy import Experiment, Shadow, SplitBy
from gateway.domain.route import Route

WHOLE = 10_000
"""Basis points."""
PRODUCTION = "production"
"""The lane that serves without being asked for."""
CONTROL = "control"
"""The arm of whoever is served as if there were no experiment."""
SHADOW_SUFFIX = "_shadow"
"""What a shadow's request id has beyond that of the request it repeats."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Where a request stands in an experiment. `name` is that of `route`, or `control`, which has none of its own."""

    experiment: str
    name: str
    route: Route | None = None

    def __str__(self) -> str:
        return f"{self.experiment}={self.name}"


def arm_of(experiment: Experiment, *, key_id: str, user: str | None) -> Arm:
    """Return the arm that a caller always meets; without a user, an experiment by user goes by the key."""
    by_user = experiment.by is SplitBy.USER and user
    point = _point(experiment.name, "user" if by_user else "key", user if by_user and user else key_id)
    routes = {route.name: route for route in experiment.routes}
    end = 0
    for name, share in experiment.split.items():
        end += share
        if point < end:
            return Arm(experiment.name, name, routes[name])
    return Arm(experiment.name, CONTROL)


def is_sampled(shadow: Shadow, request_id: str) -> bool:
    """Tell whether a request is one of those that the shadow repeats; the same for every process."""
    return _point("shadow", request_id) < shadow.sample


def _point(*parts: str) -> int:
    """A number below `WHOLE`, evenly spread over what is hashed."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest) % WHOLE

"""Adjusting: what an attempt cost in every view, when the truth is known in one."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from gateway.domain.money import NANO_PER_MICRO, times
from gateway.domain.route import NOTHING, Views


def held_of(facts: Mapping[str, Any]) -> Views:
    """Return what was held for an attempt, from its record; nothing where that does not say."""
    worst = facts.get("worst")
    return Views(**{view: int(amount) for view, amount in worst.items()}) if worst else NOTHING


def scaled(views: Views, route: int, held: Views = NOTHING) -> Views:
    """Return the views of a cost whose route view is now known to be `route` (nano-USD, 0 or more).

    The others change by the same ratio, rounded up; where the route view was less than a micro-USD, which is too little
    to tell a ratio by, they stand to it as in what was `held`, if that is known. Where nothing tells a ratio the new
    amount stands in every view. ValueError for an amount below 0.
    """
    if route < 0:
        raise ValueError("what an attempt cost cannot be less than nothing")
    if views.route < NANO_PER_MICRO and held.route > 0:
        views = held
    if views.route <= 0:
        return Views(official=route, route=route, internal=route)
    ratio = Fraction(route, views.route)
    return Views(official=times(views.official, ratio), route=route, internal=times(views.internal, ratio))

"""Adjusting: what an attempt cost in every view, when the truth is known in one."""

from __future__ import annotations

from fractions import Fraction

from gateway.domain.money import times
from gateway.domain.route import Views


def scaled(views: Views, route: int) -> Views:
    """Return the views of a cost whose route view is now known to be `route` (nano-USD, 0 or more).

    The others change by the same ratio, rounded up. Where the route view was 0 there is no ratio, and the new amount
    stands in every view. ValueError for an amount below 0.
    """
    if route < 0:
        raise ValueError("what an attempt cost cannot be less than nothing")
    if views.route == 0:
        return Views(official=route, route=route, internal=route)
    ratio = Fraction(route, views.route)
    return Views(official=times(views.official, ratio), route=route, internal=times(views.internal, ratio))

"""Adjusting: the truth in one view told in all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.adjusting import scaled
from gateway.domain.route import NOTHING, Views

AMOUNT = st.integers(0, 10**15)


@pytest.mark.parametrize(
    ("views", "route", "expected"),
    [
        (Views(200, 100, 115), 100, Views(200, 100, 115)),
        (Views(200, 100, 115), 50, Views(100, 50, 58)),
        (Views(200, 100, 115), 0, Views(0, 0, 0)),
        (Views(1, 3, 1), 1, Views(1, 1, 1)),
        (Views(200, 0, 115), 7, Views(7, 7, 7)),
        (Views(0, 0, 0), 0, Views(0, 0, 0)),
    ],
)
def test_views_change_by_one_ratio(views: Views, route: int, expected: Views) -> None:
    """The others follow the route's, rounded up; without a ratio the new amount stands everywhere."""
    assert scaled(views, route) == expected


@pytest.mark.parametrize(
    ("held", "expected"),
    [(Views(50, 100, 115), Views(5, 10, 12)), (Views(50, 0, 0), Views(10, 10, 10)), (NOTHING, Views(10, 10, 10))],
)
def test_what_begins_at_nothing_stands_as_what_was_held(held: Views, expected: Views) -> None:
    """A refund that is undone, or a call that was thought unbilled: the views are those of the hold."""
    assert scaled(NOTHING, 10, held) == expected


@pytest.mark.parametrize("before", [3, -20])
def test_too_little_to_tell_a_ratio_by_stands_as_what_was_held(before: int) -> None:
    """An invoice in a wrong unit, or money given back, leaves amounts whose views say nothing any more."""
    assert scaled(Views(before + 1, before, before + 1), 1_000, Views(125, 100, 115)) == Views(1_250, 1_000, 1_150)


@given(AMOUNT, st.integers(1, 10**15), AMOUNT, AMOUNT)
def test_rounding_is_upwards_and_by_less_than_one(official: int, route: int, internal: int, now: int) -> None:
    """No view is below its exact share, nor a whole nano-dollar above it."""
    made = scaled(Views(official, route, internal), now)
    assert made.route == now
    for was, is_now in ((official, made.official), (internal, made.internal)):
        assert 0 <= is_now * route - was * now < route


def test_less_than_nothing_is_refused() -> None:
    """A cost below zero is nobody's invoice."""
    with pytest.raises(ValueError, match="less than nothing"):
        scaled(Views(1, 1, 1), -1)

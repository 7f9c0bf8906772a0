"""Denial: what a client is told where a budget's use, rather than its end, stood in the way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.budget import Budget, Counted, Denied, Line, Obstacle, Pressure, Quota, Scope, View, Window
from gateway.domain.denial import denial
from gateway.domain.errors import BudgetExceeded, GatewayError, InvalidRequest, RateLimited, UnsupportedByEveryRoute
from gateway.domain.policy import DegradeStep
from gateway.domain.route import Quote, Views
from tests.builders import GPT_IMAGE_2, job, route

TEAM = Scope(project="team")
DAY = Budget(TEAM, Window.DAY, 50_000_000)
MINUTE = Quota(Scope(route="main"), Counted.IMAGES, 10, 60)
LADDER = (
    DegradeStep(8_000, {"quality": "medium"}),
    DegradeStep(9_000, {"size": "1024x1024", "n": 1}),
    DegradeStep(9_500, routes=(route("other"),)),
)


def on(below: int | None) -> Quote:
    """A quote for use up to there."""
    price = GPT_IMAGE_2.prices[0]
    return Quote(route("main"), job(), {}, Views(1, 1, 1), price, price, pressure=Pressure(0, below))


def pressed(used: int = 41_000_000) -> Obstacle:
    """A budget with room that is used beyond the range."""
    return Obstacle(Line(DAY, 200_000), used - 1_000_000, 1_000_000, 3600.0)


SPENT = Obstacle(Line(DAY, 20_000_000), 40_000_000, 0, 3600.0)
FULL = Obstacle(Line(MINUTE, 1), 10, 0, 12.0)
NEVER = Obstacle(Line(MINUTE, 11), 0, 0, 0.0)


def refused(*ways: list[Obstacle]) -> Denied:
    """A denial of one candidate after another."""
    return Denied(tuple(map(tuple, ways)))


def test_whoever_forbids_the_change_is_told_which_and_from_where_on() -> None:
    """Budget, its use, the step, the change, the header that forbids it, the rest and when it resets."""
    error = denial(refused([pressed()]), [on(8_000)], LADDER, may_degrade=False)
    assert isinstance(error, BudgetExceeded)
    assert (error.status, error.code, error.should_retry) == (402, "project_spend_limit_exceeded", False)
    assert error.message == (
        "The budget of $50.00 per day for project:team is used to 82 %; from 80 % on policy changes quality to medium, "
        "which X-Gateway-Degrade: never forbids. It resets in 3600 s."
    )
    assert ("X-Gateway-Budget-Remaining", "9.00") in error.headers


def test_every_step_that_was_reached_is_told() -> None:
    """At 97 % both changes would have been made; a step that changes the route alone is none."""
    error = denial(refused([pressed(48_500_000)]), [on(8_000)], LADDER, may_degrade=False)
    assert "from 80 % on policy changes quality to medium, " in error.message
    assert "from 90 % on policy changes size to 1024x1024 and n to 1, which X-Gateway-Degrade" in error.message
    assert "95 %" not in error.message


def test_a_step_that_no_route_can_do_is_not_blamed_on_the_client() -> None:
    """Without the header the reason is that policy has nothing there."""
    error = denial(refused([pressed()]), [on(8_000)], LADDER)
    assert isinstance(error, BudgetExceeded)
    assert "is used to 82 %; policy has no route from 80 % on that can do this request." in error.message
    assert "X-Gateway-Degrade" not in error.message


@pytest.mark.parametrize(
    ("ways", "error", "words"),
    [
        pytest.param([[pressed()], [FULL]], RateLimited, "try again", id="the step is full: waiting helps"),
        pytest.param([[pressed(), FULL]], BudgetExceeded, "82 %", id="full, but waiting alone does not help"),
        pytest.param([[pressed()], [SPENT]], BudgetExceeded, "may cost $20.00", id="the step has no room"),
        pytest.param([[pressed()], [NEVER]], BudgetExceeded, "82 %", id="the step can never take n"),
        pytest.param([[NEVER], []], InvalidRequest, "n=11 can never pass", id="n beyond the first, not at the step"),
        pytest.param([[FULL], [], []], RateLimited, "try again", id="full, and no step is reached"),
        pytest.param([[], []], UnsupportedByEveryRoute, "once more of a budget is used", id="no step is reached"),
    ],
)
def test_mixed_reasons_become_the_one_that_helps(
    ways: list[list[Obstacle]], error: type[GatewayError], words: str
) -> None:
    """Waiting is advised only where waiting alone would do; else money, else that the request can never pass."""
    raised = denial(refused(*ways), [on(8_000)] * len(ways), LADDER)
    assert type(raised) is error
    assert words in raised.message


@pytest.mark.parametrize("turned", [False, True], ids=str)
def test_of_several_budgets_without_room_the_one_that_resets_last_is_told(turned: bool) -> None:
    """A budget that never resets before one of an hour, and of two that never do the one with the least room."""
    hour = Obstacle(Line(Budget(TEAM, Window.HOUR, 15_000), 10_000), 10_000, 0, 2925.0)
    total = Obstacle(Line(Budget(TEAM, Window.TOTAL, 12_000), 10_000), 10_000, 0, 0.0)
    own = Obstacle(Line(Budget(TEAM, Window.TOTAL, 12_000, View.INTERNAL), 11_500), 11_500, 0, 0.0)
    for way, told, left in (
        ([hour, total], "The budget of $0.012 in total for project:team does not allow", "0.002"),
        ([total, own], "The budget of $0.012 in total for project:team (view: internal) does not allow", "0.0005"),
    ):
        error = denial(refused(way[::-1] if turned else way))
        assert isinstance(error, BudgetExceeded)
        assert told in error.message
        assert "resets" not in error.message
        assert ("X-Gateway-Budget-Remaining", left) in error.headers


def test_of_several_ways_the_cheapest_is_told() -> None:
    """What a client has to wait for at least."""
    dear = Obstacle(Line(Budget(TEAM, Window.TOTAL, 12_000), 30_000), 10_000, 0, 0.0)
    cheap = Obstacle(Line(DAY, 20_000), 49_990_000, 0, 3600.0)
    assert "may cost $0.02" in denial(refused([dear], [cheap])).message


def test_without_the_quotes_a_denial_is_still_told() -> None:
    """Whoever has nothing but the ledger's answer learns the budget and its use."""
    error = denial(refused([pressed()]))
    assert "is used to 82 %; policy has no route that can do this request." in error.message


def test_a_limit_that_is_no_limit_of_images_does_not_speak_of_n() -> None:
    """A request that needs more tokens than an account has is told so."""
    tokens = replace(MINUTE, counted=Counted.TOKENS)
    error = denial(refused([Obstacle(Line(tokens, 11), 0, 0, 0.0)]))
    assert error.message.startswith("A request of 11 can never pass tokens per minute")

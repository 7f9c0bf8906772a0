"""Reserve: which lines a hold takes, and which error a denial becomes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from gateway.domain import money
from gateway.domain.budget import (
    Budget,
    Counted,
    Denied,
    Held,
    Line,
    Obstacle,
    Pressure,
    Quota,
    Scope,
    View,
    Window,
)
from gateway.domain.caller import Caller
from gateway.domain.costing import ABSURD
from gateway.domain.denial import denial
from gateway.domain.errors import BudgetExceeded, GatewayError, InvalidRequest, RateLimited
from gateway.domain.policy import Project, Shadow
from gateway.domain.route import Quote, RouteLimits
from gateway.ledger.wire import candidate_arg
from gateway.steps.price import price
from gateway.steps.reserve import PayerDetails, candidate, limits_of, shadow_candidate
from tests.builders import PROVIDER, TODAY, job, policy, route

TEAM = Scope(project="team")
MONTH = Budget(TEAM, Window.MONTH, 1_000_000)
TOTAL = Budget(TEAM, Window.TOTAL, 500_000)
MINUTE = Quota(TEAM, Counted.IMAGES, 10, 60)
DAY = Quota(Scope(route="main"), Counted.IMAGES, 100, 86_400)
LIVE = Quota(TEAM, Counted.CONCURRENT, 2)


def spent(rule: Budget = MONTH, amount: int = 200_000, used: int = 900_000, wait: float = 3600.0) -> Obstacle:
    """A budget in the way."""
    return Obstacle(Line(rule, amount), used, 50_000, wait)


def full(rule: Quota = MINUTE, amount: int = 3, wait: float = 12.0) -> Obstacle:
    """A quota in the way."""
    return Obstacle(Line(rule, amount), rule.limit, 0, wait)


def quoted(n: int = 2, multiplier: str = "1.15", **limits: int) -> tuple[Quote, PayerDetails]:
    """A quote for a job of `n` images and the payer details of a project that has every kind of rule."""
    own = route("main", limits=RouteLimits(**limits))
    project = Project(
        "team",
        ("draft",),
        "draft",
        budgets=(
            MONTH,
            Budget(TEAM, Window.DAY, 10, View.INTERNAL),
            Budget(Scope(project="team", job_type="hero"), Window.DAY, 10),
        ),
        quotas=(MINUTE, Quota(TEAM, Counted.REQUESTS, 5, 3600), LIVE),
        multiplier=Fraction(multiplier),
    )
    rules = policy(own, project=project)
    rules = replace(rules, budgets=(Budget(Scope(), Window.MONTH, 7), Budget(Scope(route="other"), Window.MONTH, 7)))
    kind = rules.job_types["draft"]
    quotes, _ = price(job(n=n, quality="low", size="1024x1024"), kind, project, None, TODAY)
    return quotes[0], PayerDetails(Caller("key_1", "team"), project, kind, rules)


def test_a_hold_takes_every_line_that_covers_the_request() -> None:
    """Budgets of everything and of the project, quotas, and the route's own limits; never those of other scopes."""
    quote, payer = quoted(images_per_minute=5, concurrent=20)
    lines = candidate(quote, payer).lines
    assert [line.rule.meter for line in lines] == [
        "usd|everything|route|month",
        "usd|project:team|route|month",
        "usd|project:team|internal|day",
        "images|project:team|60",
        "requests|project:team|3600",
        "concurrent|project:team|0",
        "images|route:main|60",
        "concurrent|route:main|0",
    ]


def test_budgets_count_their_view_rounded_up_and_quotas_images_or_requests() -> None:
    """Micro-USD of the budget's view, never rounded down; images count n, requests and slots count one."""
    quote, payer = quoted(n=3)
    by_meter = {line.rule.meter: line.amount for line in candidate(quote, payer).lines}
    assert by_meter["usd|project:team|route|month"] == money.micro_from_nano(quote.worst.route)
    assert by_meter["usd|project:team|internal|day"] == money.micro_from_nano(quote.worst.internal)
    assert by_meter["usd|project:team|internal|day"] * 1000 >= quote.worst.internal > quote.worst.route
    assert by_meter["images|project:team|60"] == 3
    assert by_meter["requests|project:team|3600"] == by_meter["concurrent|project:team|0"] == 1


@pytest.mark.parametrize("view", ["official", "route", "internal"])
def test_what_no_ledger_can_hold_is_told_as_money(view: str) -> None:
    """A request that may cost more than can be held is answered 402 with both amounts, not with the store's error."""
    quote, payer = quoted()
    most = replace(quote, worst=replace(quote.worst, **{view: money.MAX_REQUEST}))
    assert candidate(most, payer).lines
    beyond = replace(quote, worst=replace(quote.worst, **{view: money.MAX_REQUEST + 1}))
    with pytest.raises(BudgetExceeded, match=r"main may cost \$450000\.000000001 .* more than \$450000\.00\.") as told:
        candidate(beyond, payer)
    assert (told.value.status, told.value.code, told.value.should_retry) == (402, "max_cost_exceeded", False)


def test_ten_times_what_can_be_held_can_be_booked() -> None:
    """A bill of ten times the hold, the most that is believed, is within what the store takes."""
    assert ABSURD * money.MAX_REQUEST <= money.MAX_MICRO


def test_the_record_of_an_attempt_has_names_and_exact_amounts() -> None:
    """Route, model, provider and the worst case in nano-USD as text, so that the store keeps it exactly."""
    quote, payer = quoted()
    facts = candidate(quote, payer).facts
    assert facts["route"] == "main"
    assert facts["worst"] == {
        "official": str(quote.worst.official),
        "route": str(quote.worst.route),
        "internal": str(quote.worst.internal),
    }


def test_a_candidate_is_made_again_for_whatever_changes_it() -> None:
    """Requests that share a quote share its candidate; another policy, project, job type, limit or key gets its own."""
    quote, payer = quoted(images_per_minute=5)
    first = candidate(quote, payer)
    assert candidate(quote, replace(payer, caller=Caller("key_2", "team"))) is first

    dearer = replace(payer.policy, budgets=(Budget(Scope(), Window.MONTH, 8),))
    other = replace(payer.project, budgets=(TOTAL,))
    kind = replace(payer.job_type, name="hero")
    fewer = Quota(Scope(route="main"), Counted.IMAGES, 3, 60)
    for changed, limits in (
        (replace(payer, policy=dearer), limits_of),
        (replace(payer, project=other), limits_of),
        (replace(payer, job_type=kind), limits_of),
        (payer, lambda _: (fewer,)),
        (payer, limits_of),
    ):
        again = candidate(quote, changed, limits)
        assert again == candidate(replace(quote, worst=quote.worst), changed, limits)
        assert (again == first) == (changed is payer and limits is limits_of)

    keyed = replace(payer.project, budgets=(Budget(Scope(key="key_1"), Window.MONTH, 5),))
    meters = [
        [line.rule.meter for line in candidate(quote, replace(payer, project=keyed, caller=Caller(key, "team"))).lines]
        for key in ("key_1", "key_2", "key_1")
    ]
    assert [len([name for name in each if "key:" in name]) for each in meters] == [1, 0, 1]


def test_a_degraded_candidate_says_what_its_own_request_asked_for() -> None:
    """Its record is of one request alone, though the next one shares its quote."""
    quote, payer = quoted()
    quote = replace(quote, degraded={"size": "1024x1024"})
    asked = [candidate(quote, payer, asked={"size": size}).facts["asked"] for size in ("2048x2048", "1536x1024")]
    assert asked == [{"size": "2048x2048"}, {"size": "1536x1024"}]


def test_a_changed_quote_has_a_candidate_of_its_own() -> None:
    """What is kept with a quote is not carried over to another one that is made of it, nor told when it is written."""
    quote, payer = quoted()
    before = candidate(quote, payer)
    written = candidate_arg(before)
    assert candidate_arg(before) is written
    dearer = replace(quote, worst=replace(quote.worst, route=quote.worst.route + 1_000_000))
    assert candidate(dearer, payer) != before
    assert candidate_arg(candidate(dearer, payer)) != written
    assert candidate_arg(replace(before, lines=before.lines[:1])) != written
    assert quote == replace(quote, tokens=quote.tokens)
    assert "held" not in repr(quote)


def test_a_hold_counts_in_the_limits_of_the_account_too() -> None:
    """All routes of an account share its limits; tokens count the most that may be taken, calls as many as are made."""
    limits = RouteLimits(images_per_day=50, requests_per_minute=5, tokens_per_minute=9_000, concurrent=3)
    account = replace(PROVIDER, limits=limits)
    quote, payer = quoted(n=4, tokens_per_minute=7_000)
    quote = replace(quote, route=replace(quote.route, provider=account), tokens=1234, calls=2)
    lines = {line.rule.meter: (line.amount, line.rule.limit) for line in candidate(quote, payer).lines}
    assert lines["tokens|route:main|60"] == (1234, 7_000)
    assert lines["images|provider:acme|86400"] == (4, 50)
    assert lines["requests|provider:acme|60"] == (2, 5)
    assert lines["tokens|provider:acme|60"] == (1234, 9_000)
    assert lines["concurrent|provider:acme|0"] == (2, 3)
    assert lines["requests|project:team|3600"][0] == lines["concurrent|project:team|0"][0] == 1


def test_limits_may_be_other_than_policy_says() -> None:
    """What was learned of a provider replaces what is configured."""
    quote, payer = quoted(images_per_minute=50)
    lower = Quota(Scope(route="main"), Counted.IMAGES, 5, 60)
    lines = candidate(quote, payer, lambda _: (lower,)).lines
    assert [line.rule for line in lines if line.rule.scope.route] == [lower]


def test_what_covers_a_request_is_found_anew_where_anything_of_it_differs() -> None:
    """One policy object, and every part of a request in turn: none is given the rules of the one asked for before."""
    quote, payer = quoted(images_per_minute=5)
    keyed = Budget(Scope(project="team", key="key_1"), Window.DAY, 3)
    mine = replace(payer.policy, budgets=(keyed, *payer.policy.budgets))
    payer = replace(payer, policy=mine)
    other_route = replace(quote.route, name="other")
    other_kind = replace(payer.job_type, name="hero")
    changes: list[tuple[Quote, PayerDetails]] = [
        (quote, payer),
        (quote, replace(payer, caller=Caller("key_2", "team"))),
        (quote, replace(payer, project=replace(payer.project, name="rest"))),
        (quote, replace(payer, project=replace(payer.project, quotas=()))),
        (quote, replace(payer, job_type=other_kind)),
        (replace(quote, route=other_route), payer),
        (replace(quote, route=replace(quote.route, limits=RouteLimits(images_per_minute=6))), payer),
        (
            replace(quote, route=replace(quote.route, provider=replace(PROVIDER, limits=RouteLimits(concurrent=1)))),
            payer,
        ),
        (quote, replace(payer, policy=replace(mine, budgets=()))),
    ]
    found = [tuple(line.rule for line in candidate(*change).lines) for change in changes]
    unlimited = tuple(line.rule for line in candidate(quote, payer, lambda _: ()).lines)
    assert len({unlimited, *found}) == len(changes) + 1
    assert keyed in found[0]
    assert keyed not in found[1]
    assert [tuple(line.rule for line in candidate(*change).lines) for change in reversed(changes)] == found[::-1]


def test_budgets_may_be_for_an_account_and_never_for_shadows() -> None:
    """A rule with a provider covers its routes alone; one for shadow requests covers no ordinary request."""
    quote, payer = quoted()
    mine, other = (Budget(Scope(provider=name), Window.DAY, 9) for name in ("acme", "other"))
    shadows = Budget(Scope(shadow="draft"), Window.DAY, 9)
    rules = replace(payer.policy, budgets=(mine, other, shadows))
    found = [line.rule for line in candidate(quote, replace(payer, policy=rules)).lines]
    assert mine in found
    assert other not in found
    assert shadows not in found


def test_a_shadow_takes_its_own_budget_and_what_its_provider_limits() -> None:
    """Neither budgets nor quotas of anybody else, and it is never passed over for pressure."""
    quote, _ = quoted(n=3, images_per_minute=5)
    route_of = replace(quote.route, provider=replace(PROVIDER, limits=RouteLimits(concurrent=2)))
    quote = replace(quote, route=route_of, pressure=Pressure(0, 8_000))
    own = Budget(Scope(shadow="draft"), Window.DAY, 5_000_000)
    offer = shadow_candidate(quote, Shadow(route_of, 200, own))
    assert [(line.rule.meter, line.amount) for line in offer.lines] == [
        ("usd|shadow:draft|route|day", money.micro_from_nano(quote.worst.route)),
        ("images|route:main|60", 3),
        ("concurrent|provider:acme|0", 1),
    ]
    assert offer.pressure == Pressure()
    assert offer.facts["route"] == "main"


def test_a_degraded_quote_is_recorded_with_what_was_asked() -> None:
    """The record says what policy changed, and what the client wanted instead; the quote's range goes to the ledger."""
    quote, payer = quoted()
    assert not {"degraded", "asked", "n"} & candidate(quote, payer).facts.keys()
    changed = replace(quote, degraded={"quality": "low", "n": "2"}, pressure=Pressure(8_000, 9_500))
    offer = candidate(changed, payer, asked={"quality": "high", "n": 4, "size": "auto"})
    assert offer.facts["degraded"] == {"quality": "low", "n": "2"}
    assert offer.facts["asked"] == {"quality": "high", "n": 4}
    assert offer.facts["n"] == 2
    assert offer.pressure == Pressure(8_000, 9_500)


@pytest.mark.parametrize(
    ("obstacles", "error"),
    [
        pytest.param([[spent()]], BudgetExceeded, id="one budget"),
        pytest.param([[spent(), full()]], BudgetExceeded, id="waiting does not help against a budget"),
        pytest.param([[full()]], RateLimited, id="one quota"),
        pytest.param([[full(), full(LIVE, 1, 1.0)]], RateLimited, id="two quotas"),
        pytest.param([[spent()], [full()]], RateLimited, id="waiting helps on the second route"),
        pytest.param([[full()], [spent()]], RateLimited, id="waiting helps on the first route"),
        pytest.param([[spent()], [spent(TOTAL)]], BudgetExceeded, id="two routes, two budgets"),
        pytest.param([[full(amount=11, wait=0.0)]], InvalidRequest, id="n beyond the quota, for ever"),
        pytest.param([[full(amount=11, wait=0.0), spent()]], InvalidRequest, id="n beyond it, and no money"),
        pytest.param(
            [[full(amount=11, wait=0.0)], [spent()]], BudgetExceeded, id="n beyond one, no money for the other"
        ),
        pytest.param([[full(LIVE, 1, 0.5)]], RateLimited, id="in flight"),
    ],
)
def test_a_denial_becomes_the_error_that_says_what_would_help(
    obstacles: list[list[Obstacle]], error: type[GatewayError]
) -> None:
    """429 where waiting helps on some route, 402 where only money would, 400 where n can never pass."""
    raised = denial(Denied(tuple(map(tuple, obstacles))))
    assert type(raised) is error


def test_a_spent_budget_says_which_how_much_is_left_and_when_it_resets() -> None:
    """Scope, window, limit, price, rest, and seconds; SDKs are told not to retry."""
    error = denial(Denied(((spent(),),)))
    assert error.should_retry is False
    assert error.retry_after is None
    for words in ("$1.00 per month for project:team", "may cost $0.20", "$0.05 is left", "$0.90 spent", "$0.05 held"):
        assert words in error.message
    assert "resets in 3600 s" in error.message


def test_a_budget_without_a_window_does_not_promise_a_reset() -> None:
    """A total never comes back."""
    error = denial(Denied(((spent(TOTAL, wait=0.0),),)))
    assert "in total" in error.message
    assert "resets" not in error.message


def test_what_is_left_is_never_negative() -> None:
    """After a limit was lowered below what is spent, nothing is left, not less."""
    error = denial(Denied(((spent(used=5_000_000),),)))
    assert "$0.00 is left" in error.message


def test_the_wait_is_that_of_the_first_route_to_come_free() -> None:
    """Of each route the slowest line counts, of the routes the fastest; and it is a minute at most."""
    soon = [full(wait=5.0), full(LIVE, 1, 2.0)]
    late = [full(wait=50.0)]
    error = denial(Denied((tuple(late), tuple(soon))))
    assert error.retry_after == 5.0
    assert error.should_retry is True
    assert "Limit 10, used 10, requested 3" in error.message
    error = denial(Denied(((full(DAY, wait=40_000.0),),)))
    assert error.retry_after == 60.0
    assert "images per day" in error.message


def test_a_route_that_can_never_take_n_does_not_hide_one_that_soon_can() -> None:
    """With one route beyond its quota for ever and another busy, the client is told to come again."""
    error = denial(Denied(((full(amount=11, wait=0.0),), (full(wait=7.0),))))
    assert isinstance(error, RateLimited)
    assert error.retry_after == 7.0


def test_held_tells_which_candidate_was_taken() -> None:
    """A hold names the index of the candidate and the number of the attempt."""
    held = Held(1, 2, ())
    assert (held.index, held.attempt) == (1, 2)

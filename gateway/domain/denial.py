"""Denial: which error a refused hold becomes: what stood in the way, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from gateway.domain import money
from gateway.domain.budget import Budget, Counted, Denied, Obstacle, Quota, View
from gateway.domain.errors import (
    BudgetExceeded,
    GatewayError,
    InvalidRequest,
    RateLimited,
    UnsupportedByEveryRoute,
)
from gateway.domain.policy import DegradeStep
from gateway.domain.route import Quote, Views

_SPANS = {60: "minute", 3600: "hour", 86_400: "day"}


def denial(
    denied: Denied, quotes: Sequence[Quote] = (), ladder: Sequence[DegradeStep] = (), *, may_degrade: bool = True
) -> GatewayError:
    """Return the error for a denial: 429 if waiting alone would help on some route, 400 if n fits on none, else 402.

    `quotes` are those that were offered, `ladder` the job type's; they tell a client that forbade it (`may_degrade`)
    what policy would have changed.
    """
    ways = [way for way in denied.obstacles if way]
    passing = [way for way in ways if all(map(_passes, way))]
    of_tool = any(quote.text is not None for quote in quotes)
    if passing:
        return _rate_limited(passing, of_tool=of_tool)
    hopeless = [obstacle for way in ways for obstacle in way if _never_fits(obstacle)]
    if ways and all(any(map(_never_fits, way)) for way in ways):
        return _too_many(hopeless[0], of_tool=of_tool)
    money_short = [short for way in ways if (short := [*filter(_lacks_money, way)])]
    if money_short:
        return _spent(money_short)
    for number, way in enumerate(denied.obstacles):
        for obstacle in way:
            if isinstance(obstacle.line.rule, Budget):
                begins = quotes[number].pressure.below if quotes else None
                return _left_the_range(obstacle, begins, () if may_degrade else ladder)
    return UnsupportedByEveryRoute("Policy opens what is left of the routes only once more of a budget is used.")


def check_holdable(route: str, worst: Views) -> None:
    """Raise BudgetExceeded for what may cost more than the ledger can hold on one request."""
    most = max(worst.official, worst.route, worst.internal)
    if most > money.MAX_REQUEST:
        cost, limit = money.format_usd(most), money.format_usd(money.MAX_REQUEST)
        message = f"Route {route} may cost ${cost} for this request; no request can be held at more than ${limit}."
        raise BudgetExceeded(message, code="max_cost_exceeded", should_retry=False)


def _passes(obstacle: Obstacle) -> bool:
    return isinstance(obstacle.line.rule, Quota) and not _never_fits(obstacle)


def _never_fits(obstacle: Obstacle) -> bool:
    return isinstance(obstacle.line.rule, Quota) and obstacle.line.amount > obstacle.line.rule.limit


def _lacks_money(obstacle: Obstacle) -> bool:
    rule = obstacle.line.rule
    return isinstance(rule, Budget) and obstacle.used + obstacle.held + obstacle.line.amount > rule.limit


def _rate_limited(ways: Sequence[Sequence[Obstacle]], *, of_tool: bool) -> RateLimited:
    way = min(ways, key=lambda way: max(obstacle.wait for obstacle in way))
    slowest = max(way, key=lambda obstacle: obstacle.wait)
    rule = slowest.line.rule
    assert isinstance(rule, Quota)
    taken = slowest.used + slowest.held
    bound = " (max_tool_calls)" if of_tool and rule.counted is Counted.IMAGES else ""
    message = (
        f"Rate limit reached for {rule.scope.label()}: {_words(rule)}. Limit {rule.limit}, used {taken}, "
        f"requested {slowest.line.amount}{bound}. Please try again in {slowest.wait:.1f}s."
    )
    error = RateLimited(message, retry_after=slowest.wait, should_retry=True)
    if rule.counted is Counted.IMAGES:
        error.headers += [
            ("x-ratelimit-limit-images", str(rule.limit)),
            ("x-ratelimit-remaining-images", str(max(rule.limit - taken, 0))),
            ("x-ratelimit-reset-images", f"{slowest.wait:.3f}s"),
        ]
    return error


def _too_many(obstacle: Obstacle, *, of_tool: bool) -> InvalidRequest:
    rule, param = obstacle.line.rule, "max_tool_calls" if of_tool else "n"
    assert isinstance(rule, Quota)
    amount = obstacle.line.amount
    what = f"{param}={amount}" if rule.counted is Counted.IMAGES else f"A request of {amount}"
    message = f"{what} can never pass {_words(rule)} ({rule.scope.label()}): at most {rule.limit}."
    return InvalidRequest(message, param=param)


def _words(rule: Quota) -> str:
    if rule.counted is Counted.CONCURRENT:
        return "requests in flight"
    return f"{rule.counted} per {span(rule.seconds)}"


def span(seconds: int) -> str:
    """Return a quota's time in a word where there is one: `day`, `90 s`."""
    return _SPANS.get(seconds, f"{seconds} s")


def _spent(ways: Sequence[Sequence[Obstacle]]) -> BudgetExceeded:
    """Of the cheapest way the budget that stays in it longest: until that one resets, the others' room is no use."""
    way = min(ways, key=lambda way: max(obstacle.line.amount for obstacle in way))
    nearest = max(way, key=lambda obstacle: (obstacle.wait or inf, -_left(obstacle)))
    left = _left(nearest)
    return _budget_error(
        nearest,
        f"{_budget(nearest)} does not allow this request: it may cost {_usd(nearest.line.amount)}, "
        f"{_usd(left)} is left ({_usd(nearest.used)} spent, {_usd(nearest.held)} held).",
    )


def _left_the_range(obstacle: Obstacle, begins: int | None, ladder: Sequence[DegradeStep]) -> BudgetExceeded:
    """The request had room, but at this use of a budget (`begins`, basis points) policy goes on only by a change."""
    limit, taken = max(obstacle.line.rule.limit, 1), obstacle.used + obstacle.held
    changes = [
        f"from {step.budget_used / 100:g} % on policy changes "
        + " and ".join(f"{name} to {value}" for name, value in step.fields.items())
        for step in ladder
        if step.fields and (begins or 0) <= step.budget_used and step.budget_used * limit <= taken * 10_000
    ]
    so = f"{', '.join(changes)}, which X-Gateway-Degrade: never forbids" if changes else ""
    if not so:
        share = "" if begins is None else f" from {begins / 100:g} % on"
        so = f"policy has no route{share} that can do this request"
    return _budget_error(obstacle, f"{_budget(obstacle)} is used to {taken * 100 // limit} %; {so}.")


def _budget_error(obstacle: Obstacle, message: str) -> BudgetExceeded:
    resets = "" if not obstacle.wait else f" It resets in {round(obstacle.wait)} s."
    error = BudgetExceeded(message + resets, should_retry=False)
    left = money.format_usd(_left(obstacle) * money.NANO_PER_MICRO)
    error.headers.append(("X-Gateway-Budget-Remaining", left))
    return error


def _budget(obstacle: Obstacle) -> str:
    rule = obstacle.line.rule
    assert isinstance(rule, Budget)
    per = "in total" if rule.window == "total" else f"per {rule.window}"
    view = "" if rule.view is View.ROUTE else f" (view: {rule.view})"
    return f"The budget of {_usd(rule.limit)} {per} for {rule.scope.label()}{view}"


def _left(obstacle: Obstacle) -> int:
    return max(obstacle.line.rule.limit - obstacle.used - obstacle.held, 0)


def _usd(micro: int) -> str:
    return f"${money.format_usd(micro * money.NANO_PER_MICRO)}"

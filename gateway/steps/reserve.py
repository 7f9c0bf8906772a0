"""Reserve: choose the first route that every budget, quota and limit allows, and hold on all of them, in one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.domain import money
from gateway.domain.budget import Budget, Candidate, Counted, Denied, Held, Line, Obstacle, Quota, Scope, View
from gateway.domain.caller import Caller
from gateway.domain.errors import BudgetExceeded, GatewayError, InvalidRequest, RateLimited
from gateway.domain.idempotency import Binding, Bound
from gateway.domain.policy import JobType, Policy, Project
from gateway.domain.route import Quote, Route, Views
from gateway.ports import Ledger

MINUTE, DAY = 60, 86_400


@dataclass(frozen=True, slots=True)
class Purse:
    """Whose money and whose quotas a request draws on."""

    caller: Caller
    project: Project
    job_type: JobType
    policy: Policy


@dataclass(frozen=True, slots=True)
class Reserved:
    """The quote that was chosen and the hold on it."""

    quote: Quote
    held: Held


class AlreadyBound(Exception):
    """Nothing was held: the request repeats an earlier one, which `bound` names."""

    def __init__(self, bound: Bound) -> None:
        super().__init__(bound.request_id)
        self.bound = bound


async def reserve(
    ledger: Ledger,
    request_id: str,
    quotes: Sequence[Quote],
    purse: Purse,
    *,
    about: Mapping[str, object],
    release: int | None = None,
    binding: Binding | None = None,
) -> Reserved:
    """Hold the worst case on the first quote that fits; raises the error that says what stood in the way of each.

    AlreadyBound if `binding` belongs to another request.
    """
    candidates = [candidate(quote, purse) for quote in quotes]
    answer = await ledger.choose_and_hold(
        request_id,
        candidates,
        about=about,
        release=release,
        binding=binding,
        allowance=purse.project.offline_allowance,
    )
    if isinstance(answer, Bound):
        raise AlreadyBound(answer)
    if isinstance(answer, Denied):
        raise denial(answer)
    return Reserved(quotes[answer.index], answer)


def candidate(quote: Quote, purse: Purse) -> Candidate:
    """Return every line that a hold on this quote takes: budgets, quotas and the route's own limits."""
    names = {
        "project": purse.project.name,
        "key": purse.caller.key_id,
        "job_type": purse.job_type.name,
        "route": quote.route.name,
    }
    budgets = (*purse.policy.budgets, *purse.project.budgets)
    quotas = (*purse.project.quotas, *route_quotas(quote.route))
    lines = [
        Line(rule, money.micro_from_nano(_in_view(quote.worst, rule.view)))
        for rule in budgets
        if rule.scope.covers(**names)
    ]
    lines += [Line(rule, _count(rule, quote)) for rule in quotas if rule.scope.covers(**names)]
    return Candidate(quote.route.name, tuple(lines), _facts(quote))


def _in_view(views: Views, view: View) -> int:
    return {View.OFFICIAL: views.official, View.ROUTE: views.route, View.INTERNAL: views.internal}[view]


def _count(rule: Quota, quote: Quote) -> int:
    return quote.job.n if rule.counted is Counted.IMAGES else 1


def route_quotas(route: Route) -> tuple[Quota, ...]:
    """Return a route's limits as quotas on the route."""
    scope, limits = Scope(route=route.name), route.limits
    rules = (
        (Counted.IMAGES, limits.images_per_minute, MINUTE),
        (Counted.IMAGES, limits.images_per_day, DAY),
        (Counted.REQUESTS, limits.requests_per_minute, MINUTE),
        (Counted.CONCURRENT, limits.concurrent, 0),
    )
    return tuple(Quota(scope, counted, limit, seconds) for counted, limit, seconds in rules if limit is not None)


def _facts(quote: Quote) -> dict[str, object]:
    return {
        "route": quote.route.name,
        "model": quote.route.model.name,
        "provider": quote.route.provider.name,
        "upstream_model": quote.route.upstream_model,
        "size": quote.job.size,
        "quality": quote.job.quality,
        "worst": {
            "official": str(quote.worst.official),
            "route": str(quote.worst.route),
            "internal": str(quote.worst.internal),
        },
        "price_from": quote.route_price.valid_from.isoformat(),
    }


def denial(denied: Denied) -> GatewayError:
    """Return the error for a denial: 429 if waiting alone would help on some route, 400 if n fits on none, else 402."""
    ways = [way for way in denied.obstacles if way]
    passing = [way for way in ways if all(map(_passes, way))]
    if passing:
        return _rate_limited(passing)
    hopeless = [obstacle for way in ways for obstacle in way if _never_fits(obstacle)]
    if all(any(map(_never_fits, way)) for way in ways):
        return _too_many(hopeless[0])
    return _spent([obstacle for way in ways for obstacle in way if isinstance(obstacle.line.rule, Budget)])


def _passes(obstacle: Obstacle) -> bool:
    return isinstance(obstacle.line.rule, Quota) and not _never_fits(obstacle)


def _never_fits(obstacle: Obstacle) -> bool:
    return isinstance(obstacle.line.rule, Quota) and obstacle.line.amount > obstacle.line.rule.limit


def _rate_limited(ways: Sequence[Sequence[Obstacle]]) -> RateLimited:
    way = min(ways, key=lambda way: max(obstacle.wait for obstacle in way))
    slowest = max(way, key=lambda obstacle: obstacle.wait)
    rule = slowest.line.rule
    assert isinstance(rule, Quota)
    taken = slowest.used + slowest.held
    message = (
        f"Rate limit reached for {rule.scope.label()}: {_words(rule)}. "
        f"Limit {rule.limit}, used {taken}, requested {slowest.line.amount}. Please try again in {slowest.wait:.1f}s."
    )
    error = RateLimited(message, retry_after=slowest.wait, should_retry=True)
    if rule.counted is Counted.IMAGES:
        error.headers += [
            ("x-ratelimit-limit-images", str(rule.limit)),
            ("x-ratelimit-remaining-images", str(max(rule.limit - taken, 0))),
            ("x-ratelimit-reset-images", f"{slowest.wait:.3f}s"),
        ]
    return error


def _too_many(obstacle: Obstacle) -> InvalidRequest:
    rule = obstacle.line.rule
    assert isinstance(rule, Quota)
    message = f"n={obstacle.line.amount} can never pass {_words(rule)} ({rule.scope.label()}): at most {rule.limit}."
    return InvalidRequest(message, param="n")


def _words(rule: Quota) -> str:
    if rule.counted is Counted.CONCURRENT:
        return "requests in flight"
    spans = {MINUTE: "minute", 3600: "hour", DAY: "day"}
    return f"{rule.counted} per {spans.get(rule.seconds, f'{rule.seconds} s')}"


def _spent(obstacles: Sequence[Obstacle]) -> BudgetExceeded:
    nearest = min(obstacles, key=lambda obstacle: obstacle.line.amount)
    rule = nearest.line.rule
    assert isinstance(rule, Budget)

    def usd(micro: int) -> str:
        return f"${money.format_usd(micro * money.NANO_PER_MICRO)}"

    left = max(rule.limit - nearest.used - nearest.held, 0)
    resets = "" if not nearest.wait else f" It resets in {round(nearest.wait)} s."
    per = "in total" if rule.window == "total" else f"per {rule.window}"
    message = (
        f"The budget of {usd(rule.limit)} {per} for {rule.scope.label()} does not allow this request: "
        f"it may cost {usd(nearest.line.amount)}, {usd(left)} is left "
        f"({usd(nearest.used)} spent, {usd(nearest.held)} held).{resets}"
    )
    error = BudgetExceeded(message, should_retry=False)
    error.headers.append(("X-Gateway-Budget-Remaining", money.format_usd(left * money.NANO_PER_MICRO)))
    return error

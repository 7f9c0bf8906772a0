"""Reserve: choose the first route that every budget, quota and limit allows, and hold on all of them, in one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import overload

from gateway.domain import money
from gateway.domain.budget import Budget, Candidate, Counted, Denied, Held, Line, Quota, Scope, View
from gateway.domain.caller import Caller
from gateway.domain.idempotency import Binding, Bound
from gateway.domain.policy import JobType, Policy, Project, Shadow
from gateway.domain.record import record
from gateway.domain.route import ProviderConfig, Quote, Route, RouteLimits, Views
from gateway.ports import Ledger

MINUTE, DAY = 60, 86_400


def limits_of(route: Route) -> tuple[Quota, ...]:
    """Return the limits that a call on a route counts in: the route's own, and those of its whole account."""
    return (*route_quotas(route), *account_quotas(route.provider))


def route_quotas(route: Route) -> tuple[Quota, ...]:
    """Return a route's own limits as quotas on the route."""
    return _quotas(Scope(route=route.name), route.limits)


def account_quotas(provider: ProviderConfig) -> tuple[Quota, ...]:
    """Return the limits of an account, all its routes together, as quotas on the provider."""
    return _quotas(Scope(provider=provider.name), provider.limits)


@lru_cache(4096)
def _quotas(scope: Scope, limits: RouteLimits) -> tuple[Quota, ...]:
    rules = (
        (Counted.IMAGES, limits.images_per_minute, MINUTE),
        (Counted.IMAGES, limits.images_per_day, DAY),
        (Counted.REQUESTS, limits.requests_per_minute, MINUTE),
        (Counted.TOKENS, limits.tokens_per_minute, MINUTE),
        (Counted.CONCURRENT, limits.concurrent, 0),
    )
    return tuple(Quota(scope, counted, limit, seconds) for counted, limit, seconds in rules if limit is not None)


@record(frozen=True, slots=True)
class Purse:
    """Whose money and whose quotas a request draws on; `may_degrade` is whether the client allows changes.

    `limits` tells what a route's provider lets it do now.
    """

    caller: Caller
    project: Project
    job_type: JobType
    policy: Policy
    may_degrade: bool = True
    limits: Callable[[Route], tuple[Quota, ...]] = limits_of


@record(frozen=True, slots=True)
class Reserved:
    """The quote that was chosen and the hold on it."""

    quote: Quote
    held: Held


class AlreadyBound(Exception):
    """Nothing was held: the request repeats an earlier one, which `bound` names."""

    def __init__(self, bound: Bound) -> None:
        super().__init__(bound.request_id)
        self.bound = bound


async def hold(
    ledger: Ledger,
    request_id: str,
    quotes: Sequence[Quote],
    purse: Purse,
    *,
    about: Mapping[str, object],
    release: int | None = None,
    binding: Binding | None = None,
    only_if_held: bool = False,
) -> Reserved | Denied:
    """Hold the worst case on the first quote that fits, or return what stood in the way of each.

    `release` is given back whatever the answer, or `only_if_held`. Raises AlreadyBound if `binding` belongs to another
    request.
    """
    candidates = _Candidates(quotes, purse, about)
    answer = await ledger.choose_and_hold(
        request_id,
        candidates,
        about=about,
        release=release,
        binding=binding,
        allowance=purse.project.offline_allowance,
        only_if_held=only_if_held,
    )
    if isinstance(answer, Bound):
        raise AlreadyBound(answer)
    return answer if isinstance(answer, Denied) else Reserved(quotes[answer.index], answer)


class _Candidates(Sequence[Candidate]):
    """The candidates of quotes, each made when it is looked at: most requests are offered the first few alone."""

    def __init__(self, quotes: Sequence[Quote], purse: Purse, asked: Mapping[str, object]) -> None:
        self._quotes = quotes
        self._purse = purse
        self._asked = asked
        self._made: dict[int, Candidate] = {}

    def __len__(self) -> int:
        return len(self._quotes)

    @overload
    def __getitem__(self, at: int) -> Candidate: ...

    @overload
    def __getitem__(self, at: slice) -> list[Candidate]: ...

    def __getitem__(self, at: int | slice) -> Candidate | list[Candidate]:
        if isinstance(at, slice):
            return [self[place] for place in range(len(self))[at]]
        made = self._made.get(at)
        if made is None:
            made = self._made[at] = candidate(self._quotes[at], self._purse, asked=self._asked)
        return made


def candidate(quote: Quote, purse: Purse, *, asked: Mapping[str, object] | None = None) -> Candidate:
    """Return every line that a hold on this quote takes: budgets, quotas, and the limits of the route and its account.

    `asked` are the values of the client's request that the record of a degraded one shows beside its own.
    """
    names = {
        "project": purse.project.name,
        "key": purse.caller.key_id,
        "job_type": purse.job_type.name,
        "route": quote.route.name,
        "provider": quote.route.provider.name,
    }
    rules: list[Budget | Quota] = [*purse.policy.budgets, *purse.project.budgets]
    rules += [*purse.project.quotas, *purse.limits(quote.route)] if quote.batch is None else _outlasting(purse)
    lines = tuple(_line(rule, quote) for rule in rules if rule.scope.covers(**names))
    return Candidate(quote.route.name, lines, _facts(quote, asked or {}), quote.pressure)


def _outlasting(purse: Purse) -> list[Quota]:
    """What limits a request that goes by batch: the provider counts batches apart, and nothing is kept in flight."""
    return [quota for quota in purse.project.quotas if quota.counted is not Counted.CONCURRENT]


def shadow_candidate(
    quote: Quote, shadow: Shadow, limits: Callable[[Route], tuple[Quota, ...]] = limits_of
) -> Candidate:
    """Return the lines of a shadow request: its own budget and the limits of the route and its account, no others."""
    rules: list[Budget | Quota] = [shadow.budget, *limits(quote.route)]
    return Candidate(quote.route.name, tuple(_line(rule, quote) for rule in rules), _facts(quote, {}))


def _line(rule: Budget | Quota, quote: Quote) -> Line:
    if isinstance(rule, Budget):
        return Line(rule, money.micro_from_nano(_in_view(quote.worst, rule.view)))
    return Line(rule, _count(rule, quote))


def _in_view(views: Views, view: View) -> int:
    if view is View.ROUTE:
        return views.route
    return views.official if view is View.OFFICIAL else views.internal


def _count(rule: Quota, quote: Quote) -> int:
    """Images and tokens as they are; a project makes one request where a provider may see several calls."""
    if rule.counted is Counted.IMAGES:
        return quote.job.n
    if rule.counted is Counted.TOKENS:
        return quote.tokens
    return quote.calls if rule.scope.route or rule.scope.provider else 1


def _facts(quote: Quote, asked: Mapping[str, object]) -> dict[str, object]:
    facts: dict[str, object] = {
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
    if quote.calls > 1:
        facts["calls"] = quote.calls
    if quote.batch is not None:
        facts["batch"] = str(quote.batch.terms.multiplier)
    if quote.degraded:
        facts |= {
            "n": quote.job.n,
            "degraded": dict(quote.degraded),
            "asked": {name: asked[name] for name in quote.degraded if name in asked},
        }
    return facts

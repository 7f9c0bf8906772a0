"""Reserve: choose the first route that every budget, quota and limit allows, and hold on all of them, in one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol, overload

from gateway.domain import money
from gateway.domain.budget import Budget, Candidate, Counted, Held, Line, Quota, Scope, View
from gateway.domain.caller import Caller
from gateway.domain.denial import check_holdable
from gateway.domain.idempotency import Bound
from gateway.domain.policy import JobType, Policy, Project, Shadow
from gateway.domain.record import record
from gateway.domain.route import ProviderConfig, Quote, Route, RouteLimits

MINUTE, DAY = 60, 86_400
REMEMBERED = 4096
"""Routes, and combinations of them with projects and job types, of which it is kept what limits them."""
_limits: dict[int, tuple[Route, tuple[Quota, ...]]] = {}


def limits_of(route: Route) -> tuple[Quota, ...]:
    """Return the limits that a call on a route counts in: the route's own, and those of its whole account."""
    known = _limits.get(id(route))
    if known is None or known[0] is not route:
        if len(_limits) >= REMEMBERED:
            _limits.clear()
        known = _limits[id(route)] = route, (*route_quotas(route), *account_quotas(route.provider))
    return known[1]


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


Limits = Callable[[Route], tuple[Quota, ...]]
"""Tells what a route's provider lets it do now."""


class Payer(Protocol):
    """Whose money and whose quotas a request draws on."""

    @property
    def caller(self) -> Caller:
        """Whose key it came with."""

    @property
    def project(self) -> Project:
        """Whose budgets and quotas it falls under."""

    @property
    def job_type(self) -> JobType:
        """What the images are for."""

    @property
    def policy(self) -> Policy:
        """What has budgets of its own."""


@record(frozen=True, slots=True)
class PayerDetails:
    """A `Payer` by itself; `may_degrade` is whether the client allows changes."""

    caller: Caller
    project: Project
    job_type: JobType
    policy: Policy
    may_degrade: bool = True


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


def candidates(
    quotes: Sequence[Quote], payer: Payer, about: Mapping[str, object], limits: Limits = limits_of
) -> Sequence[Candidate]:
    """Return the candidates of quotes; `about` is what the ledger's record says of the request."""
    if len(quotes) == 1:
        return (candidate(quotes[0], payer, limits, asked=about),)
    return _Candidates(quotes, payer, about, limits)


class _Candidates(Sequence[Candidate]):
    """The candidates of quotes, each made when it is looked at: most requests are offered the first few alone."""

    def __init__(self, quotes: Sequence[Quote], payer: Payer, asked: Mapping[str, object], limits: Limits) -> None:
        self._quotes = quotes
        self._payer = payer
        self._asked = asked
        self._limits = limits
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
        if at not in self._made:
            self._made[at] = candidate(self._quotes[at], self._payer, self._limits, asked=self._asked)
        return self._made[at]


def candidate(
    quote: Quote, payer: Payer, limits: Limits = limits_of, *, asked: Mapping[str, object] | None = None
) -> Candidate:
    """Return every line that a hold on this quote takes: budgets, quotas, and the limits of the route and its account.

    `asked` are the values of the client's request that the record of a degraded one shows beside its own.
    """
    own = limits(quote.route) if quote.batch is None else None
    policy, project, job_type = payer.policy, payer.project, payer.job_type
    if quote.held is not None:
        (of_policy, of_project, of_job_type, of_own), made = quote.held
        if of_policy is policy and of_project is project and of_job_type is job_type and of_own is own:
            return made
    check_holdable(quote.route.name, quote.worst)
    rules = _covering.rules(payer, quote.route, own)
    lines = _lines(rules.of(payer.caller.key_id), quote)
    made = Candidate(quote.route.name, lines, _facts(quote, asked or {}), quote.pressure)
    if not (rules.keyed or quote.degraded):  # whose record shows what else the client said
        object.__setattr__(quote, "held", ((policy, project, job_type, own), made))
    return made


@record(frozen=True, slots=True)
class _Rules:
    """What limits a project's job type on a route, and all that this was worked out from; `keyed`: some limit a key."""

    project: Project
    job_type: JobType
    route: Route
    limits: tuple[Quota, ...] | None
    every: tuple[tuple[Budget | Quota, str], ...]
    """Each rule, and which of the amounts it counts."""
    keyed: bool

    def of(self, key: str) -> Sequence[tuple[Budget | Quota, str]]:
        """Return those under which requests of a key fall."""
        return [each for each in self.every if each[0].scope.key in (None, key)] if self.keyed else self.every


class _Covering:
    """The rules under which requests fall, worked out once for each combination while one policy lasts."""

    def __init__(self) -> None:
        self._policy: Policy | None = None
        self._known: dict[tuple[int, int, int, bool], _Rules] = {}

    def rules(self, payer: Payer, route: Route, limits: tuple[Quota, ...] | None) -> _Rules:
        """Return the rules, in order; `limits` are the route's own and its account's, None for a batch."""
        if payer.policy is not self._policy or len(self._known) >= REMEMBERED:
            self._policy = payer.policy
            self._known.clear()
        at = id(payer.project), id(payer.job_type), id(route), limits is None  # what is kept keeps them alive
        known = self._known.get(at)
        if known is None or known.limits != limits:
            known = self._known[at] = _rules(payer, route, limits)
        return known


_covering = _Covering()


def _rules(payer: Payer, route: Route, limits: tuple[Quota, ...] | None) -> _Rules:
    every: list[Budget | Quota] = [*payer.policy.budgets, *payer.project.budgets]
    every += _outlasting(payer) if limits is None else [*payer.project.quotas, *limits]
    project, job_type, provider = payer.project.name, payer.job_type.name, route.provider.name
    rules = tuple(
        (rule, _what(rule))
        for rule in every
        if rule.scope.covers(
            project=project, key=rule.scope.key or "", job_type=job_type, route=route.name, provider=provider
        )
    )
    keyed = any(rule.scope.key is not None for rule, _ in rules)
    return _Rules(payer.project, payer.job_type, route, limits, rules, keyed)


def _outlasting(payer: Payer) -> list[Quota]:
    """What limits a request that goes by batch: the provider counts batches apart, and nothing is kept in flight."""
    return [quota for quota in payer.project.quotas if quota.counted is not Counted.CONCURRENT]


def shadow_candidate(quote: Quote, shadow: Shadow, limits: Limits = limits_of) -> Candidate:
    """Return the lines of a shadow request: its own budget and the limits of the route and its account, no others."""
    rules: list[Budget | Quota] = [shadow.budget, *limits(quote.route)]
    return Candidate(quote.route.name, _lines([(rule, _what(rule)) for rule in rules], quote), _facts(quote, {}))


def _lines(rules: Sequence[tuple[Budget | Quota, str]], quote: Quote) -> tuple[Line, ...]:
    """What a hold on the quote takes of each rule: micro-USD in its view, or a count."""
    worst = quote.worst
    amounts = {
        View.ROUTE: money.micro_from_nano(worst.route),
        View.OFFICIAL: money.micro_from_nano(worst.official),
        View.INTERNAL: money.micro_from_nano(worst.internal),
        Counted.IMAGES: quote.job.n,
        Counted.TOKENS: quote.tokens,
        "calls": quote.calls,
        "request": 1,
    }
    return tuple([Line(rule, amounts[what]) for rule, what in rules])


def _what(rule: Budget | Quota) -> str:
    """Images and tokens as they are; a project makes one request where a provider may see several calls."""
    if isinstance(rule, Budget):
        return rule.view
    if rule.counted in (Counted.IMAGES, Counted.TOKENS):
        return rule.counted
    return "calls" if rule.scope.route or rule.scope.provider else "request"


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

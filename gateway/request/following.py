"""Following: a call that a provider has taken on is seen to its end, whatever policy says of such requests by now.

It is paid for already: what it was held on decides how it is read and settled, and nothing else is sent for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Any

from gateway.domain import pricing
from gateway.domain.adjusting import held_of
from gateway.domain.caller import Caller
from gateway.domain.job import AUTO, Job
from gateway.domain.policy import JobType, Policy, Project, Retry
from gateway.domain.price import Price
from gateway.domain.pricing import NoPrice
from gateway.domain.route import ProviderConfig, Quote, Route, Views
from gateway.domain.task_profile import TaskProfile
from gateway.ports import Body
from gateway.request.batching import batch_quote
from gateway.request.exchange import Admitted, Exchange
from gateway.steps.classify import classify
from gateway.steps.rank import Ranked

Facts = Mapping[str, Any]
"""What the ledger's record says of an attempt."""


def quote_as_held(facts: Facts, job: Job, policy: Policy, today: date) -> Quote | None:
    """Return the quote that an attempt was held on; None where policy has its route no more, or no price for it.

    So it is where its account cannot be asked any more (`account_of`).

    `job` is the client's. What was held, and the words and pixels that were sent, are those on record; the price rows
    are those of the day of the hold, if policy has them still.
    """
    route = _route(facts, policy)
    prices = next(_prices(route, facts, today), None) if route is not None else None
    if route is None or prices is None:
        return None
    degraded = {str(name): str(value) for name, value in (facts.get("degraded") or {}).items()}
    sent = replace(
        job,
        n=int(facts.get("n") or job.n),
        size=str(facts.get("size") or AUTO),
        quality=str(facts.get("quality") or AUTO),
    )
    quote = in_calls(Quote(route, sent, {}, held_of(facts), *prices, 0, 0, degraded=degraded), facts)
    if "batch" not in facts:
        return quote
    assert route.provider.batch is not None
    terms = replace(route.provider.batch, multiplier=Fraction(str(facts["batch"])))
    return batch_quote(quote, terms, full=True)  # what was held is known


def in_calls(quote: Quote, facts: Facts, least: int = 1) -> Quote:
    """Return a quote in as many calls as it was held for, whatever its route makes in one by now.

    The record tells where it was more than one; `least` is how many are known to have been submitted.
    """
    calls = max(int(facts.get("calls", 1)), least)
    if calls == quote.calls:
        return quote
    capabilities = replace(quote.route.capabilities, n=-(-quote.job.n // calls))
    return replace(quote, route=replace(quote.route, capabilities=capabilities), calls=calls)


def account_of(facts: Facts, policy: Policy) -> ProviderConfig | None:
    """Return the account that took a call on, wherever its route leads by now; None where it cannot be asked any more.

    So it is where policy has none of that name, or one that is only ever sent to: one of another kind by now, or one
    that takes no batches any more where a line of a batch was held. Work that is under way must not be sent there.
    """
    account = policy.providers.get(str(facts.get("provider")))
    if account is None:
        return None
    asked = account.batch is not None if "batch" in facts else isinstance(account.profile, TaskProfile)
    return account if asked else None


def leads_there(route: Route, facts: Facts) -> bool:
    """Tell whether a route is the one that a call went by, and leads to where it went."""
    way = route.name, route.provider.name, route.upstream_model
    return way == (facts.get("route"), facts.get("provider"), facts.get("upstream_model"))


def _route(facts: Facts, policy: Policy) -> Route | None:
    """The route as the call went by it: to its account, and to what serves instead of a retired model if that did."""
    route, account = policy.routes.get(str(facts.get("route"))), account_of(facts, policy)
    model = facts.get("model")
    while route is not None and model is not None and route.model.name != model and route.successor is not None:
        route = route.successor
    if route is None or account is None:
        return None
    if leads_there(route, facts):
        return route
    known = policy.models.get(str(model), route.model)
    return replace(route, provider=account, model=known, upstream_model=str(facts.get("upstream_model")))


def _prices(route: Route, facts: Facts, today: date) -> Iterator[tuple[Price, Price]]:
    for day in (facts.get("price_from"), today.isoformat()):
        try:
            yield pricing.prices_of(route, date.fromisoformat(str(day)))
        except (NoPrice, ValueError):
            continue


def followed(
    exchange: Exchange, caller: Caller, policy: Policy, body: Body, *, facts: Facts, about: Facts, today: date
) -> Admitted | None:
    """Return a request that policy would not admit today, with the one route that works for it; None without that.

    `about` is what the record says of the request.
    """
    job = exchange.job = classify(exchange.inbound.operation, exchange.inbound.path_model, body)
    quote = quote_as_held(facts, job, policy, today)
    if quote is None:
        return None
    name = str(about.get("job_type"))
    # No call may follow, not even by batch: what policy would change about it is not known, and would be lost.
    kind = exchange.job_type = JobType(name, (quote.route,), retry=Retry(attempts=0))
    project = policy.projects.get(caller.project) or _former(caller.project, quote.worst)
    return Admitted(exchange, caller, project, job, kind, policy, Ranked([quote], ()), body, today)


def _former(name: str, held: Views) -> Project:
    """A project that policy names no more, with the multiplier by which its money was held."""
    return Project(name, (), None, multiplier=Fraction(held.internal, held.route) if held.route else Fraction(1))

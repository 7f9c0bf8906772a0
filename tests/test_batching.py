"""Which tasks go by batch, at what price, and how they wait for one another."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from fractions import Fraction

import pytest

from gateway.domain.batch import BatchTerms, Collecting, IfLate
from gateway.domain.caller import Caller
from gateway.domain.errors import UpstreamError
from gateway.domain.job import Operation
from gateway.domain.money import times
from gateway.domain.policy import JobType, Order
from gateway.domain.price import PixelTier, Price
from gateway.domain.retry import RetryBudgets
from gateway.domain.route import Views
from gateway.domain.settlement import Outcome
from gateway.ports import Body, Inbound
from gateway.ports.provider import UpstreamFailure
from gateway.request.batching import Gates, by_batch
from gateway.request.exchange import Admitted, Exchange
from gateway.request.retrying import RetryPlan
from gateway.steps.accept import accept
from gateway.tasks.promise import promised, within
from gateway.web.body import read_kept
from tests import builders
from tests.rig import planner

HOUR = 3600.0
TERMS = BatchTerms()
RULES = Collecting()


async def admitted(
    *,
    rules: Collecting | None = RULES,
    terms: BatchTerms | None = TERMS,
    order: Order = Order.LISTED,
    alone: str | None = None,
    prompt: str = "a cat",
) -> Admitted:
    """A request for images, on a route that takes batches; `alone` is the price of a route beside it that does not."""
    account = replace(builders.PROVIDER, name="batching", batch=terms)
    routes = [builders.route("main", provider=account)]
    if alone is not None:
        row = Price(date(2026, 1, 1), "here", per_image=(PixelTier("any", int(float(alone) * 10**9), None),))
        routes.append(builders.route("beside", prices=(row,)))
    policy = builders.policy(*routes, job_type=JobType("draft", tuple(routes), order=order, batch=rules))
    text = json.dumps({"prompt": prompt, "size": "1024x1024", "quality": "low"}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        yield text

    body = await read_kept("application/json", chunks())

    async def read() -> Body:
        return body

    inbound = Inbound(f"req_{1:032x}", Operation.GENERATE, None, {}, read, time.monotonic())
    exchange = Exchange(inbound, wishes=accept({"prefer": "respond-async"}))
    caller = Caller("key", "team", None)
    found, _ = planner(date(2026, 11, 20)).admitted(exchange, caller, policy.projects["team"], policy, body)
    return found


def routes_of(request: Admitted) -> list[tuple[str, bool]]:
    """The routes to be tried, and whether by batch."""
    return [(quote.route.name, quote.batch is not None) for quote in request.ranked.quotes]


async def test_what_fails_when_late_is_held_at_the_price_of_a_batch() -> None:
    """Worst case, expected cost and price rows are half of those without."""
    plain = await admitted(alone="0.01")
    found = by_batch(plain, 24 * HOUR)
    assert routes_of(found) == [("main", True)]
    before, after = plain.ranked.quotes[0], found.ranked.quotes[0]
    assert after.worst.route == times(before.worst.route, Fraction(1, 2)) < before.worst.route
    assert after.expected == times(before.expected, Fraction(1, 2))
    assert after.route_price.multiplier == after.official_price.multiplier == Fraction(1, 2)


async def test_a_batch_holds_as_much_of_the_project_as_it_can_cost() -> None:
    """The project's view is worked out of the route's, which is rounded up first."""
    plain = await admitted()
    [quote] = plain.ranked.quotes
    for route, multiplier in itertools.product(range(7), (Fraction(1), Fraction(5, 2), Fraction(7, 5))):
        odd = replace(quote, worst=Views(route, route, times(route, multiplier)))
        [batch] = by_batch(replace(plain, ranked=replace(plain.ranked, quotes=[odd])), 24 * HOUR).ranked.quotes
        assert batch.worst.internal >= times(times(route, Fraction(1, 2)), multiplier)


async def test_what_is_sent_when_late_is_held_at_the_full_price() -> None:
    """While it waits all routes count as ever; when it begins the batch comes first, holding as much, at its price."""
    plain = await admitted(rules=replace(RULES, if_late=IfLate.SEND), alone="0.01")
    assert by_batch(plain, 24 * HOUR) == plain
    found = by_batch(plain, 24 * HOUR, time.time() + 24 * HOUR)
    assert routes_of(found) == [("main", True), ("main", False), ("beside", False)]
    first, second, _ = found.ranked.quotes
    assert first.worst == second.worst
    assert first.route_price.multiplier == Fraction(1, 2)


async def test_what_is_held_for_a_batch_alone_goes_by_one_once_policy_would_send_it() -> None:
    """Policy was changed while it waited: the full price was never held for it, that of a batch was, and still is."""
    most = promised(by_batch(await admitted(), 24 * HOUR).ranked.quotes)
    changed = await admitted(rules=replace(RULES, if_late=IfLate.SEND))
    found = within(by_batch(changed, 24 * HOUR, time.time() + 24 * HOUR, most=most), most)
    assert routes_of(found) == [("main", True)]
    assert promised(found.ranked.quotes) == most


@pytest.mark.parametrize("rules", [None, replace(RULES, if_late=IfLate.SEND)], ids=["none", "send"])
async def test_after_a_batch_that_is_followed_comes_nothing_beyond_the_promise(rules: Collecting | None) -> None:
    """The full price was not held for it, and is not: once its batch has failed there may be another, or nothing."""
    most = promised(by_batch(await admitted(), 24 * HOUR).ranked.quotes)
    due = time.time() + 24 * HOUR
    [under_way] = by_batch(await admitted(), 24 * HOUR, due).ranked.quotes
    changed = by_batch(await admitted(rules=rules), 24 * HOUR, due, under_way=True, most=most)
    found = within(changed, most, under_way)
    assert (routes_of(found), promised(found.ranked.quotes)) == ([("main", True)], most)
    plan = RetryPlan(found.ranked.quotes, found.job_type.retry, RetryBudgets(time.monotonic))
    plan.failed(under_way, UpstreamFailure(Outcome.REJECTED, "batch_expired", "not done"))
    again = plan.next()
    assert (again is None) is (rules is None)
    enough = [2 * each for each in most]
    assert within(changed, enough, under_way) == changed


async def test_near_its_end_no_batch_begins() -> None:
    """`spare` before its time is over a task is sent by itself, or fails; one in a batch is followed even so."""
    soon = time.time() + TERMS.spare - 1
    paid = await admitted(rules=replace(RULES, if_late=IfLate.SEND))
    assert routes_of(by_batch(paid, HOUR, soon)) == [("main", False)]
    with pytest.raises(UpstreamError, match="No batch did this in the time") as late:
        by_batch(await admitted(), HOUR, soon)
    assert late.value.code == "batch_late"
    assert routes_of(by_batch(await admitted(), HOUR, soon, under_way=True)) == [("main", True)]


@pytest.mark.parametrize(
    ("rules", "terms", "prompt", "max_wait"),
    [
        (RULES, TERMS, "a cat", HOUR - 1),
        (RULES, TERMS, "a cat", None),
        (None, TERMS, "a cat", HOUR),
        (RULES, None, "a cat", HOUR),
        (RULES, replace(TERMS, endpoints={Operation.EDIT: "/v1/images/edits"}), "a cat", HOUR),
        (RULES, replace(TERMS, most_bytes=10_000), "a cat " * 1000, HOUR),
    ],
    ids=["short wait", "no wait", "no rules", "no terms", "no endpoint", "too long"],
)
async def test_who_is_not_batched_is_left_as_it_was(
    rules: Collecting | None, terms: BatchTerms | None, prompt: str, max_wait: float | None
) -> None:
    """Without a wait that is long enough, rules, an account, an endpoint, or room in a file nothing changes."""
    plain = await admitted(rules=rules, terms=terms, prompt=prompt)
    assert by_batch(plain, max_wait) is plain


@pytest.mark.parametrize(("alone", "batched"), [("0.000001", False), ("10", True)])
async def test_where_policy_wants_the_cheapest_a_batch_must_be_that(alone: str, *, batched: bool) -> None:
    """A batch that is expected to cost more than the first choice is none."""
    found = by_batch(await admitted(order=Order.CHEAPEST, alone=alone), HOUR)
    assert (found.ranked.quotes[0].batch is not None) is batched


async def waiting(gates: Gates, rules: Collecting, count: int, *, age: float = 0.0) -> list[asyncio.Task[None]]:
    """So many tasks in front of a gate."""
    request = by_batch(await admitted(rules=rules), HOUR, time.time() + 2 * HOUR)
    tasks = [asyncio.create_task(gates.wait(request, time.time() - age)) for _ in range(count)]
    await asyncio.sleep(0.05)
    return tasks


async def test_a_gate_opens_when_there_are_enough() -> None:
    """Two of three wait; the third lets all of them go, and the next one waits again."""
    gates, rules = Gates(), replace(RULES, requests=3)
    first = await waiting(gates, rules, 2)
    assert not any(task.done() for task in first)
    last = await waiting(gates, rules, 1)
    await asyncio.gather(*first, *last)
    [next_one] = await waiting(gates, rules, 1)
    assert not next_one.done()
    next_one.cancel()
    await asyncio.wait({next_one})


async def test_a_gate_opens_for_all_when_one_has_waited_long_enough() -> None:
    """The oldest's time is everybody's, and counts from when its task was made."""
    gates, rules = Gates(), replace(RULES, after=100.0)
    young = await waiting(gates, rules, 2)
    old = await waiting(gates, rules, 1, age=101.0)
    await asyncio.gather(*young, *old)


async def test_one_that_leaves_is_not_counted() -> None:
    """A task that was cancelled at the gate does not open it."""
    gates, rules = Gates(), replace(RULES, requests=2)
    [gone] = await waiting(gates, rules, 1)
    gone.cancel()
    await asyncio.wait({gone})
    [alone] = await waiting(gates, rules, 1)
    assert not alone.done()
    await asyncio.gather(alone, *await waiting(gates, rules, 1))

"""Holding: all lines of the first candidate that fits, or nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.domain.budget import Budget, Denied, Held, Quota, Scope, View, Window
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement, SettleResult
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger, operation_token
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.ledger.rules import (
    ABOUT,
    budget,
    candidate,
    concurrent,
    contents,
    denied,
    entries,
    hold,
    images,
    settlement,
)


async def test_a_budget_for_a_hundred_admits_exactly_a_hundred_of_a_thousand(ledger: RedisLedger) -> None:
    """A thousand concurrent holds never take more than the budget, and settling leaves nothing held."""
    rule = budget(100 * 40_000, Window.DAY)
    asked = [ledger.choose_and_hold(f"r{i}", [candidate((rule, 40_000))], about=ABOUT) for i in range(1000)]
    answers = await asyncio.gather(*asked)
    admitted = [f"r{i}" for i, answer in enumerate(answers) if isinstance(answer, Held)]
    assert len(admitted) == 100
    [full] = await ledger.balances([rule])
    assert (full.used, full.held) == (0, 100 * 40_000)
    await asyncio.gather(*(ledger.settle(settlement(request, 40_000_000)) for request in admitted))
    [after] = await ledger.balances([rule])
    assert (after.used, after.held) == (100 * 40_000, 0)
    await denied(ledger, "late", candidate((rule, 1)))


async def test_one_line_of_twelve_that_denies_leaves_everything_untouched(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """All or nothing: the last line refuses, and not a byte in the store changes."""
    rules = [budget(10**9, window, scope=Scope(project=name)) for window in Window for name in ("a", "b")]
    lines: list[tuple[Budget | Quota, int]] = [(rule, 5) for rule in rules]
    lines += [(images(100), 2), (concurrent(0), 1)]
    await ledger.open()
    before = await contents(store, realm)
    refused = await denied(ledger, "r", candidate(*lines))
    assert [obstacle.line.rule for obstacle in refused.obstacles[0]] == [concurrent(0)]
    assert await contents(store, realm) == before


async def test_the_first_candidate_that_fits_is_taken_and_its_lines_alone(ledger: RedisLedger) -> None:
    """Candidates are tried in order; the one chosen, and no other, is held on."""
    dear, cheap = budget(10, scope=Scope(route="dear")), budget(10, scope=Scope(route="cheap"))
    shared = budget(100)
    offers = [candidate((shared, 20), (dear, 11)), candidate((shared, 5), (cheap, 5)), candidate((shared, 1))]
    answer = await hold(ledger, "r", *offers)
    assert (answer.index, answer.attempt) == (1, 1)
    assert [line.rule for line in answer.lines] == [shared, cheap]
    assert answer.figures[::2] == [95, 5]
    assert [balance.held for balance in await ledger.balances([shared, dear, cheap])] == [5, 0, 5]


async def test_a_denial_names_every_line_in_the_way_of_every_candidate(ledger: RedisLedger) -> None:
    """Each obstacle says what is used and held, and when waiting may help."""
    total, hourly, quota = budget(100), budget(50, Window.HOUR), images(4)
    await hold(ledger, "a", candidate((total, 60), (hourly, 40), (quota, 3)))
    await ledger.settle(settlement("a", 30_000))
    await hold(ledger, "b", candidate((total, 20)))
    refused = await denied(ledger, "c", candidate((total, 60), (hourly, 30), (quota, 2)), candidate((total, 51)))
    first, second = refused.obstacles
    assert [(each.line.rule, each.used, each.held) for each in first] == [
        (total, 30, 20),
        (hourly, 30, 0),
        (quota, 3, 0),
    ]
    assert first[0].wait == 0
    assert 0 < first[1].wait <= 3600
    assert 0 < first[2].wait <= 61
    assert [(each.used, each.held) for each in second] == [(30, 20)]


async def test_two_rules_on_one_meter_are_each_checked_but_counted_once(ledger: RedisLedger) -> None:
    """A route's own limit and a quota of policy on the same route share a counter without doubling it."""
    wide, narrow = images(10), images(5)
    answer = await hold(ledger, "a", candidate((wide, 3), (narrow, 3)))
    assert answer.figures[::2] == [7, 2]
    refused = await denied(ledger, "b", candidate((wide, 3), (narrow, 3)))
    assert [obstacle.line.rule for obstacle in refused.obstacles[0]] == [narrow]


async def test_the_same_operation_twice_holds_once(ledger: RedisLedger) -> None:
    """A hold whose answer was lost can be repeated: the first answer comes back."""
    rule, token = budget(100), operation_token()
    offers = [candidate((rule, 101)), candidate((rule, 60))]
    first = await ledger.choose_and_hold("r", offers, about=ABOUT, token=token)
    again = await ledger.choose_and_hold("r", offers, about=ABOUT, token=token)
    assert isinstance(first, Held)
    assert first == again
    [balance] = await ledger.balances([rule])
    assert balance.held == 60


async def test_a_release_makes_room_for_the_next_attempt_in_the_same_step(ledger: RedisLedger) -> None:
    """A fallback fits into the money that its failed predecessor gives back."""
    rule, quota = budget(100), images(4)
    await hold(ledger, "r", candidate((rule, 80), (quota, 4)))
    answer = await ledger.choose_and_hold("r", [candidate((rule, 100), (quota, 4))], about=ABOUT, release=1)
    assert isinstance(answer, Held)
    assert answer.attempt == 2
    assert [(at.used, at.held) for at in await ledger.balances([rule, quota])] == [(0, 100), (4, 0)]
    assert await ledger.void("r", 1, "again") is SettleResult.SAME


async def test_a_release_happens_even_if_the_next_attempt_is_denied(ledger: RedisLedger) -> None:
    """The failed attempt is void whatever the answer."""
    rule = budget(100)
    await hold(ledger, "r", candidate((rule, 80)))
    answer = await ledger.choose_and_hold("r", [candidate((rule, 101))], about=ABOUT, release=1)
    assert isinstance(answer, Denied)
    assert (answer.obstacles[0][0].used, answer.obstacles[0][0].held) == (0, 0)
    [balance] = await ledger.balances([rule])
    assert balance.held == 0
    record: Any = await ledger.request("r")
    assert record["attempts"][0]["state"] == "void"


async def test_budgets_count_the_view_they_name(ledger: RedisLedger) -> None:
    """The official, route and internal prices of one settlement go to the budgets that ask for each, rounded up."""
    rules = [budget(1000, view=view, scope=Scope(project=view)) for view in View]
    await hold(ledger, "r", candidate(*((rule, 100) for rule in rules)))
    await ledger.settle(Settlement("r", 1, Views(official=1, route=2_000, internal=2_001), CostSource.REPORTED, 1))
    assert [(at.used, at.held) for at in await ledger.balances(rules)] == [(1, 0), (2, 0), (3, 0)]


async def test_a_lower_limit_denies_new_work_only(ledger: RedisLedger) -> None:
    """What was spent stays when the limit of a budget changes."""
    await hold(ledger, "r", candidate((budget(100), 90)))
    refused = await denied(ledger, "s", candidate((budget(50), 1)))
    assert refused.obstacles[0][0].held == 90
    assert await ledger.settle(settlement("r", 90_000)) is SettleResult.DONE
    await hold(ledger, "t", candidate((budget(200), 110)))


async def test_an_emptied_store_admits_nothing(ledger: RedisLedger, store: Store, realm: str) -> None:
    """A store that was emptied or replaced under a running gateway does not look like one with nothing spent."""
    await hold(ledger, "r", candidate((budget(100), 10)))
    await store.execute("DEL", *await contents(store, realm))
    with pytest.raises(LedgerUnavailable, match="it was emptied"):
        await ledger.choose_and_hold("s", [candidate((budget(100), 10))], about=ABOUT)


async def test_a_hold_on_no_line_at_all_is_recorded(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Without any budget or quota a request is still settled, entered, and known."""
    assert (await hold(ledger, "r", candidate())).lines == ()
    await ledger.settle(settlement("r", 7))
    [entry] = await entries(store, realm)
    assert (entry.cost.route, entry.lines) == (7, {})


async def test_ids_that_could_name_another_key_are_refused(store: Store, ledger: RedisLedger) -> None:
    """Braces and colons cannot get into a key's name."""
    with pytest.raises(ValueError, match="request id"):
        await ledger.choose_and_hold("a}:b", [candidate()], about=ABOUT)
    with pytest.raises(ValueError, match="realm"):
        RedisLedger(store, "x}y")
    assert await ledger.request("a}:b") is None


async def test_a_hold_that_nobody_waited_for_is_given_back_at_the_end(store: Store, realm: str) -> None:
    """Whoever asked was cut off while the store answered, and the gateway stops at once: nothing is left to lapse."""
    ledger, rule = RedisLedger(store, realm), budget(1000)
    await ledger.open()
    asking = asyncio.create_task(ledger.choose_and_hold("r", [candidate((rule, 100))], about=ABOUT))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await ledger.aclose()
    other = RedisLedger(store, realm)
    [balance] = await other.balances([rule])
    assert (balance.used, balance.held) == (0, 0)
    await other.aclose()


async def test_a_hold_that_was_renewed_since_a_sweep_looked_goes_on(ledger: RedisLedger) -> None:
    """Its gateway is alive after all: what runs is not presumed spent."""
    rule = budget(1000)
    await hold(ledger, "r", candidate((rule, 100)))
    await ledger._leases._expire("r:1")
    [balance] = await ledger.balances([rule])
    assert (balance.used, balance.held) == (0, 100)
    assert await ledger.settle(settlement("r", 60_000)) is SettleResult.DONE


async def test_a_request_that_holds_again_is_not_forgotten(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Its first attempt has ended, and would take the live one with it: what it holds would be nobody's for good."""
    request = Names(realm).request("r")
    await hold(ledger, "r", candidate((budget(1000), 100)))
    await ledger.void("r", 1, "refused")
    assert await store.execute("TTL", request) > 0
    await hold(ledger, "r", candidate((budget(1000), 100)))
    assert await store.execute("TTL", request) == -1
    record = ledger.record_of("r", 2)
    assert record is not None
    await store.execute("HDEL", request, "s2")
    await store.execute("EXPIRE", request, 1000)
    await ledger.put_back(record)
    assert await store.execute("TTL", request) == -1


async def test_nothing_is_held_that_could_not_be_booked(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Where the entries cannot be written, as their key is of another type, no call may be sent."""
    names = Names(realm)
    await ledger.open()
    await store.execute("SET", names.entries, "no stream")
    with pytest.raises(LedgerRefused):
        await hold(ledger, "r", candidate((budget(1000), 100)))
    assert await store.execute("EXISTS", names.balances, names.request("r"), names.due) == 0


@pytest.mark.parametrize("way", ["settle", "void"])
async def test_a_hold_that_has_ended_is_listed_no_more(ledger: RedisLedger, store: Store, realm: str, way: str) -> None:
    """Those that are due are swept each second by every gateway."""
    await hold(ledger, "r", candidate((budget(1000), 100)))
    await (ledger.settle(settlement("r", 60_000)) if way == "settle" else ledger.void("r", 1, "refused"))
    assert await store.execute("ZCARD", Names(realm).due) == 0

"""Holds ahead: money for work that begins later lies still, is never forgotten, and lapses to nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.domain.budget import Denied, Held
from gateway.domain.idempotency import Binding, Bound
from gateway.domain.settlement import SettleResult
from gateway.domain.task import request_of, task_of
from gateway.ledger.audit import audit
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.journal import Journal
from gateway.ledger.names import Names
from gateway.ledger.offline import OfflineLedger
from gateway.ledger.rebuild import rebuild
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks
from gateway.ports import LedgerUnavailable
from tests.ledger.older import copy, resynced
from tests.ledger.proxy import proxied
from tests.ledger.rules import ABOUT, budget, candidate, concurrent, entries, settlement
from tests.ledger.work import held_ahead, new_request, order

TIGHT = budget(100)
ALL_OF_IT = candidate((TIGHT, 100))


async def stand(ledger: RedisLedger) -> tuple[int, int]:
    """What the budget has spent and holds, micro-USD."""
    [balance] = await ledger.balances([TIGHT])
    return balance.used, balance.held


async def deadline(store: Store, realm: str, request_id: str) -> int:
    """When its first hold lapses, Unix milliseconds."""
    return int(float(await store.execute("ZSCORE", Names(realm).due, f"{request_id}:1")))


async def introduce(ledger: RedisLedger) -> None:
    """Have its server know the scripts of holds: the first call is answered that it does not, and sent again."""
    request = new_request()
    queued = await held_ahead(ledger, request, ALL_OF_IT)
    answer = await ledger.choose_and_hold(request, [ALL_OF_IT], about=ABOUT, release=queued, only_if_held=True)
    assert isinstance(answer, Held)
    assert await ledger.void(request, answer.attempt, "refused") is SettleResult.DONE


async def held(ledger: RedisLedger) -> None:
    """Wait for a hold that is on its way to the store; the money of the one budget is all held then."""
    while await stand(ledger) != (0, 100):
        pass


async def states(ledger: RedisLedger, request_id: str) -> list[object]:
    """How its attempts stand."""
    record = await ledger.request(request_id)
    assert record is not None
    attempts = record["attempts"]
    assert isinstance(attempts, list)
    return [attempt["state"] for attempt in attempts]


async def test_nobody_renews_it_and_it_stands(ledger: RedisLedger, store: Store, realm: str) -> None:
    """A heartbeat leaves its deadline alone, a sweep leaves it live, and the budget counts it."""
    request = new_request()
    await held_ahead(ledger, request, ALL_OF_IT, ahead=3600)
    before = await deadline(store, realm, request)
    await ledger._leases.renew()
    await ledger._leases.sweep()
    assert await deadline(store, realm, request) == before
    assert await states(ledger, request) == ["queued"]
    assert await stand(ledger) == (0, 100)
    assert (await audit(store, realm)).agrees


async def test_it_lapses_to_nothing(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Once its time is up any gateway gives it back, and nothing is booked."""
    request = new_request()
    await held_ahead(ledger, request, ALL_OF_IT, ahead=0)
    other = RedisLedger(store, realm)
    await other._leases.sweep()
    assert await states(ledger, request) == ["void"]
    assert await stand(ledger) == (0, 0)
    assert await entries(store, realm) == []
    assert (await audit(store, realm, thorough=True)).agrees
    await other.aclose()


async def test_its_own_money_counts_as_free_when_work_begins(ledger: RedisLedger, store: Store, realm: str) -> None:
    """A budget that only just covers the task lets it begin: the queued hold makes way for the sent one in one step."""
    request = new_request()
    queued = await held_ahead(ledger, request, ALL_OF_IT)
    answer = await ledger.choose_and_hold(request, [ALL_OF_IT], about=ABOUT, release=queued, only_if_held=True)
    assert isinstance(answer, Held)
    assert answer.attempt == queued + 1
    assert await states(ledger, request) == ["void", "sent"]
    assert await stand(ledger) == (0, 100)
    assert await ledger.settle(settlement(request, 70_000, attempt=answer.attempt)) is SettleResult.DONE
    assert await stand(ledger) == (70, 0)
    assert (await audit(store, realm)).agrees


async def test_it_keeps_its_money_while_its_routes_are_full(ledger: RedisLedger, store: Store, realm: str) -> None:
    """A denial with `only_if_held` changes nothing at all; without, the queued hold is gone."""
    request, full = new_request(), candidate((TIGHT, 100), (concurrent(0), 1))
    queued = await held_ahead(ledger, request, ALL_OF_IT)
    before = await deadline(store, realm, request)
    for _ in range(2):
        answer = await ledger.choose_and_hold(request, [full], about=ABOUT, release=queued, only_if_held=True)
        assert isinstance(answer, Denied)
    assert await states(ledger, request) == ["queued"]
    assert await deadline(store, realm, request) == before
    assert await stand(ledger) == (0, 100)
    assert (await audit(store, realm)).agrees
    assert isinstance(await ledger.choose_and_hold(request, [full], about=ABOUT, release=queued), Denied)
    assert await states(ledger, request) == ["void"]
    assert await stand(ledger) == (0, 0)


async def test_another_gateway_may_begin_it(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Whoever takes the task over releases a hold that it never took."""
    request = new_request()
    queued = await held_ahead(ledger, request, ALL_OF_IT)
    other = RedisLedger(store, realm)
    answer = await other.choose_and_hold(request, [ALL_OF_IT], about=ABOUT, release=queued, only_if_held=True)
    assert isinstance(answer, Held)
    assert await other.void(request, answer.attempt, "refused") is SettleResult.DONE
    assert await stand(ledger) == (0, 0)
    await other.aclose()


async def test_one_whose_answer_was_lost_is_given_back(
    ledger: RedisLedger, server: str, realm: str, tmp_path: Path
) -> None:
    """The client got an error, so nothing stays held for it."""
    await ledger.open()
    await introduce(ledger)
    async with proxied(server, tmp_path) as (wire, url):
        store = Store(url, deadline=0.5)
        other = RedisLedger(store, realm)
        await other.open()
        wire.mute = True
        with pytest.raises(LedgerUnavailable):
            await held_ahead(other, new_request(), ALL_OF_IT, ahead=3600)
        wire.mute = False
        await held(ledger)
        while await stand(ledger) != (0, 0):
            try:
                await other._leases.sweep()
            except LedgerUnavailable:
                continue
        await other.aclose()
        await store.aclose()


async def test_a_hold_whose_answer_was_lost_is_given_back_before_the_request_holds_again(
    ledger: RedisLedger, server: str, realm: str, tmp_path: Path
) -> None:
    """A task that tries again at once leaves nothing behind that would lapse to presumed spent."""
    await ledger.open()
    await introduce(ledger)
    request = new_request()
    async with proxied(server, tmp_path) as (wire, url):
        store = Store(url, deadline=0.5)
        other = RedisLedger(store, realm)
        await other.open()
        queued = await held_ahead(other, request, ALL_OF_IT, ahead=3600)
        wire.mute = True
        with pytest.raises(LedgerUnavailable):
            await other.choose_and_hold(request, [ALL_OF_IT], about=ABOUT, release=queued, only_if_held=True)
        wire.mute = False
        while await states(ledger, request) != ["void", "sent"]:
            pass  # the hold is on its way to the store
        answer = None
        while answer is None:
            try:
                answer = await other.choose_and_hold(
                    request, [ALL_OF_IT], about=ABOUT, release=queued, only_if_held=True
                )
            except LedgerUnavailable:
                await asyncio.sleep(0.05)  # a breaker refuses at once
        assert isinstance(answer, Held)
        assert await states(ledger, request) == ["void", "void", "sent"]
        assert await stand(ledger) == (0, 100)
        assert await other.void(request, answer.attempt, "refused") is SettleResult.DONE
        assert await stand(ledger) == (0, 0)
        await other.aclose()
        await store.aclose()


async def test_a_released_one_does_not_come_back_with_an_older_store(
    ledger: RedisLedger, store: Store, server: str, realm: str
) -> None:
    """A store that lost the beginning of a task is told of both: the hold given back and the one that runs."""
    request = new_request()
    queued = await held_ahead(ledger, request, ALL_OF_IT, ahead=3600)
    other = RedisLedger(store, realm)
    await other.open()
    old = copy(server, realm)
    answer = await other.choose_and_hold(request, [ALL_OF_IT], about=ABOUT, release=queued, only_if_held=True)
    assert isinstance(answer, Held)
    old.put_back()
    assert await states(ledger, request) == ["queued"]
    await other._leases.renew()
    await resynced(other)
    assert await states(ledger, request) == ["void", "sent"]
    assert await stand(ledger) == (0, 100)
    await other.aclose()


async def test_healing_leaves_those_of_others_alone(ledger: RedisLedger, store: Store, server: str, realm: str) -> None:
    """A gateway that tells an older store what it knows ends no hold that waits."""
    request = new_request()
    await held_ahead(ledger, request, ALL_OF_IT, ahead=3600)
    other = RedisLedger(store, realm)
    await other.open()
    old, before = copy(server, realm), await deadline(store, realm, request)
    await other._leases.renew()
    old.put_back()
    await other._leases.renew()
    await resynced(other)
    assert await states(ledger, request) == ["queued"]
    assert await deadline(store, realm, request) == before
    await other.aclose()


async def test_a_rebuild_keeps_them(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Balances made wrong by hand come back with what waits still held, until the same moment."""
    request = new_request()
    await held_ahead(ledger, request, ALL_OF_IT, ahead=3600)
    before = await deadline(store, realm, request)
    await store.execute("HSET", Names(realm).balances, f"{TIGHT.meter}@total", "0 7")
    assert not (await audit(store, realm)).agrees
    assert (await rebuild(store, realm)).audit.agrees
    assert await stand(ledger) == (0, 100)
    assert await deadline(store, realm, request) == before


async def test_one_that_is_no_longer_listed_ends_without_a_cost(ledger: RedisLedger, store: Store, realm: str) -> None:
    """After a rebuild it is listed again for a moment, then lapses to nothing: the task holds anew when it begins."""
    request = new_request()
    await held_ahead(ledger, request, ALL_OF_IT, ahead=3600)
    await store.execute("ZREM", Names(realm).due, f"{request}:1")
    assert (await rebuild(store, realm)).audit.agrees
    assert await stand(ledger) == (0, 100)
    await store.execute("ZADD", Names(realm).due, 1, f"{request}:1")
    await ledger._leases.sweep()
    assert await states(ledger, request) == ["void"]
    answer = await ledger.choose_and_hold(request, [ALL_OF_IT], about=ABOUT, release=1, only_if_held=True)
    assert isinstance(answer, Held)


async def test_a_repeated_order_finds_the_first_ones_task(ledger: RedisLedger, store: Store, realm: str) -> None:
    """An idempotency key is bound with the hold, so the second request is told whose task to look for."""
    tasks, key = RedisTasks(store, realm), Binding("a" * 64, "1" * 64)
    first, second = new_request(), new_request()
    held = await ledger.choose_and_hold(first, [ALL_OF_IT], about=ABOUT, binding=key, ahead=60)
    assert isinstance(held, Held)
    await tasks.add(order(first, hold=held.attempt))
    assert await ledger.choose_and_hold(second, [ALL_OF_IT], about=ABOUT, binding=key, ahead=60) == Bound(
        first, same=True
    )
    found = await tasks.find(task_of(first))
    assert found is not None
    assert request_of(task_of(found.order.request_id)) == first
    begun = await ledger.choose_and_hold(first, [ALL_OF_IT], about=ABOUT, release=held.attempt, only_if_held=True)
    assert isinstance(begun, Held)
    answer = await ledger.choose_and_hold(second, [ALL_OF_IT], about=ABOUT, binding=key, ahead=60)
    assert answer == Bound(first, same=True)


async def test_nothing_is_held_ahead_on_an_allowance(server: str, realm: str, tmp_path: Path) -> None:
    """While the store is away there is no queue, so an allowance admits nothing to it."""
    async with proxied(server, tmp_path) as (wire, url):
        store = Store(url, deadline=0.5)
        inner = RedisLedger(store, realm)
        await inner.open()
        settlements = DeferredSettlements(inner, Journal(tmp_path / "journal", realm))
        offline = OfflineLedger(inner, settlements)
        worth, request = candidate((TIGHT, 1), worst=1000), new_request()
        wire.mute = True
        with pytest.raises(LedgerUnavailable):
            await offline.choose_and_hold(request, [worth], about=ABOUT, allowance=100, ahead=60)
        answer = await offline.choose_and_hold(new_request(), [worth], about=ABOUT, allowance=100)
        assert isinstance(answer, Held)
        wire.mute = False
        while (await settlements.aclose(5)) and settlements._waiting:
            pass
        await inner.aclose()
        await store.aclose()

"""Holds whose answer was lost are undone, whatever came after them, and a task keeps the money that waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.settlement import SettleResult
from gateway.domain.task import TaskStatus, task_of
from gateway.ledger.audit import audit
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks
from gateway.ports import LedgerUnavailable
from tests.ledger.rules import ABOUT, budget, candidate, concurrent, entries, hold, settlement
from tests.ledger.work import held_ahead, new_request, order

RULE = budget(1000)


async def stand(ledger: RedisLedger) -> tuple[int, int]:
    """What the budget has spent and holds, micro-USD."""
    [balance] = await ledger.balances([RULE])
    return balance.used, balance.held


async def states(ledger: RedisLedger, request_id: str) -> list[str]:
    """How its attempts stand."""
    record: Any = await ledger.request(request_id)
    return [attempt["state"] for attempt in record["attempts"]]


async def lost(ledger: RedisLedger, request_id: str, *, amount: int = 100, release: int | None = None) -> None:
    """Take a hold of which its gateway never hears; it is not given back yet."""
    offers = [candidate((RULE, amount), worst=amount * 1000)]
    await ledger.choose_and_hold(request_id, offers, about=ABOUT, release=release, only_if_held=True, token="lost")
    ledger._leases.drop("lost", request_id)


async def test_an_older_hold_is_found_by_its_token(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Another gateway holds for the same request before the lost hold is given back: only the lost one ends."""
    other = RedisLedger(store, realm)
    await lost(ledger, "r")
    await hold(other, "r", candidate((RULE, 70), (concurrent(5), 1)))
    await ledger._leases.give_back()
    assert await states(other, "r") == ["void", "sent"]
    assert await stand(other) == (0, 70)
    assert await other.settle(settlement("r", 60_000, attempt=2)) is SettleResult.DONE
    assert await stand(other) == (60, 0)
    assert (await audit(store, realm, thorough=True)).agrees
    await other.aclose()


async def test_one_that_lapsed_meanwhile_is_corrected_to_nothing(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Nothing was sent on a hold that nobody heard of, so what was presumed of it is taken back, once."""
    await lost(ledger, "r")
    await store.execute("ZADD", Names(realm).due, "XX", 1, "r:1")
    other = RedisLedger(store, realm)
    await other._leases.sweep()
    assert await stand(other) == (100, 0)
    await ledger._leases.give_back()
    ledger._leases.drop("lost", "r")
    await ledger._leases.give_back()
    assert (await states(other, "r"), await stand(other)) == (["void"], (0, 0))
    assert [entry.cost.route for entry in await entries(store, realm)] == [100_000, -100_000]
    assert (await audit(store, realm, thorough=True)).agrees
    await other.aclose()


async def test_the_same_token_again_finds_an_older_hold(ledger: RedisLedger, store: Store, realm: str) -> None:
    """A hold that is asked for twice is one, whatever was held for the request in between."""
    other, offers = RedisLedger(store, realm), [candidate((RULE, 100))]
    first: Any = await ledger.choose_and_hold("r", offers, about=ABOUT, token="t")
    await hold(other, "r", candidate((RULE, 70)))
    again: Any = await ledger.choose_and_hold("r", offers, about=ABOUT, token="t")
    assert (first.attempt, again.attempt) == (1, 1)
    assert await stand(other) == (0, 170)
    await other.aclose()


@pytest.mark.parametrize(("taken", "again"), [(60, 60), (200, 100)])
async def test_a_lost_swap_leaves_the_task_its_money(
    ledger: RedisLedger, store: Store, realm: str, taken: int, again: int
) -> None:
    """What waits for a task is held again until the same moment, and never more than the undone hold had of it."""
    tasks, request = RedisTasks(store, realm), new_request()
    await held_ahead(ledger, request, candidate((RULE, 100)))
    await tasks.add(order(request))
    lasts = await store.execute("ZSCORE", Names(realm).due, f"{request}:1")
    await lost(ledger, request, amount=taken, release=1)
    assert await stand(ledger) == (0, taken)

    await ledger._leases.give_back()
    ledger._leases.drop("lost", request)
    await ledger._leases.give_back()

    assert (await states(ledger, request), await stand(ledger)) == (["queued", "void"], (0, again))
    assert await store.execute("ZSCORE", Names(realm).due, f"{request}:1") == lasts
    assert await store.execute("TTL", Names(realm).request(request)) == -1
    assert (await audit(store, realm, thorough=True)).agrees
    await hold(ledger, "else", candidate((RULE, 1000 - again)))
    offers = [candidate((RULE, again))]
    assert (await ledger.choose_and_hold(request, offers, about=ABOUT, release=1, only_if_held=True)).attempt == 3  # type: ignore[union-attr]  # a Held, else it fails
    assert await states(ledger, request) == ["void", "void", "sent"]


async def test_nothing_is_held_again_for_a_task_that_has_ended(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Of a swap that is undone after the task's end nothing stays behind."""
    tasks, request = RedisTasks(store, realm), new_request()
    await held_ahead(ledger, request, candidate((RULE, 100)))
    await tasks.add(order(request))
    await lost(ledger, request, release=1)
    assert await tasks.end(task_of(request), None, TaskStatus.FAILED)
    await ledger._leases.give_back()
    assert (await states(ledger, request), await stand(ledger)) == (["void", "void"], (0, 0))
    assert (await audit(store, realm, thorough=True)).agrees


@pytest.mark.parametrize("known", [False, True])
async def test_a_hold_that_arrives_after_it_was_given_up_is_not_made(
    ledger: RedisLedger, store: Store, realm: str, *, known: bool
) -> None:
    """Its gateway has told of an error by then: nobody would end it, and it would lapse to money that was spent."""
    if known:
        await hold(ledger, "r", candidate((RULE, 70)))
    other = RedisLedger(store, realm)
    other._leases.drop("late", "r")
    await other._leases.give_back()
    with pytest.raises(LedgerUnavailable, match="given up before it was made"):
        await ledger.choose_and_hold("r", [candidate((RULE, 100))], about=ABOUT, token="late")
    assert await stand(ledger) == (0, 70 if known else 0)
    assert 0 < await store.execute("TTL", Names(realm).request("r")) <= 3600 or known
    await other.aclose()


async def test_the_next_try_has_room_though_the_answer_before_was_lost(ledger: RedisLedger) -> None:
    """What nobody heard of is given back before the request holds again, not at some later sweep."""
    await lost(ledger, "r", amount=600)
    assert (await hold(ledger, "r", candidate((RULE, 600)))).attempt == 2
    assert (await states(ledger, "r"), await stand(ledger)) == (["void", "sent"], (0, 600))
    await ledger._leases.give_back()
    assert await stand(ledger) == (0, 600)

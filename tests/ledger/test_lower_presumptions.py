"""Presumptions that were too high: whoever knows better books less, unconfirmed still, and the truth may follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.reconciling import Terms
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement, SettleResult
from gateway.ledger.audit import audit
from gateway.ledger.export import export
from gateway.ledger.names import Names
from gateway.ledger.rebuild import rebuild
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.reporting.reconciliation import booked_at
from tests.builders import report
from tests.ledger.older import copy, empty, resynced
from tests.ledger.rules import budget, candidate, concurrent, entries, hold, settlement

RULE = budget(1000)
HELD, KNOWN, COST = 80_000, 40_000, 25_000
DONE, FIRST, LATE, SAME = SettleResult.DONE, SettleResult.FIRST, SettleResult.LATE, SettleResult.SAME


async def held(ledger: RedisLedger) -> None:
    """Hold for a call."""
    await hold(ledger, "r", candidate((RULE, HELD // 1000), (concurrent(1), 1), worst=HELD))


async def lapsed(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Let the hold lapse to its worst case."""
    await store.execute("ZADD", Names(realm).due, "XX", 1, "r:1")
    await ledger._leases.sweep()


async def presume(ledger: RedisLedger, nano: int, token: str | None = None) -> SettleResult:
    """Book a cost that nobody knows."""
    return await ledger.settle(settlement("r", nano, source=CostSource.PRESUMED, images=0), token=token)


@dataclass(frozen=True)
class Books:
    """What the ledger says of everything: spent and held (micro-USD), spent and presumed (nano-USD) by its entries."""

    used: int
    held: int
    route: int
    unconfirmed: int
    state: str


async def books(ledger: RedisLedger, store: Store, realm: str) -> Books:
    """Look."""
    [balance] = await ledger.balances([RULE])
    _, total = report(await entries(store, realm), [])
    record: Any = await ledger.request("r")
    [attempt] = record["attempts"]
    assert attempt["cost"] == Views(total.route, total.route, total.route)
    assert total.requests == (attempt["state"] != "void")
    assert (await audit(store, realm, thorough=True)).agrees
    return Books(balance.used, balance.held, total.route, total.unconfirmed, attempt["state"])


async def test_a_lapsed_hold_is_presumed_at_what_is_known_better(ledger: RedisLedger, store: Store, realm: str) -> None:
    """What its calls can have cost at most takes the place of the worst case, once; then what they did cost."""
    await held(ledger)
    await lapsed(ledger, store, realm)
    for _ in range(2):  # the answer to the first one was lost
        assert await presume(ledger, KNOWN, "t") is LATE
    assert await books(ledger, store, realm) == Books(40, 0, KNOWN, KNOWN, "presumed")
    assert await presume(ledger, KNOWN) is SAME
    assert await presume(ledger, HELD) is SAME
    assert await books(ledger, store, realm) == Books(40, 0, KNOWN, KNOWN, "presumed")
    assert await ledger.settle(settlement("r", COST)) is LATE
    assert await presume(ledger, 1000) is SAME
    assert await books(ledger, store, realm) == Books(25, 0, COST, 0, "settled")
    assert [(each.kind, each.cost.route) for each in await entries(store, realm)] == [
        ("presume", HELD),
        ("correct", KNOWN - HELD),
        ("correct", COST - KNOWN),
    ]


async def test_an_invoice_meets_it_as_unconfirmed(ledger: RedisLedger, store: Store, realm: str) -> None:
    """What is presumed lower is still to be confirmed by whoever reconciles, until the truth is booked."""
    now = datetime.now(UTC)
    terms = Terms(now - timedelta(days=1), now + timedelta(days=1))
    await held(ledger)
    await lapsed(ledger, store, realm)
    await presume(ledger, KNOWN)
    [booked] = await booked_at(store, realm, "v", terms)
    assert (booked.cost.route, booked.unconfirmed, booked.changes) == (KNOWN, KNOWN, 2)
    await ledger.settle(settlement("r", COST))
    [booked] = await booked_at(store, realm, "v", terms)
    assert (booked.cost.route, booked.unconfirmed, booked.changes) == (COST, 0, 3)


async def test_one_that_is_higher_in_any_view_changes_nothing(ledger: RedisLedger, store: Store, realm: str) -> None:
    """It is not certain to know better, and what is booked is never too low."""
    await held(ledger)
    await lapsed(ledger, store, realm)
    mixed = Settlement("r", 1, Views(HELD + 1, KNOWN, KNOWN), CostSource.PRESUMED, 0)
    assert await ledger.settle(mixed) is SAME
    assert await books(ledger, store, realm) == Books(80, 0, HELD, HELD, "presumed")


async def test_one_of_a_call_that_was_not_billed_at_all_is_given_back(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """After it was presumed lower it can still turn out to be nothing."""
    await held(ledger)
    await presume(ledger, HELD)
    assert await presume(ledger, KNOWN) is LATE
    assert await ledger.void("r", 1, "refused") is LATE
    assert await books(ledger, store, realm) == Books(0, 0, 0, 0, "void")


@pytest.mark.parametrize("first", [0, 1])
async def test_a_loss_leaves_the_lowest_whoever_tells_the_store_first(
    ledger: RedisLedger, store: Store, server: str, realm: str, first: int
) -> None:
    """Two gateways presumed, one of them less; both tell a store that has lost it again."""
    other = RedisLedger(store, realm)
    await other.open()
    await held(ledger)
    old = copy(server, realm)
    assert await presume(ledger, HELD) is DONE
    assert await presume(other, KNOWN) is LATE
    before = await books(ledger, store, realm)
    old.put_back()
    gateways = [ledger, other]
    for each in (gateways[first], gateways[1 - first]):
        await each._leases.renew()
        await resynced(each)
    assert await books(ledger, store, realm) == before
    await other.aclose()


async def test_a_rebuilt_ledger_knows_it_as_presumed(
    ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """What an export brings back is unconfirmed at the lower amount, and the truth corrects it once."""
    await held(ledger)
    await lapsed(ledger, store, realm)
    await presume(ledger, KNOWN)
    await export(store, realm, tmp_path)
    await empty(store, realm)
    await rebuild(store, realm, export=[tmp_path])
    after = RedisLedger(store, realm)
    record: Any = await after.request("r")
    [attempt] = record["attempts"]
    assert (attempt["state"], attempt["cost"].route) == ("presumed", KNOWN)
    assert await presume(after, KNOWN) is SAME
    assert await after.settle(settlement("r", COST)) is LATE
    [balance] = await after.balances([RULE])
    assert (balance.used, balance.held) == (25, 0)
    assert (await audit(store, realm, export=[tmp_path])).agrees
    await after.aclose()

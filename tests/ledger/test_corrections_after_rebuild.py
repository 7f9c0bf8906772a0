"""What a rebuild has put back is corrected on its own project's budget, whatever it is corrected together with."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.domain.budget import Scope
from gateway.domain.route import Views
from gateway.domain.settlement import Adjustment, CostSource, Settlement, SettleResult, Usage
from gateway.ledger.audit import audit
from gateway.ledger.export import export
from gateway.ledger.names import Names
from gateway.ledger.rebuild import _restore_attempt, rebuild
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.older import copy, resynced
from tests.ledger.rules import balances, budget, candidate, contents, entries, hold, settlement

A, B = (budget(1000, scope=Scope(project=name)) for name in ("a", "b"))


async def test_late_settlements_of_two_projects_go_together(
    ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """Two requests with the same worst case were presumed, exported and restored; both are corrected in one call."""
    for name, rule in (("ra", A), ("rb", B), ("warm", A)):
        await hold(ledger, name, candidate((rule, 100), worst=100_000))
        await ledger.settle(settlement(name, 100_000, source=CostSource.PRESUMED, images=0))
    await export(store, realm, tmp_path)
    await store.execute("FLUSHALL")
    await rebuild(store, realm, export=[tmp_path])
    after = RedisLedger(store, realm)
    assert await after.settle(settlement("warm", 100_000)) is SettleResult.LATE
    assert await balances(store, realm) == {f"{A.meter}@total": (200, 0), f"{B.meter}@total": (100, 0)}
    both = after.settle(settlement("ra", 10_000)), after.settle(settlement("rb", 20_000))
    assert set(await asyncio.gather(*both)) == {SettleResult.LATE}
    assert await balances(store, realm) == {f"{A.meter}@total": (110, 0), f"{B.meter}@total": (20, 0)}
    assert (await audit(store, realm, export=[tmp_path])).findings == []
    await after.aclose()


async def test_a_running_gateway_tells_again_what_it_corrected(
    ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """Holds of two projects lapse, are exported, and corrected late; then the store is wiped and rebuilt."""
    other = RedisLedger(store, realm)
    names = [f"r{number}" for number in range(16)]
    for number, name in enumerate(names):
        await hold(ledger, name, candidate(((A, B)[number % 2], 100), worst=100_000))
        await store.execute("ZADD", Names(realm).due, "XX", 1, f"{name}:1")
    await other._leases.sweep()
    await export(store, realm, tmp_path)
    for number, name in enumerate(names):
        assert await ledger.settle(settlement(name, (10_000, 20_000)[number % 2])) is SettleResult.LATE
    before = await balances(store, realm)
    assert before == {f"{A.meter}@total": (80, 0), f"{B.meter}@total": (160, 0)}
    await store.execute("FLUSHALL")
    await rebuild(store, realm, export=[tmp_path])
    await ledger._leases.renew()  # the heartbeat notices
    await resynced(ledger)
    assert await balances(store, realm) == before
    await other.aclose()


async def test_a_correction_of_what_the_store_does_not_have_is_not_applied(
    ledger: RedisLedger, store: Store, server: str, realm: str
) -> None:
    """The truth was told again after the store was read and before it was restored: the record stays as it is."""
    await hold(ledger, "r", candidate((A, 100), worst=100_000))
    await ledger.settle(settlement("r", 100_000, source=CostSource.PRESUMED, images=0))
    old = copy(server, realm)
    await ledger.settle(settlement("r", 30_000))
    [_, correction] = await entries(store, realm)
    old.put_back()
    await RedisLedger(store, realm).settle(settlement("r", 40_000))
    before = await contents(store, realm)
    assert correction.was is not None
    assert await _restore_attempt(store, Names(realm), correction) == "SAME"
    assert await contents(store, realm) == before


async def test_an_invoice_takes_nothing_from_what_the_provider_answered(
    ledger: RedisLedger, store: Store, server: str, realm: str, tmp_path: Path
) -> None:
    """A record that is brought back has the cost by the invoice, and beside it the answer's own tokens and facts."""
    usage = Usage(text_in=3, image_out=1000)
    await ledger.open()
    old = copy(server, realm)
    await hold(ledger, "r", candidate((A, 100)))
    cost = Views(50_000, 50_000, 50_000)
    await ledger.settle(Settlement("r", 1, cost, CostSource.USAGE, 1, usage, {"quality": "low"}))
    await ledger.adjust(Adjustment("a1", "r", 1, Views(60_000, 60_000, 60_000), "invoice"))
    known: Any = await ledger.request("r")
    await export(store, realm, tmp_path)
    old.put_back()
    await rebuild(store, realm, export=[tmp_path])
    record: Any = await ledger.request("r")
    [attempt] = record["attempts"]
    assert (attempt["cost"].route, attempt["usage"], attempt["answer"]) == (60_000, asdict(usage), {"quality": "low"})
    assert attempt["answer"] == known["attempts"][0]["answer"]

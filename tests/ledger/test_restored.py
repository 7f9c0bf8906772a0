"""What a rebuild has put back is corrected on its own project's budget, whatever it is corrected together with."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.domain.budget import Scope
from gateway.domain.settlement import CostSource, SettleResult
from gateway.ledger.audit import audit
from gateway.ledger.export import export
from gateway.ledger.names import Names
from gateway.ledger.rebuild import rebuild
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.rules import balances, budget, candidate, hold, settlement

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
    await ledger._healing.wait()
    assert await balances(store, realm) == before
    await other.aclose()

"""The store goes away, answers late, forgets its scripts, or loses replies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.domain.budget import Held
from gateway.domain.settlement import SettleResult
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.observe.event import Event, LedgerCalled, LedgerFailed
from gateway.ports import LedgerUnavailable
from tests.ledger.mortal import MortalServer, back
from tests.ledger.proxy import Proxy, proxied
from tests.ledger.rules import ABOUT, balances, budget, candidate, denied, entries, hold, settlement

RULE = budget(1000)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[MortalServer]:
    """A server of this test's own."""
    with ExitStack() as stack:
        yield MortalServer(tmp_path, stack)


@pytest.fixture
async def proxy(server: str, tmp_path: Path) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the module's server."""
    async with proxied(server, tmp_path) as both:
        yield both


async def test_a_settlement_outlives_the_store(mortal: MortalServer) -> None:
    """Killed before it could be told what a job cost, the store has it after its restart, and once."""
    store = Store(mortal.url, deadline=10.0)
    ledger = RedisLedger(store)
    settlements = DeferredSettlements(ledger)
    for i in range(5):
        await hold(ledger, f"r{i}", candidate((RULE, 100)))
    assert await settlements.settle(settlement("r0", 50_000)) is SettleResult.DONE
    mortal.kill()
    assert await settlements.settle(settlement("r1", 60_000)) is None
    assert await settlements.void("r2", 1, "refused") is None
    with pytest.raises(LedgerUnavailable):
        await ledger.choose_and_hold("r5", [candidate((RULE, 100))], about=ABOUT)
    with pytest.raises(LedgerUnavailable):
        await ledger.ping()
    assert len(settlements._waiting) == 2
    mortal.restart()
    assert await settlements.aclose(30) == 0
    [balance] = await ledger.balances([RULE])
    assert (balance.used, balance.held) == (110, 200)
    assert [entry.cost.route for entry in await entries(store, "main")] == [50_000, 60_000]
    await ledger._leases.sweep()
    await hold(ledger, "r6", candidate((RULE, 690)))
    await store.aclose()


async def test_settlements_that_never_land_are_counted_at_the_end(mortal: MortalServer) -> None:
    """A gateway that must stop while the store is away says how many holds it leaves to their leases."""
    store = Store(mortal.url, deadline=10.0)
    ledger = RedisLedger(store)
    settlements = DeferredSettlements(ledger)
    await hold(ledger, "r", candidate((RULE, 100)))
    mortal.kill()
    assert await settlements.settle(settlement("r", 1)) is None
    assert await settlements.aclose(0.05) == 1
    assert not settlements._waiting
    await store.aclose()
    mortal.restart()


async def test_scripts_are_loaded_again_when_the_store_forgets_them(ledger: RedisLedger, store: Store) -> None:
    """SCRIPT FLUSH between any two calls goes unnoticed."""
    await hold(ledger, "r", candidate((RULE, 100)))
    await store.execute("SCRIPT", "FLUSH")
    assert await ledger.settle(settlement("r", 1000)) is SettleResult.DONE
    await store.execute("SCRIPT", "FLUSH")
    [balance] = await ledger.balances([RULE])
    assert balance.used == 1


async def test_a_hold_whose_answer_was_lost_is_given_back(
    proxy: tuple[Proxy, str], realm: str, ledger: RedisLedger
) -> None:
    """The store held, the gateway never heard of it: no client is charged, and the money is free again."""
    wire, url = proxy
    store = Store(url, deadline=1.0, silence=1.0)
    lossy = RedisLedger(store, realm)
    await hold(lossy, "earlier", candidate((RULE, 1)))
    wire.mute = True
    with pytest.raises(LedgerUnavailable, match=r"no answer in 1 s"):
        await lossy.choose_and_hold("r", [candidate((RULE, 100))], about=ABOUT)
    [balance] = await ledger.balances([RULE])
    assert balance.held == 101
    wire.mute = False
    await lossy._leases.sweep()
    [balance] = await ledger.balances([RULE])
    assert (balance.used, balance.held) == (0, 1)
    await store.aclose()


async def test_a_hold_that_arrives_after_it_was_given_up_is_not_made(
    proxy: tuple[Proxy, str], realm: str, ledger: RedisLedger
) -> None:
    """A hold that was stuck on its way must not stand when it arrives at last."""
    wire, url = proxy
    store = Store(url, deadline=1.0, silence=1.0)
    late = RedisLedger(store, realm)
    await hold(late, "earlier", candidate((RULE, 1)))
    wire.through.clear()
    with pytest.raises(LedgerUnavailable):
        await late.choose_and_hold("r", [candidate((RULE, 100))], about=ABOUT)
    await wire.held_back.wait()
    late._leases._calls = ledger._calls  # the road that is not blocked; the stuck bytes stay where they are
    await late._leases.sweep()
    wire.through.set()
    await asyncio.sleep(0.1)
    [balance] = await ledger.balances([RULE])
    assert balance.held == 1
    assert await ledger.request("r") is None
    await hold(ledger, "r", candidate((RULE, 100)))
    await store.aclose()


async def test_a_settlement_whose_answer_was_lost_is_done_once(
    proxy: tuple[Proxy, str], realm: str, ledger: RedisLedger
) -> None:
    """The background repeat finds its own work done; the money is booked once."""
    wire, url = proxy
    store = Store(url, deadline=1.0, silence=1.0)
    lossy = RedisLedger(store, realm)
    settlements = DeferredSettlements(lossy)
    for request in ("earlier", "r"):
        await hold(lossy, request, candidate((RULE, 100)))
    await lossy.settle(settlement("earlier", 0))
    wire.mute = True
    assert await settlements.settle(settlement("r", 70_000)) is None
    wire.mute = False
    assert await settlements.aclose(20) == 0
    [balance] = await ledger.balances([RULE])
    assert (balance.used, balance.held) == (70, 0)
    await store.aclose()


async def test_a_caller_who_leaves_during_the_hold_leaves_nothing_held(ledger: RedisLedger) -> None:
    """Cancelled at any moment, a hold is given back."""
    calls = [
        asyncio.create_task(ledger.choose_and_hold(f"r{i}", [candidate((RULE, 10))], about=ABOUT)) for i in range(50)
    ]
    await asyncio.sleep(0.003)
    for call in calls:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    await ledger.aclose()
    await ledger._leases.sweep()
    [balance] = await ledger.balances([RULE])
    assert balance.held == 10 * sum(isinstance(result, Held) for result in results)


async def test_cancelled_calls_never_get_another_ones_answer(server: str) -> None:
    """A storm of cancelled calls over few connections leaves every other answer where it belongs."""
    store, chance = Store(server, connections=4, deadline=10, patience=30), random.Random(3)

    async def echo(number: int) -> bool:
        return bool(await store.execute("ECHO", str(number)) == str(number))

    for _ in range(10):
        calls = [asyncio.create_task(echo(number)) for number in range(100)]
        await asyncio.sleep(chance.uniform(0, 0.01))
        for call in chance.sample(calls, 60):
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(result is True or isinstance(result, asyncio.CancelledError) for result in results)
    assert await echo(7)
    await store.aclose()


async def test_the_background_loop_keeps_holds_alive_and_survives_an_outage(mortal: MortalServer) -> None:
    """Held work outlives many leases while its gateway lives, even over a restart; abandoned work is presumed."""
    store = Store(mortal.url, deadline=10.0)
    ledger = RedisLedger(store, lease=1.5)
    loop = asyncio.create_task(ledger.run())
    await hold(ledger, "r", candidate((RULE, 100)))
    other = RedisLedger(store, lease=0.1)
    await hold(other, "abandoned", candidate((RULE, 7)))
    mortal.kill()
    await asyncio.sleep(0.6)
    mortal.restart()
    await asyncio.sleep(3.0)
    assert not loop.done()
    [balance] = await ledger.balances([RULE])
    assert (balance.used, balance.held) == (7, 100)
    assert await ledger.settle(settlement("r", 1000)) is SettleResult.DONE
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    await store.aclose()


async def test_an_outage_longer_than_a_lease_ends_no_hold_of_the_living(
    mortal: MortalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper is the first to find the store again; work under way is renewed before it looks for what lapsed."""
    monkeypatch.setattr("gateway.ledger.leases.SWEEP_SECONDS", 0.05)
    told: list[Event] = []
    store = Store(mortal.url, deadline=10.0)
    ledger = RedisLedger(store, lease=2.0, on_expired=told.append)
    loop = asyncio.create_task(ledger.run())
    await hold(ledger, "r", candidate((RULE, 100)))
    mortal.kill()
    await asyncio.sleep(2.1)
    mortal.restart()
    await back(store)
    await asyncio.sleep(0.5)
    assert await ledger.settle(settlement("r", 1000)) is SettleResult.DONE
    assert told == []
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    await store.aclose()


async def test_a_renewal_that_took_as_long_as_a_lease_ends_no_hold_of_the_living(
    ledger: RedisLedger, realm: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own sweeper finds it lapsed before it is renewed again, and renews it; what others left is presumed."""
    monkeypatch.setattr("gateway.ledger.leases.SWEEP_SECONDS", 0.05)
    await hold(ledger, "r", candidate((RULE, 100)))
    await hold(RedisLedger(store, realm), "abandoned", candidate((RULE, 7)))
    loop = asyncio.create_task(ledger.run())
    await asyncio.sleep(0.2)  # renewed, and not again for a third of its lease
    await store.execute("ZADD", ledger._names.due, "XX", 1, "r:1", 1, "abandoned:1")
    while (await ledger.balances([RULE]))[0].held > 100:
        assert not loop.done()
        await asyncio.sleep(0.05)
    [balance] = await ledger.balances([RULE])
    assert (balance.used, balance.held) == (7, 100)
    assert await ledger.settle(settlement("r", 1000)) is SettleResult.DONE
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_every_call_is_told_of(server: str, realm: str, mortal: MortalServer) -> None:
    """Each call to the store becomes one event with its operation, its time and whether it failed."""

    class Notes:
        """Keeps events."""

        def __init__(self) -> None:
            self.kept: list[Event] = []

        def emit(self, event: Event) -> None:
            """Take note."""
            self.kept.append(event)

    notes, store = Notes(), Store(mortal.url, deadline=10.0)
    ledger = RedisLedger(store, realm, observer=notes)
    await hold(ledger, "r", candidate((RULE, 100)))
    await denied(ledger, "s", candidate((RULE, 901)))
    await ledger.settle(settlement("r", 1))
    meter = next(iter(await balances(store, realm)))
    await store.execute("HSET", f"igw:{{{realm}}}:bal", meter, "junk")
    with pytest.raises(LedgerUnavailable):
        await ledger.choose_and_hold("t", [candidate((RULE, 1))], about={})
    mortal.kill()
    with pytest.raises(LedgerUnavailable):
        await ledger.void("s", 1, "x")
    assert [event.refused for event in notes.kept if isinstance(event, LedgerFailed)] == [True, False]
    told = [(event.operation, type(event)) for event in notes.kept if isinstance(event, LedgerCalled | LedgerFailed)]
    calls = [(operation, LedgerCalled) for operation in ("read", "hold", "hold", "settle")]
    assert told == [*calls, ("hold", LedgerFailed), ("void", LedgerFailed)]
    await store.aclose()
    mortal.restart()

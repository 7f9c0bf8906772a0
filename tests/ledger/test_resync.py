"""A store that came back older, or empty, is told again what it lost, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.domain.budget import Held, Window
from gateway.domain.idempotency import Binding, Bound
from gateway.domain.settlement import CostSource, SettleResult
from gateway.ledger import resync, script
from gateway.ledger.audit import audit
from gateway.ledger.errors import StoreError
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.script import Script
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.ledger.older import copy, empty, resynced
from tests.ledger.rules import ABOUT, balances, budget, candidate, concurrent, entries, hold, images, settlement

RULE = budget(1000)
DAY = budget(900, Window.DAY)


async def stand(ledger: RedisLedger) -> tuple[int, int]:
    """What the budget has spent and holds, micro-USD."""
    [balance] = await ledger.balances([RULE])
    return balance.used, balance.held


async def healed(ledger: RedisLedger) -> None:
    """Let the next heartbeat notice, and wait until all is told."""
    await ledger._leases.renew()
    await resynced(ledger)


@pytest.mark.parametrize("source", [CostSource.USAGE, CostSource.PRESUMED])
async def test_who_leaves_while_the_store_is_asked_closes_no_doors(
    ledger: RedisLedger, source: CostSource, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that we closed ourselves is looked into, and what was presumed is known as no more than that."""
    await hold(ledger, "a", candidate((RULE, 100)))
    await ledger.settle(settlement("a", 70_000, source=source))
    losses = ledger._calls._store.losses
    before = losses.count
    reading = asyncio.create_task(ledger._calls.execute("BLPOP", f"{ledger._names.meta}:nothing", "1"))
    await asyncio.sleep(0.05)
    reading.cancel()
    assert isinstance((await asyncio.gather(reading, return_exceptions=True))[0], asyncio.CancelledError)
    assert losses.count > before
    await ledger._leases.renew()
    assert ledger._resync._look is not None
    await ledger._resync._look
    assert not ledger._resync.needed
    assert "came back older" not in caplog.text


async def test_a_truth_that_a_store_lost_again_is_missed(ledger: RedisLedger, server: str, realm: str) -> None:
    """Where a cost is known, a store that knows of a presumed one alone lacks something."""
    await hold(ledger, "a", candidate((RULE, 100)))
    await ledger.settle(settlement("a", 90_000, source=CostSource.PRESUMED))
    old = copy(server, realm)
    await ledger.settle(settlement("a", 70_000))
    assert not await ledger._resync._lacks_anything()
    old.put_back()
    assert await ledger._resync._lacks_anything()
    await healed(ledger)
    assert await stand(ledger) == (70, 0)


async def test_lost_holds_and_settlements_are_told_again(
    ledger: RedisLedger, store: Store, server: str, realm: str
) -> None:
    """What ran still runs, what was settled is settled at the same cost, what was given back stays given back."""
    lines = ((RULE, 100), (DAY, 100), (images(50), 1), (concurrent(9), 1))
    await hold(ledger, "before", candidate(*lines))
    old = copy(server, realm)
    await hold(ledger, "running", candidate(*lines))
    await hold(ledger, "settled", candidate(*lines))
    await hold(ledger, "void", candidate(*lines))
    await ledger.settle(settlement("settled", 70_000))
    await ledger.settle(settlement("before", 50_000))
    await ledger.void("void", 1, "refused")
    right, booked = await stand(ledger), await entries(store, realm)
    assert right == (120, 100)

    old.put_back()
    assert await stand(ledger) == (0, 100)
    await healed(ledger)

    assert await stand(ledger) == right
    again = await entries(store, realm)
    assert sorted((e.request_id, e.cost.route, dict(e.lines)) for e in again) == sorted(
        (e.request_id, e.cost.route, dict(e.lines)) for e in booked
    )
    [flight] = await ledger.balances([concurrent(9)])
    assert flight.held == 1
    assert await ledger.settle(settlement("running", 10_000)) is SettleResult.DONE
    assert await ledger.settle(settlement("settled", 70_000)) is SettleResult.SAME


async def test_healing_a_store_that_lost_nothing_changes_nothing(ledger: RedisLedger, store: Store, realm: str) -> None:
    """A false alarm books nothing twice."""
    await hold(ledger, "r", candidate((RULE, 100)))
    await hold(ledger, "s", candidate((RULE, 100)))
    await ledger.settle(settlement("r", 70_000))
    ledger._resync.begin()
    await resynced(ledger)
    assert await stand(ledger) == (70, 100)
    assert len(await entries(store, realm)) == 1


async def test_a_guess_and_its_correction_are_told_again_in_order(
    ledger: RedisLedger, store: Store, server: str, realm: str
) -> None:
    """Presumed first and settled later, both lost: the later word stands; repeats of what others ended are not told."""
    for name in ("r", "s"):
        await hold(ledger, name, candidate((RULE, 100)))
    other = RedisLedger(store, realm)
    await other.open()
    old = copy(server, realm)
    await ledger.settle(settlement("r", 100_000, source=CostSource.PRESUMED))
    assert await ledger.settle(settlement("r", 40_000)) is SettleResult.LATE
    assert await ledger.settle(settlement("s", 30_000)) is SettleResult.DONE
    assert await other.settle(settlement("s", 90_000)) is SettleResult.SAME
    old.put_back()
    await healed(other)
    assert await stand(ledger) == (0, 200)
    await healed(ledger)
    assert await stand(ledger) == (70, 0)
    await other.aclose()


async def test_a_loss_that_overlapping_operations_hide_is_found(
    ledger: RedisLedger, store: Store, server: str, realm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal that began before a settlement's answer reaches the older server after it, so its number tells nothing.

    What is sent when is not ours to choose on a real connection, so two calls wait here for each other.
    """
    await hold(ledger, "r", candidate((RULE, 100)))
    await hold(ledger, "s", candidate((RULE, 100)))
    old = copy(server, realm)
    run, began, gate = store.run, asyncio.Event(), asyncio.Event()

    async def in_turn(what: Script, keys: Sequence[str], args: Sequence[str], *, repeatable: bool = False) -> object:
        if what is script.RENEW:
            began.set()
            await gate.wait()
        elif what is script.SETTLE:
            await began.wait()
        return await run(what, keys, args, repeatable=repeatable)

    monkeypatch.setattr(store, "run", in_turn)
    settling = asyncio.create_task(ledger.settle(settlement("r", 70_000)))
    await asyncio.sleep(0)
    renewal = asyncio.create_task(ledger._leases.renew())
    await settling
    old.put_back()
    await store._servers.drop()
    gate.set()
    await renewal
    assert not ledger._resync.needed
    assert await stand(ledger) == (0, 200)
    look = ledger._resync._look
    assert look is not None
    await look
    await resynced(ledger)
    assert await stand(ledger) == (70, 100)
    await hold(ledger, "meanwhile", candidate((RULE, 1)))


async def test_a_lost_connection_alone_tells_nothing_again(
    ledger: RedisLedger, store: Store, server: str, realm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is asked, lacks nothing, and work never stops."""
    await hold(ledger, "r", candidate((RULE, 100)))
    await hold(ledger, "s", candidate((RULE, 100)))
    await ledger.settle(settlement("r", 70_000))
    await store._servers.drop()
    await ledger._leases.renew()
    look = ledger._resync._look
    assert look is not None
    await look
    assert "told again" not in caplog.text
    assert not ledger._resync.needed
    assert len(await entries(store, realm)) == 1


async def test_it_is_noticed_however_far_others_have_gone(
    ledger: RedisLedger, store: Store, server: str, realm: str
) -> None:
    """Another instance writes more than was lost before this one looks again; its own watermark tells anyway."""
    await hold(ledger, "a", candidate((RULE, 10)))
    old = copy(server, realm)
    await hold(ledger, "b", candidate((RULE, 20)))
    old.put_back()
    other = RedisLedger(store, realm)
    for number in range(20):
        await hold(other, f"other{number}", candidate((RULE, 1)))
    await healed(ledger)
    assert await stand(ledger) == (0, 50)
    await other.aclose()


async def test_a_hold_notices_it_too_and_nothing_is_held_meanwhile(
    ledger: RedisLedger, server: str, realm: str
) -> None:
    """The first operation after the loss starts the resync; until it is done new work is refused."""
    await hold(ledger, "a", candidate((RULE, 10)))
    old = copy(server, realm)
    await hold(ledger, "b", candidate((RULE, 20)))
    old.put_back()
    with pytest.raises(LedgerUnavailable, match="being told"):
        await hold(ledger, "c", candidate((RULE, 30)))
    with pytest.raises(LedgerUnavailable, match="being told"):
        await hold(ledger, "d", candidate((RULE, 40)))
    await resynced(ledger)
    await ledger._leases.sweep()
    await ledger.ping()
    assert await stand(ledger) == (0, 30)


async def test_a_settlement_whose_hold_was_lost_is_booked(
    ledger: RedisLedger, store: Store, server: str, realm: str
) -> None:
    """The settlement itself is the first to meet the older store."""
    await hold(ledger, "a", candidate((RULE, 10)))
    old = copy(server, realm)
    await hold(ledger, "b", candidate((RULE, 20), (DAY, 20)))
    old.put_back()
    assert await ledger.settle(settlement("b", 15_000)) is SettleResult.DONE
    await resynced(ledger)
    assert await stand(ledger) == (15, 10)
    assert [entry.request_id for entry in await entries(store, realm)] == ["b"]


async def test_a_presumed_cost_that_was_lost_is_presumed_again(
    ledger: RedisLedger, store: Store, server: str, realm: str
) -> None:
    """And the truth may still come late, once."""
    await hold(ledger, "a", candidate((RULE, 10)))
    old = copy(server, realm)
    await hold(ledger, "b", candidate((RULE, 20)))
    await ledger._calls.execute("ZADD", ledger._names.due, "XX", 1, "b:1")
    await ledger._leases.sweep()
    assert await stand(ledger) == (20, 10)
    old.put_back()
    await healed(ledger)
    assert await stand(ledger) == (0, 30)
    assert await ledger.settle(settlement("b", 5_000)) is SettleResult.DONE
    assert await stand(ledger) == (5, 10)


async def test_an_emptied_store_admits_nothing_until_it_has_a_ledger_again(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """Nothing is forgotten by a FLUSHALL: work is refused, and what ran is back as soon as there is a ledger."""
    await hold(ledger, "a", candidate((RULE, 10)))
    await hold(ledger, "b", candidate((RULE, 20)))
    await ledger.settle(settlement("b", 15_000))
    await empty(store, realm)
    for request in ("c", "d"):
        with pytest.raises(LedgerUnavailable):
            await hold(ledger, request, candidate((RULE, 1)))
    with pytest.raises(LedgerUnavailable):
        await ledger.settle(settlement("a", 5_000))
    with pytest.raises(StoreError, match="ledger rebuild"):
        await RedisLedger(store, realm).open(create=False)
    await RedisLedger(store, realm).open()
    await resynced(ledger)
    assert await stand(ledger) == (15, 10)
    assert await ledger.settle(settlement("a", 5_000)) is SettleResult.DONE
    assert await stand(ledger) == (20, 0)


async def test_a_binding_that_was_lost_is_bound_again(
    ledger: RedisLedger, store: Store, server: str, realm: str
) -> None:
    """A failover must not turn a repeated request into a second call."""
    binding = Binding("a" * 64, "b" * 64)
    await hold(ledger, "x", candidate((RULE, 10)))
    old = copy(server, realm)
    await ledger.choose_and_hold("first", [candidate((RULE, 20))], about=ABOUT, binding=binding)
    await ledger.settle(settlement("first", 15_000))
    old.put_back()
    await healed(ledger)
    other = RedisLedger(store, realm)
    again = await other.choose_and_hold("second", [candidate((RULE, 20))], about=ABOUT, binding=binding)
    assert again == Bound("first", same=True)
    await other.aclose()


async def test_watermarks_of_gateways_long_gone_are_not_kept_for_ever(
    ledger: RedisLedger, store: Store, server: str, realm: str
) -> None:
    """A thousand starts later only the newest are known, and a gateway that is alive still notices a loss."""
    await hold(ledger, "a", candidate((RULE, 10)))
    old = [word for number in range(1100) for word in (f"gone{number}", f"1 {number}")]
    await store.execute("HSET", ledger._names.instances, *old)
    await RedisLedger(store, realm).open()
    assert int(await store.execute("HLEN", ledger._names.instances)) <= 1001
    await ledger._leases.renew()
    assert not ledger._resync.needed


async def test_a_hold_that_was_put_back_is_renewed_again(ledger: RedisLedger, server: str, realm: str) -> None:
    """The heartbeat that noticed the loss has given the hold up; it is back among those that are kept alive."""
    await ledger.open()
    old = copy(server, realm)
    await hold(ledger, "a", candidate((RULE, 10)))
    old.put_back()
    await healed(ledger)
    assert ledger._holds.due == ["a:1"]


async def test_attempts_are_never_numbered_twice(ledger: RedisLedger, store: Store, server: str, realm: str) -> None:
    """A request's second attempt is not taken for its first, which the store has lost and is told of again."""
    await ledger.open()
    old = copy(server, realm)
    await hold(ledger, "r", candidate((RULE, 100)))
    await ledger.settle(settlement("r", 70_000, source=CostSource.PRESUMED))
    old.put_back()
    with pytest.raises(LedgerUnavailable, match="being told"):
        await hold(ledger, "r", candidate((RULE, 20), route="two"))
    await ledger._leases.sweep()
    await resynced(ledger)
    await ledger._leases.sweep()
    assert await stand(ledger) == (70, 0)


async def test_a_lapsed_hold_that_was_surely_not_billed_is_given_back_by_the_fallback(ledger: RedisLedger) -> None:
    """It was presumed while its gateway stood still; the provider had refused it, and the next route is taken."""
    await hold(ledger, "r", candidate((RULE, 100)))
    await ledger._calls.execute("ZADD", ledger._names.due, "XX", 1, "r:1")
    await ledger._leases.sweep()
    await ledger._leases.renew()
    assert await stand(ledger) == (100, 0)
    await ledger.choose_and_hold("r", [candidate((RULE, 20))], about=ABOUT, release=1)
    assert await stand(ledger) == (0, 20)


async def test_it_is_given_back_though_its_gateway_has_not_noticed_the_lapse(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """Another gateway ended it a moment ago: the step that takes the next route's hold corrects it to nothing."""
    other = RedisLedger(store, realm)
    await hold(ledger, "r", candidate((RULE, 100)))
    await ledger._calls.execute("ZADD", ledger._names.due, "XX", 1, "r:1")
    await other._leases.sweep()
    await ledger.choose_and_hold("r", [candidate((RULE, 20))], about=ABOUT, release=1)
    assert await stand(ledger) == (0, 20)
    assert [(entry.kind, entry.cost.route) for entry in await entries(store, realm)] == [
        ("presume", 100_000),
        ("correct", -100_000),
    ]
    assert (await audit(store, realm, thorough=True)).agrees
    await ledger.choose_and_hold("r", [candidate((RULE, 2000))], about=ABOUT, release=2)
    assert await stand(ledger) == (0, 0)
    await other.aclose()


async def forgotten(store: Store, realm: str, *names: str) -> None:
    """Have the store lose these requests, and everything that is counted."""
    known = Names(realm)
    await store.execute("DEL", known.balances, known.due, *map(known.request, names))


async def test_a_hold_that_is_put_back_takes_a_shared_count_once(ledger: RedisLedger, store: Store, realm: str) -> None:
    """A policy's quota and the route's own limit may count in one cell: at the larger amount, as when it was held."""
    for rules in (((images(20), 1), (images(30), 3)), ((concurrent(9), 2), (concurrent(5), 1))):
        await hold(ledger, "r", candidate(*rules))
        [before] = await ledger.balances([rules[0][0]])
        await forgotten(store, realm, "r")
        await healed_by_hand(ledger)
        [after] = await ledger.balances([rules[0][0]])
        assert (after.used, after.held) == (before.used, before.held)
        await ledger.void("r", 1, "test")
        await forgotten(store, realm, "r")


async def healed_by_hand(ledger: RedisLedger) -> None:
    """Tell the store again, whatever it says of itself."""
    ledger._resync.begin()
    await resynced(ledger)


async def test_a_hold_that_is_put_back_counts_in_the_day_on_which_it_was_taken(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """A failover after midnight does not move yesterday's money to today."""
    await hold(ledger, "r", candidate((DAY, 100), (RULE, 100)))
    record = ledger.record_of("r", 1)
    assert record is not None
    await forgotten(store, realm, "r")
    yesterday = replace(record, at=record.at - 86_400_000)
    await ledger.put_back(yesterday)
    day = datetime.fromtimestamp(yesterday.at / 1000, UTC).date()
    assert await balances(store, realm) == {f"{DAY.meter}@{day}": (0, 100), f"{RULE.meter}@total": (0, 100)}


async def test_an_older_attempt_that_is_put_back_hides_no_newer_one(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """A hold whose answer was lost is found by its token, by earlier versions too, which know one token a request."""
    offers = [candidate((RULE, 10))]
    for name in ("one", "two"):
        await ledger.choose_and_hold("r", offers, about=ABOUT, token=name)
    records = [ledger.record_of("r", number) for number in (2, 1)]
    await forgotten(store, realm, "r")
    for record in records:
        assert record is not None
        await ledger.put_back(record)
    assert await store.execute("HGET", Names(realm).request("r"), "token") == "two"
    again = await ledger.choose_and_hold("r", offers, about=ABOUT, token="two")
    assert isinstance(again, Held)
    assert again.attempt == 2
    assert await stand(ledger) == (0, 20)


async def test_an_operation_that_arrives_late_sets_no_watermark_back(ledger: RedisLedger, store: Store) -> None:
    """Or the next one would take the store for an older one."""
    await hold(ledger, "r", candidate((RULE, 10)))
    [(instance, noted)] = (await store.execute("HGETALL", ledger._names.instances)).items()
    await store.execute("HSET", ledger._names.instances, instance, f"1000 {noted.split()[1]}")
    await hold(ledger, "s", candidate((RULE, 10)))
    assert (await store.execute("HGET", ledger._names.instances, instance)).split()[0] == "1000"


async def test_a_hold_that_lapsed_is_not_renewed_any_more(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Another gateway presumed its cost; it is kept here, for its true cost may still be told."""
    await hold(ledger, "a", candidate((RULE, 10)))
    await hold(ledger, "b", candidate((RULE, 10)))
    other = RedisLedger(store, realm)
    await store.execute("ZADD", ledger._names.due, "XX", 1, "a:1")
    await other._leases.sweep()
    await ledger._leases.renew()
    assert ledger._holds.due == ["b:1"]
    assert ledger.record_of("a", 1) is not None
    await other.aclose()


async def test_a_hold_that_nobody_heard_of_is_given_back_again(
    ledger: RedisLedger, store: Store, server: str, realm: str
) -> None:
    """The store came back with it, and forgot that it was dropped: it would lapse to money that was spent."""
    await ledger.choose_and_hold("r", [candidate((RULE, 100))], about=ABOUT, token="lost")
    ledger._holds.remove("r", 1)
    old = copy(server, realm)
    ledger._leases.drop("lost", "r")
    await ledger._leases.give_back()
    assert await stand(ledger) == (0, 0)
    old.put_back()
    assert await stand(ledger) == (0, 100)
    await healed(ledger)
    assert await stand(ledger) == (0, 0)


async def test_what_a_renewal_gave_up_is_renewed_once_it_is_put_back(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """Its call runs on: unless it is renewed again it lapses under way, and is booked at its worst case."""
    await hold(ledger, "r", candidate((RULE, 100)))
    record = ledger.record_of("r", 1)
    assert record is not None
    await forgotten(store, realm, "r")
    await ledger._leases.renew()
    assert ledger._holds.due == []
    await ledger.put_back(record)
    assert ledger._holds.due == ["r:1"]
    assert await stand(ledger) == (0, 100)


async def test_a_hold_that_is_lost_is_missed(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Though nothing has ended lately that the store would lack."""
    await hold(ledger, "r", candidate((RULE, 100)))
    assert not await ledger._resync._lacks_anything()
    await forgotten(store, realm, "r")
    assert await ledger._resync._lacks_anything()


async def test_what_is_lost_while_it_is_told_is_told_after_it(
    ledger: RedisLedger, store: Store, realm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second failover comes just when the first one's losses were made good."""
    await hold(ledger, "r", candidate((RULE, 100)))
    heal, losses = ledger._resync._heal, [1, 2]

    async def lose_again() -> None:
        await heal()
        if losses:
            losses.pop()
            await forgotten(store, realm, "r")
            ledger._resync.begin()

    monkeypatch.setattr(ledger._resync, "_heal", lose_again)
    await healed_by_hand(ledger)
    assert (losses, await stand(ledger)) == ([], (0, 100))


async def test_a_store_that_goes_away_while_it_is_asked_is_asked_again(
    ledger: RedisLedger, store: Store, realm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it may have lost is not taken for there because nobody could tell."""
    monkeypatch.setattr(resync, "OVERLAP_SECONDS", 0.01)
    await hold(ledger, "r", candidate((RULE, 100)))
    await forgotten(store, realm, "r")
    lacks, away = ledger._resync._lacks_anything, [1, 2]

    async def first_away() -> bool:
        if away:
            away.pop()
            raise LedgerUnavailable("away")
        return await lacks()

    monkeypatch.setattr(ledger._resync, "_lacks_anything", first_away)
    ledger._resync.suspect()
    look = ledger._resync._look
    assert look is not None
    async with asyncio.timeout(30):
        await look
    await resynced(ledger)
    assert (away, await stand(ledger)) == ([], (0, 100))


async def test_a_store_that_is_being_told_is_not_ready(ledger: RedisLedger) -> None:
    """Nothing could be held: requests go to another gateway meanwhile."""
    await ledger.open()
    await ledger.ping()
    ledger._resync.begin()
    with pytest.raises(LedgerUnavailable, match="told again what it lost"):
        await ledger.ping()
    await resynced(ledger)
    await ledger.ping()

"""How holds end: once, and the books are right whichever way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any

import pytest

from gateway.domain.budget import Window
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement, SettleResult, Usage
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.observe.event import HoldEnded
from gateway.observe.log import JsonFormatter
from gateway.observe.redact import Redactor
from tests.ledger.rules import ABOUT, balances, budget, candidate, concurrent, entries, hold, images, settlement
from tests.ledger.rules import spent_by_entries as rebuilt

HELD, COST = 100, 60_500
DONE, LATE, SAME, GONE = SettleResult.DONE, SettleResult.LATE, SettleResult.SAME, SettleResult.GONE
RULES = (budget(1000), budget(1000, Window.DAY))

Step = Callable[[RedisLedger], Coroutine[Any, Any, SettleResult | None]]


async def settled(ledger: RedisLedger) -> SettleResult:
    """Settle at 60.5 micro-USD."""
    return await ledger.settle(settlement("r", COST))


async def presumed(ledger: RedisLedger) -> SettleResult:
    """Settle at the worst case, unconfirmed."""
    return await ledger.settle(settlement("r", HELD * 1000, source=CostSource.PRESUMED, images=0))


async def voided(ledger: RedisLedger) -> SettleResult:
    """Give back."""
    return await ledger.void("r", 1, "refused")


async def expired(ledger: RedisLedger) -> None:
    """Let the lease lapse."""
    await ledger._calls.execute("ZADD", ledger._names.due, "XX", 1, "r:1")
    await ledger._leases.sweep()


MATRIX: dict[str, tuple[Step, Step, SettleResult | None, int]] = {
    "settle, settle": (settled, settled, SAME, 61),
    "settle, void": (settled, voided, SAME, 61),
    "settle, presume": (settled, presumed, SAME, 61),
    "settle, expire": (settled, expired, None, 61),
    "void, settle": (voided, settled, SAME, 0),
    "void, void": (voided, voided, SAME, 0),
    "void, expire": (voided, expired, None, 0),
    "presume, settle": (presumed, settled, LATE, 61),
    "presume, void": (presumed, voided, LATE, 0),
    "presume, presume": (presumed, presumed, SAME, 100),
    "presume, expire": (presumed, expired, None, 100),
    "expire, settle": (expired, settled, LATE, 61),
    "expire, void": (expired, voided, LATE, 0),
    "expire, presume": (expired, presumed, SAME, 100),
    "expire, expire": (expired, expired, None, 100),
}


@pytest.mark.parametrize("case", MATRIX)
async def test_two_ends_in_any_order(case: str, ledger: RedisLedger, store: Store, realm: str) -> None:
    """Whatever ends a hold first and second, the money is booked once and the entries add up to the balances."""
    first, second, result, spent = MATRIX[case]
    await hold(ledger, "r", candidate(*((rule, HELD) for rule in RULES), (concurrent(1), 1), worst=HELD * 1000))
    assert await first(ledger) in {DONE, None}
    assert await second(ledger) == result
    third = await settled(ledger)
    assert third is (LATE if spent == 100 else SAME)
    assert await settled(ledger) is SAME
    spent = 61 if spent == 100 else spent
    assert set((await balances(store, realm)).values()) == {(spent, 0)}
    assert set((await rebuilt(store, realm)).values()) <= {spent}
    assert sum(entry.cost.route for entry in await entries(store, realm)) == (COST if spent else 0)
    [live] = await ledger.balances([concurrent(1)])
    assert live.held == 0


async def test_an_unknown_hold_is_gone(ledger: RedisLedger) -> None:
    """Ending what was never held does nothing."""
    assert await settled(ledger) is GONE
    assert await voided(ledger) is GONE


async def test_a_repeat_of_one_operation_gets_its_first_result(ledger: RedisLedger) -> None:
    """A settlement whose answer was lost is DONE when it is sent again, and booked once."""
    await hold(ledger, "r", candidate((RULES[0], HELD)))
    assert await ledger.settle(settlement("r", COST), token="t") is DONE
    assert await ledger.settle(settlement("r", COST), token="t") is DONE
    await hold(ledger, "s", candidate((RULES[0], HELD)))
    assert await ledger.void("s", 1, "x", token="u") is DONE
    assert await ledger.void("s", 1, "x", token="u") is DONE
    [balance] = await ledger.balances([RULES[0]])
    assert (balance.used, balance.held) == (61, 0)


async def test_a_cost_above_the_hold_is_booked_in_full(ledger: RedisLedger) -> None:
    """The money is gone, so the books say so, and the budget blocks what follows."""
    rule = budget(100)
    await hold(ledger, "r", candidate((rule, 50)))
    assert await ledger.settle(settlement("r", 250_000)) is DONE
    [balance] = await ledger.balances([rule])
    assert (balance.used, balance.held) == (250, 0)


async def test_free_work_still_counts_images_and_requests_in_flight(ledger: RedisLedger) -> None:
    """A price of nothing books nothing, but quotas hold."""
    quota, flight = images(3), concurrent(1)
    await hold(ledger, "r", candidate((budget(0), 0), (quota, 3), (flight, 1)))
    assert [(at.used, at.held) for at in await ledger.balances([quota, flight])] == [(3, 0), (0, 1)]
    assert await ledger.settle(settlement("r", 0, images=3)) is DONE
    assert [(at.used, at.held) for at in await ledger.balances([quota, flight])] == [(3, 0), (0, 0)]


async def test_a_void_gives_images_back_to_the_window(ledger: RedisLedger) -> None:
    """Work that was not done does not count against images per minute."""
    quota = images(5)
    await hold(ledger, "a", candidate((quota, 2)))
    await hold(ledger, "b", candidate((quota, 3)))
    await ledger.void("b", 1, "refused")
    [balance] = await ledger.balances([quota])
    assert balance.used == 2
    await hold(ledger, "c", candidate((quota, 3)))


async def test_a_lapsed_hold_is_presumed_spent_at_its_worst_case_and_told_once(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """Any instance may find it; the exact worst case is entered, marked unconfirmed, and one instance tells of it."""
    told: list[HoldEnded] = []
    others = [RedisLedger(store, realm, on_expired=told.append) for _ in range(4)]
    await hold(ledger, "r", candidate((RULES[0], HELD), worst=99_001))
    await store.execute("ZADD", ledger._names.due, "XX", 1, "r:1")
    await asyncio.gather(*(other._leases.sweep() for other in others))
    worst = Views(99_001, 99_001, 99_001)
    assert told == [HoldEnded("p", "hero", "r", "none", worst, worst, CostSource.PRESUMED, 0)]
    [entry] = await entries(store, realm)
    assert (entry.kind, entry.source, entry.cost, entry.images) == ("presume", "presumed", worst, 0)
    record: Any = await ledger.request("r")
    assert record["attempts"][0]["state"] == "presumed"


async def test_a_lapsed_hold_of_no_money_is_told_to_nobody(
    ledger: RedisLedger, store: Store, realm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It was there for quotas alone, as that of a path without a price: it ends, and nothing is to be looked into."""
    told: list[HoldEnded] = []
    other = RedisLedger(store, realm, on_expired=told.append)
    await hold(ledger, "r", candidate((images(5), 1), worst=0))
    await store.execute("ZADD", ledger._names.due, "XX", 1, "r:1")
    await other._leases.sweep()
    record: Any = await ledger.request("r")
    assert record["attempts"][0]["state"] == "presumed"
    assert (told, caplog.records) == ([], [])


async def test_what_somebody_must_look_into_is_logged_with_its_request(
    ledger: RedisLedger, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A hold that lapsed and a settlement without a hold name their request in the fields that the log shows."""
    await hold(ledger, "r", candidate((budget(100), 50)))
    await store.execute("ZADD", ledger._names.due, "XX", 1, "r:1")
    await ledger._leases.sweep()
    assert await ledger.settle(settlement("nobody", 1)) is GONE
    formatter = JsonFormatter(Redactor())
    lines = [json.loads(formatter.format(record)) for record in caplog.records]
    assert [(line["level"], line["request_id"]) for line in lines] == [("warning", "r"), ("error", "nobody")]


async def test_a_queued_hold_lapses_to_nothing(ledger: RedisLedger, store: Store) -> None:
    """Money that cannot have been spent comes back by itself; what was sent does not."""
    rule = budget(100)
    for request, ahead in (("a", 60.0), ("b", None)):
        await ledger.choose_and_hold(request, [candidate((rule, 50))], about=ABOUT, ahead=ahead)
    await store.execute("ZADD", ledger._names.due, "XX", 1, "a:1", 1, "b:1")
    await ledger._leases.sweep()
    [balance] = await ledger.balances([rule])
    assert (balance.used, balance.held) == (50, 0)


async def test_a_record_tells_the_whole_story_and_is_forgotten_later(ledger: RedisLedger, store: Store) -> None:
    """Attempts, states, costs, usage and reasons are kept; the record lives on until its retention is over."""
    rule = budget(1000)
    await hold(ledger, "r", candidate((rule, 10), route="first"))
    await ledger.choose_and_hold("r", [candidate((rule, 20), route="second")], about=ABOUT, release=1)
    key = ledger._names.request("r")
    assert await store.execute("TTL", key) == -1
    usage = Usage(text_in=3, image_out=1000)
    await ledger.settle(Settlement("r", 2, Views(1, 2, 3), CostSource.USAGE, 4, usage, {"quality": "low"}))
    record: Any = await ledger.request("r")
    assert (record["id"], record["about"]) == ("r", ABOUT)
    first, second = record["attempts"]
    assert (first["state"], first["reason"], first["facts"]["route"]) == ("void", "fallback", "first")
    assert (second["state"], second["source"], second["cost"]) == ("settled", "usage", Views(1, 2, 3))
    assert (second["images"], second["usage"], second["answer"]) == (4, asdict(usage), {"quality": "low"})
    assert second["lines"] == [{"meter": f"{rule.meter}@total", "amount": 20}]
    assert 0 < await store.execute("TTL", key) <= 30 * 86_400

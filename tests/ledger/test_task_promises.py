"""What a task was promised when its money was held is kept when it begins: whatever turns or is used meanwhile."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.budget import Budget, Candidate, Denied, Held, Pressure, Quota, Window
from gateway.domain.settlement import SettleResult
from gateway.ledger.audit import audit
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.older import copy, resynced
from tests.ledger.rules import ABOUT, balances, budget, candidate, concurrent, hold, settlement
from tests.ledger.work import held_ahead, new_request

DAY = budget(100, Window.DAY)
TOTAL = budget(1_000)


def rung(number: int, *lines: tuple[Budget | Quota, int], **more: Any) -> Candidate:
    """One of two steps of a ladder, the second from half of a budget on: a picture of its own."""
    made = candidate(*lines)
    facts = {**made.facts, "size": "1024x1024", "quality": ("high", "low")[number], **more}
    return replace(made, facts=facts, pressure=(Pressure(0, 5_000), Pressure(5_000))[number])


async def begin(
    ledger: RedisLedger, request: str, queued: int, *offers: Candidate, token: str | None = None
) -> Held | Denied:
    """Take the hold on which a task is sent in place of the one that it waited with."""
    answer = await ledger.choose_and_hold(request, offers, about=ABOUT, release=queued, only_if_held=True, token=token)
    assert isinstance(answer, Held | Denied)
    return answer


async def yesterday(store: Store, realm: str, request: str) -> tuple[str, str]:
    """Have a hold be of another day; returns the names of the cells of today and of then."""
    today, then = f"{DAY.meter}@{datetime.now(UTC):%Y-%m-%d}", f"{DAY.meter}@2026-01-01"
    cells, key = f"igw:{{{realm}}}:bal", f"igw:{{{realm}}}:req:{request}"
    await store.execute("HSET", cells, then, await store.execute("HGET", cells, today))
    await store.execute("HDEL", cells, today)
    kept = (await store.execute("HGET", key, "a1")).replace(today, then)
    at = round(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp() * 1000)
    await store.execute("HSET", key, "a1", re.sub(r'"at":"\d+"', f'"at":"{at}"', kept))
    return today, then


async def test_a_task_that_waits_past_midnight_begins_on_the_money_of_its_day(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """The new day's budget is used up by others; the task is booked in the day in which its money was held."""
    request = new_request()
    queued = await held_ahead(ledger, request, candidate((DAY, 60), (TOTAL, 60)))
    today, then = await yesterday(store, realm, request)
    await hold(ledger, "other", candidate((DAY, 100), (TOTAL, 100)))

    answer = await begin(ledger, request, queued, candidate((DAY, 60), (TOTAL, 60)))

    assert isinstance(answer, Held)
    assert (await balances(store, realm))[then] == (0, 60)
    assert await ledger.settle(settlement(request, 40_000, attempt=answer.attempt)) is SettleResult.DONE
    found = await balances(store, realm)
    assert (found[then], found[today], found[f"{TOTAL.meter}@total"]) == ((40, 0), (0, 100), (40, 100))
    assert (await audit(store, realm, thorough=True)).agrees


@pytest.mark.parametrize("repeated", [False, True])
async def test_a_store_that_lost_it_is_told_it_in_the_window_that_was_promised(
    ledger: RedisLedger, store: Store, realm: str, server: str, *, repeated: bool
) -> None:
    """Also where the answer to the hold was lost, and it was asked for again."""
    request = new_request()
    queued = await held_ahead(ledger, request, candidate((DAY, 60), (TOTAL, 60)))
    today, then = await yesterday(store, realm, request)
    await hold(ledger, "other", candidate((DAY, 100), (TOTAL, 100)))
    old = copy(server, realm)
    answer = await begin(ledger, request, queued, candidate((DAY, 60), (TOTAL, 60)), token="one")
    if repeated:
        answer = await begin(ledger, request, queued, candidate((DAY, 60), (TOTAL, 60)), token="one")
    assert isinstance(answer, Held)
    old.put_back()

    ledger._resync.begin()
    await resynced(ledger)

    found = await balances(store, realm)
    assert (found[then], found[today], found[f"{TOTAL.meter}@total"]) == ((0, 60), (0, 100), (0, 160))
    assert await ledger.settle(settlement(request, 40_000, attempt=answer.attempt)) is SettleResult.DONE
    assert (await balances(store, realm))[then] == (40, 0)
    assert (await audit(store, realm, thorough=True)).agrees


async def test_a_budget_that_is_new_to_the_task_counts_today(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Policy is that of now: a budget of which nothing was held has no window that is kept."""
    request, hour = new_request(), budget(50, Window.HOUR)
    queued = await held_ahead(ledger, request, candidate((DAY, 60)))
    await yesterday(store, realm, request)

    assert isinstance(await begin(ledger, request, queued, candidate((DAY, 60), (hour, 60))), Denied)
    assert isinstance(await begin(ledger, request, queued, candidate((DAY, 50), (hour, 50))), Held)


async def test_the_next_try_of_a_task_counts_today(ledger: RedisLedger, store: Store, realm: str) -> None:
    """What it was sent on is no promise: another try is held in the window of then."""
    request = new_request()
    queued = await held_ahead(ledger, request, candidate((DAY, 60)))
    today, then = await yesterday(store, realm, request)
    sent = await begin(ledger, request, queued, candidate((DAY, 60)))
    assert isinstance(sent, Held)

    again = await ledger.choose_and_hold(request, [candidate((DAY, 60))], about=ABOUT, release=sent.attempt)

    assert isinstance(again, Held)
    found = await balances(store, realm)
    assert (found[then], found[today]) == ((0, 0), (0, 60))


@pytest.mark.parametrize("step", [0, 1])
async def test_a_task_keeps_the_picture_that_its_money_was_held_for(ledger: RedisLedger, step: int) -> None:
    """Its ladder's step is passed, or not reached any more, when it begins; nobody refuses it for that."""
    rule, request = budget(1_000), new_request()
    used = await hold(ledger, "before", candidate((rule, 600))) if step else None
    queued = await held_ahead(ledger, request, rung(step, (rule, 100)))
    if used:
        await ledger.void("before", used.attempt, "refused")
    else:
        await hold(ledger, "others", candidate((rule, 900)))

    assert isinstance(await begin(ledger, request, queued, rung(step, (rule, 101))), Denied if not step else Held)
    if not step:
        assert isinstance(await begin(ledger, request, queued, rung(step, (rule, 100))), Held)


async def test_any_other_picture_goes_by_the_ladder(ledger: RedisLedger) -> None:
    """Another route, size, quality or number of images was not promised; nor does a full route open what is beyond."""
    rule, request = budget(1_000), new_request()
    queued = await held_ahead(ledger, request, rung(0, (rule, 100)))
    await hold(ledger, "others", candidate((rule, 850)))
    for change in ({"route": "s"}, {"size": "2048x2048"}, {"quality": "xhigh"}, {"n": 2}):
        assert isinstance(await begin(ledger, request, queued, rung(0, (rule, 100), **change)), Denied)

    full = rung(0, (rule, 100), (concurrent(0), 1))
    assert isinstance(await begin(ledger, request, queued, full), Denied)
    answer = await begin(ledger, request, queued, full, rung(1, (rule, 50)))
    assert isinstance(answer, Held)
    assert answer.index == 1

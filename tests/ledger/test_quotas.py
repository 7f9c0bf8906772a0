"""Rolling windows: never more than the limit in any of them."""

from __future__ import annotations

import asyncio
import random
import time

from gateway.domain.budget import Counted, Held, Quota, Scope
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.rules import ABOUT, candidate, concurrent, denied, hold, images, settlement


async def test_images_of_many_at_once_never_exceed_the_window(ledger: RedisLedger) -> None:
    """Concurrent requests for one to ten images fill the quota at most to its limit, and leave no room that fits."""
    quota, chance = images(97), random.Random(1)
    sizes = [chance.randint(1, 10) for _ in range(300)]
    asked = [ledger.choose_and_hold(f"r{i}", [candidate((quota, n))], about=ABOUT) for i, n in enumerate(sizes)]
    answers = await asyncio.gather(*asked)
    taken = sum(n for n, answer in zip(sizes, answers, strict=True) if isinstance(answer, Held))
    refused = [n for n, answer in zip(sizes, answers, strict=True) if not isinstance(answer, Held)]
    assert taken <= 97
    assert taken + min(refused) > 97


async def test_no_second_of_three_sees_more_than_the_limit(ledger: RedisLedger) -> None:
    """The window rolls: there is no edge at which twice the limit gets through."""
    quota, chance = images(10, seconds=1), random.Random(2)
    admitted: list[tuple[float, float, int]] = []
    end = time.monotonic() + 3
    while (before := time.monotonic()) < end:
        n = chance.randint(1, 10)
        answer = await ledger.choose_and_hold(f"r{before}", [candidate((quota, n))], about=ABOUT)
        if isinstance(answer, Held):
            admitted.append((before, time.monotonic(), n))
        await asyncio.sleep(chance.uniform(0, 0.01))
    for first, (began, _, _) in enumerate(admitted):
        within = [n for _, ended, n in admitted[first:] if ended - began <= 1]
        assert sum(within) <= 10
    assert sum(n for _, _, n in admitted) > 10


async def test_room_returns_when_the_denial_says(ledger: RedisLedger) -> None:
    """After the wait that an obstacle names, the same request passes."""
    quota = images(4, seconds=1)
    await hold(ledger, "a", candidate((quota, 3)))
    refused = await denied(ledger, "b", candidate((quota, 2)))
    await asyncio.sleep(refused.obstacles[0][0].wait + 0.005)
    await hold(ledger, "c", candidate((quota, 2)))


async def test_a_clock_set_back_does_not_close_a_window_for_long(ledger: RedisLedger, store: Store, realm: str) -> None:
    """What was counted in a future that did not come counts as now, so that it ends with this window."""
    quota = images(4, seconds=1)
    tomorrow = int((time.time() + 86_400) * 1000 / 17)
    await store.execute("HSET", f"igw:{{{realm}}}:bal", quota.meter, f"{tomorrow}:3")
    await denied(ledger, "a", candidate((quota, 2)))
    await hold(ledger, "b", candidate((quota, 1)))
    await asyncio.sleep(1.1)
    await hold(ledger, "c", candidate((quota, 4)))


async def test_more_than_the_limit_never_passes_and_says_so(ledger: RedisLedger) -> None:
    """A request larger than its quota is told that waiting is no use."""
    refused = await denied(ledger, "a", candidate((images(4), 5)))
    assert refused.obstacles[0][0].wait == 0


async def test_requests_are_counted_apart_by_scope_and_kind(ledger: RedisLedger) -> None:
    """Requests per window and images per window of different scopes don't touch each other."""
    requests = Quota(Scope(project="a"), Counted.REQUESTS, 2, 60)
    await hold(ledger, "a", candidate((requests, 1), (images(100, scope=Scope(project="a")), 9)))
    await hold(ledger, "b", candidate((requests, 1), (images(100, scope=Scope(project="b")), 9)))
    await denied(ledger, "c", candidate((requests, 1)))


async def test_requests_in_flight_come_back_when_they_end(ledger: RedisLedger) -> None:
    """A settled request makes room for another at once."""
    rule = concurrent(2)
    await hold(ledger, "a", candidate((rule, 1)))
    await hold(ledger, "b", candidate((rule, 1)))
    refused = await denied(ledger, "c", candidate((rule, 1)))
    assert refused.obstacles[0][0].held == 2
    await ledger.settle(settlement("a", 0))
    await hold(ledger, "d", candidate((rule, 1)))

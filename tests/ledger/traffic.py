"""Traffic of every kind, for whatever reads the ledger afterwards."""

from __future__ import annotations

import asyncio
import random

from gateway.domain.budget import Denied, Scope, View, Window
from gateway.domain.route import Views
from gateway.domain.settlement import Adjustment, CostSource, Posting, Settlement
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.rules import ABOUT, budget, candidate, concurrent, images, settlement

TEAM = Scope(project="p")
RULES = (
    (budget(10**9), 700),
    (budget(10**9, Window.DAY, scope=TEAM), 700),
    (budget(10**9, Window.HOUR, scope=TEAM, view=View.INTERNAL), 900),
    (images(10**6, 60, scope=TEAM), 1),
    (concurrent(10**4, scope=TEAM), 1),
)


async def mixed(ledger: RedisLedger, count: int, *, prefix: str = "r") -> None:
    """Make requests that settle, are presumed, corrected late, voided, adjusted, or are still running at the end."""
    for i in range(count):
        request_id = f"{prefix}{i}"
        offered = candidate(*RULES, route=f"route/{i % 3}", worst=700_000)
        answer = await ledger.choose_and_hold(request_id, [offered], about=ABOUT)
        assert not isinstance(answer, Denied)
        cost = Views(600_000 + i, 500_000 + i, 650_000 + i)
        match i % 6:
            case 0 | 1:
                await ledger.settle(Settlement(request_id, 1, cost, CostSource.USAGE, 1))
            case 2:
                await ledger.settle(settlement(request_id, 700_000, source=CostSource.PRESUMED, images=0))
                await ledger.settle(Settlement(request_id, 1, cost, CostSource.REPORTED, 1))
            case 3:
                await ledger.void(request_id, 1, "refused")
            case 4:
                await ledger.settle(Settlement(request_id, 1, cost, CostSource.USAGE, 1))
                await ledger.adjust(Adjustment(f"a-{request_id}", request_id, 1, Views(7, 5, 6), "credit note"))
            case _:
                pass  # still running
    await ledger.post(Posting(f"{prefix}-fee", Views(0, 900, 0), "fee", {"project": "p"}))


async def restless(ledger: RedisLedger, stop: asyncio.Event, name: str) -> int:
    """Hold and settle until told to stop; returns how often."""
    count = 0
    while not stop.is_set():
        request_id = f"{name}-{count}"
        await ledger.choose_and_hold(request_id, [candidate(*RULES, worst=700_000)], about=ABOUT)
        await asyncio.sleep(random.uniform(0, 0.003))
        if count % 3:
            await ledger.settle(settlement(request_id, 400_000 + count))
        else:
            await ledger.void(request_id, 1, "refused")
        count += 1
    return count


WRITE_MANY = """
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call('XADD', KEYS[1], ARGV[4] + i .. '-0', 'kind', 'settle', 'request', 'q' .. ARGV[4] + i, 'attempt', '1',
    'about', '{"project":"p","tags":{"campaign":"spring"}}', 'facts', '{"route":"r","model":"m","provider":"v"}',
    'outcome', '{"facts":{}}', 'source', 'usage', 'images', '1', 'cost', '1000 1000 1000', 'lines', ARGV[3])
end
redis.call('HSET', KEYS[2], ARGV[5], ARGV[2] .. ' 0')
"""


async def many_entries(store: Store, realm: str, count: int, *, first_ms: int = 1_700_000_000_000) -> str:
    """Write entries of one micro-dollar as fast as the server can, and the balance they add up to; returns its cell."""
    cell = budget(1).meter + "@total"
    keys = [f"igw:{{{realm}}}:entries", f"igw:{{{realm}}}:bal"]
    for start in range(1, count + 1, 5_000):
        end = min(start + 4_999, count)
        rest = [str(start), str(end), f'[["{cell}","1"]]', str(first_ms), cell]
        await store.execute("EVAL", WRITE_MANY, 2, *keys, *rest)
    return cell

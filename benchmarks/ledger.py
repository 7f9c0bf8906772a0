"""What the ledger costs: one hold and its settlement, by the number of budgets and quotas they touch.

`python benchmarks/ledger.py [--quick]` prints a table in Markdown. It runs on an embedded store of its own, once as the
gateway sets it up (every write on disk before its reply) and once with a write to disk every second.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
import time
from pathlib import Path

from overhead import machine, percentile

from gateway.domain.budget import Budget, Candidate, Counted, Held, Line, Quota, Scope, Window
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement
from gateway.ledger.embedded import embedded_store
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store

AMPLE = 10**12


def candidate(lines: int) -> Candidate:
    """Return a candidate with so many lines, alternating between budgets and quotas."""
    rules = [
        Budget(Scope(project=f"p{number}"), list(Window)[number % len(Window)], AMPLE)
        if number % 2 == 0
        else Quota(Scope(project=f"p{number}"), Counted.IMAGES, AMPLE, 60)
        for number in range(lines)
    ]
    held = [Line(rule, 6_000 if isinstance(rule, Budget) else 1) for rule in rules]
    worst = {"official": "6000000", "route": "6000000", "internal": "6000000"}
    facts = {"route": "r", "model": "m", "provider": "p", "upstream_model": "m", "size": "1024x1024", "quality": "low"}
    return Candidate("r", tuple(held), {**facts, "worst": worst, "price_from": "2026-04-21"})


async def measure(url: str, lines: int, count: int, fsync: str) -> str:
    """Return the row of one setting."""
    store = Store(url, deadline=10.0)
    await store.execute("CONFIG", "SET", "appendfsync", fsync)
    ledger = RedisLedger(store, secrets.token_hex(4))
    await ledger.open()
    offered, holds, settles = candidate(lines), [], []
    about = {"project": "p0", "key": "key_x", "job_type": "j", "operation": "generate", "n": 1, "tags": {}}
    for number in range(count):
        name = f"req_{number}"
        began = time.perf_counter()
        held = await ledger.choose_and_hold(name, [offered], about=about)
        holds.append(time.perf_counter() - began)
        assert isinstance(held, Held)
        settlement = Settlement(name, held.attempt, Views(5_910_000, 5_910_000, 5_910_000), CostSource.USAGE, 1)
        began = time.perf_counter()
        await ledger.settle(settlement)
        settles.append(time.perf_counter() - began)
    await ledger.aclose()
    await store.aclose()
    cells = [f"{percentile(times, share) * 1000:.2f} ms" for times in (holds, settles) for share in (0.5, 0.99)]
    return f"| {fsync} | {lines} | {' | '.join(cells)} |"


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to see that it runs")
    count = 200 if parser.parse_args().quick else 2000
    print(f"Machine: {machine()}. {count} requests a row, one at a time.\n")
    print("| write to disk | lines | hold p50 | hold p99 | settle p50 | settle p99 |\n|---|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(prefix="igw-bench-") as folder, embedded_store(Path(folder)) as url:
        for fsync in ("always", "everysec"):
            for lines in (1, 5, 12):
                print(asyncio.run(measure(url, lines, count, fsync)), flush=True)


if __name__ == "__main__":
    main()

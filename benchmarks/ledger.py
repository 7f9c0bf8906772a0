"""What the ledger costs: one hold and its settlement, by what they touch and by what the store already knows.

`python -m benchmarks.ledger [--quick] [--history N]` prints tables in Markdown; the suite runs the first. It runs on an
embedded store of its own: by the number of budgets and quotas, as the gateway sets the store up (every write on disk
before its reply) and with a write to disk every second; then with 12 of them as the history grows, up to a million
requests, with as many API keys beside. Bytes are what the server says it uses, by request kept.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.report import Section
from benchmarks.samples import percentile
from gateway.domain.budget import Budget, Candidate, Counted, Held, Line, Quota, Scope, Window
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement
from gateway.ledger.embedded import embedded_store
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store

AMPLE = 10**12
SCOPES = 12
GROWTH = (1, 100, 10_000, 1_000_000)
ABOUT = {"project": "p0", "key": "key_x", "job_type": "j", "operation": "generate", "n": 1, "tags": {}}
HEAD = ("hold p50", "hold p99", "settle p50", "settle p99")


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


async def one(ledger: RedisLedger, offered: Candidate) -> tuple[float, float]:
    """Hold and settle; return the seconds each took."""
    name = f"req_{secrets.token_hex(16)}"
    began = time.perf_counter()
    held = await ledger.choose_and_hold(name, [offered], about=ABOUT)
    holding = time.perf_counter() - began
    assert isinstance(held, Held)
    settlement = Settlement(name, held.attempt, Views(5_910_000, 5_910_000, 5_910_000), CostSource.USAGE, 1)
    began = time.perf_counter()
    await ledger.settle(settlement)
    return holding, time.perf_counter() - began


async def measure(ledger: RedisLedger, lines: int, count: int) -> tuple[str, ...]:
    """Return the cells of one setting: so many requests, one at a time."""
    offered = candidate(lines)
    times = [await one(ledger, offered) for _ in range(count)]
    return tuple(
        f"{percentile([pair[which] for pair in times], share) * 1000:.2f} ms"
        for which in (0, 1)
        for share in (0.5, 0.99)
    )


async def fill(store: Store, ledger: RedisLedger, count: int) -> None:
    """Have so many requests more in the store, as fast as it takes them; the disk may wait meanwhile."""
    offered = candidate(SCOPES)
    await store.execute("CONFIG", "SET", "appendfsync", "no")
    rest = iter(range(count))

    async def worker() -> None:
        for _ in rest:
            await one(ledger, offered)

    await asyncio.gather(*(worker() for _ in range(16)))
    await store.execute("CONFIG", "SET", "appendfsync", "always")


async def memory(store: Store) -> int:
    """Return the bytes that the server's data takes."""
    info = await store.execute("INFO", "memory")
    if not isinstance(info, dict):
        info = dict(line.split(":", 1) for line in str(info).splitlines() if ":" in line)
    return int(info["used_memory"])


async def by_lines(url: str, count: int) -> Section:
    """Return the table by number of lines."""
    shown = Section("A hold and its settlement, by lines", ("lines", "write to disk", *HEAD))
    shown.notes.append(
        f"Lines are the budgets, quotas and route limits that a request touches. {count:,} requests a row, one at a "
        "time; `always` is how the gateway sets its embedded store up."
    )
    for fsync in ("always", "everysec"):
        for lines in (1, 5, SCOPES):
            store = Store(url, deadline=10.0)
            await store.execute("CONFIG", "SET", "appendfsync", fsync)
            ledger = RedisLedger(store, secrets.token_hex(4))
            shown.rows.append((str(lines), fsync, *await measure(ledger, lines, count)))
            await ledger.aclose()
            await store.aclose()
    return shown


async def by_history(url: str, count: int, most: int) -> Section:
    """Return the table by what the store already keeps, for a store that keeps nothing else."""
    head = ("requests kept", "keys", *HEAD, "bytes per request")
    shown = Section("A hold and its settlement, by history", head)
    shown.notes.append(f"{SCOPES} lines, every write on disk before its reply.")
    store = Store(url, deadline=10.0)
    ledger = RedisLedger(store, "history")
    await ledger.open()
    await one(ledger, candidate(SCOPES))  # so that the scripts are there, and the cells
    empty, kept = await memory(store), 0
    for size in (size for size in GROWTH if size <= most):
        await fill(store, ledger, size - kept)
        grown = (await memory(store) - empty) / size
        keys = min(size, 100_000)
        words = [
            word for number in range(keys) for word in (secrets.token_hex(32), f'{{"id":"key_{number}","project":"p"}}')
        ]
        for start in range(0, len(words), 2_000):
            await store.execute("HSET", "igw:{history}:keys", *words[start : start + 2_000])
        row = await measure(ledger, SCOPES, count)
        kept = size + count
        shown.rows.append((f"{size:,}", f"{keys:,}", *row, f"{grown:,.0f}"))
    await ledger.aclose()
    await store.aclose()
    return shown


def run(bench: Bench) -> list[Section]:
    """Return the table by number of lines."""
    with embedded_store(bench.home("ledger")) as url:
        return [asyncio.run(by_lines(url, 100 if bench.quick else 2_000))]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to see that it runs")
    parser.add_argument("--history", type=int, default=GROWTH[-1], help="the most requests to keep (a million: 3 GB)")
    options = parser.parse_args()
    count, most = (200, 10_000) if options.quick else (2_000, options.history)
    with tempfile.TemporaryDirectory(prefix="igw-bench-") as folder, embedded_store(Path(folder)) as url:
        print(asyncio.run(by_lines(url, count)).markdown(), flush=True)
    with tempfile.TemporaryDirectory(prefix="igw-bench-") as folder, embedded_store(Path(folder)) as url:
        print(asyncio.run(by_history(url, count, most)).markdown())


if __name__ == "__main__":
    main()

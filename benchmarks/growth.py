"""Cost of a request by what the gateway knows: keys, projects, routes, and requests and entries on record."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import cast

import uvloop

from benchmarks.bench import Bench, fast_upstream
from benchmarks.client import once
from benchmarks.gateway import Gateway, Rules, gateway
from benchmarks.report import Section, milliseconds, number
from benchmarks.samples import Load
from benchmarks.wrk import keep_busy
from gateway.ledger.embedded import embedded_store
from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable

KEYS, PROJECTS, ROUTES, ENTRIES = 100_000, 1_000, 200, 1_000_000
CONNECTIONS = 16
SLICE_SECONDS = 1.0
TURNS = 5
"""By round of other parts."""
BATCH = 2_000
CALLS_AT_ONCE = 4
NAMES = Names()

_COPY = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][2]
for number = ARGV[2], ARGV[3] do
  redis.call('COPY', KEYS[2], KEYS[2] .. '-' .. number)
  redis.call('XADD', KEYS[1], '*', unpack(last))
end
"""
"""The last entry and its request's record, so many times more: what a busy month leaves behind."""


@dataclass
class Variant:
    """A gateway that knows a lot of something."""

    name: str
    serving: Gateway
    costs: list[float] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    single: list[Load] = field(default_factory=list)

    def processor(self) -> float:
        """Return the processor time of gateway and store so far, seconds."""
        return self.serving.family.processor() + self.serving.store.processor()

    def measure(self, bench: Bench) -> None:
        """Keep it busy for a moment."""
        before = self.processor()
        load = keep_busy(self.serving.target("small"), CONNECTIONS, SLICE_SECONDS, bench.folder)
        self.costs.append((self.processor() - before) / load.answers)
        self.loads.append(load)

    def measure_alone(self, bench: Bench) -> None:
        """Ask it one thing after another."""
        self.single.append(keep_busy(self.serving.target("small"), 1, SLICE_SECONDS, bench.folder))


@contextlib.asynccontextmanager
async def _store(url: str) -> AsyncIterator[Store]:
    """Connect, and let the disk wait meanwhile."""
    store = Store(url, deadline=30.0)
    await store.execute("CONFIG", "SET", "appendfsync", "no")
    try:
        yield store
        await _rewritten(store)
        await store.execute("CONFIG", "SET", "appendfsync", "always")
    finally:
        await store.aclose()


async def _rewritten(store: Store) -> None:
    """Let the server rewrite its file, beside its work, now: what is measured afterwards shall not pay for it."""
    while await _rewriting(store):  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.2)
    with contextlib.suppress(LedgerUnavailable):  # it has just begun to by itself
        await store.execute("BGREWRITEAOF")
    while await _rewriting(store):  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.2)


async def _rewriting(store: Store) -> bool:
    """Tell whether the server rewrites its file, or is about to."""
    told = await store.execute("INFO", "persistence")
    assert isinstance(told, dict)
    return bool(told["aof_rewrite_in_progress"] or told["aof_rewrite_scheduled"])


async def add_keys(url: str, count: int) -> None:
    """Write records of so many keys that nobody has."""
    record = {"project": "team0", "name": "", "job_type": None, "created": time.time()}
    async with _store(url) as store:
        for start in range(0, count, BATCH):
            pairs = (
                (secrets.token_hex(32), json.dumps({"id": f"key_{number:012}", **record}))
                for number in range(start, min(start + BATCH, count))
            )
            await store.execute("HSET", NAMES.keys, *(word for pair in pairs for word in pair))
        await store.execute("HINCRBY", NAMES.meta, "keys_version", 1)


async def add_entries(url: str, count: int) -> None:
    """Repeat the last request's record and entry so many times."""
    async with _store(url) as store:
        told = await store.execute("XREVRANGE", NAMES.entries, "+", "-", "COUNT", 1)
        request = cast("list[tuple[str, dict[str, str]]]", told)[0][1]["request"]
        starts = iter(range(1, count + 1, BATCH))

        async def some() -> None:
            for start in starts:
                end = min(start + BATCH - 1, count)
                await store.execute("EVAL", _COPY, 2, NAMES.entries, NAMES.request(request), 0, start, end)

        await asyncio.gather(*(some() for _ in range(CALLS_AT_ONCE)))


@contextlib.contextmanager
def variants(bench: Bench, port: int) -> Iterator[list[Variant]]:
    """Run a gateway for each thing that there may be much of, and one with little of all."""
    share = 100 if bench.quick else 1
    keys, entries = KEYS // share, ENTRIES // share
    upstreams = {"small": f"http://127.0.0.1:{port}/small"}
    wanted = {
        "one of each": Rules(upstreams),
        f"{keys:,} keys": Rules(upstreams),
        f"{PROJECTS:,} projects": Rules(upstreams, projects=PROJECTS),
        f"{ROUTES:,} routes": Rules(upstreams | {f"other{number}": upstreams["small"] for number in range(1, ROUTES)}),
        f"{ROUTES:,} routes of one job type": Rules(upstreams, routes=ROUTES),
        f"{entries:,} requests on record": Rules(upstreams),
    }
    with contextlib.ExitStack() as stack:
        found = [
            Variant(name, stack.enter_context(gateway(bench.home("gateway"), rules, cores=bench.cores.measured)))
            for name, rules in wanted.items()
        ]
        for each in found:  # so that there is a request to repeat
            uvloop.run(once(each.serving.target("small")))
        with embedded_store(found[1].serving.data) as url:
            asyncio.run(add_keys(url, keys))
        with embedded_store(found[-1].serving.data) as url:
            asyncio.run(add_entries(url, entries))
        time.sleep(3)  # keyrings look once a second, and read them all
        os.sync()
        for each in found:  # so that everything is warm; a store pays for what it was just given for some seconds yet
            with contextlib.suppress(RuntimeError):  # a second may be short on a busy machine
                keep_busy(each.serving.target("small"), CONNECTIONS, 2 * bench.seconds, bench.folder)
        yield found


def beside(costs: Sequence[float], others: Sequence[float], place: float) -> list[float]:
    """Compare each turn's cost with that of another, which was measured before it and after: no machine stays the same.

    `place` is when in a turn, 0 to 1; of `others` there is one more.
    """
    turns = zip(costs, pairwise(others), strict=True)
    return [cost / (before + (after - before) * place) for cost, (before, after) in turns]


def run(bench: Bench) -> list[Section]:
    """Return the table, each row beside the first."""
    head = ("", "processor for each request", "beside one of each", "16 connections", "1 connection p50")
    shown = Section("What the gateway knows", head)
    with fast_upstream(bench) as port, variants(bench, port) as found:
        turns = TURNS * bench.rounds
        for _ in range(turns):
            for each in found:
                each.measure(bench)
        found[0].measure(bench)
        for _ in range(bench.rounds):
            for each in found:
                each.measure_alone(bench)
        for place, each in enumerate(found):
            ratio = median(beside(each.costs[:turns], found[0].costs, place / len(found)))
            cells = (
                f"{median(each.costs) * 1e6:,.0f} µs",
                f"{ratio:.2f}",
                f"{number(median(load.rate for load in each.loads))} /s",
                milliseconds(median(load.p50 for load in each.single)),
            )
            shown.rows.append((each.name, *cells))
            shown.figures[f"growth.{each.name.partition(' ')[2]}"] = ratio
    shown.notes.append(
        "Processor time is that of the gateway and its store, by request answered. They are measured in turns of a "
        "second, each is compared with what one of each took before and after it, and the median is shown."
    )
    return [shown]

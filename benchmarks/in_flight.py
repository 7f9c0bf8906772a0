"""Memory of requests in flight: large answers that nobody reads yet, and thousands that wait for a slow upstream."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator

import uvloop

from benchmarks.bench import Bench, Counting, counting_upstream, fast_upstream
from benchmarks.client import Answer, BrokenError, Connection, Target
from benchmarks.gateway import Rules, gateway
from benchmarks.open_loop import offer
from benchmarks.processes import PeakMemory
from benchmarks.report import Section, megabytes, milliseconds, number
from benchmarks.samples import percentile
from gateway.process import heap

LARGE_AT_ONCE, WAITING_AT_ONCE = 1_000, 10_000
SPARE = 200
"""Descriptors that a gateway needs beside those of its requests."""
STEADY_SECONDS = 2.0
PATIENCE = 120
CLIENT_PAUSE = 0.005
ARRIVALS = 250
"""Requests a second that begin to wait."""


async def stall_then_read(target: Target, count: int) -> tuple[Counter[int], int]:
    """Ask so often at once, read nothing until every answer has begun, then all; returns statuses and bytes read."""
    request = target.request()
    connections: list[Connection] = []
    waiting: list[asyncio.Future[Answer]] = []
    for _ in range(count):
        connection = await Connection.open(target.port, little=True)
        connection.begun = asyncio.Event()
        waiting.append(connection.send(request))
        connections.append(connection)
        await asyncio.sleep(CLIENT_PAUSE)
    begun = asyncio.gather(*(connection.begun.wait() for connection in connections if connection.begun is not None))
    with contextlib.suppress(TimeoutError):  # those that did not begin are told by their status
        await asyncio.wait_for(begun, PATIENCE)
    await asyncio.sleep(STEADY_SECONDS)
    for connection in connections:
        connection.resume()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    for connection in connections:
        connection.close()
    whole = [answer for answer in answers if isinstance(answer, Answer)]
    statuses = Counter(answer.status for answer in whole)
    statuses[0] += len(answers) - len(whole)
    if unexpected := [
        each for each in answers if isinstance(each, BaseException) and not isinstance(each, BrokenError)
    ]:
        raise unexpected[0]
    return +statuses, sum(answer.volume for answer in whole)


def large_answers(bench: Bench) -> Section:
    """Measure the memory of many large answers in flight to clients that do not read."""
    wanted = LARGE_AT_ONCE // 10 if bench.quick else LARGE_AT_ONCE
    with fast_upstream(bench) as port:
        rules = Rules({"huge": f"http://127.0.0.1:{port}/huge"})
        with gateway(bench.home("gateway"), rules, cores=bench.cores.measured) as serving:
            rest = serving.family.memory()
            began = time.perf_counter()
            with PeakMemory(serving.family) as watched:
                statuses, volume = uvloop.run(stall_then_read(serving.target("huge"), wanted))
            taken = time.perf_counter() - began
            if not bench.quick:
                time.sleep(heap.EVERY + 1)  # until it has given back what is free
            after = serving.family.memory()
    each = (watched.peak - rest) / wanted
    head = ("8 MB answers in flight", "answered 200", "at rest", "peak", "for each in flight", "afterwards", "read")
    row = (
        f"{wanted:,}",
        f"{statuses[200]:,}",
        *(megabytes(value) for value in (rest, watched.peak, each, after)),
        f"{volume / taken / 1e6:,.0f} MB/s",
    )
    figures = {"in_flight.each": each, "in_flight.answered": statuses[200] / wanted}
    notes = [
        "No client reads before every answer has begun; the peak is that of the whole time, reading included.",
        f"A gateway that has grown gives free memory back every {heap.EVERY:.0f} s; afterwards is read behind that.",
    ]
    return Section("Large answers in flight", head, [row], notes, figures)


@contextlib.contextmanager
def most_waiting(upstream: Counting) -> Iterator[list[int]]:
    """Note in a list how many requests wait at the upstream, again and again, until the block ends."""
    seen, stopped = [0], threading.Event()

    def watch() -> None:
        while not stopped.wait(0.5):
            seen.append(upstream.told()[1])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stopped.set()
        thread.join()


def slow_upstream(bench: Bench) -> Section:
    """Let thousands of requests wait in one process."""
    possible = (bench.descriptors - SPARE) // 2
    wanted = WAITING_AT_ONCE // 20 if bench.quick else min(WAITING_AT_ONCE, possible)
    ramp = wanted / ARRIVALS
    delay = ramp * 1.25 + (1 if bench.quick else 10)
    with counting_upstream(bench) as upstream:
        rules = Rules({"slow": upstream.url(f"small-{delay * 1000:.0f}")})
        with gateway(bench.home("gateway"), rules, cores=bench.cores.measured) as serving:
            rest = serving.family.memory()
            with PeakMemory(serving.family, pause=0.5) as watched, most_waiting(upstream) as seen:
                offered = uvloop.run(offer(serving.target("slow"), ARRIVALS, ramp, most=wanted))
    statuses = offered.statuses()
    good = statuses.pop(200, 0)
    times = offered.latencies(200) or [float("nan")]
    added = [percentile(times, share) - delay for share in (0.5, 0.99)]
    head = (
        "requests",
        "waiting at once",
        "answered 200",
        "else",
        "at rest",
        "peak",
        "for each",
        "added p50",
        "added p99",
    )
    row = (
        f"{wanted:,}",
        f"{max(seen):,}",
        f"{good:,}",
        ", ".join(f"{status or 'broken'}: {count}" for status, count in statuses.items()) or "nothing",
        megabytes(rest),
        megabytes(watched.peak),
        f"{number((watched.peak - rest) / wanted / 1000)} kB",
        *map(milliseconds, added),
    )
    notes = [f"Upstream answers after {delay:.0f} s; {ARRIVALS} requests a second arrive, in one process."]
    if possible < WAITING_AT_ONCE:
        notes.append(
            f"This system allows {bench.descriptors:,} open files; each request needs two, so {possible:,} can wait."
        )
    figures = {"waiting.most": float(max(seen)), "waiting.answered": good / wanted}
    return Section("Waiting for a slow upstream", head, [row], notes, figures)


def run(bench: Bench) -> list[Section]:
    """Return both tables."""
    return [large_answers(bench), slow_upstream(bench)]

"""Ten times more than fits, and a project that wants it all: goodput, time to a refusal, money, the others' latency."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from statistics import median

import uvloop

from benchmarks.bench import Bench, Counting, counting_upstream, fast_upstream
from benchmarks.gateway import QUOTAS, Gateway, Rules, gateway
from benchmarks.open_loop import Offered, offer
from benchmarks.report import Section, milliseconds
from benchmarks.samples import Load, percentile
from benchmarks.wrk import keep_busy

SLOTS, DELAY_MS = 50, 500
TIMES = 10
REFUSED = (429, 503)
QUIET_RATE = 20.0
"""Requests a second of the project whose latency is watched."""
NOISY_SLOTS = 20
SETTLED_SECONDS = 60
LONG = 4
"""A round over many connections, in those of other parts."""
IDLE, PAUSE = 0.1, 0.5
"""The share of a core that a gateway takes at rest, at most; the seconds between two looks at it."""


def wait_settled(serving: Gateway, expected: int) -> tuple[int, int]:
    """Return how many requests are booked, and for how much, nano-USD, once as many are as upstream served."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while (booked := serving.booked())[0] < expected and time.monotonic() < deadline:
        time.sleep(0.5)
    return booked


def money(serving: Gateway, upstream: Counting) -> tuple[str, bool]:
    """Compare what is booked with what upstream served; returns it in words, and whether both are the same."""
    served = sum(upstream.told()[0].values())
    count, spent = wait_settled(serving, served)
    each = spent // count if count else 0
    exact = count == served and each * count == spent
    return f"{count:,} booked, {served:,} served" + ("" if exact else ": NOT THE SAME"), exact


def cells(offered: Offered) -> tuple[str, ...]:
    """Return goodput, share refused, time to a refusal, what else happened, and the share that was sent late."""
    statuses = Counter(offered.statuses())
    refused = sum(statuses[status] for status in REFUSED)
    times = offered.service_times(*REFUSED)
    other = {status: count for status, count in statuses.items() if status not in (200, *REFUSED)}
    quick = " / ".join(milliseconds(percentile(times, share)) for share in (0.5, 0.99)) if times else ""
    words = ", ".join(f"{status or 'broken'}: {count}" for status, count in other.items())
    shares = f"{refused / len(offered.samples):.0%}", quick, words or "nothing", f"{offered.lateness():.0%}"
    return f"{offered.rate_of(200):,.0f} /s", *shares


def slots(bench: Bench) -> Section:
    """Offer ten times what a process takes on at once."""
    shown = Section(
        "Ten times more than a process takes on",
        ("offered", "goodput", "refused", "time to a refusal p50 / p99", "else", "sent late"),
    )
    capacity = SLOTS / (DELAY_MS / 1000)
    with counting_upstream(bench) as upstream:
        rules = Rules({"slow": upstream.url(f"small-{DELAY_MS}")})
        limit = ("--max-requests", str(SLOTS))
        with gateway(bench.home("gateway"), rules, cores=bench.cores.measured, options=limit) as serving:
            found: dict[float, Offered] = {}
            for times in (1, TIMES):
                found[times] = uvloop.run(offer(serving.target("slow"), capacity * times, bench.seconds * 5))
                shown.rows.append((f"{capacity * times:,.0f} /s", *cells(found[times])))
            words, exact = money(serving, upstream)
    most = found[TIMES]
    shown.notes.append(
        f"At most {SLOTS} requests at once, upstream answers after {DELAY_MS} ms: {capacity:,.0f} a second at most. "
        f"Money: {words}."
    )
    shown.figures["overload.goodput"] = most.rate_of(200) / max(offered.rate_of(200) for offered in found.values())
    shown.figures["overload.exact"] = float(exact)
    if refusals := most.service_times(*REFUSED):
        shown.figures |= {f"overload.refusal.p{share * 100:g}": percentile(refusals, share) for share in (0.5, 0.99)}
    return shown


def wait_idle(serving: Gateway) -> None:
    """Wait until next to nothing is done any more: what its clients gave up at the end of a round is seen through."""
    deadline, before = time.monotonic() + SETTLED_SECONDS, float("-inf")
    while (now := serving.family.processor()) > before + IDLE * PAUSE and time.monotonic() < deadline:
        before = now
        time.sleep(PAUSE)


def crowd(bench: Bench) -> Section:
    """Ask over ten times as many connections as the processor needs to be busy.

    A round is long and begins with nothing under way: of those that ask, each has a request under way at its end which
    is not counted, and ten times as many of them have ten times as many.
    """
    connections = (64, 64 * TIMES)
    with fast_upstream(bench) as port:
        rules = Rules({"small": f"http://127.0.0.1:{port}/small"})
        with gateway(bench.home("gateway"), rules, cores=bench.cores.measured) as serving:
            loads: dict[int, list[Load]] = {count: [] for count in connections}
            for _ in range(bench.rounds):
                for count, found in loads.items():
                    found.append(keep_busy(serving.target("small"), count, bench.seconds * LONG, bench.folder))
                    wait_idle(serving)
    rows: list[tuple[str, ...]] = []
    for count, found in loads.items():
        failed = sum(load.failed for load in found) / sum(load.answers for load in found)
        rate, p99 = median(load.rate for load in found), median(load.p99 for load in found)
        rows.append((str(count), f"{rate:,.0f} /s", milliseconds(p99), f"{failed:.1%}"))
    rates = [median(load.rate for load in found) for found in loads.values()]
    head = ("connections", "goodput", "p99", "failed")
    figures = {"crowd.goodput": rates[1] / rates[0]}
    return Section("Ten times the connections that keep it busy", head, rows, figures=figures)


async def beside(serving: Gateway, noise: float, seconds: float) -> Mapping[str, Offered]:
    """Offer the quiet project's rate, and another's noise if there is any; returns both."""
    offers = {"quiet": offer(serving.target("slow", "quiet"), QUIET_RATE, seconds)}
    if noise:
        offers["noisy"] = offer(serving.target("slow", "noisy"), noise, seconds)
    return dict(zip(offers, await asyncio.gather(*offers.values()), strict=True))


def noisy(bench: Bench) -> Section:
    """Let one project ask for ten times its share, and see what the other notices."""
    head = ("the noisy project asks", "and gets", "the other's p50", "p99", "failures", "sent late")
    shown = Section("A noisy project", head)
    share = NOISY_SLOTS / (DELAY_MS / 1000)
    tails: dict[float, list[float]] = {}
    with counting_upstream(bench) as upstream:
        limited = f"[{{images: 10000000, per: minute}}, {{concurrent: {NOISY_SLOTS}}}]"
        rules = Rules({"slow": upstream.url(f"small-{DELAY_MS}")}, others={"quiet": QUOTAS, "noisy": limited})
        with gateway(bench.home("gateway"), rules, cores=bench.cores.measured) as serving:
            uvloop.run(beside(serving, share, 1))  # warm
            rounds: dict[float, list[Mapping[str, Offered]]] = {0: [], share * TIMES: []}
            for _ in range(bench.rounds):
                for noise, found in rounds.items():
                    found.append(uvloop.run(beside(serving, noise, bench.seconds * 2)))
            words, exact = money(serving, upstream)
    for noise, found in rounds.items():
        quiet = [each["quiet"] for each in found]
        times = [each.latencies(200) for each in quiet]
        tails[noise] = [percentile(some, 0.99) for some in times]
        got = median(each["noisy"].rate_of(200) for each in found) if noise else 0
        failures = sum(len(each.samples) - each.statuses().get(200, 0) for each in quiet)
        p50 = median(percentile(some, 0.5) for some in times)
        row = (f"{noise:,.0f} /s", f"{got:,.0f} /s", milliseconds(p50), milliseconds(median(tails[noise])))
        shown.rows.append((*row, str(failures), f"{median(each.lateness() for each in quiet):.0%}"))
    alone, crowded = (median(tail) for tail in tails.values())
    shown.figures |= {
        "noisy.p99": crowded / alone,
        "noisy.added": (crowded - DELAY_MS / 1000) / (alone - DELAY_MS / 1000),
        "noisy.exact": float(exact),
    }
    shown.notes.append(
        f"Upstream answers after {DELAY_MS} ms, which is in the times; the noisy project may have {NOISY_SLOTS} "
        f"requests at once, the other asks {QUIET_RATE:.0f} times a second. Without the upstream's time, the p99 grows "
        f"{shown.figures['noisy.added']:.1f} times. `sent late` is the share of the other's that this generator sent "
        f"more than a millisecond late: that is in the times as well. Money: {words}."
    )
    return shown


def run(bench: Bench) -> list[Section]:
    """Return the tables."""
    return [slots(bench), crowd(bench), noisy(bench)]

"""One worker against two: their rates where the machine has cores for both, the store and the load, else their cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from benchmarks.bench import Bench, fast_upstream
from benchmarks.gateway import Gateway, Rules, gateway
from benchmarks.machine import split
from benchmarks.report import Section, number
from benchmarks.wrk import keep_busy

ENOUGH = 4
CONNECTIONS = 64


@dataclass
class _Seen:
    """Requests a second, and seconds of processor time by request: that of the workers, and the store's."""

    rate: list[float] = field(default_factory=list)
    workers: list[float] = field(default_factory=list)
    store: list[float] = field(default_factory=list)

    def measure(self, serving: Gateway, bench: Bench) -> None:
        """Add a round."""
        before = serving.family.processor(), serving.store.processor()
        load = keep_busy(serving.target("small"), CONNECTIONS, bench.seconds, bench.folder)
        self.rate.append(load.rate)
        self.workers.append((serving.family.processor() - before[0]) / load.answers)
        self.store.append((serving.store.processor() - before[1]) / load.answers)


def run(bench: Bench) -> list[Section]:
    """Return the table; the goal is measured only where there are cores enough."""
    all_cores = sorted({*bench.cores.measured, *bench.cores.load})
    enough = len(all_cores) >= ENOUGH
    measured = split(all_cores, len(all_cores) - 1).measured
    seen = {1: _Seen(), 2: _Seen()}
    with fast_upstream(bench) as port:
        rules = Rules({"small": f"http://127.0.0.1:{port}/small"})
        with (
            gateway(bench.home("gateway"), rules, cores=measured) as one,
            gateway(bench.home("gateway"), rules, cores=measured, workers=2) as two,
        ):
            for _ in range(bench.rounds):
                seen[1].measure(one, bench)
                seen[2].measure(two, bench)
    head = ("workers", f"small answers, {CONNECTIONS} connections", "processor for each, workers", "store")
    rows: list[tuple[str, ...]] = [
        (
            str(workers),
            f"{number(median(found.rate))} /s",
            f"{number(1e6 * median(found.workers))} µs",
            f"{number(1e6 * median(found.store))} µs",
        )
        for workers, found in seen.items()
    ]
    shared = f"Workers and store share {len(measured)} of {len(all_cores)} cores, load and upstream have the last."
    if enough:
        figures, notes = {"workers.ratio": median(seen[2].rate) / median(seen[1].rate)}, [shared]
    else:
        figures = {}
        words = f"Two workers cannot do more than one there; it takes {ENOUGH} cores to see whether they do."
        notes = [f"{shared} {words} What a request costs says how far they get in each other's way."]
    return [Section("One worker, two workers", head, rows, notes, figures)]

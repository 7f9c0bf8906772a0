"""One worker against two, where the machine has cores for both, the store and the load."""

from __future__ import annotations

from statistics import median

from benchmarks.bench import Bench, fast_upstream
from benchmarks.gateway import Rules, gateway
from benchmarks.machine import split
from benchmarks.report import Section, number
from benchmarks.samples import Load
from benchmarks.wrk import keep_busy

ENOUGH = 4
CONNECTIONS = 64
TITLE = "One worker, two workers"


def run(bench: Bench) -> list[Section]:
    """Return the table, or why there is none."""
    all_cores = sorted({*bench.cores.measured, *bench.cores.load})
    if len(all_cores) < ENOUGH:
        words = f"Not shown: {len(all_cores)} cores here, and {ENOUGH} are needed (two workers, the store, the load)."
        return [Section(TITLE, notes=[words])]
    measured = split(all_cores, len(all_cores) - 1).measured
    loads: dict[int, list[Load]] = {1: [], 2: []}
    with fast_upstream(bench) as port:
        rules = Rules({"small": f"http://127.0.0.1:{port}/small"})
        with (
            gateway(bench.home("gateway"), rules, cores=measured) as one,
            gateway(bench.home("gateway"), rules, cores=measured, workers=2) as two,
        ):
            for _ in range(bench.rounds):
                for workers, serving in ((1, one), (2, two)):
                    loads[workers].append(keep_busy(serving.target("small"), CONNECTIONS, bench.seconds, bench.folder))
    rates = {workers: median(load.rate for load in found) for workers, found in loads.items()}
    rows: list[tuple[str, ...]] = [
        (str(workers), f"{number(rate)} /s", f"{rate / rates[1]:.2f}") for workers, rate in rates.items()
    ]
    head = ("workers", f"small answers, {CONNECTIONS} connections", "times one")
    notes = [f"Workers and store share {len(measured)} of {len(all_cores)} cores, load and upstream have the last."]
    return [Section(TITLE, head, rows, notes, {"workers.ratio": rates[2] / rates[1]})]

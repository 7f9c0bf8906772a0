"""The gateway beside nginx as a plain proxy, LiteLLM and Portkey: the same load, the same upstream, one core each."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from statistics import median

import uvloop

from benchmarks import nginx, rivals
from benchmarks.answers import SIZES, edit
from benchmarks.bench import Bench, fast_upstream
from benchmarks.client import BrokenError, once
from benchmarks.gateway import KINDS, Rules, gateway
from benchmarks.open_loop import offer
from benchmarks.processes import Family, PeakMemory
from benchmarks.report import Section, megabytes, milliseconds, number
from benchmarks.samples import Load, percentile
from benchmarks.subjects import Subject, plain
from benchmarks.wrk import has_wrk, keep_busy

DIRECT = "direct"
HEAD = (
    "",
    "1 connection p50",
    "p99",
    "1 KB answers, 64 connections",
    "processor for each",
    "2.1 MB answers, 16 connections",
    "10 MB uploads, 4 connections",
    "memory at rest",
    "peak",
)
SETTINGS = {"one": ("small", 1), "small": ("small", 64), "large": ("large", 16), "edit": ("edit", 4)}
"""By name: the kind of answer, and how many connections ask for it."""
SHARES = (0.5, 0.8)


@dataclass
class Measured:
    """What was seen of one subject, by setting."""

    subject: Subject
    rest: int = 0
    peak: int = 0
    loads: dict[str, list[Load]] = field(default_factory=lambda: defaultdict(list))
    processor: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds of processor time by request, the store's with it."""
    cannot: dict[str, str] = field(default_factory=dict)

    def median(self, setting: str, figure: str) -> float | None:
        """Return the median of a figure over the rounds, None if there is none."""
        if figure == "processor":
            return median(self.processor[setting]) if self.processor.get(setting) else None
        loads = self.loads.get(setting)
        return median(float(getattr(load, figure)) for load in loads) if loads else None

    def spent(self) -> float:
        """Return the processor time so far, seconds."""
        families = [family for family in (self.subject.family, self.subject.store) if family]
        return sum(family.processor() for family in families)

    def keep_busy(self, bench: Bench, setting: str) -> None:
        """Measure one round of a setting."""
        kind, connections = SETTINGS[setting]
        with contextlib.ExitStack() as stack:
            watched = stack.enter_context(PeakMemory(self.subject.family)) if self.subject.family else None
            before = self.spent()
            try:
                load = keep_busy(self.subject.target(kind), connections, bench.seconds, bench.folder)
            except RuntimeError:
                self.cannot[setting] = f"nothing in {bench.seconds:g} s"
                return
            self.loads[setting].append(load)
            if self.subject.family:
                self.processor[setting].append((self.spent() - before) / load.answers)
        self.peak = max(self.peak, watched.peak if watched else 0)


@contextlib.contextmanager
def everybody(bench: Bench, notes: list[str]) -> Iterator[list[Subject]]:
    """Run all that can be had here; what cannot is told in `notes`."""
    cores = bench.cores.measured
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(fast_upstream(bench))
        found = [plain(DIRECT, port)]
        if nginx.program() is None:
            notes.append("nginx is not installed (Debian: `nginx-light`): a small upstream of our own stood in for it.")
        else:
            yardstick, pid = stack.enter_context(
                nginx.proxy(bench.home("proxy"), port, cores=cores, descriptors=bench.descriptors)
            )
            found.append(nginx_subject(yardstick, pid))
        rules = Rules({kind: f"http://127.0.0.1:{port}/{kind}" for kind in KINDS})
        found.append(stack.enter_context(gateway(bench.home("gateway"), rules, cores=cores)).subject())
        if bench.cores.apart:
            found.append(stack.enter_context(store_elsewhere(bench, rules)))
        for rival in (rivals.litellm, rivals.portkey):
            try:
                found.append(stack.enter_context(rival(bench.home("rival"), port, cores=cores)))
            except (rivals.UnavailableError, RuntimeError) as error:
                notes.append(f"Left out: {error}")
        yield found


@contextlib.contextmanager
def store_elsewhere(bench: Bench, rules: Rules) -> Iterator[Subject]:
    """Run the gateway on its core, and its store on those of load and upstream: as with a store on another machine."""
    with gateway(bench.home("elsewhere"), rules, cores=bench.cores.measured) as running:
        running.store.stay_on(bench.cores.load)
        yield replace(running.subject("Image Gateway, its store on the other core"), key="elsewhere")


def nginx_subject(port: int, pid: int) -> Subject:
    """Return nginx as something to compare."""
    return plain("nginx as a plain proxy", port, Family.of(pid))


def measure(bench: Bench, found: list[Measured], setting: str) -> None:
    """Measure one setting for all, in turn, round after round."""
    for each in found:
        try:
            status = uvloop.run(once(each.subject.target(SETTINGS[setting][0]))).status
        except BrokenError:
            status = 0
        if status != 200:
            each.cannot[setting] = f"answers {status or 'nothing'}"
    for _ in range(bench.rounds):
        for each in found:
            if setting not in each.cannot:
                each.keep_busy(bench, setting)


def cell(each: Measured, setting: str, figure: str) -> str:
    """Return what stands in the table."""
    if (value := each.median(setting, figure)) is None:
        return each.cannot.get(setting, "")
    if figure == "processor":
        return f"{value * 1e6:,.0f} µs"
    failed, all_of = (sum(getattr(load, name) for load in each.loads[setting]) for name in ("failed", "answers"))
    words = {
        "p50": lambda: milliseconds(value),
        "p99": lambda: milliseconds(value),
        "rate": lambda: f"{value * len(edit()[0]) / 1e6:,.0f} MB/s" if setting == "edit" else f"{number(value)} /s",
        "volume": lambda: f"{value / 1e6:,.0f} MB/s",
    }[figure]()
    return f"{words} ({failed / all_of:.1%} failed)" if failed else words


def row(each: Measured) -> tuple[str, ...]:
    """Return a row of the table."""
    cells = (cell(each, *which) for which in COLUMNS)
    memory = (megabytes(each.rest), megabytes(each.peak)) if each.subject.family else ("", "")
    return (each.subject.name, *cells, *memory)


COLUMNS = (
    ("one", "p50"),
    ("one", "p99"),
    ("small", "rate"),
    ("small", "processor"),
    ("large", "volume"),
    ("edit", "rate"),
)


def figures(each: Measured) -> dict[str, float]:
    """Return what was measured of one, by name."""
    name = each.subject.short
    told = {f"{setting}.{figure}.{name}": each.median(setting, figure) for setting, figure in COLUMNS}
    memory = {f"rest.{name}": float(each.rest), f"peak.{name}": float(each.peak)} if each.subject.family else {}
    return {key: value for key, value in told.items() if value is not None} | memory


def under_load(bench: Bench, found: list[Measured]) -> Section:
    """Offer each a constant share of what it did at most, and see how long that takes from when it was due."""
    shown = Section(
        "Latency at a constant rate (open loop)",
        ("", "offered", "of its own peak", "p50", "p99", "failed", "sent late"),
    )
    for each in found:
        peak, name = each.median("small", "rate"), each.subject.short
        if peak is None or name in (DIRECT, "nginx"):
            continue
        for share in SHARES:
            offered = uvloop.run(offer(each.subject.target("small"), peak * share, bench.seconds * 2))
            good = offered.latencies(200) or [float("nan")]
            failed = 1 - offered.statuses().get(200, 0) / len(offered.samples)
            p50, p99 = percentile(good, 0.5), percentile(good, 0.99)
            cells = (f"{offered.rate:,.0f} /s", f"{share:.0%}", milliseconds(p50), milliseconds(p99), f"{failed:.1%}")
            shown.rows.append((each.subject.name, *cells, f"{offered.lateness():.0%}"))
            shown.figures |= {f"open{share:.0%}.p50.{name}": p50, f"open{share:.0%}.p99.{name}": p99}
    shown.notes.append(
        "The time counts from when a request was due, not from when it could be sent. `sent late` is the share that "
        "left more than a millisecond after that; where it is large, the generator was the limit."
    )
    return shown


def run(bench: Bench) -> list[Section]:
    """Return the table of all, and latency at a constant rate."""
    shown = Section("Beside others", HEAD)
    with everybody(bench, shown.notes) as subjects:
        found = [Measured(subject) for subject in subjects]
        for each in found:
            each.rest = each.peak = each.subject.family.memory() if each.subject.family else 0
        for each in found:
            with contextlib.suppress(RuntimeError):  # what it cannot do is told by `measure`
                keep_busy(each.subject.target("small"), 4, 1, bench.folder)
        for setting in SETTINGS:
            measure(bench, found, setting)
        shown.rows = [row(each) for each in found]
        shown.figures = {name: value for each in found for name, value in figures(each).items()}
        store = next((each.subject.store for each in found if each.subject.store), None)
        if store is not None:
            shown.notes.append(
                f"The gateway's store is a process of its own, of {megabytes(store.memory())} at the end."
            )
        loader = "wrk" if has_wrk() else "our own client, since wrk is not installed"
        shown.notes.append(
            f"Medians of {bench.rounds} interleaved rounds of {bench.seconds:g} s; answers of {SIZES['small']:,} and "
            f"{SIZES['large']:,} bytes; load by {loader}. "
            "Uploads: MB of multipart read by the gateway, in front of an upstream that reads them whole."
        )
        return [shown, under_load(bench, found)]

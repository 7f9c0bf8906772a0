"""What `/metrics` answers: the counted metrics of all workers, and gauges that are asked for at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from gateway.domain.money import MICRO_PER_USD
from gateway.observe.deferred_events import TOGETHER_SECONDS
from gateway.observe.metric_table import EVENT_METRICS, PREFIX, SNAPSHOT_METRICS, Kind
from gateway.observe.series import FILES, WORKERS_DIR, Table
from gateway.ports import LedgerUnavailable


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget now: scope, window and view by their labels, amounts in micro-USD."""

    scope: str
    window: str
    limit: int
    used: int
    held: int
    view: str = "route"


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit of a route or its account: what it counts, in windows of `seconds` (0: at once), and what is left now."""

    scope: str
    counted: str
    seconds: int
    limit: int
    left: int


@dataclass(frozen=True, slots=True)
class RouteState:
    """A route now. `images_remaining` is None where no limit is known."""

    route: str
    available: bool
    images_remaining: int | None = None
    limits: tuple[LimitState, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRetirement:
    """A model that the vendor will retire, or has, on a known date; `days` from now, negative after it."""

    model: str
    days: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What holds at the moment of a scrape; whatever could not be learned is left out."""

    ready: bool | None = None
    policy_digest: str | None = None
    last_reload_successful: bool | None = None
    budgets: tuple[BudgetState, ...] = ()
    routes: tuple[RouteState, ...] = ()
    retirements: tuple[ModelRetirement, ...] = ()
    callbacks_dead: int | None = None
    tasks: Mapping[str, int] = field(default_factory=dict)
    assets: Mapping[str, int] = field(default_factory=dict)
    """Bytes of stored images by project."""


def new_registry() -> CollectorRegistry:
    """Return a registry for `Metrics`, with the process's own memory, CPU and file descriptors (on Linux)."""
    registry = CollectorRegistry()
    if WORKERS_DIR is None:
        ProcessCollector(registry=registry)
    return registry


async def scrape(
    registry: CollectorRegistry, take: Callable[[], Awaitable[Snapshot]], health: Callable[[], Awaitable[list[str]]]
) -> tuple[bytes, str]:
    """Return the text and its content type; without the gauges of the snapshot while the store is away.

    `health` tells what stands in the way of serving (as `Service.ready`).
    """
    try:
        snapshot = await take()
    except LedgerUnavailable:
        snapshot = Snapshot()
    snapshot = replace(snapshot, ready=not await health())
    await asyncio.sleep(2 * TOGETHER_SECONDS)  # what happened before it was asked for is counted by then
    # The workers' files are read from disk, which must not hold up requests.
    return await asyncio.to_thread(render_metrics, registry, snapshot)


def render_metrics(registry: CollectorRegistry, snapshot: Snapshot) -> tuple[bytes, str]:
    """Return the text and its content type. With several workers theirs are summed, and `registry` is not read."""
    counted = registry
    if WORKERS_DIR is not None:
        counted = CollectorRegistry()
        counted.register(_WorkersCollector(WORKERS_DIR))
        if _any_leaves(Path(WORKERS_DIR)):
            snapshot = replace(snapshot, ready=False)
    now = CollectorRegistry()
    now.register(_SnapshotCollector(snapshot))
    return generate_latest(counted) + generate_latest(now), CONTENT_TYPE_PLAIN_0_0_4


def forget_worker(pid: int, directory: Path) -> None:
    """Drop what only a living worker has, after it died; what it counted stays. `directory` is the workers' own."""
    mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]  # unannotated there


def _any_leaves(directory: Path) -> bool:
    """Tell whether a worker was told to stop: whoever answers for all of them goes on until they have ended."""
    files = [str(path) for path in directory.glob(f"{FILES[Kind.GAUGE]}_*.db")]
    gauges = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # unannotated there
    return any(sample.value for gauge in gauges if gauge.name == f"{PREFIX}_leaving" for sample in gauge.samples)


class _WorkersCollector(Collector):
    """What the workers counted together; a metric is named before any of them has a series of it."""

    def __init__(self, directory: str) -> None:
        self._workers = MultiProcessCollector(CollectorRegistry(), directory)  # type: ignore[no-untyped-call]  # unannotated there

    def collect(self) -> Iterator[Family]:
        families = self._workers.collect()  # type: ignore[no-untyped-call]  # unannotated there
        counted: Mapping[str, Family] = {family.name: family for family in families}
        for family in Table(EVENT_METRICS).describe():
            yield counted.get(family.name, family)


class _SnapshotCollector(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = self._snapshot
        yield _gauge("ready", () if now.ready is None else (((), int(now.ready)),))
        digests = () if now.policy_digest is None else (((now.policy_digest,), 1),)
        yield _gauge("policy_info", digests)
        reloaded = now.last_reload_successful
        yield _gauge("policy_last_reload_successful", () if reloaded is None else (((), int(reloaded)),))
        # Budgets of one scope and window may count different views; the series shows the tightest.
        budgets = {(b.scope, b.window): b for b in sorted(now.budgets, key=_room, reverse=True)}.items()
        yield _gauge("budget_limit_usd", ((name, b.limit / MICRO_PER_USD) for name, b in budgets))
        yield _gauge("budget_used_usd", ((name, b.used / MICRO_PER_USD) for name, b in budgets))
        yield _gauge("budget_held_usd", ((name, b.held / MICRO_PER_USD) for name, b in budgets))
        yield _gauge("tasks", (((status,), count) for status, count in now.tasks.items()))
        yield _gauge("callbacks_dead", () if now.callbacks_dead is None else (((), now.callbacks_dead),))
        yield _gauge("assets_bytes", (((project,), size) for project, size in now.assets.items()))
        yield _gauge("route_available", (((r.route,), int(r.available)) for r in now.routes))
        limited = ((r.route, r.images_remaining) for r in now.routes)
        yield _gauge("route_images_remaining", (((route,), left) for route, left in limited if left is not None))
        yield _gauge("model_retires_in_days", (((m.model,), m.days) for m in now.retirements))


def _room(budget: BudgetState) -> int:
    return budget.limit - budget.used - budget.held


def _gauge(name: str, samples: Iterable[tuple[tuple[str, ...], float]]) -> GaugeMetricFamily:
    metric = SNAPSHOT_METRICS[name]
    family = GaugeMetricFamily(metric.full_name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family

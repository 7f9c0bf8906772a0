"""Events become Prometheus metrics.

With several workers, `PROMETHEUS_MULTIPROC_DIR` must name an empty directory before this module is imported:
each worker then writes its numbers there, and whoever serves `/metrics` adds them up.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TypeVar, assert_never

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from gateway.domain.budget import View
from gateway.domain.money import NANO_PER_USD
from gateway.domain.settlement import CostSource, Usage
from gateway.observe.event import (
    NONE,
    AssetNotKept,
    BatchMoved,
    CacheAsked,
    CallbackSent,
    Degraded,
    Event,
    FellBack,
    HoldEnded,
    LedgerCalled,
    PolicyLoaded,
    Replaced,
    RequestDenied,
    RequestFinished,
    RequestShed,
    RequestStarted,
    RouteEjected,
    ShadowEnded,
    UpstreamFailed,
    UpstreamFinished,
)
from gateway.observe.labels import LabelSets, Vocabulary, bounded, bounded_status
from gateway.observe.metric_table import EVENT_METRICS, PREFIX, Kind

Kept = TypeVar("Kept", Counter, Gauge, Histogram)

_KNOWN_COSTS = frozenset({CostSource.REPORTED, CostSource.USAGE})
SUCCESS = 200
_VIEWS = (View.OFFICIAL.value, View.ROUTE.value, View.INTERNAL.value)
_TOKEN_KINDS = tuple(item.name for item in fields(Usage))

# The time a series began would double their number, and several workers cannot tell it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it unannotated


class Metrics:
    """An Observer that counts. Every label is bounded by `labels`, which a reload of policy may replace.

    Money is counted as float64 USD: a sum of nano-USD amounts stays within 1e-9 of the exact one, relatively.
    A counter cannot go down: where the ledger later corrects a presumed cost downwards, the ledger is right.
    """

    def __init__(self, registry: CollectorRegistry, labels: LabelSets) -> None:
        self.labels = labels
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        # The library looks a series up under a lock, with its labels made into text; that is done once for each.
        self._counters_by_labels: dict[tuple[str, ...], Counter] = {}
        self._gauges_by_labels: dict[tuple[str, ...], Gauge] = {}
        self._histograms_by_labels: dict[tuple[str, ...], Histogram] = {}
        self._operations = Vocabulary()
        self._reasons = Vocabulary()
        self._refusals = Vocabulary()
        self._results = Vocabulary()
        self._declare(registry)

    def _declare(self, registry: CollectorRegistry) -> None:
        for metric in EVENT_METRICS:
            name, text, labels = metric.name, metric.help, metric.labels
            if metric.kind is Kind.COUNTER:
                self._counters[name] = Counter(name, text, labels, namespace=PREFIX, registry=registry)
            elif metric.kind is Kind.GAUGE:
                # Only living workers have requests in flight.
                gauge = Gauge(name, text, labels, namespace=PREFIX, registry=registry, multiprocess_mode="livesum")
                self._gauges[name] = gauge
            else:
                histogram = Histogram(name, text, labels, namespace=PREFIX, registry=registry, buckets=metric.buckets)
                self._histograms[name] = histogram

    def emit(self, event: Event) -> None:
        """Count one event."""
        match event:
            case RequestStarted():
                self._gauge("in_flight", self._operations.bounded(event.operation)).inc()
            case RequestFinished():
                self._request_finished(event)
            case UpstreamFinished():
                self._histogram("upstream_duration_seconds", self._route(event.route)).observe(event.seconds)
            case UpstreamFailed():
                labels = (self._route(event.route), self._reasons.bounded(event.reason))
                self._counter("upstream_errors_total", *labels).inc()
            case HoldEnded():
                self._hold_ended(event)
            case LedgerCalled():
                self._ledger_called(event)
            case FellBack() | Degraded() | Replaced() | RouteEjected() | ShadowEnded():
                self._routed(event)
            case RequestDenied() | CallbackSent() | BatchMoved() | AssetNotKept() | CacheAsked() | RequestShed():
                self._counted(event)
            case PolicyLoaded():
                self._counter("policy_reloads_total", "ok" if event.ok else "failed").inc()
            case _:
                assert_never(event)

    def _counter(self, name: str, *labels: str) -> Counter:
        return _child(self._counters, self._counters_by_labels, name, labels)

    def _gauge(self, name: str, *labels: str) -> Gauge:
        return _child(self._gauges, self._gauges_by_labels, name, labels)

    def _histogram(self, name: str, *labels: str) -> Histogram:
        return _child(self._histograms, self._histograms_by_labels, name, labels)

    def _counted(
        self, event: RequestDenied | CallbackSent | BatchMoved | AssetNotKept | CacheAsked | RequestShed
    ) -> None:
        match event:
            case RequestDenied():
                project = bounded(event.project, self.labels.projects)
                self._counter("denied_total", project, self._refusals.bounded(event.reason)).inc()
            case CallbackSent():
                project = bounded(event.project, self.labels.projects)
                self._counter("callbacks_total", project, self._results.bounded(event.result)).inc()
            case BatchMoved():
                labels = (bounded(event.provider, self.labels.providers), self._results.bounded(event.status))
                self._counter("batches_total", *labels).inc()
                self._counter("batch_requests_total", *labels).inc(event.requests)
            case AssetNotKept():
                self._counter("assets_failed_total", self._reasons.bounded(event.reason)).inc(event.images)
            case CacheAsked():
                job_type = bounded(event.job_type, self.labels.job_types)
                self._counter("cache_total", job_type, self._results.bounded(event.result)).inc()
            case RequestShed():
                self._counter("shed_total", self._reasons.bounded(event.reason)).inc()

    def _routed(self, event: FellBack | Degraded | Replaced | RouteEjected | ShadowEnded) -> None:
        match event:
            case FellBack():
                route_to, reason = self._route(event.to_route), self._reasons.bounded(event.reason)
                self._counter("fallbacks_total", self._route(event.from_route), route_to, reason).inc()
            case Degraded():
                job_type = bounded(event.job_type, self.labels.job_types)
                self._counter("degraded_total", job_type, bounded(event.change, self.labels.changes)).inc()
            case Replaced():
                models = (bounded(event.model, self.labels.models), bounded(event.replacement, self.labels.models))
                self._counter("replaced_total", self._route(event.route), *models).inc()
            case RouteEjected():
                self._counter("ejections_total", self._route(event.route)).inc()
            case ShadowEnded():
                labels = (bounded(event.job_type, self.labels.job_types), self._route(event.route))
                self._counter("shadow_requests_total", *labels, self._results.bounded(event.result)).inc()

    def _route(self, name: str) -> str:
        return bounded(name, self.labels.routes)

    def _request_finished(self, event: RequestFinished) -> None:
        operation = self._operations.bounded(event.operation)
        self._gauge("in_flight", operation).dec()
        self._counter(
            "requests_total",
            operation,
            bounded(event.job_type, self.labels.job_types),
            bounded(event.project, self.labels.projects),
            self._route(event.route),
            bounded_status(event.status),
        ).inc()
        self._histograms["request_duration_seconds"].observe(event.duration)
        self._histograms["overhead_seconds"].observe(event.overhead)
        if event.waited:
            job_type = bounded(event.job_type, self.labels.job_types)
            self._histogram("waited_seconds", job_type).observe(event.waited)
        if event.experiment != NONE:
            arm = self._arm(event)
            self._counter("experiment_requests_total", *arm, bounded_status(event.status)).inc()
            if event.status == SUCCESS:
                self._histogram("experiment_duration_seconds", *arm).observe(event.duration)

    def _arm(self, event: RequestFinished | HoldEnded) -> tuple[str, str]:
        return bounded(event.experiment, self.labels.experiments), bounded(event.arm, self.labels.arms)

    def _hold_ended(self, event: HoldEnded) -> None:
        route, job_type = self._route(event.route), bounded(event.job_type, self.labels.job_types)
        if event.shadow:
            _add(self._counter("shadow_spend_usd_total", job_type, route), event.cost.route / NANO_PER_USD)
            return
        spent_by = (bounded(event.project, self.labels.projects), job_type, route)
        if event.experiment != NONE:
            arm = self._counter("experiment_spend_usd_total", *self._arm(event))
            _add(arm, event.cost.route / NANO_PER_USD)
        for view, nano in zip(_VIEWS, (event.cost.official, event.cost.route, event.cost.internal), strict=True):
            _add(self._counter("spend_usd_total", *spent_by, view), nano / NANO_PER_USD)
        quality = bounded(event.quality, self.labels.qualities)
        _add(self._counter("images_total", *spent_by, quality), event.images)
        _add(self._counters["savings_usd_total"], (event.cost.official - event.cost.route) / NANO_PER_USD)
        if event.usage is not None:
            for kind in _TOKEN_KINDS:
                if (tokens := getattr(event.usage, kind)) > 0:
                    self._counter("tokens_total", route, kind).inc(tokens)
        if event.source is CostSource.PRESUMED:
            self._counters["unconfirmed_total"].inc()
        if event.source in _KNOWN_COSTS and event.estimate.route > 0:
            self._histograms["estimate_error_ratio"].observe(event.cost.route / event.estimate.route)

    def _ledger_called(self, event: LedgerCalled) -> None:
        operation = self._operations.bounded(event.operation)
        self._histogram("ledger_duration_seconds", operation).observe(event.seconds)
        if event.failed:
            self._counters["ledger_errors_total"].inc()


def _child(metrics: dict[str, Kept], known: dict[tuple[str, ...], Kept], name: str, labels: tuple[str, ...]) -> Kept:
    """Return the series of a metric that has these labels."""
    series = (name, *labels)
    child = known.get(series)
    if child is None:
        child = known[series] = metrics[name].labels(*labels)
    return child


def _add(counter: Counter, amount: float) -> None:
    if amount > 0:
        counter.inc(amount)

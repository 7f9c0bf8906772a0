"""Events become Prometheus metrics.

With several workers, `PROMETHEUS_MULTIPROC_DIR` must name an empty directory before this module is imported:
each worker then writes its numbers there, and whoever serves `/metrics` adds them up.
"""

from __future__ import annotations

from dataclasses import fields
from typing import assert_never

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
    RequestStarted,
    RouteEjected,
    ShadowEnded,
    UpstreamFailed,
    UpstreamFinished,
)
from gateway.observe.labels import LabelSets, Vocabulary, bounded, bounded_status
from gateway.observe.metric_table import EVENT_METRICS, PREFIX, Kind

_KNOWN_COSTS = frozenset({CostSource.REPORTED, CostSource.USAGE})
SUCCESS = 200
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
                self._gauges["in_flight"].labels(self._operations.bounded(event.operation)).inc()
            case RequestFinished():
                self._request_finished(event)
            case UpstreamFinished():
                self._histograms["upstream_duration_seconds"].labels(self._route(event.route)).observe(event.seconds)
            case UpstreamFailed():
                labels = (self._route(event.route), self._reasons.bounded(event.reason))
                self._counters["upstream_errors_total"].labels(*labels).inc()
            case FellBack() | Degraded() | Replaced() | RouteEjected() | ShadowEnded():
                self._routed(event)
            case RequestDenied() | CallbackSent() | BatchMoved() | AssetNotKept() | CacheAsked():
                self._counted(event)
            case HoldEnded():
                self._hold_ended(event)
            case LedgerCalled():
                self._ledger_called(event)
            case PolicyLoaded():
                self._counters["policy_reloads_total"].labels("ok" if event.ok else "failed").inc()
            case _:
                assert_never(event)

    def _counted(self, event: RequestDenied | CallbackSent | BatchMoved | AssetNotKept | CacheAsked) -> None:
        match event:
            case RequestDenied():
                project = bounded(event.project, self.labels.projects)
                self._counters["denied_total"].labels(project, self._refusals.bounded(event.reason)).inc()
            case CallbackSent():
                project = bounded(event.project, self.labels.projects)
                self._counters["callbacks_total"].labels(project, self._results.bounded(event.result)).inc()
            case BatchMoved():
                labels = (bounded(event.provider, self.labels.providers), self._results.bounded(event.status))
                self._counters["batches_total"].labels(*labels).inc()
                self._counters["batch_requests_total"].labels(*labels).inc(event.requests)
            case AssetNotKept():
                self._counters["assets_failed_total"].labels(self._reasons.bounded(event.reason)).inc(event.images)
            case CacheAsked():
                job_type = bounded(event.job_type, self.labels.job_types)
                self._counters["cache_total"].labels(job_type, self._results.bounded(event.result)).inc()

    def _routed(self, event: FellBack | Degraded | Replaced | RouteEjected | ShadowEnded) -> None:
        match event:
            case FellBack():
                route_to, reason = self._route(event.to_route), self._reasons.bounded(event.reason)
                self._counters["fallbacks_total"].labels(self._route(event.from_route), route_to, reason).inc()
            case Degraded():
                job_type = bounded(event.job_type, self.labels.job_types)
                self._counters["degraded_total"].labels(job_type, bounded(event.change, self.labels.changes)).inc()
            case Replaced():
                models = (bounded(event.model, self.labels.models), bounded(event.replacement, self.labels.models))
                self._counters["replaced_total"].labels(self._route(event.route), *models).inc()
            case RouteEjected():
                self._counters["ejections_total"].labels(self._route(event.route)).inc()
            case ShadowEnded():
                labels = (bounded(event.job_type, self.labels.job_types), self._route(event.route))
                self._counters["shadow_requests_total"].labels(*labels, self._results.bounded(event.result)).inc()

    def _route(self, name: str) -> str:
        return bounded(name, self.labels.routes)

    def _request_finished(self, event: RequestFinished) -> None:
        operation = self._operations.bounded(event.operation)
        self._gauges["in_flight"].labels(operation).dec()
        self._counters["requests_total"].labels(
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
            self._histograms["waited_seconds"].labels(job_type).observe(event.waited)
        if event.experiment != NONE:
            arm = self._arm(event)
            self._counters["experiment_requests_total"].labels(*arm, bounded_status(event.status)).inc()
            if event.status == SUCCESS:
                self._histograms["experiment_duration_seconds"].labels(*arm).observe(event.duration)

    def _arm(self, event: RequestFinished | HoldEnded) -> tuple[str, str]:
        return bounded(event.experiment, self.labels.experiments), bounded(event.arm, self.labels.arms)

    def _hold_ended(self, event: HoldEnded) -> None:
        route, job_type = self._route(event.route), bounded(event.job_type, self.labels.job_types)
        if event.shadow:
            _add(self._counters["shadow_spend_usd_total"].labels(job_type, route), event.cost.route / NANO_PER_USD)
            return
        spent_by = (bounded(event.project, self.labels.projects), job_type, route)
        cost = {View.OFFICIAL: event.cost.official, View.ROUTE: event.cost.route, View.INTERNAL: event.cost.internal}
        if event.experiment != NONE:
            arm = self._counters["experiment_spend_usd_total"].labels(*self._arm(event))
            _add(arm, event.cost.route / NANO_PER_USD)
        for view, nano in cost.items():
            _add(self._counters["spend_usd_total"].labels(*spent_by, view.value), nano / NANO_PER_USD)
        quality = bounded(event.quality, self.labels.qualities)
        _add(self._counters["images_total"].labels(*spent_by, quality), event.images)
        _add(self._counters["savings_usd_total"], (event.cost.official - event.cost.route) / NANO_PER_USD)
        if event.usage is not None:
            for kind in _TOKEN_KINDS:
                if (tokens := getattr(event.usage, kind)) > 0:
                    self._counters["tokens_total"].labels(route, kind).inc(tokens)
        if event.source is CostSource.PRESUMED:
            self._counters["unconfirmed_total"].inc()
        if event.source in _KNOWN_COSTS and event.estimate.route > 0:
            self._histograms["estimate_error_ratio"].observe(event.cost.route / event.estimate.route)

    def _ledger_called(self, event: LedgerCalled) -> None:
        operation = self._operations.bounded(event.operation)
        self._histograms["ledger_duration_seconds"].labels(operation).observe(event.seconds)
        if event.failed:
            self._counters["ledger_errors_total"].inc()


def _add(counter: Counter, amount: float) -> None:
    if amount > 0:
        counter.inc(amount)

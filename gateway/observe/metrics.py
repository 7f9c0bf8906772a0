"""Events become Prometheus metrics.

With several workers, `IMAGE_GATEWAY_INTERNAL_METRICS` must name an empty directory before this module is imported:
each worker then writes its numbers there, and whoever serves `/metrics` adds them up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

from prometheus_client import CollectorRegistry, disable_created_metrics

from gateway.domain.budget import View
from gateway.domain.money import NANO_PER_USD
from gateway.domain.route import NOTHING, Views
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
    LedgerFailed,
    PolicyLoaded,
    Replaced,
    RequestDenied,
    RequestFinished,
    RequestShed,
    RequestStarted,
    RouteEjected,
    ShadowEnded,
    TaskRested,
    UpstreamFailed,
    UpstreamFinished,
)
from gateway.observe.hold_ends import is_unconfirmed
from gateway.observe.labels import LabelSets, Vocabulary, bounded, bounded_status
from gateway.observe.metric_table import EVENT_METRICS
from gateway.observe.series import WORKERS_DIR, Distribution, Found, Number, Table

_KNOWN_COSTS = frozenset({CostSource.REPORTED, CostSource.USAGE})
SUCCESS = 200
_TOKEN_KINDS = tuple(item.name for item in fields(Usage))
_tokens_of: Callable[[Usage], tuple[int, ...]] = attrgetter(*_TOKEN_KINDS)

# The time a series began would double their number, and several workers cannot tell it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it unannotated


class Metrics:
    """An Observer that counts, in one thread. Every label is bounded by `labels`.

    Money is counted as float64 USD: a sum of nano-USD amounts stays within 1e-9 of the exact one, relatively.
    A counter cannot go down: where the ledger later corrects a presumed cost downwards, the ledger is right.
    """

    patient: Collection[type[Event]] = frozenset({LedgerCalled, UpstreamFinished, HoldEnded, RequestFinished})
    """What every request brings."""

    def __init__(self, registry: CollectorRegistry, labels: LabelSets) -> None:
        self._table = table = Table(EVENT_METRICS, None if WORKERS_DIR is None else Path(WORKERS_DIR))
        registry.register(table)
        self._operations = Vocabulary()
        self._reasons = Vocabulary()
        self._refusals = Vocabulary()
        self._results = Vocabulary()
        self._duration = table.distribution("request_duration_seconds")
        self._overhead = table.distribution("overhead_seconds")
        self._estimate_error = table.distribution("estimate_error_ratio")
        self._savings = table.number("savings_usd_total")
        # Series of what events say over and over, by what they say.
        self._in_flight = Found(self._flights)
        self._requests = Found(self._requests_of)
        self._calls = Found(self._calls_of)
        self._ledger = Found(self._ledger_of)
        self._spent = Found(self._spent_by)
        self.labels = labels
        self.takers: Mapping[type[Event], Callable[[Any], None]] = MappingProxyType(self._takers())

    @property
    def labels(self) -> LabelSets:
        """What labels may say; a reload of policy may replace it."""
        return self._labels

    @labels.setter
    def labels(self, labels: LabelSets) -> None:
        """Replace what labels may say: every name is bounded anew."""
        self._labels = labels
        for known in (self._in_flight, self._requests, self._calls, self._ledger, self._spent):
            known.clear()

    def emit(self, event: Event) -> None:
        """Count one event."""
        self.takers[type(event)](event)

    def show(self, name: str, value: float) -> None:
        """Set a gauge of this process that has no labels and that no event tells of; KeyError if there is none."""
        self._table.number(name).value = value

    def _takers(self) -> dict[type[Event], Callable[[Any], None]]:
        return {
            RequestStarted: self._request_started,
            RequestFinished: self._request_finished,
            TaskRested: self._task_rested,
            UpstreamFinished: self._upstream_finished,
            UpstreamFailed: self._upstream_failed,
            FellBack: self._fell_back,
            Degraded: self._degraded,
            Replaced: self._replaced,
            RouteEjected: self._route_ejected,
            RequestDenied: self._request_denied,
            HoldEnded: self._hold_ended,
            ShadowEnded: self._shadow_ended,
            CallbackSent: self._callback_sent,
            BatchMoved: self._batch_moved,
            AssetNotKept: self._asset_not_kept,
            CacheAsked: self._cache_asked,
            LedgerCalled: self._ledger_called,
            LedgerFailed: self._ledger_failed,
            PolicyLoaded: self._policy_loaded,
            RequestShed: self._request_shed,
        }

    def _add(self, name: str, *labels: str, amount: float = 1) -> None:
        self._table.number(name, *labels).value += amount

    def _request_started(self, event: RequestStarted) -> None:
        self._in_flight[event.operation].value += 1.0

    def _flights(self, operation: str) -> Number:
        return self._table.number("in_flight", self._operations.bounded(operation))

    def _task_rested(self, event: TaskRested) -> None:
        self._in_flight[event.ended.began or event.ended.operation].value -= 1.0

    def _request_finished(self, event: RequestFinished) -> None:
        self._in_flight[event.began or event.operation].value -= 1.0
        self._requests[event.operation, event.job_type, event.project, event.route, event.status].value += 1.0
        self._duration.observe(event.duration)
        self._overhead.observe(event.overhead)
        if event.waited:
            self._table.distribution("waited_seconds", self._job_type(event.job_type)).observe(event.waited)
        if event.experiment != NONE:
            arm = self._arm(event)
            self._add("experiment_requests_total", *arm, bounded_status(event.status))
            if event.status == SUCCESS:
                self._table.distribution("experiment_duration_seconds", *arm).observe(event.duration)

    def _requests_of(self, ended: tuple[str, str, str, str, int]) -> Number:
        operation, job_type, project, route, status = ended
        who = (self._job_type(job_type), self._project(project), self._route(route))
        return self._table.number("requests_total", self._operations.bounded(operation), *who, bounded_status(status))

    def _upstream_finished(self, event: UpstreamFinished) -> None:
        self._calls[event.route].observe(event.seconds)

    def _calls_of(self, route: str) -> Distribution:
        return self._table.distribution("upstream_duration_seconds", self._route(route))

    def _upstream_failed(self, event: UpstreamFailed) -> None:
        self._add("upstream_errors_total", self._route(event.route), self._reasons.bounded(event.reason))

    def _fell_back(self, event: FellBack) -> None:
        routes = (self._route(event.from_route), self._route(event.to_route))
        self._add("fallbacks_total", *routes, self._reasons.bounded(event.reason))

    def _degraded(self, event: Degraded) -> None:
        self._add("degraded_total", self._job_type(event.job_type), bounded(event.change, self._labels.changes))

    def _replaced(self, event: Replaced) -> None:
        models = (bounded(event.model, self._labels.models), bounded(event.replacement, self._labels.models))
        self._add("replaced_total", self._route(event.route), *models)

    def _route_ejected(self, event: RouteEjected) -> None:
        self._add("ejections_total", self._route(event.route))

    def _request_denied(self, event: RequestDenied) -> None:
        self._add("denied_total", self._project(event.project), self._refusals.bounded(event.reason))

    def _request_shed(self, event: RequestShed) -> None:
        self._add("shed_total", self._reasons.bounded(event.reason))

    def _shadow_ended(self, event: ShadowEnded) -> None:
        where = (self._job_type(event.job_type), self._route(event.route))
        self._add("shadow_requests_total", *where, self._results.bounded(event.result))

    def _callback_sent(self, event: CallbackSent) -> None:
        self._add("callbacks_total", self._project(event.project), self._results.bounded(event.result))

    def _batch_moved(self, event: BatchMoved) -> None:
        labels = (bounded(event.provider, self._labels.providers), self._results.bounded(event.status))
        self._add("batches_total", *labels)
        self._add("batch_requests_total", *labels, amount=event.requests)

    def _asset_not_kept(self, event: AssetNotKept) -> None:
        self._add("assets_failed_total", self._reasons.bounded(event.reason), amount=event.images)

    def _cache_asked(self, event: CacheAsked) -> None:
        self._add("cache_total", self._job_type(event.job_type), self._results.bounded(event.result))

    def _policy_loaded(self, event: PolicyLoaded) -> None:
        self._add("policy_reloads_total", "ok" if event.ok else "failed")

    def _ledger_called(self, event: LedgerCalled) -> None:
        self._ledger[event.operation].observe(event.seconds)

    def _ledger_failed(self, event: LedgerFailed) -> None:
        self._ledger[event.operation].observe(event.seconds)
        self._add("ledger_errors_total")

    def _ledger_of(self, operation: str) -> Distribution:
        return self._table.distribution("ledger_duration_seconds", self._operations.bounded(operation))

    def _hold_ended(self, event: HoldEnded) -> None:
        cost = NOTHING if event.late else event.cost  # whoever presumed it has counted that
        if is_unconfirmed(event.source, cost):
            self._add("unconfirmed_total")
        if event.shadow:
            where = (self._job_type(event.job_type), self._route(event.route))
            self._add("shadow_spend_usd_total", *where, amount=max(cost.route, 0) / NANO_PER_USD)
            return
        if event.experiment != NONE:
            self._add("experiment_spend_usd_total", *self._arm(event), amount=max(cost.route, 0) / NANO_PER_USD)
        self._spent[event.project, event.job_type, event.route, event.quality].add(event, cost)
        if cost.official > cost.route:
            self._savings.value += (cost.official - cost.route) / NANO_PER_USD
        if event.source in _KNOWN_COSTS and event.estimate.route > 0:
            self._estimate_error.observe(event.cost.route / event.estimate.route)

    def _spent_by(self, ended: tuple[str, str, str, str]) -> _Spent:
        project, job_type, route, quality = ended
        who = (self._project(project), self._job_type(job_type), self._route(route))
        return _Spent(self._table, who, bounded(quality, self._labels.qualities))

    def _arm(self, event: RequestFinished | HoldEnded) -> tuple[str, str]:
        return bounded(event.experiment, self._labels.experiments), bounded(event.arm, self._labels.arms)

    def _route(self, name: str) -> str:
        return bounded(name, self._labels.routes)

    def _job_type(self, name: str) -> str:
        return bounded(name, self._labels.job_types)

    def _project(self, name: str) -> str:
        return bounded(name, self._labels.projects)


class _Spent:
    """Series that a hold's end adds to: those of one project, job type and route, and of one quality."""

    __slots__ = ("_images", "_internal", "_official", "_paid", "_route", "_table", "_tokens")

    def __init__(self, table: Table, spent_by: tuple[str, str, str], quality: str) -> None:
        self._table = table
        self._route = spent_by[2]
        self._official, self._paid, self._internal = (
            table.number("spend_usd_total", *spent_by, view.value)
            for view in (View.OFFICIAL, View.ROUTE, View.INTERNAL)
        )
        self._images = table.number("images_total", *spent_by, quality)
        self._tokens: list[Number | None] = [None] * len(_TOKEN_KINDS)

    def add(self, event: HoldEnded, cost: Views) -> None:
        """Add what a hold came to, at a cost that was not counted before; nothing that is below 0."""
        if cost.official > 0:
            self._official.value += cost.official / NANO_PER_USD
        if cost.route > 0:
            self._paid.value += cost.route / NANO_PER_USD
        if cost.internal > 0:
            self._internal.value += cost.internal / NANO_PER_USD
        if event.images > 0:
            self._images.value += event.images
        if event.usage is not None:
            for index, tokens in enumerate(_tokens_of(event.usage)):
                if tokens > 0:
                    (self._tokens[index] or self._tokens_of_kind(index)).value += tokens

    def _tokens_of_kind(self, index: int) -> Number:
        number = self._tokens[index] = self._table.number("tokens_total", self._route, _TOKEN_KINDS[index])
        return number

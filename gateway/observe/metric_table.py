"""Every metric there is, in one table; `docs/metrics.md` lists the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "image_gateway"

IMAGE_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300)
"""An error takes milliseconds, an image seconds to minutes."""

OVERHEAD_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)

LEDGER_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)

RATIOS = (0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 5)
"""Above 1 a hold was too small."""


class Kind(StrEnum):
    """How a metric is kept. A `snapshot` is a gauge that is asked for at scrape time and kept by nobody."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `name` is without the prefix, `buckets` are upper bounds in its unit."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as it is scraped."""
        return f"{PREFIX}_{self.name}"


_SPENT_BY = ("project", "job_type", "route")

METRICS = (
    Metric(
        "requests_total",
        Kind.COUNTER,
        "Image requests that ended, by what the client got.",
        ("operation", "job_type", "project", "route", "status"),
    ),
    Metric("in_flight", Kind.GAUGE, "Image requests that have not ended.", ("operation",)),
    Metric(
        "request_duration_seconds",
        Kind.HISTOGRAM,
        "From the first byte in to the last byte out.",
        buckets=IMAGE_SECONDS,
    ),
    Metric(
        "overhead_seconds",
        Kind.HISTOGRAM,
        "The part of a request's duration that was not spent waiting for a provider.",
        buckets=OVERHEAD_SECONDS,
    ),
    Metric(
        "waited_seconds",
        Kind.HISTOGRAM,
        "Requests that waited for a slot on a route: how long, whether or not they got one.",
        ("job_type",),
        IMAGE_SECONDS,
    ),
    Metric(
        "upstream_duration_seconds",
        Kind.HISTOGRAM,
        "Calls that succeeded, from sending to the last byte of the provider's answer.",
        ("route",),
        IMAGE_SECONDS,
    ),
    Metric("upstream_errors_total", Kind.COUNTER, "Calls to providers that failed.", ("route", "reason")),
    Metric(
        "fallbacks_total",
        Kind.COUNTER,
        "Requests that went on to another route.",
        ("from", "to", "reason"),
    ),
    Metric("degraded_total", Kind.COUNTER, "Requests that policy changed to save money.", ("job_type", "change")),
    Metric(
        "replaced_total",
        Kind.COUNTER,
        "Requests served by the model that replaces a retired one.",
        ("route", "model", "replacement"),
    ),
    Metric("ejections_total", Kind.COUNTER, "Routes left alone for a while, since they kept failing.", ("route",)),
    Metric("denied_total", Kind.COUNTER, "Requests that policy, a budget or a quota refused.", ("project", "reason")),
    Metric("shed_total", Kind.COUNTER, "Requests refused unread, since the process was at its limit.", ("reason",)),
    Metric(
        "experiment_requests_total",
        Kind.COUNTER,
        "Requests in an experiment that ended, by arm and by what the client got.",
        ("experiment", "arm", "status"),
    ),
    Metric(
        "experiment_spend_usd_total",
        Kind.COUNTER,
        "Money spent on requests in an experiment, in USD, as the routes charge it.",
        ("experiment", "arm"),
    ),
    Metric(
        "experiment_duration_seconds",
        Kind.HISTOGRAM,
        "Requests in an experiment that succeeded, from the first byte in to the last byte out.",
        ("experiment", "arm"),
        IMAGE_SECONDS,
    ),
    Metric(
        "shadow_requests_total",
        Kind.COUNTER,
        "Requests that were to be repeated on a shadow route, by what came of it.",
        ("job_type", "route", "result"),
    ),
    Metric(
        "shadow_spend_usd_total",
        Kind.COUNTER,
        "Money spent on shadow requests, in USD, as the routes charge it; it is in no other metric of spend.",
        ("job_type", "route"),
    ),
    Metric("images_total", Kind.COUNTER, "Images that were paid for.", (*_SPENT_BY, "quality")),
    Metric("spend_usd_total", Kind.COUNTER, "Money spent, in USD, in three views.", (*_SPENT_BY, "view")),
    Metric("savings_usd_total", Kind.COUNTER, "Official price less the route's price, in USD, where positive."),
    Metric("tokens_total", Kind.COUNTER, "Tokens as the providers reported them.", ("route", "kind")),
    Metric("unconfirmed_total", Kind.COUNTER, "Holds that were presumed spent, since nobody knows their cost."),
    Metric(
        "estimate_error_ratio",
        Kind.HISTOGRAM,
        "Actual cost over what was held for it, where the actual cost is known.",
        buckets=RATIOS,
    ),
    Metric(
        "ledger_duration_seconds",
        Kind.HISTOGRAM,
        "Calls to the store, failed ones included.",
        ("operation",),
        LEDGER_SECONDS,
    ),
    Metric(
        "callbacks_total",
        Kind.COUNTER,
        "Tries to deliver a callback, by what came of them: delivered, failed (and tried again) or dead.",
        ("project", "result"),
    ),
    Metric(
        "batches_total",
        Kind.COUNTER,
        "Batches by what became of them: created or not_created, then completed, failed, expired or cancelled.",
        ("provider", "status"),
    ),
    Metric("batch_requests_total", Kind.COUNTER, "The requests in them, likewise.", ("provider", "status")),
    Metric("assets_failed_total", Kind.COUNTER, "Images that were to be stored and are not.", ("reason",)),
    Metric(
        "cache_total",
        Kind.COUNTER,
        "Requests that were looked up among earlier ones, where policy caches: hit, miss, skipped, failed.",
        ("job_type", "result"),
    ),
    Metric("ledger_errors_total", Kind.COUNTER, "Calls to the store that failed."),
    Metric("ready", Kind.SNAPSHOT, "1 if /readyz would answer 200 now, 0 if not."),
    Metric("leaving", Kind.GAUGE, "Processes that were told to stop, and have not ended."),
    Metric("policy_reloads_total", Kind.COUNTER, "Times that a process read policy, the first included.", ("result",)),
    Metric(
        "policy_last_reload_successful",
        Kind.SNAPSHOT,
        "1 if the policy that was read last is the one that serves, 0 if it was refused.",
    ),
    Metric("policy_info", Kind.SNAPSHOT, "Always 1; names the policy that is serving.", ("digest",)),
    Metric("budget_limit_usd", Kind.SNAPSHOT, "What a budget allows in its window, in USD.", ("scope", "window")),
    Metric("budget_used_usd", Kind.SNAPSHOT, "What was spent of it, in USD.", ("scope", "window")),
    Metric("budget_held_usd", Kind.SNAPSHOT, "What is held of it for work under way, in USD.", ("scope", "window")),
    Metric("tasks", Kind.SNAPSHOT, "Tasks that are known, by where they are.", ("status",)),
    Metric("tasks_waiting", Kind.GAUGE, "Tasks that were taken and have no call under way; not those in a batch."),
    Metric("callbacks_dead", Kind.SNAPSHOT, "Callbacks that nobody took, kept for 30 days to be sent again."),
    Metric(
        "assets_bytes",
        Kind.SNAPSHOT,
        "Bytes of images that are stored, at the last look, ten minutes ago at most.",
        ("project",),
    ),
    Metric("route_available", Kind.SNAPSHOT, "1 if the route is not ejected and its limits leave room.", ("route",)),
    Metric(
        "route_images_remaining",
        Kind.SNAPSHOT,
        "Images that the route's own limits leave now; absent where no limit is known.",
        ("route",),
    ),
    Metric(
        "model_retires_in_days",
        Kind.SNAPSHOT,
        "Days until the vendor retires a model, negative after it; absent without a date.",
        ("model",),
    ),
)

EVENT_METRICS = tuple(metric for metric in METRICS if metric.kind is not Kind.SNAPSHOT)
SNAPSHOT_METRICS = {metric.name: metric for metric in METRICS if metric.kind is Kind.SNAPSHOT}

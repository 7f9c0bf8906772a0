"""Scrapes of metrics that were fed some events, with one snapshot for all."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from gateway.observe.labels import LabelSets
from gateway.observe.metrics import Metrics
from gateway.observe.scrape import BudgetState, ModelRetirement, RouteState, Snapshot, render_metrics
from tests.observe.samples import LABELS, OTHER_ROUTE, PROJECT, ROUTE

SNAPSHOT = Snapshot(
    policy_digest="0123456789abcdef",
    last_reload_successful=False,
    budgets=(
        BudgetState("everything", "month", limit=5_000_000_000, used=12_500_000, held=211_000),
        BudgetState(f"project:{PROJECT}", "day", limit=50_000_000, used=1, held=0),
    ),
    routes=(RouteState(ROUTE, available=True, images_remaining=3), RouteState(OTHER_ROUTE, available=False)),
    retirements=(ModelRetirement("model-a", -19),),
)


def scraped_after(*events: object, labels: LabelSets = LABELS) -> bytes:
    """Return what is scraped after the events."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, labels)
    for event in events:
        metrics.emit(event)  # type: ignore[arg-type]  # any event at all, for brevity
    return render_metrics(registry, SNAPSHOT)[0]

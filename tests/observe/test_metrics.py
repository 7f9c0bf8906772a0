from __future__ import annotations

import random
import re
import string
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.domain.route import Views
from gateway.domain.settlement import CostSource
from gateway.observe.event import (
    Event,
    FellBack,
    HoldEnded,
    LedgerCalled,
    LedgerFailed,
    RequestDenied,
    RequestFinished,
    RequestStarted,
    UpstreamFailed,
    UpstreamFinished,
    taker_of,
)
from gateway.observe.fanout import Observers
from gateway.observe.labels import LabelSets
from gateway.observe.log import LogObserver
from gateway.observe.metric_table import METRICS
from gateway.observe.metrics import Metrics
from gateway.observe.scrape import (
    BudgetState,
    Snapshot,
    render_metrics,
    scrape,
)
from gateway.ports import LedgerUnavailable
from tests.observe.samples import (
    JOB_TYPE,
    LABELS,
    ONE_OF_EACH,
    OTHER_ROUTE,
    PROJECT,
    QUALITY,
    ROUTE,
    read,
    value,
)
from tests.observe.scraped import scraped_after

ROOT = Path(__file__).parents[2]


def test_requests_are_counted_with_all_their_labels(scraped: bytes) -> None:
    """A finished request shows once, by operation, job type, project, route and status."""
    labels = {"operation": "generate", "job_type": JOB_TYPE, "project": PROJECT, "route": ROUTE, "status": "200"}

    assert value(scraped, "requests_total", **labels) == 1
    assert value(scraped, "request_duration_seconds_sum") == 12.5
    assert value(scraped, "overhead_seconds_sum") == 0.004


def test_in_flight_rises_and_falls(scraped: bytes) -> None:
    """A request that started and ended leaves nothing in flight, one that only started leaves one."""
    assert value(scraped, "in_flight", operation="generate") == 0
    assert value(scraped_after(RequestStarted("edit")), "in_flight", operation="edit") == 1


def test_upstream_events(scraped: bytes) -> None:
    """Durations, failures and fallbacks of provider calls are counted by route and reason."""
    assert value(scraped, "upstream_duration_seconds_count", route=ROUTE) == 1
    assert value(scraped, "upstream_errors_total", route=ROUTE, reason="timeout") == 1
    assert value(scraped, "fallbacks_total", from_=ROUTE, to=OTHER_ROUTE, reason="status_429") == 1


def test_money_is_shown_in_three_views(scraped: bytes) -> None:
    """Spend is summed by view in USD, and savings are official less route."""
    by = {"project": PROJECT, "job_type": JOB_TYPE, "route": ROUTE}

    assert value(scraped, "spend_usd_total", **by, view="official") == pytest.approx(0.300000001, rel=1e-9)
    assert value(scraped, "spend_usd_total", **by, view="route") == pytest.approx(0.200000002, rel=1e-9)
    assert value(scraped, "spend_usd_total", **by, view="internal") == pytest.approx(0.230000003, rel=1e-9)
    assert value(scraped, "savings_usd_total") == pytest.approx(0.099999999, rel=1e-9)
    assert value(scraped, "images_total", **by, quality=QUALITY) == 3
    assert value(scraped, "tokens_total", route=ROUTE, kind="image_out") == 7024


def test_only_known_costs_tell_how_good_estimates_are(scraped: bytes) -> None:
    """The ratio counts the settled hold and not the presumed one, which is counted as unconfirmed."""
    assert value(scraped, "estimate_error_ratio_count") == 1
    assert value(scraped, "estimate_error_ratio_sum") == pytest.approx(0.8)
    assert value(scraped, "unconfirmed_total") == 1


def test_a_route_dearer_than_the_list_price_saves_nothing() -> None:
    """A negative saving neither raises nor lowers the counter."""
    dear = HoldEnded(
        project=PROJECT,
        job_type=JOB_TYPE,
        route=ROUTE,
        quality=QUALITY,
        cost=Views(official=1, route=2, internal=2),
        estimate=Views(official=1, route=0, internal=0),
        source=CostSource.USAGE,
        images=0,
    )

    assert value(scraped_after(dear), "savings_usd_total") == 0


def test_the_sum_of_many_small_amounts_stays_exact_enough() -> None:
    """Twenty thousand odd amounts of nano-USD sum up to the exact total within 1e-9."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, LABELS)
    dice = random.Random(7)
    amounts = [dice.randrange(1, 3_000_000_000) for _ in range(20_000)]
    for nano in amounts:
        views = Views(official=nano, route=nano, internal=nano)
        metrics.emit(HoldEnded(PROJECT, JOB_TYPE, ROUTE, QUALITY, views, views, CostSource.USAGE, 1))
    text, _ = render_metrics(registry, Snapshot())

    shown = value(text, "spend_usd_total", project=PROJECT, job_type=JOB_TYPE, route=ROUTE, view="route")
    assert abs(round(shown * 10**9) - sum(amounts)) <= sum(amounts) / 10**9


def test_ledger_and_policy_events(scraped: bytes) -> None:
    """Store calls, their failures, and both results of reading policy are counted."""
    assert value(scraped, "ledger_duration_seconds_count", operation="settle") == 1
    assert value(scraped, "ledger_errors_total") == 1
    assert value(scraped, "denied_total", project=PROJECT, reason="project_spend_limit_exceeded") == 1
    assert value(scraped, "shed_total", reason="memory") == 1
    assert value(scraped, "policy_reloads_total", result="ok") == 1
    assert value(scraped, "policy_reloads_total", result="failed") == 1


def test_the_snapshot_is_shown_as_it_is(scraped: bytes) -> None:
    """Budgets, routes, the policy's digest and retirements are gauges with the values of this moment."""
    assert value(scraped, "budget_limit_usd", scope="everything", window="month") == 5000
    assert value(scraped, "budget_used_usd", scope="everything", window="month") == 12.5
    assert value(scraped, "budget_held_usd", scope="everything", window="month") == 0.211
    assert value(scraped, "route_available", route=ROUTE) == 1
    assert value(scraped, "route_available", route=OTHER_ROUTE) == 0
    assert value(scraped, "route_images_remaining", route=ROUTE) == 3
    assert value(scraped, "policy_info", digest="0123456789abcdef") == 1
    assert value(scraped, "policy_last_reload_successful") == 0
    assert value(scraped, "model_retires_in_days", model="model-a") == -19
    assert ("image_gateway_route_images_remaining", frozenset({("route", OTHER_ROUTE)})) not in read(scraped)


def test_two_budgets_of_one_name_show_the_tighter() -> None:
    """Budgets that differ only in their price view share a series: the one with less room."""
    wide, tight = BudgetState("everything", "day", 100, 10, 0), BudgetState("everything", "day", 90, 60, 5)
    for budgets in ((wide, tight), (tight, wide)):
        text, _ = render_metrics(CollectorRegistry(), Snapshot(budgets=budgets))

        assert value(text, "budget_limit_usd", scope="everything", window="day") == 0.00009
        assert text.count(b"image_gateway_budget_limit_usd{") == 1


async def test_a_store_that_is_away_costs_only_the_snapshot() -> None:
    """While the store does not answer, what was counted is still scraped."""

    async def away() -> Snapshot:
        raise LedgerUnavailable("no answer")

    async def health() -> list[str]:
        return ["the ledger is not available"]

    registry = CollectorRegistry()
    Metrics(registry, LABELS).emit(RequestStarted("edit"))
    text, content_type = await scrape(registry, away, health)

    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert value(text, "in_flight", operation="edit") == 1
    assert value(text, "ready") == 0
    assert b"image_gateway_budget_limit_usd{" not in text


def test_cardinality_stays_bounded() -> None:
    """Ten thousand random names in every label make fewer than two thousand series, and none of the names shows."""
    dice = random.Random(11)

    def name() -> str:
        return "x" + "".join(dice.choices(string.ascii_lowercase, k=12))

    registry = CollectorRegistry()
    metrics = Metrics(registry, LABELS)
    views = Views(1, 1, 1)
    for _ in range(10_000):
        project, job_type, route, quality, word = name(), name(), name(), name(), name()
        status = dice.randrange(100, 1000)
        metrics.emit(RequestStarted(word))
        metrics.emit(RequestFinished("r", word, status, 1, 1, project=project, job_type=job_type, route=route))
        metrics.emit(UpstreamFinished(route, 1))
        metrics.emit(UpstreamFailed(route, word))
        metrics.emit(FellBack(route, name(), word))
        metrics.emit(RequestDenied(project, word))
        metrics.emit(HoldEnded(project, job_type, route, quality, views, views, CostSource.USAGE, 1))
        metrics.emit(LedgerFailed(word, 0.1))
    series = read(render_metrics(registry, Snapshot())[0])

    assert len(series) < 2_000
    policy_labels = {"project", "job_type", "route", "from", "to", "quality"}
    shown = {label for _, labels in series for label in labels if label[0] in policy_labels}
    assert {text for _, text in shown} <= {"other"}


def test_a_reload_changes_what_labels_may_say() -> None:
    """A project that a reload of policy brings is named from then on."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, LabelSets())
    metrics.emit(RequestDenied(PROJECT, "rate_limit_exceeded"))
    metrics.labels = LABELS
    metrics.emit(RequestDenied(PROJECT, "rate_limit_exceeded"))
    text, _ = render_metrics(registry, Snapshot())

    assert value(text, "denied_total", project="other", reason="rate_limit_exceeded") == 1
    assert value(text, "denied_total", project=PROJECT, reason="rate_limit_exceeded") == 1


def test_observers_pass_every_event_to_all() -> None:
    """Two observers behind one both see each event, in order."""
    registries = CollectorRegistry(), CollectorRegistry()
    both = Observers(Metrics(registry, LABELS) for registry in registries)
    for event in ONE_OF_EACH:
        both.emit(event)
    first, second = (render_metrics(registry, Snapshot())[0] for registry in registries)

    assert first == second
    assert value(first, "unconfirmed_total") == 1


def test_who_tells_of_many_events_asks_once_who_takes_them() -> None:
    """One type of event goes straight to its only taker, to all where there are several, to nobody where none is."""
    registry, notes = CollectorRegistry(), Notes()
    metrics = Metrics(registry, LABELS)
    taker_of(Observers([metrics, LogObserver()]), LedgerCalled)(LedgerCalled("hold", 0.1))
    taker_of(Observers([metrics, notes]), LedgerCalled)(LedgerCalled("hold", 0.1))
    taker_of(LogObserver(), LedgerCalled)(LedgerCalled("hold", 0.1))
    text, _ = render_metrics(registry, Snapshot())

    assert value(text, "ledger_duration_seconds_count", operation="hold") == 2
    assert notes.kept == [LedgerCalled("hold", 0.1)]


class Notes:
    """An observer that takes all there is."""

    def __init__(self) -> None:
        self.kept: list[Event] = []

    def emit(self, event: Event) -> None:
        """Take note."""
        self.kept.append(event)


def test_every_metric_of_the_table_is_scraped_and_no_other(scraped: bytes) -> None:
    """After one event of each kind the scrape holds exactly the metrics of the table."""
    announced = re.findall(r"^# TYPE (\w+) (\w+)$", scraped.decode(), re.MULTILINE)

    assert sorted(announced) == sorted(
        (metric.full_name, "gauge" if metric.kind == "snapshot" else metric.kind.value) for metric in METRICS
    )


def test_the_documentation_lists_exactly_these_metrics() -> None:
    """`docs/metrics.md` has one row for each metric, with its type and labels, and no row for any other."""
    rows = re.findall(r"^\| `(image_gateway_\w+)(?:\{([\w,]*)\})?` \| (\w+) \|", _documentation(), re.MULTILINE)
    kinds = {metric.name: "gauge" if metric.kind == "snapshot" else metric.kind.value for metric in METRICS}

    assert sorted(rows) == sorted((metric.full_name, ",".join(metric.labels), kinds[metric.name]) for metric in METRICS)


def _documentation() -> str:
    return (ROOT / "docs" / "metrics.md").read_text()

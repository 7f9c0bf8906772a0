"""Series that are counted by the gateway itself against those that the metrics library would have counted."""

from __future__ import annotations

import random
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.observe.event import Event
from gateway.observe.labels import LabelSets
from gateway.observe.metric_table import EVENT_METRICS, PREFIX, Kind, Metric
from gateway.observe.metrics import Metrics
from gateway.observe.series import Table

AMOUNTS = (0, 0.0001, 0.0005, 0.05, 1, 1.0000001, 300, 301, 1e9, 1e-9)


def _kept_by_the_library(registry: CollectorRegistry) -> dict[str, Counter | Gauge | Histogram]:
    return {metric.name: _made(metric, registry) for metric in EVENT_METRICS}


def _made(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    name, text, labels = metric.name, metric.help, metric.labels
    if metric.kind is Kind.COUNTER:
        return Counter(name, text, labels, namespace=PREFIX, registry=registry)
    if metric.kind is Kind.GAUGE:
        return Gauge(name, text, labels, namespace=PREFIX, registry=registry)
    return Histogram(name, text, labels, namespace=PREFIX, registry=registry, buckets=metric.buckets)


def test_what_is_shown_is_what_the_library_would_show() -> None:
    """Before anything is counted and after two thousand amounts, the text of a scrape is the same to the byte."""
    dice = random.Random(5)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    table, kept = Table(EVENT_METRICS), _kept_by_the_library(theirs)
    ours.register(table)
    at_first = generate_latest(ours), generate_latest(theirs)
    for _ in range(2_000):
        metric = dice.choice(EVENT_METRICS)
        labels = [dice.choice(["a", 'quo"ted\\', "größe\n"]) for _ in metric.labels]
        amount = dice.choice([*AMOUNTS, dice.random()])
        series = kept[metric.name].labels(*labels) if labels else kept[metric.name]
        if isinstance(series, Histogram):
            table.distribution(metric.name, *labels).observe(amount)
            series.observe(amount)
        else:
            table.number(metric.name, *labels).value += amount
            series.inc(amount)

    assert at_first[0] == at_first[1]
    assert generate_latest(ours) == generate_latest(theirs)


def test_no_two_tables_share_a_registry() -> None:
    """A second table of the same metrics is refused, and so are labels that a metric does not have."""
    registry = CollectorRegistry()
    registry.register(Table(EVENT_METRICS))

    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Table(EVENT_METRICS))
    with pytest.raises(ValueError, match="requests_total has the labels"):
        Table(EVENT_METRICS).number("requests_total", "generate")


def test_every_kind_of_event_is_counted() -> None:
    """There is no event that the metrics have nothing for."""
    assert set(Metrics(CollectorRegistry(), LabelSets()).takers) == set(get_args(Event))

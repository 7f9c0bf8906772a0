"""Events and label sets as a small policy would make them, and a reader of scraped text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Usage
from gateway.observe.event import (
    Event,
    FellBack,
    HoldEnded,
    LedgerCalled,
    LedgerFailed,
    PolicyLoaded,
    RequestDenied,
    RequestFinished,
    RequestShed,
    RequestStarted,
    TaskRested,
    UpstreamFailed,
    UpstreamFinished,
)
from gateway.observe.labels import LabelSets

PROJECT, JOB_TYPE, ROUTE, OTHER_ROUTE, QUALITY = "marketing", "hero_image", "first/model-a", "second/model-a", "high"

LABELS = LabelSets(
    projects=frozenset({PROJECT}),
    job_types=frozenset({JOB_TYPE}),
    routes=frozenset({ROUTE, OTHER_ROUTE}),
    qualities=frozenset({"auto", QUALITY}),
)

USAGE = Usage(text_in=12, image_out=7024)

FINISHED = RequestFinished(
    request_id="req_1",
    operation="generate",
    status=200,
    duration=12.5,
    overhead=0.004,
    project=PROJECT,
    key_id="key_1",
    job_type=JOB_TYPE,
    route=ROUTE,
    attempts=1,
    n=1,
    size="1024x1024",
    quality=QUALITY,
    images=1,
    estimate=211_000_000,
    cost=210_780_000,
    source="usage",
    bytes_out=1_500_000,
    tags={"campaign": "spring"},
)

HOLD_ENDED = HoldEnded(
    project=PROJECT,
    job_type=JOB_TYPE,
    route=ROUTE,
    quality=QUALITY,
    cost=Views(official=300_000_000, route=200_000_001, internal=230_000_002),
    estimate=Views(official=300_000_000, route=250_000_000, internal=287_500_000),
    source=CostSource.USAGE,
    images=2,
    usage=USAGE,
)

PRESUMED = HoldEnded(
    project=PROJECT,
    job_type=JOB_TYPE,
    route=ROUTE,
    quality=QUALITY,
    cost=Views(official=1, route=1, internal=1),
    estimate=Views(official=1, route=1, internal=1),
    source=CostSource.PRESUMED,
    images=1,
)

ONE_OF_EACH: tuple[Event, ...] = (
    RequestStarted("generate"),
    FINISHED,
    UpstreamFinished(ROUTE, 12.4),
    UpstreamFailed(ROUTE, "timeout"),
    FellBack(ROUTE, OTHER_ROUTE, "status_429"),
    RequestStarted("generate"),
    TaskRested(FINISHED),
    RequestDenied(PROJECT, "project_spend_limit_exceeded"),
    RequestShed("memory"),
    HOLD_ENDED,
    PRESUMED,
    LedgerCalled("hold", 0.0004),
    LedgerFailed("settle", 0.2),
    PolicyLoaded("0123456789abcdef", ok=True),
    PolicyLoaded("fedcba9876543210", ok=False),
)


def read(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample of a scrape by its name and labels."""
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(text: bytes, name: str, **labels: str) -> float:
    """Return one sample; `from_` stands for the label `from`."""
    named = frozenset((key.rstrip("_"), label) for key, label in labels.items())
    return read(text)[(f"image_gateway_{name}", named)]

"""What is told of a hold's end: an amount once, by whoever books it first, and nothing of one that is none."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.route import NOTHING, Views
from gateway.domain.settlement import CostSource, SettleResult, Usage
from gateway.observe.event import Event, HoldEnded
from gateway.observe.hold_ends import tell_hold
from gateway.observe.log import LogObserver
from tests.observe.samples import JOB_TYPE, LABELS, PRESUMED, PROJECT, QUALITY, ROUTE, value
from tests.observe.scraped import scraped_after

COST, WORST = Views(300, 200, 230), Views(300, 400, 460)
BY = {"project": PROJECT, "job_type": JOB_TYPE, "route": ROUTE}
SETTLED = HoldEnded(
    PROJECT, JOB_TYPE, ROUTE, QUALITY, COST, WORST, CostSource.USAGE, 2, Usage(text_in=10, image_out=1000)
)
EXPERIMENT = {"experiment": "papers", "arm": "glossy"}
KNOWN = replace(LABELS, experiments=frozenset({"papers"}), arms=frozenset({"glossy"}))


def told(event: HoldEnded, result: SettleResult) -> list[Event]:
    """What is told of a hold that a settlement ended, or corrected."""
    seen: list[Event] = []

    class Seeing:
        def emit(self, event: Event) -> None:
            seen.append(event)

    tell_hold(Seeing(), event, result)
    return seen


@pytest.mark.parametrize("experiment", [{}, EXPERIMENT], ids=["plain", "experiment"])
def test_a_presumption_that_was_corrected_counts_images_and_tokens(experiment: dict[str, Any]) -> None:
    """Its money was counted by whoever presumed it, and is counted no second time."""
    before = replace(SETTLED, source=CostSource.PRESUMED, cost=WORST, images=0, usage=None, **experiment)
    text = scraped_after(before, *told(replace(SETTLED, **experiment), SettleResult.LATE), labels=KNOWN)
    assert value(text, "images_total", **BY, quality=QUALITY) == 2
    assert value(text, "tokens_total", route=ROUTE, kind="image_out") == 1000
    assert value(text, "estimate_error_ratio_sum") == pytest.approx(0.5)
    assert value(text, "unconfirmed_total") == 1
    spent = {view: value(text, "spend_usd_total", **BY, view=view) for view in ("official", "route", "internal")}
    assert spent == pytest.approx({"official": 3e-7, "route": 4e-7, "internal": 4.6e-7})
    assert value(text, "savings_usd_total") == 0
    if experiment:
        assert value(text, "experiment_spend_usd_total", **experiment) == pytest.approx(4e-7)


@pytest.mark.parametrize("result", [SettleResult.DONE, SettleResult.FIRST])
def test_a_hold_that_ended_here_is_told_whole(result: SettleResult) -> None:
    """With its cost, as it always is; one too that somebody gave back, and that nobody has booked."""
    assert told(SETTLED, result) == [SETTLED]


def test_a_shadow_that_was_corrected_counts_no_money_again() -> None:
    """It was on the shadow's own budget, and counted there."""
    text = scraped_after(*told(replace(SETTLED, shadow=True), SettleResult.LATE))
    assert value(text, "shadow_spend_usd_total", job_type=JOB_TYPE, route=ROUTE) == 0


@pytest.mark.parametrize(
    ("event", "counted"),
    [
        (PRESUMED, 1),
        (replace(PRESUMED, cost=Views(1, 0, 0)), 1),
        (replace(PRESUMED, cost=NOTHING), 0),
        (replace(PRESUMED, late=True), 0),
    ],
    ids=["presumed", "official alone", "of nothing", "lower than before"],
)
def test_money_is_unconfirmed_where_there_is_some(
    event: HoldEnded, counted: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a route and its vendor charge nothing, there is nothing to look into; and each is counted once."""
    assert value(scraped_after(event), "unconfirmed_total") == counted
    with caplog.at_level(logging.INFO):
        LogObserver(logging.getLogger("tests.hold_ends")).emit(event)
    assert [record.getMessage() for record in caplog.records] == ["hold presumed spent"] * counted

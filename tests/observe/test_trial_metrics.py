"""Metrics of experiments and shadows: labels from policy alone, and shadows in no other metric of money."""

from __future__ import annotations

from dataclasses import replace

from gateway.domain.budget import Budget, Scope, Window
from gateway.domain.policy import Experiment, JobType, Shadow
from gateway.observe.event import ShadowEnded
from gateway.observe.labels import OTHER, LabelSets
from tests.builders import policy, route
from tests.observe.samples import FINISHED, HOLD_ENDED, JOB_TYPE, PRESUMED, ROUTE, value
from tests.observe.scraped import scraped_after

BETA = route("beta")
OWN = Budget(Scope(shadow="draft"), Window.DAY, 1_000_000)
LABELS = LabelSets.from_policy(
    policy(
        BETA,
        job_type=JobType(
            "draft", (BETA,), experiment=Experiment("trial", {"beta": 1000}, (BETA,)), shadow=Shadow(BETA, 100, OWN)
        ),
    )
)
IN_TRIAL = {"experiment": "trial", "arm": "beta"}


def test_policy_names_the_labels() -> None:
    """Experiments and arms of the policy, and the arm that is none of its routes."""
    assert (LABELS.experiments, LABELS.arms) == (frozenset({"trial"}), frozenset({"beta", "control"}))


def test_arms_are_counted_with_cost_and_time() -> None:
    """A success shows in all three metrics, a failure in the count alone; what is in no experiment in none."""
    inside = replace(FINISHED, experiment="trial", arm="beta")
    scraped = scraped_after(
        inside,
        replace(inside, status=502),
        FINISHED,
        replace(HOLD_ENDED, experiment="trial", arm="beta"),
        HOLD_ENDED,
        labels=LABELS,
    )

    assert value(scraped, "experiment_requests_total", **IN_TRIAL, status="200") == 1
    assert value(scraped, "experiment_requests_total", **IN_TRIAL, status="502") == 1
    assert value(scraped, "experiment_duration_seconds_count", **IN_TRIAL) == 1
    assert value(scraped, "experiment_duration_seconds_sum", **IN_TRIAL) == 12.5
    assert round(value(scraped, "experiment_spend_usd_total", **IN_TRIAL), 9) == 0.200000001
    assert b'experiment="none"' not in scraped


def test_a_name_that_policy_does_not_know_is_other() -> None:
    """A request that finishes after a reload may carry the name of an experiment that is gone."""
    scraped = scraped_after(replace(FINISHED, experiment="gone", arm="away"), labels=LABELS)

    assert value(scraped, "experiment_requests_total", experiment=OTHER, arm=OTHER, status="200") == 1


def test_shadows_are_counted_apart() -> None:
    """Their results by name, their money in a metric of its own and in no other, nor their images."""
    scraped = scraped_after(ShadowEnded(JOB_TYPE, ROUTE, "denied"), replace(HOLD_ENDED, shadow=True))
    where = {"job_type": JOB_TYPE, "route": ROUTE}

    assert value(scraped, "shadow_requests_total", **where, result="denied") == 1
    assert round(value(scraped, "shadow_spend_usd_total", **where), 9) == 0.200000001
    assert b"gateway_spend_usd_total{" not in scraped
    assert b"gateway_images_total{" not in scraped


def test_a_shadow_whose_cost_nobody_knows_is_counted_as_unconfirmed() -> None:
    """Its worst case is booked as any other's is: whoever is told of such money is told of this too."""
    scraped = scraped_after(replace(PRESUMED, shadow=True))

    assert value(scraped, "unconfirmed_total") == 1
    assert b"gateway_spend_usd_total{" not in scraped

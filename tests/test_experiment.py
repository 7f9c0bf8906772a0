"""Experiments: who meets which arm, what the arm changes in the decision, and how arms are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.arms import HIGH, MEDIAN, ArmTally, total
from gateway.domain.budget import Pressure
from gateway.domain.caller import Caller
from gateway.domain.job import Job, Wishes
from gateway.domain.policy import ClientModel, DegradeStep, Experiment, JobType, Project, SplitBy
from gateway.domain.route import Route, Views
from gateway.domain.trial import CONTROL, Arm, arm_of
from gateway.routing.decision import Asked, decide
from gateway.steps.rank import Ranked
from tests.builders import GPT_IMAGE_25, TODAY, job, policy, report, route

BETA, GAMMA, MAIN, SPARE = route("beta", GPT_IMAGE_25), route("gamma"), route("main"), route("spare")
THIRD = Experiment("trial", {"beta": 3000}, (BETA,))
ALL = Experiment("trial", {"beta": 10_000}, (BETA,))
NOBODY = Experiment("trial", {"beta": 0}, (BETA,))
USERS = [f"user-{number}" for number in range(3000)]


def arms(experiment: Experiment) -> dict[str, str]:
    """The arm of every user."""
    return {user: arm_of(experiment, key_id="key", user=user).name for user in USERS}


def decided(
    experiment: Experiment | None, *routes: Route, wanted: Job | None = None, wishes: Wishes | None = None, **team: Any
) -> Ranked:
    """What is tried for a request of a job type with these routes and this experiment."""
    kind = JobType("draft", routes or (MAIN, SPARE), experiment=experiment)
    project = replace(Project("team", ("draft",), "draft"), **team)
    rules = policy(*kind.routes, job_type=kind, project=project)
    asked = Asked(wanted or job(user="anna"), wishes or Wishes(), Caller("key", "team"), project, rules, TODAY)
    return decide(asked, kind)


def names(ranked: Ranked) -> list[str]:
    """The routes in the order in which they are tried."""
    return [quote.route.name for quote in ranked.quotes]


def test_an_arm_is_sticky_and_has_its_share() -> None:
    """The same user meets the same arm each time, and three in ten meet the route on trial."""
    first = arms(THIRD)

    assert first == arms(THIRD)
    assert Counter(first.values())["beta"] / len(USERS) == pytest.approx(0.3, abs=0.03)
    assert set(first.values()) == {"beta", CONTROL}


def test_several_arms_share_the_callers_and_the_rest_is_control() -> None:
    """20 and 30 per cent, half of the callers in control; a share that grows takes callers from control alone."""
    two = Experiment("trial", {"beta": 2000, "gamma": 3000}, (BETA, GAMMA))
    found = arms(two)
    shares = Counter(found.values())

    assert shares["beta"] / len(USERS) == pytest.approx(0.2, abs=0.03)
    assert shares["gamma"] / len(USERS) == pytest.approx(0.3, abs=0.03)
    grown = arms(replace(two, split={"beta": 2000, "gamma": 5000}))
    assert {found[user] for user in USERS if grown[user] != found[user]} == {CONTROL}


def test_another_name_is_another_draw() -> None:
    """Two experiments of the same share don't take the same callers."""
    one, other = arms(THIRD), arms(replace(THIRD, name="another"))
    both = sum(one[user] == other[user] == "beta" for user in USERS)

    assert both / len(USERS) == pytest.approx(0.09, abs=0.03)


def test_by_key_the_user_does_not_matter_and_without_user_the_key_does() -> None:
    """An experiment by key puts all users of a key into one arm; one by user falls back to the key."""
    by_key = replace(THIRD, by=SplitBy.KEY)
    keys = [f"key-{number}" for number in range(200)]

    for key in keys:
        assert len({arm_of(by_key, key_id=key, user=user).name for user in USERS[:5]}) == 1
        assert arm_of(THIRD, key_id=key, user=None) == arm_of(by_key, key_id=key, user=None)
    assert len({arm_of(THIRD, key_id=key, user="").name for key in keys}) == 2


def test_the_arms_route_is_first_and_the_rest_stays_as_fallback() -> None:
    """A route that only the experiment has is priced in addition; one of the job type's is moved to the front."""
    added, moved = decided(ALL), decided(ALL, MAIN, BETA, SPARE)

    assert (names(added), str(added.arm)) == (["beta", "main", "spare"], "trial=beta")
    assert names(moved) == ["beta", "main", "spare"]


def test_control_never_gets_a_route_that_only_the_experiment_has() -> None:
    """Control is served as without an experiment, and told apart from requests that are in none."""
    control, none = decided(NOBODY), decided(None)

    assert (names(control), control.arm) == (["main", "spare"], Arm("trial", CONTROL))
    assert (names(none), none.arm) == (["main", "spare"], None)


def test_an_arm_whose_route_cannot_do_the_job_keeps_its_requests() -> None:
    """What falls back counts for the arm it was drawn for, and the record says why the route was passed over."""
    narrow = replace(BETA, capabilities=replace(BETA.capabilities, n=1))
    ranked = decided(Experiment("trial", {"beta": 10_000}, (narrow,)), wanted=job(n=3, stream=True, user="anna"))

    assert ranked.arm is not None
    assert ranked.arm.name == "beta"
    assert names(ranked)[-2:] == ["main", "spare"]


def test_a_testing_route_serves_who_has_the_lane_and_nobody_else() -> None:
    """With the lane no header is needed, without it a project is not even in control; other trials stay shut."""
    trial, shut = replace(BETA, lane="testing"), route("shut", lane="testing")
    experiment = Experiment("trial", {"beta": 10_000}, (trial,))
    both = frozenset({"production", "testing"})
    inside, outside = decided(experiment, MAIN, shut, lanes=both), decided(experiment, MAIN, shut)

    assert names(inside) == ["beta", "main"]
    assert (names(outside), outside.arm) == (["main"], None)
    assert decided(replace(experiment, split={"beta": 0}), lanes=both).arm == Arm("trial", CONTROL)


@pytest.mark.parametrize("stance", [ClientModel.HONOUR, ClientModel.PREFER])
def test_a_client_that_insists_on_a_model_is_in_no_arm_of_another(stance: ClientModel) -> None:
    """Neither the trial nor control counts it; one that names the model on trial, or a job type, is in."""
    other = decided(ALL, wanted=job(client_model="gpt-image-2"), client_model=stance)
    same = decided(ALL, MAIN, BETA, wanted=job(client_model="gpt-image-2.5-flare"), client_model=stance)
    by_type = decided(ALL, wanted=job(client_model="job:draft"), client_model=stance)

    assert (names(other), other.arm) == (["main", "spare"], None)
    assert names(same)[0] == "beta"
    assert same.arm is not None
    assert names(by_type)[0] == "beta"
    assert decided(ALL, wanted=job(client_model="gpt-image-2")).arm is not None


def test_a_name_that_nobody_knows_leaves_no_client_out() -> None:
    """Where a model is preferred it is served as if none were named: so it is in an experiment as well."""
    unknown = decided(ALL, wanted=job(client_model="our-own-name"), client_model=ClientModel.PREFER)
    sold = replace(MAIN, upstream_model="sold-so")
    known = decided(ALL, sold, wanted=job(client_model="sold-so"), client_model=ClientModel.PREFER)

    assert (names(unknown), str(unknown.arm)) == (["beta", "main", "spare"], "trial=beta")
    assert (names(known), known.arm) == (["main"], None)


def test_the_arm_is_first_on_each_step_of_the_ladder() -> None:
    """Money alone moves a request up the ladder: the arm's dear quote does not go behind its own cheaper one."""
    steps = (DegradeStep(8000, {"quality": "low"}),)
    kind = JobType("draft", (MAIN,), experiment=ALL, degrade=steps)
    project = Project("team", ("draft",), "draft")
    rules = policy(MAIN, job_type=kind, project=project)
    ranked = decide(Asked(job(), Wishes(), Caller("key", "team"), project, rules, TODAY), kind)
    low, high = Pressure(0, 8000), Pressure(8000, None)

    found = [(quote.route.name, quote.pressure) for quote in ranked.quotes]
    assert found == [("beta", low), ("main", low), ("beta", high), ("main", high)]


@dataclass(frozen=True)
class Booked:
    """An entry as far as reports read it."""

    request_id: str
    about: Mapping[str, Any]
    images: int = 1
    cost: Views = field(default_factory=lambda: Views(0, 0, 0))
    answer: Mapping[str, Any] = field(default_factory=dict)
    route: str = "main"
    kind: str = "settle"
    source: str = "usage"
    attempt: int = 1
    time: datetime = datetime(2026, 11, 20, tzinfo=UTC)
    tags: Mapping[str, str] = field(default_factory=dict)


def entry(request_id: str, arm: str, nano: int, **changes: Any) -> Booked:
    """An entry of an arm."""
    plain = Booked(request_id, {"experiment": "trial", "arm": arm}, cost=Views(nano, nano, nano))
    return replace(plain, **changes)


def test_arms_are_compared_by_cost_latency_and_failure() -> None:
    """Costs of failed calls and of corrections count; a request is counted once, however many calls it took."""
    tally = ArmTally("trial")
    for number in range(20):
        tally.add(entry(f"a{number}", CONTROL, 100, answer={"seconds": number + 1}))
    tally.add(entry("b1", "beta", 50, route="beta", images=2, answer={"seconds": 4.5}))
    tally.add(entry("b2", "beta", 70, route="beta", images=0, kind="presume"))
    tally.add(entry("b2", "beta", 100, attempt=2, answer={"seconds": 9.0}))
    tally.add(entry("b3", "beta", 70, route="beta", images=0, kind="presume"))
    tally.add(entry("b3", "beta", -10, route="beta", images=0, kind="adjust"))
    tally.add(entry("x", "beta", 1, about={"experiment": "other", "arm": "beta"}))
    tally.add(entry("y", "beta", 1, about={"experiment": "trial", "arm": "beta", "shadow": True}))
    control, beta = tally.rows()

    assert (control.arm, control.requests, control.images, control.cost_per_image) == (CONTROL, 20, 20, 100)
    assert (control.mean, control.percentile(MEDIAN), control.percentile(HIGH)) == (10.5, 10.0, 19.0)
    assert (beta.requests, beta.images, beta.cost, beta.failed, beta.elsewhere) == (3, 3, 280, 1, 1)
    assert (beta.cost_per_image, beta.mean) == (94, 6.75)
    assert (total([control, beta]).requests, total([control, beta]).cost) == (23, 2280)


def test_an_arm_without_images_has_no_price_and_no_latency() -> None:
    """What is not known is None, not zero."""
    tally = ArmTally("trial")
    tally.add(entry("b", "beta", 70, images=0, kind="presume"))
    [row] = tally.rows()

    assert (row.cost_per_image, row.mean, row.percentile(HIGH), row.failed) == (None, None, None, 1)
    assert ArmTally("trial").rows() == []


def test_arms_and_shadows_are_dimensions_of_spend() -> None:
    """Entries of no experiment stand under a dash; shadows are told apart from what they repeat."""
    plain = Booked("c", {}, cost=Views(5, 5, 5))
    shadow = Booked("c_shadow", {"shadow": True, "shadow_of": "c"}, cost=Views(3, 3, 3))
    rows, _ = report([entry("a", CONTROL, 100), plain, shadow], ["experiment", "arm", "shadow"])

    assert {row.group: row.route for row in rows} == {
        ("trial", CONTROL, "no"): 100,
        ("-", "-", "no"): 5,
        ("-", "-", "yes"): 3,
    }

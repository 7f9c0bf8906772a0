"""Tasks by the hundred on a route that is full: they hold up neither other projects nor whoever waits for an answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, billed, booked, crowd, settled
from tests.e2e.stack import Stack, running_gateway, wait_until

MANY = 600
CROWDS, EACH = ("crowd", "second", "third", "fourth"), 500
"""More than one process takes in of what waits."""
SLOTS = 8
"""How many calls of others may come before, at most: those under way, those of a turn, and one that was asked for."""
POLICY = """
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
  narrow:
    {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", limits: {concurrent: 1}}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  narrow: {provider: narrow, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  wide: {routes: [main], defaults: {size: 1024x1024, quality: low}}
  narrow: {routes: [narrow], defaults: {size: 1024x1024, quality: low}, throttled: {wait: 60s}}
projects:
  crowd: {job_types: [narrow], budgets: [{window: total, limit: "1000"}]}
  second: {job_types: [narrow], budgets: [{window: total, limit: "1000"}]}
  third: {job_types: [narrow], budgets: [{window: total, limit: "1000"}]}
  fourth: {job_types: [narrow], budgets: [{window: total, limit: "1000"}]}
  team: {job_types: [narrow, wide], default_job_type: wide, budgets: [{window: total, limit: "100"}]}
"""
GENERATE = "/v1/images/generations"
NARROW = {"x-gateway-job-type": "narrow"}


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway of its own."""
    with running_gateway(tmp_path_factory.mktemp("fairness"), POLICY, sandbox) as running:
        yield running


def called(sandbox: Sandbox) -> list[str]:
    """The prompts that the provider got, in order."""
    return [each["fields"]["prompt"] for each in sandbox.requests()]


def test_a_full_route_of_one_project_leaves_room_for_all_others(stack: Stack, sandbox: Sandbox) -> None:
    """Most of its tasks stay in the queue; another project's first task, and a request, come after a few calls."""
    sandbox.fault("slow", seconds=0.3, times=None)
    flood = [Ask({"prompt": "crowd", "async": True}, project="crowd")] * MANY
    made = asyncio.run(crowd(flood, [stack], at_once=20))
    assert {reply.status for reply in made} == {202}
    wait_until(lambda: called(sandbox).count("crowd") > 2, 60, "a full route")

    same = stack.post(GENERATE, {"prompt": "same", "async": True}, headers=NARROW).json["id"]
    before = len(called(sandbox))
    wait_until(lambda: "same" in called(sandbox), 60, "the task on the full route")
    assert called(sandbox).index("same") - before <= SLOTS

    other = stack.post(GENERATE, {"prompt": "other", "async": True}).json["id"]
    before = len(called(sandbox))
    wait_until(lambda: "other" in called(sandbox), 60, "the task on another route")
    assert called(sandbox).index("other") - before <= SLOTS

    before = len(called(sandbox))
    assert stack.post(GENERATE, {"prompt": "now"}, headers=NARROW).status == 200
    assert called(sandbox).index("now") - before <= SLOTS

    def done(name: str) -> Any:
        return stack.get(f"/v1/tasks/{name}").json["status"] == "completed"

    wait_until(lambda: done(same) and done(other), 60, "the ends")
    assert stack.metric("tasks", status="pending") > MANY / 4


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_thousand_tasks_of_four_projects_take_turns(stack: Stack, sandbox: Sandbox) -> None:
    """On a full route each gets its share from the start, whoever came first; requests go before, and all tasks end."""
    asks = [Ask({"prompt": project, "async": True}, project=project) for project in CROWDS for _ in range(EACH)]
    sandbox.fault("slow", seconds=0.1, times=None)
    stack.key()
    made = asyncio.run(crowd(asks, [stack], at_once=20))
    assert {reply.status for reply in made} == {202}
    came = len(called(sandbox))  # those that came first had the route to themselves until the others were there

    for _ in range(5):
        before = len(called(sandbox))
        assert stack.post(GENERATE, {"prompt": "now"}, headers=NARROW).status == 200
        assert called(sandbox)[before:].index("now") <= 3 * SLOTS  # a call is short here, and the machine may be slow

    wait_until(lambda: len(called(sandbox)) >= came + 400, 600, "four hundred calls")
    shares = Counter(called(sandbox)[came : came + 400])
    del shares["now"]
    assert min(shares[project] for project in CROWDS) >= 400 / len(CROWDS) * 0.8, shares
    wait_until(lambda: stack.metric("tasks", status="completed") == len(asks), 900, "the end of all tasks")
    assert Counter(called(sandbox)) == {**dict.fromkeys(CROWDS, EACH), "now": 5}
    settled(stack)
    assert booked(stack).route == billed(sandbox)

"""Tasks outlive the gateway that works on them: another one goes on, and nothing is lost or paid twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, billed, booked, crowd, settled
from tests.e2e.stack import Stack, fetch, wait_until
from tests.e2e.takeover import PATIENCE, all_ended, heirs, tasks_of
from tests.e2e.takeover import Pair as Pair
from tests.e2e.takeover import dead as dead

POLICY = """
egress: {allow: ["127.0.0.0/8"]}
providers:
  evolink:
    preset: evolink
    base_url: "${SANDBOX_URL}/evolink/v1"
    api_key: "${SANDBOX_KEY}"
    task: {poll: {first: 50ms, every: 100ms, after: 20s, then: 500ms}}
  replicate:
    preset: replicate
    base_url: "${SANDBOX_URL}/replicate/v1"
    api_key: "${SANDBOX_KEY}"
    task: {poll: {first: 50ms, every: 100ms, after: 20s, then: 500ms}}
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
  spare: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
routes:
  evolink: {provider: evolink, offer: evolink/gpt-image-2}
  replicate: {provider: replicate, offer: replicate/flux-1.1-pro}
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  spare: {provider: spare, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  draft: {routes: [main, spare], defaults: {size: 1024x1024, quality: low}, retry: {on_unknown: hold}}
  evolink: {routes: [evolink], defaults: {quality: low}}
  flux: {routes: [replicate]}
  stubborn: {routes: [main, spare], defaults: {size: 1024x1024, quality: low}, retry: {on_unknown: next_route}}
projects:
  team:
    {job_types: [draft, stubborn, evolink, flux], default_job_type: draft, budgets: [{window: total, limit: "100"}]}
"""
GENERATE = "/v1/images/generations"
ASK = Ask({"prompt": "a lighthouse", "model": "gpt-image-2", "async": True})


@pytest.fixture
def pair(tmp_path: Path, sandbox: Sandbox) -> Iterator[Pair]:
    """Gateways of which one dies."""
    with heirs(tmp_path, sandbox, POLICY) as started:
        yield started


def _slow(*case: object) -> ParameterSet:
    """A case that is left out where minutes count; each starts two gateways."""
    return pytest.param(*case, marks=pytest.mark.slow)


def calls(sandbox: Sandbox) -> int:
    """How many calls for images the provider got."""
    return sum("generations" in each["path"] for each in sandbox.requests())


def told(stack: Stack) -> tuple[object, ...]:
    """What the log says of the one request that ended: route, calls, cost in USD, how it is known."""

    def lines() -> list[dict[str, Any]]:
        every = [json.loads(line) for line in stack.log.read_text().splitlines() if line.startswith("{")]
        return [each for each in every if each["event"] == "request"]

    [line] = wait_until(lines, PATIENCE, "the line of its end")
    return line["route"], line["attempts"], line["cost_usd"], line["source"]


@pytest.mark.parametrize(
    ("failpoint", "status", "sent"),
    [
        _slow("task_added", "completed", 1),
        _slow("task_taken", "completed", 1),
        ("after_hold", "completed", 1),
        _slow("task_begun", "failed", 0),
        _slow("before_send", "failed", 0),
        _slow("answer_begun", "failed", 1),
        ("before_settle", "completed", 1),
        _slow("after_settle", "completed", 1),
        _slow("before_task_end", "completed", 1),
    ],
)
def test_a_task_whose_gateway_dies(pair: Pair, sandbox: Sandbox, failpoint: str, status: str, sent: int) -> None:
    """Another gateway ends it: it is done where nothing can have been sent, answered by what is kept, or failed."""
    first = pair.gateway("first", f"{failpoint}:kill:1")
    with contextlib.suppress(OSError):
        first.post(GENERATE, ASK.body)
    dead(first)
    second = pair.gateway("second")

    [task] = all_ended(second)

    assert (task["status"], calls(sandbox)) == (status, sent), task
    wait_until(lambda: second.held() == 0, PATIENCE, "an end of every hold")
    if status == "failed":
        assert "may have been done and billed" in task["error"]["message"]
        wait_until(lambda: booked(second).unconfirmed > 0, PATIENCE, "a presumed cost")
        assert told(second) == ("main", 1, task["cost"]["usd"], "presumed")
    else:
        assert len(task["results"]) == 1
        assert told(second)[:3] == ("main", 1, task["cost"]["usd"])
    assert booked(second).route - booked(second).unconfirmed <= billed(sandbox) <= booked(second).route
    if failpoint == "after_hold":  # what was held and never sent is given back, and not presumed
        assert (booked(second).route, booked(second).unconfirmed) == (billed(sandbox), 0)


@pytest.mark.slow
def test_an_unknown_outcome_goes_to_the_next_route_where_policy_says_so(pair: Pair, sandbox: Sandbox) -> None:
    """With `on_unknown: next_route` a second hold is taken, and the task is done on a route not tried yet."""
    first = pair.gateway("first", "answer_begun:kill:1")
    first.post(GENERATE, ASK.body, headers={"x-gateway-job-type": "stubborn"})
    dead(first)
    second = pair.gateway("second")

    [task] = all_ended(second)

    assert (task["status"], calls(sandbox)) == ("completed", 2)
    record = second.record(task["request_id"])
    assert [each["route"] for each in record["attempts"] if each["state"] != "void"] == ["main", "spare"]
    wait_until(lambda: second.held() == 0, PATIENCE, "an end of every hold")
    assert billed(sandbox) <= booked(second).route
    assert told(second) == ("spare", 2, task["cost"]["usd"], "presumed")


@pytest.mark.slow
def test_a_killed_gateway_loses_none_of_two_hundred_tasks(pair: Pair, sandbox: Sandbox) -> None:
    """Two hundred tasks over two gateways, one of which is killed midway: each ends once, and none is billed twice."""
    first, second = pair.gateway("first"), pair.gateway("second")
    sandbox.fault("slow", seconds=2, times=None)
    made = asyncio.run(crowd([ASK] * 200, [first, second], at_once=20))
    assert [reply.status for reply in made] == [202] * 200
    first.stop(signal.SIGKILL)

    ended = all_ended(second)

    assert {each["id"] for each in ended} == {reply.json["id"] for reply in made}
    assert {each["status"] for each in ended} <= {"completed", "failed"}
    failed = [each for each in ended if each["status"] == "failed"]
    assert all("may have been done and billed" in each["error"]["message"] for each in failed)
    assert calls(sandbox) <= 200
    wait_until(lambda: second.held() == 0, PATIENCE, "an end of every hold")
    total = booked(second)
    assert total.route - total.unconfirmed <= billed(sandbox) <= total.route
    found = second.command("ledger", "verify", "--thorough")
    assert found.returncode == 0, found.stdout + found.stderr


def test_a_gateway_that_stops_leaves_its_tasks_to_others(pair: Pair, sandbox: Sandbox) -> None:
    """At SIGTERM what was sent is read to its end, and what waits is done by another gateway; all is paid once."""
    first = pair.gateway("first")
    made = asyncio.run(crowd([ASK] * 60, [first], at_once=20))
    assert [reply.status for reply in made] == [202] * 60
    assert first.stop() == 0
    second = pair.gateway("second")

    assert [each["status"] for each in all_ended(second)] == ["completed"] * 60

    settled(second)
    assert (calls(sandbox), booked(second).unconfirmed) == (60, 0)
    assert booked(second).route == billed(sandbox)


@pytest.mark.slow
@pytest.mark.parametrize("failpoint", ["answer_begun", "before_settle"])
def test_a_gateway_that_froze_comes_back_too_late(pair: Pair, sandbox: Sandbox, failpoint: str) -> None:
    """Its task was ended by another one meanwhile; what it still books corrects what was presumed, once."""
    first = pair.gateway("first", f"{failpoint}:freeze:1")
    first.post(GENERATE, ASK.body)
    wait_until(lambda: calls(sandbox) == 1, PATIENCE, "the call")
    second = pair.gateway("second")

    [task] = all_ended(second)
    wait_until(lambda: booked(second).unconfirmed > 0, PATIENCE, "a presumed cost")
    first.process.send_signal(signal.SIGCONT)

    wait_until(lambda: booked(second).unconfirmed == 0, PATIENCE, "the correction")
    settled(second)
    assert task["status"] == ("completed" if failpoint == "before_settle" else "failed")
    assert (calls(sandbox), booked(second).route) == (1, billed(sandbox))
    assert [each["status"] for each in tasks_of(second)] == [task["status"]]


def images(sandbox: Sandbox, provider: str) -> list[Any]:
    """What one of the providers that take work on has taken on."""
    return [each for each in sandbox.tasks() if each["provider"] == provider]


@pytest.mark.parametrize("failpoint", ["task_submitted", *map(_slow, ["answer_begun", "before_settle"])])
def test_work_that_a_provider_took_on_is_followed_and_not_sent_again(
    pair: Pair, sandbox: Sandbox, failpoint: str
) -> None:
    """Another gateway finds it by the provider's id, on the same attempt, and it is paid once."""
    first = pair.gateway("first", f"{failpoint}:kill:1")
    first.post(GENERATE, ASK.body, headers={"x-gateway-job-type": "evolink"})
    dead(first)
    second = pair.gateway("second")

    [task] = all_ended(second)

    assert (task["status"], len(images(sandbox, "evolink"))) == ("completed", 1), task
    record = second.record(task["request_id"])
    assert [each["state"] for each in record["attempts"]] == ["void", "settled"]
    settled(second)
    assert booked(second).route == billed(sandbox) > 0
    assert booked(second).unconfirmed == 0


def test_work_that_a_provider_gives_up_is_cancelled(pair: Pair, sandbox: Sandbox) -> None:
    """A provider that has a cancel endpoint is asked; what it takes back is not done, and the money ends."""
    stack = pair.gateway("first")
    sandbox.fault("stuck", provider="replicate")
    task = stack.post(GENERATE, ASK.body, headers={"x-gateway-job-type": "flux"}).json["id"]

    def look() -> Any:
        return stack.get(f"/v1/tasks/{task}").json

    wait_until(lambda: images(sandbox, "replicate") and look()["task_info"]["can_cancel"], PATIENCE, "a submission")

    reply = stack.post(f"/v1/tasks/{task}/cancel")

    assert (reply.status, reply.json["status"]) == (200, "cancelled"), reply.body
    assert [each["state"] for each in images(sandbox, "replicate")] == ["cancelled"]
    wait_until(lambda: stack.held() == 0, PATIENCE, "an end of every hold")
    assert look()["status"] == "cancelled"


@pytest.mark.parametrize("change", ["price", "account", _slow("project"), _slow("routes")])
def test_work_that_was_taken_on_is_followed_whatever_policy_says_by_now(
    pair: Pair, sandbox: Sandbox, change: str
) -> None:
    """A policy that would not admit such a request any more changes nothing for work that a provider has begun."""
    first = pair.gateway("first", "task_submitted:kill:1")
    first.post(GENERATE, ASK.body, headers={"x-gateway-job-type": "evolink"})
    dead(first)
    second = pair.gateway("second", policy=narrower(change))

    wait_until(lambda: 0 < booked(second).route == billed(sandbox), PATIENCE, "the settlement")

    settled(second)
    assert booked(second).unconfirmed == 0
    assert len(images(sandbox, "evolink")) == calls(sandbox) == 1


def test_work_that_was_taken_on_is_settled_at_the_price_it_was_held_at(pair: Pair, sandbox: Sandbox) -> None:
    """A policy that says by now that its route has always been fifty times as dear changes nothing."""
    first = pair.gateway("first", "task_submitted:kill:1")
    made = first.post(GENERATE, ASK.body, headers={"x-gateway-job-type": "flux"}).json
    dead(first)
    offer = "{provider: replicate, offer: replicate/flux-1.1-pro"
    dearer = f'{offer}, price: [{{from: 2024-01-01, multiplier: "50", per_image: "0.04"}}]}}'
    second = pair.gateway("second", policy=POLICY.replace(f"{offer}}}", dearer))

    [task] = all_ended(second)

    assert task["status"] == "completed"
    settled(second)
    assert (booked(second).route, booked(second).unconfirmed) == (billed(sandbox), 0)
    assert task["cost"] == second.get(f"/v1/tasks/{made['id']}").json["cost"] == {"usd": "0.04"}


def narrower(change: str) -> str:
    """The policy, which admits no request like those of these tests any more."""
    if change == "project":
        return POLICY.replace("  team:", "  others:")
    if change == "routes":
        return POLICY.replace("{routes: [evolink], defaults: {quality: low}}", "{routes: [replicate]}")
    if change == "account":  # the route of that name leads to another, which only does what it is sent
        return POLICY.replace("{provider: evolink, offer: evolink/gpt-image-2}", "{provider: main, model: gpt-image-2}")
    return POLICY.replace("evolink: {routes:", 'evolink: {max_cost_per_image: "0.002", routes:')


def test_a_gateway_with_an_older_policy_fails_no_task_of_a_new_project(pair: Pair, sandbox: Sandbox) -> None:
    """While a policy is rolled out it leaves such a task alone; the task is done once it is there."""
    newer = POLICY + '  fresh: {job_types: [draft], budgets: [{window: total, limit: "100"}]}\n'
    first = pair.gateway("first", "task_added:kill:1", policy=newer)
    first.key("fresh")
    with contextlib.suppress(OSError):
        first.post(GENERATE, ASK.body, project="fresh")
    dead(first)
    second = pair.gateway("second", log_level="debug")
    second.keys.update(first.keys)
    wait_until(lambda: '"code":"project_not_found"' in second.log.read_text(), PATIENCE, "a look at the task")

    (second.policy / "policy.yaml").write_text(newer)
    reply = fetch(f"http://127.0.0.1:{second.admin_port}/admin/reload", method="POST")
    assert reply.status == 200, reply.body

    def ended() -> Any:
        [task] = second.get("/v1/tasks", project="fresh").json["data"]
        return task if task["status"] not in ("pending", "processing") else None

    task = wait_until(ended, PATIENCE, "the end of the task")
    assert task["status"] == "completed", task
    settled(second)
    assert (booked(second).route, booked(second).unconfirmed) == (billed(sandbox), 0)

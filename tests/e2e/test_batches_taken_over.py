"""Batches outlive the gateway that made them: another one follows them, and no line is sent or paid for twice."""

from __future__ import annotations

import asyncio
import base64
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from gateway.providers.batch_making import QUIET
from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.e2e.accounting import Ask, billed, booked, crowd, nano, settled
from tests.e2e.batch_policy import POLICY
from tests.e2e.clients import picture
from tests.e2e.stack import wait_until
from tests.e2e.takeover import Pair, all_ended, heirs

GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
HASTY = POLICY.replace('api_key: "${SANDBOX_KEY}"', 'api_key: "${SANDBOX_KEY}"\n    timeout: 2s')
WAITING = {"x-gateway-max-wait": "1h", "prefer": "respond-async"}
ENOUGH = 100.0
"""Seconds in which every batch is over."""
SOME_ANNOUNCED = {"task_submitted", "batch_joined"}
"""Where lines are announced one by one: those that were not go into another batch, half a minute before the others."""
IMAGE = "data:image/png;base64," + base64.b64encode(picture()).decode()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A provider whose batches take long enough for a gateway to die meanwhile."""
    with running_sandbox(SandboxOptions(latency=0, batch_seconds=4)) as running:
        yield running


@pytest.fixture
def fleet(tmp_path: Path, sandbox: Sandbox) -> Iterator[Pair]:
    """Gateways of which one dies."""
    with heirs(tmp_path, sandbox, HASTY) as started:
        yield started


def batches(sandbox: Sandbox) -> int:
    """How many batches were created."""
    return sum(
        each["method"] == "POST" and each["path"].endswith("/batches") and each["status"] == 200
        for each in sandbox.requests()
    )


def _slow(failpoint: str) -> ParameterSet:
    """A case that is left out where minutes count; each starts two gateways."""
    return pytest.param(failpoint, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "failpoint",
    [
        _slow("after_hold"),
        "task_begun",
        _slow("before_send"),
        _slow("task_submitted"),
        _slow("batch_joined"),
        _slow("batch_creating"),
        _slow("batch_created"),
    ],
)
def test_a_batch_whose_gateway_died_while_it_was_made(fleet: Pair, failpoint: str) -> None:
    """One that the provider has is found by its mark and followed; one that it has not is made again, once.

    What was not in its file yet goes into another one, and nothing of it is presumed.
    """
    dying = fleet.gateway("first", f"{failpoint}:kill:1")
    asks = [Ask({"prompt": f"a lighthouse {number}"}, headers=WAITING) for number in range(4)]
    asyncio.run(crowd(asks, [dying], at_once=4))
    wait_until(lambda: dying.process.poll() is not None, 60, "the kill")
    heir = fleet.gateway("second")
    tasks = all_ended(heir, ENOUGH)
    assert [task["status"] for task in tasks] == ["completed"] * 4, tasks
    settled(heir)
    spent = booked(heir)
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(fleet.sandbox), 4, 0)
    assert batches(fleet.sandbox) <= (2 if failpoint in SOME_ANNOUNCED else 1)


def test_a_batch_that_the_provider_has_is_found_long_before_its_creating_could_be_over(fleet: Pair) -> None:
    """Its account waits for minutes; the provider's list tells of it at once."""
    dying = fleet.gateway("first", "batch_created:kill:1", policy=POLICY)
    asyncio.run(crowd([Ask({"prompt": "a lighthouse"}, headers=WAITING)], [dying], at_once=1))
    wait_until(lambda: dying.process.poll() is not None, 60, "the kill")
    heir = fleet.gateway("second", policy=POLICY)
    [task] = all_ended(heir, ENOUGH)
    assert task["status"] == "completed"
    settled(heir)
    assert (booked(heir).route, booked(heir).unconfirmed, batches(fleet.sandbox)) == (billed(fleet.sandbox), 0, 1)


@pytest.mark.slow
def test_a_batch_is_looked_for_at_the_account_that_was_asked_for_it(fleet: Pair) -> None:
    """Its route leads to another account by now, which has no such batch: nothing is made anew there."""
    dying = fleet.gateway("first", "batch_created:kill:1")
    asyncio.run(crowd([Ask({"prompt": "a lighthouse"}, headers=WAITING)], [dying], at_once=1))
    wait_until(lambda: dying.process.poll() is not None, 60, "the kill")
    with running_sandbox(SandboxOptions(latency=0, batch_seconds=4)) as other:
        account = "  small:\n    kind: openai\n    base_url: "
        elsewhere = HASTY.replace(f'{account}"${{SANDBOX_URL}}', f'{account}"{other.url}')
        heir = fleet.gateway("second", policy=elsewhere.replace("main: {provider: main", "main: {provider: small"))
        [task] = all_ended(heir, ENOUGH)
        assert task["status"] == "completed"
        settled(heir)
        assert (booked(heir).route, booked(heir).unconfirmed) == (billed(fleet.sandbox), 0)
        assert (batches(fleet.sandbox), batches(other), billed(other)) == (1, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("job_type", ["draft", "paid"])
@pytest.mark.parametrize("failpoint", ["task_begun", "task_submitted"])
def test_a_gateway_that_froze_while_it_made_a_batch(fleet: Pair, failpoint: str, job_type: str) -> None:
    """Another has done its work when it wakes: it writes no line of what is not its own any more."""
    first = fleet.gateway("first", f"{failpoint}:freeze:2")
    headers = {**WAITING, "x-gateway-job-type": job_type}
    asks = [Ask({"prompt": f"a lighthouse {number}"}, headers=headers) for number in range(4)]
    asyncio.run(crowd(asks, [first], at_once=4))
    stat = Path(f"/proc/{first.process.pid}/stat")
    wait_until(lambda: ") T " in stat.read_text(), 60, "the freeze")
    heir = fleet.gateway("second")
    try:
        tasks = all_ended(heir, ENOUGH)
    finally:
        first.process.send_signal(signal.SIGCONT)
    time.sleep(QUIET + 2)  # in which a batch of its own would be made
    assert [task["status"] for task in tasks] == ["completed"] * 4, tasks
    settled(heir)
    spent = booked(heir)
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(fleet.sandbox), 4, 0)


@pytest.mark.slow
def test_an_heir_whose_account_takes_no_batches_any_more(fleet: Pair) -> None:
    """What was sent by batch is not sent again by itself: its tasks fail, and what was held is booked unconfirmed."""
    dying = fleet.gateway("first", "batch_created:kill:1")
    asks = [Ask({"prompt": f"a lighthouse {number}"}, headers=WAITING) for number in range(2)]
    asyncio.run(crowd(asks, [dying], at_once=2))
    wait_until(lambda: dying.process.poll() is not None, 60, "the kill")
    heir = fleet.gateway("second", policy=re.sub(r"(, |\n {4})batch: \{[^}]*\}", "", HASTY))
    tasks = all_ended(heir, ENOUGH)
    assert [task["status"] for task in tasks] == ["failed"] * 2
    assert all("may have been done and billed" in task["error"]["message"] for task in tasks), tasks
    settled(heir)
    spent = booked(heir)
    assert spent.route == spent.unconfirmed >= billed(fleet.sandbox)
    assert not any(each["path"].endswith("/images/generations") for each in fleet.sandbox.requests())


@pytest.mark.slow
def test_an_heir_whose_policy_admits_a_request_no_more_sends_nothing_again(fleet: Pair) -> None:
    """Its batch is followed; once that has expired the task fails: size and quality came from what policy lost."""
    fleet.sandbox.fault("batch_expired", percent=0)
    first = fleet.gateway("first")
    headers = {**WAITING, "x-gateway-job-type": "draft"}
    asyncio.run(crowd([Ask({"prompt": "a lighthouse"}, headers=headers)], [first], at_once=1))
    wait_until(lambda: batches(fleet.sandbox) == 1, 30, "the batch")
    first.stop()
    offered = "job_types: [draft, paid, slow, small, late, rescued]\n    default_job_type: draft"
    heir = fleet.gateway("second", policy=HASTY.replace(offered, "job_types: [slow]\n    default_job_type: slow"))
    [task] = all_ended(heir, ENOUGH)
    settled(heir)
    assert (task["status"], "the batch ended before" in task["error"]["message"]) == ("failed", True), task
    assert (booked(heir).route, billed(fleet.sandbox), batches(fleet.sandbox)) == (0, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["none", "send"])
def test_an_heir_whose_policy_pays_more_keeps_to_what_a_task_was_promised(fleet: Pair, change: str) -> None:
    """Its batch is followed; once that has expired there is another one or nothing, at no more than was held."""
    fleet.sandbox.fault("batch_expired", percent=0)
    first = fleet.gateway("first")
    [reply] = asyncio.run(crowd([Ask({"prompt": "a lighthouse"}, headers=WAITING)], [first], at_once=1))
    promised = nano(reply.headers["x-gateway-cost-estimate"])
    wait_until(lambda: batches(fleet.sandbox) == 1, 30, "the batch")
    first.stop()
    by_batch = "batch: {after: 1s, min_wait: 10s}"
    rules = {"none": ("", "failed"), "send": (by_batch.replace("10s}", "10s, if_late: send}"), "completed")}
    changed, status = rules[change]
    heir = fleet.gateway(
        "second", policy=HASTY.replace(by_batch, changed).replace("quality: low}, }", "quality: low}}")
    )
    [task] = all_ended(heir, ENOUGH)
    settled(heir)
    assert task["status"] == status, task
    assert booked(heir).route == billed(fleet.sandbox) <= promised


@pytest.mark.slow
def test_three_hundred_tasks_and_a_gateway_that_is_killed(fleet: Pair) -> None:
    """Generations and edits through two gateways, one killed meanwhile: each is done once, bill and ledger agree."""
    first, second = fleet.gateway("first"), fleet.gateway("second")
    makes = [Ask({"prompt": f"a lighthouse {number}"}, headers=WAITING) for number in range(100)]
    edits = [
        Ask({"prompt": f"a hat {number}", "images": [{"image_url": IMAGE}]}, path=EDIT, headers=WAITING)
        for number in range(50)
    ]
    replies = asyncio.run(crowd([*makes, *edits, *edits, *makes], [first, second], at_once=16))
    assert {reply.status for reply in replies} == {202}
    wait_until(lambda: batches(fleet.sandbox) >= 2, 60, "batches")
    first.stop(signal.SIGKILL)
    tasks = all_ended(second, ENOUGH)
    assert len(tasks) == 300
    assert {task["status"] for task in tasks} == {"completed"}, [
        t["error"] for t in tasks if t["status"] != "completed"
    ]
    settled(second)
    spent = booked(second)
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(fleet.sandbox), 300, 0)
    assert len(fleet.sandbox.bill()["lines"]) == 300

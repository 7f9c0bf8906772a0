"""Batches: tasks that may wait go through the provider's Batch API at half the price, and each is paid once."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.providers.batch_making import QUIET
from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.e2e.accounting import billed, booked, nano, settled
from tests.e2e.batch_policy import POLICY
from tests.e2e.clients import picture
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
ENDED = ("completed", "failed", "cancelled")
HALF = 2


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A provider whose batches take a moment."""
    with running_sandbox(SandboxOptions(latency=0, batch_seconds=1.0)) as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that looks at batches often."""
    with running_gateway(tmp_path_factory.mktemp("batches"), POLICY, sandbox) as running:
        yield running


def ask(stack: Stack, job_type: str = "draft", *, wait: str = "1h", path: str = GENERATE, **fields: object) -> Reply:
    """Make a task that may wait."""
    headers = {"prefer": "respond-async", "x-gateway-job-type": job_type, "x-gateway-max-wait": wait}
    reply = stack.post(path, {"prompt": "a lighthouse", **fields}, headers=headers)
    assert reply.status == 202, reply.body
    return reply


def ended(stack: Stack, made: Reply, seconds: float = 60) -> Any:
    """Wait for a task's end."""

    def look() -> Any:
        task = stack.get(f"/v1/tasks/{made.json['id']}").json
        return task if task["status"] in ENDED else None

    return wait_until(look, seconds, f"the end of {made.json['id']}")


def asked_for(sandbox: Sandbox, path: str) -> int:
    """How often the provider was asked for something."""
    return sum(each["method"] == "POST" and each["path"].endswith(path) for each in sandbox.requests())


def files_left(sandbox: Sandbox) -> set[str]:
    """The purposes of the files that lie at the provider."""
    headers = {"authorization": f"Bearer {sandbox.api_key}"}
    return {file["purpose"] for file in fetch(f"{sandbox.url}/openai/v1/files", headers=headers).json["data"]}


def test_tasks_that_may_wait_are_one_batch_at_half_the_price(stack: Stack, sandbox: Sandbox) -> None:
    """Three tasks are lines of one batch, are answered by links, and cost what the bill says, half of the usual."""
    before = booked(stack)
    made = [ask(stack, prompt=f"a lighthouse {number}") for number in range(3)]
    assert stack.held() > 0
    tasks = [ended(stack, each) for each in made]
    assert [task["status"] for task in tasks] == ["completed"] * 3, tasks
    assert len({task["results"][0] for task in tasks}) == 3
    assert all(fetch(task["results"][0]).body.startswith(b"\x89PNG") for task in tasks)
    settled(stack)
    spent = booked(stack) - before
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(sandbox), 3, 0)
    assert asked_for(sandbox, "/batches") == 1
    assert asked_for(sandbox, GENERATE) == 0
    wait_until(lambda: "batch" not in files_left(sandbox), what="the end of the file that was uploaded")
    alone = stack.post(GENERATE, {"prompt": "a lighthouse 0"})
    assert nano(alone.headers["x-gateway-cost"]) in range(
        HALF * nano(tasks[0]["cost"]["usd"]) - 1, HALF * nano(tasks[0]["cost"]["usd"]) + 1
    )
    assert nano(made[0].headers["x-gateway-cost-estimate"]) * HALF == pytest.approx(
        nano(alone.headers["x-gateway-cost-estimate"]), abs=HALF
    )


def test_edits_go_by_batch_in_the_json_form(stack: Stack, sandbox: Sandbox) -> None:
    """An upload becomes a data URL in its line, an edit in JSON goes as it is, and both are paid at half the price."""
    before = booked(stack)
    boundary = "b0"
    form = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in (("prompt", "123"), ("n", "2"))
    )
    form += f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'.encode()
    form += b"Content-Type: image/png\r\n\r\n" + picture() + f"\r\n--{boundary}--\r\n".encode()
    headers = {"prefer": "respond-async", "x-gateway-max-wait": "1h"}
    kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
    made = [stack.post(EDIT, data=form, headers={**headers, **kind})]
    image = "data:image/png;base64," + base64.b64encode(picture()).decode()
    made.append(ask(stack, path=EDIT, images=[{"image_url": image}]))
    assert made[0].status == 202, made[0].body
    tasks = [ended(stack, each) for each in made]
    assert [(task["status"], len(task["results"])) for task in tasks] == [("completed", 2), ("completed", 1)], tasks
    settled(stack)
    assert (booked(stack) - before).route == billed(sandbox)
    assert [line["operation"] for line in sandbox.bill()["lines"]] == ["edit"] * 2
    assert asked_for(sandbox, "/batches") == 1


def test_who_cannot_wait_is_not_batched(stack: Stack, sandbox: Sandbox) -> None:
    """A task without a long wait, and a request whose client waits, are sent by themselves."""
    assert ended(stack, ask(stack, wait="9s"))["status"] == "completed"
    assert stack.post(GENERATE, {"prompt": "a cat"}, headers={"x-gateway-max-wait": "1h"}).status == 200
    assert asked_for(sandbox, "/batches") == 0


def test_a_maximum_is_held_against_the_price_of_a_call_of_its_own(stack: Stack) -> None:
    """Whoever names one that a batch alone would keep to is told that its price does not count."""
    headers = {"prefer": "respond-async", "x-gateway-job-type": "draft", "x-gateway-max-wait": "1h"}
    reply = stack.post(GENERATE, {"prompt": "a lighthouse"}, headers={**headers, "x-gateway-max-cost": "0.004"})
    assert (reply.status, reply.error["code"]) == (402, "max_cost_exceeded")
    assert "batch" in reply.error["message"]


def test_a_batch_goes_when_there_are_enough(stack: Stack, sandbox: Sandbox) -> None:
    """The third task of a job type that collects three sends all of them, long before the hour is over."""
    first = [ask(stack, "slow", wait="24h"), ask(stack, "slow", wait="24h")]
    assert asked_for(sandbox, "/files") == 0
    tasks = [ended(stack, each) for each in (*first, ask(stack, "slow", wait="24h"))]
    assert {task["status"] for task in tasks} == {"completed"}
    assert asked_for(sandbox, "/batches") == 1


def test_a_task_may_be_cancelled_until_its_batch_is_made(stack: Stack, sandbox: Sandbox) -> None:
    """While it waits for others it is taken out and costs nothing; a line of a batch is not to be had back."""
    waiting = ask(stack, "slow", wait="24h")
    assert stack.post(f"/v1/tasks/{waiting.json['id']}/cancel").json["status"] == "cancelled"
    sent = ask(stack)
    wait_until(lambda: asked_for(sandbox, "/batches") == 1, what="the batch")
    refused = stack.post(f"/v1/tasks/{sent.json['id']}/cancel")
    assert (refused.status, refused.error["code"]) == (409, "not_cancellable")
    assert "It is in a batch" in refused.error["message"]
    ended(stack, sent)
    settled(stack)
    assert len(sandbox.bill()["lines"]) == 1


def test_files_keep_to_their_limits(stack: Stack, sandbox: Sandbox) -> None:
    """Two lines a file make three batches of five tasks; a body that is too long for any goes by itself."""
    before = booked(stack)
    made = [ask(stack, "small", prompt=f"a lighthouse {number}") for number in range(5)]
    made.append(ask(stack, "small", prompt="a lighthouse " * 800))
    assert {ended(stack, each)["status"] for each in made} == {"completed"}
    settled(stack)
    assert asked_for(sandbox, "/batches") == 3
    assert asked_for(sandbox, GENERATE) == 1
    assert (booked(stack) - before).route == billed(sandbox)


def test_a_refused_line_fails_its_task_alone(stack: Stack, sandbox: Sandbox) -> None:
    """What the provider says of a line is what its client is told; nothing is paid for it."""
    before = booked(stack)
    bad, good = ask(stack, prompt="blocked-by-moderation"), ask(stack)
    task = ended(stack, bad)
    assert (task["status"], task["error"]["code"]) == ("failed", "moderation_blocked")
    assert ended(stack, good)["status"] == "completed"
    settled(stack)
    assert (booked(stack) - before).route == billed(sandbox)
    assert (booked(stack) - before).images == 1


@pytest.mark.parametrize(
    "fault",
    [
        "batch_lost",
        "batch_expired",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("batch_not_taken", "batch_refused", "batch_lines_fail")
        ),
    ],
)
def test_what_a_batch_does_not_do_another_does(stack: Stack, sandbox: Sandbox, fault: str) -> None:
    """Whatever becomes of the first batch, each task is done once; one whose creation was not answered is found."""
    before = booked(stack)
    more: Any = {"code": "server_error"} if fault == "batch_refused" else {}
    sandbox.fault(fault, **more)
    made = [ask(stack, prompt=f"{fault} {number}") for number in range(6)]
    tasks = [ended(stack, each) for each in made]
    assert {task["status"] for task in tasks} == {"completed"}, tasks
    settled(stack)
    spent = booked(stack) - before
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(sandbox), 6, 0)
    assert asked_for(sandbox, "/batches") == (1 if fault == "batch_lost" else 2)
    wait_until(lambda: "batch" not in files_left(sandbox), what="the end of the files that were uploaded")
    assert asked_for(sandbox, GENERATE) == 0


def test_what_the_account_has_no_room_for_rests_and_may_be_cancelled(stack: Stack, sandbox: Sandbox) -> None:
    """Batches are full for minutes or hours: no other is tried soon, and what policy pays for is sent by itself."""
    before = booked(stack)
    sandbox.fault("batch_refused", times=2)
    rests, paid = ask(stack), ask(stack, "paid", prompt="paid")
    assert ended(stack, paid)["status"] == "completed"
    wait_until(lambda: "batch" not in files_left(sandbox), what="the end of the files that were uploaded")
    asked = asked_for(sandbox, "/batches")  # two, if the two tasks did not share one
    time.sleep(QUIET + 4)  # in which another batch would be made
    assert asked_for(sandbox, "/batches") == asked
    told = stack.post(f"/v1/tasks/{rests.json['id']}/cancel", {})
    assert (told.status, told.json["status"], told.json["cost"]) == (200, "cancelled", {"usd": "0.00"})
    settled(stack)
    assert (booked(stack) - before).route == billed(sandbox)
    assert (booked(stack) - before).images == 1


def test_what_no_batch_does_is_sent_where_policy_pays_for_it(stack: Stack, sandbox: Sandbox) -> None:
    """With `if_late: send` the full price is held from the start, and what the batch left over is sent at once."""
    before = booked(stack)
    sandbox.fault("batch_expired")
    made = [ask(stack, "paid", prompt=f"paid {number}") for number in range(4)]
    full = stack.post(GENERATE, {"prompt": "paid 0"}, headers={"x-gateway-job-type": "paid"})
    assert made[0].headers["x-gateway-cost-estimate"] == full.headers["x-gateway-cost-estimate"]
    assert {ended(stack, each)["status"] for each in made} == {"completed"}
    settled(stack)
    spent = booked(stack) - before
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(sandbox), 5, 0)
    assert asked_for(sandbox, "/batches") == 1
    assert asked_for(sandbox, GENERATE) == 3


def test_money_is_held_for_as_long_as_a_batch_takes(tmp_path: Path) -> None:
    """Holds outlive their lease by far while their batch is followed, and nothing is presumed on the way."""
    with (
        running_sandbox(SandboxOptions(latency=0, batch_seconds=6)) as slow,
        running_gateway(tmp_path, POLICY, slow, "--lease", "2") as stack,
    ):
        made = [ask(stack, prompt=f"slow {number}") for number in range(3)]
        assert {ended(stack, each)["status"] for each in made} == {"completed"}
        settled(stack)
        assert (booked(stack).route, booked(stack).unconfirmed) == (billed(slow), 0)
        assert stack.metric("unconfirmed_total") == 0


@pytest.mark.slow
def test_a_batch_that_takes_too_long_is_given_up(stack: Stack, sandbox: Sandbox) -> None:
    """Before a task's time is over its batch is cancelled: it fails for nothing, or is sent where policy pays."""
    with running_sandbox(SandboxOptions(latency=0, batch_seconds=300)) as slow:
        rules = stack.policy / "policy.yaml"
        kept = rules.read_text()
        rules.write_text(kept.replace("${SANDBOX_URL}", slow.url))
        assert fetch(f"http://127.0.0.1:{stack.admin_port}/admin/reload", method="POST").status == 200
        before = booked(stack)
        late, rescued = ask(stack, "late", wait="16s"), ask(stack, "rescued", wait="16s")
        task = ended(stack, rescued)
        assert task["status"] == "completed", task
        task = ended(stack, late)
        assert task["status"] == "failed", task
        assert "batch" in task["error"]["message"]
        settled(stack)
        spent = booked(stack) - before
        assert (spent.route, spent.images, spent.unconfirmed) == (billed(slow), 1, 0)
        assert asked_for(slow, "/cancel") in (1, 2)
        rules.write_text(kept)
        assert fetch(f"http://127.0.0.1:{stack.admin_port}/admin/reload", method="POST").status == 200

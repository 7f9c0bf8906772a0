"""Tasks that are cancelled while a provider works on them: each ends with what it cost, and its record says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.receiver import receiving
from tests.e2e.stack import Reply, Stack, running_gateway, wait_until
from tests.e2e.task_policy import POLICY
from tests.e2e.test_tasks_taken_over import POLICY as PAIR_POLICY
from tests.e2e.test_tasks_taken_over import Pair, dead
from tests.e2e.test_tasks_taken_over import pair as pair

GENERATE = "/v1/images/generations"
NANO = 10**9
PATIENCE = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway in front of providers that take work on."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), POLICY, sandbox) as running:
        yield running


def made(stack: Stack, job_type: str, n: int = 1, **fields: str) -> dict[str, Any]:
    """Make a task."""
    body = {"prompt": "a cat", "size": "1024x1024", "n": n, "async": True, **fields}
    reply = stack.post(GENERATE, body, headers={"x-gateway-job-type": job_type})
    assert reply.status == 202, reply.body
    told: dict[str, Any] = reply.json
    return told


def cancelled(stack: Stack, sandbox: Sandbox, task: dict[str, Any], when: Callable[[list[Any]], bool]) -> Reply:
    """Cancel a task once it can be, and its provider's work stands as wanted."""

    def ready() -> bool:
        can: bool = stack.get(f"/v1/tasks/{task['id']}").json["task_info"]["can_cancel"]
        return can and when(sandbox.tasks())

    wait_until(ready, PATIENCE, "the work")
    return stack.post(f"/v1/tasks/{task['id']}/cancel")


def in_state(state: str, many: int = 1) -> Callable[[list[Any]], bool]:
    """Whether so many pieces of work are in this state."""
    return lambda works: [each["state"] for each in works] == [state] * many


def check(stack: Stack, sandbox: Sandbox, reply: Reply, before: Any) -> int:
    """Check that a task is cancelled and all agree on its cost, which is returned (nano-USD)."""
    assert (reply.status, reply.json["status"]) == (200, "cancelled"), reply.body
    told, later = reply.json, stack.get(f"/v1/tasks/{reply.json['id']}")
    assert told["cost"] == later.json["cost"]
    assert reply.headers["x-gateway-cost"] == later.headers["x-gateway-cost"] == told["cost"]["usd"]
    settled(stack)
    spent, cost = booked(stack) - before, int(Decimal(told["cost"]["usd"]) * NANO)
    assert (spent.route, spent.unconfirmed) == (billed(sandbox), 0) == (cost, 0)
    return cost


def reasons(stack: Stack, task: dict[str, Any]) -> list[tuple[str, str | None]]:
    """How the attempts of a task ended, the one that waited for it left out."""
    return [(each["state"], each["reason"]) for each in stack.record(task["request_id"])["attempts"][1:]]


def test_work_that_was_given_up_shows_one_attempt_and_no_fault(stack: Stack, sandbox: Sandbox) -> None:
    """A cancelled task of a queue that bills nothing costs nothing; its record and the log say what happened."""
    before, errors = booked(stack), stack.metric("image_gateway_requests_total", status="503")
    sandbox.fault("stuck", provider="fal")
    task = made(stack, "fal")
    reply = cancelled(stack, sandbox, task, in_state("running"))
    assert check(stack, sandbox, reply, before) == 0
    assert reasons(stack, task) == [("void", "cancelled")]
    assert stack.metric("image_gateway_requests_total", status="503") == errors
    log = stack.log.read_text()
    assert "task_cancelled" in log
    assert "task_not_here" not in log


def test_a_run_that_is_cancelled_midway_costs_its_seconds(stack: Stack, sandbox: Sandbox) -> None:
    """What is sold by the second is paid for as long as it ran; the task, its headers and its callback say so."""
    before = booked(stack)
    sandbox.fault("stuck", provider="replicate")
    with receiving() as receiver:
        task = made(stack, "sdxl", callback_url=receiver.url)
        reply = cancelled(stack, sandbox, task, in_state("running"))
        assert check(stack, sandbox, reply, before) > 0
        wait_until(lambda: receiver.received, PATIENCE, "the callback")
    [(_, body)] = receiver.received
    assert json.loads(body)["cost"] == reply.json["cost"]
    assert reasons(stack, task) == [("settled", "cancelled")]


def test_a_run_that_is_cancelled_before_it_began_costs_nothing(stack: Stack, sandbox: Sandbox) -> None:
    """Work that still waits in the provider's queue took no time."""
    before = booked(stack)
    sandbox.fault("slow_work", provider="replicate", seconds=300)
    reply = cancelled(stack, sandbox, made(stack, "sdxl"), in_state("queued"))
    assert check(stack, sandbox, reply, before) == 0


def test_all_calls_of_a_task_are_given_up(stack: Stack, sandbox: Sandbox) -> None:
    """Two images that are two pieces of work are cancelled both, and nothing stays held."""
    before = booked(stack)
    sandbox.fault("stuck", provider="replicate", times=None)
    reply = cancelled(stack, sandbox, made(stack, "pro", n=2), in_state("running", 2))
    assert check(stack, sandbox, reply, before) == 0
    assert in_state("cancelled", 2)(sandbox.tasks())


async def forget_a_note(url: str, task_id: str) -> None:
    """Leave one note of what was submitted for a task in the store, as if its gateway had died a moment earlier."""
    store, name = Store(url), Names().task(task_id)
    noted = sorted(field for field in await store.execute("HKEYS", name) if field.startswith("sub:"))
    for field in noted[1:]:
        await store.execute("HDEL", name, field)
    await store.aclose()


@pytest.mark.slow
def test_a_call_that_was_not_noted_is_presumed(pair: Pair, sandbox: Sandbox) -> None:
    """Of two calls of a gateway that died one is known: it is given up for nothing, the other is booked unconfirmed."""
    sandbox.fault("stuck", provider="replicate", times=None)
    first = pair.gateway("first", "task_submitted:kill:1")
    body = {"prompt": "a cat", "size": "1024x1024", "n": 2, "async": True}
    task = first.post(GENERATE, body, headers={"x-gateway-job-type": "flux"}).json
    dead(first)
    asyncio.run(forget_a_note(pair.store, task["id"]))
    second = pair.gateway("second", policy=PAIR_POLICY)

    second.post(f"/v1/tasks/{task['id']}/cancel")

    def ended() -> Any:
        reply = second.get(f"/v1/tasks/{task['id']}")
        return reply if reply.json["status"] not in ("pending", "processing") else None

    reply = wait_until(ended, PATIENCE, "the end of the task")
    assert reply.json["status"] == "cancelled", reply.body
    settled(second)
    spent = booked(second)
    assert "cancelled" in [each["state"] for each in sandbox.tasks()]
    each = int(Decimal("0.04") * NANO)
    # Where the hold had lapsed before it was followed, all that was held was presumed already, and is presumed lower.
    assert spent.route == spent.unconfirmed == each
    assert reply.json["cost"]["usd"] == reply.headers["x-gateway-cost"]
    assert Decimal(reply.json["cost"]["usd"]) == Decimal("0.04")

"""Batches outlive the gateway that made them: another one follows them, and no line is sent or paid for twice."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.failpoint import VARIABLE
from gateway.ledger.store import store_url
from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.e2e.accounting import Ask, billed, booked, crowd, settled
from tests.e2e.batch_policy import POLICY
from tests.e2e.clients import picture
from tests.e2e.stack import Stack, running_gateway, wait_until

GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
LEASE = "2"
HASTY = POLICY.replace('api_key: "${SANDBOX_KEY}"', 'api_key: "${SANDBOX_KEY}"\n    timeout: 2s')
WAITING = {"x-gateway-max-wait": "1h", "prefer": "respond-async"}
IMAGE = "data:image/png;base64," + base64.b64encode(picture()).decode()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A provider whose batches take long enough for a gateway to die meanwhile."""
    with running_sandbox(SandboxOptions(latency=0, batch_seconds=4)) as running:
        yield running


@dataclass
class Fleet:
    """Gateways on one store and one disk, started one by one."""

    directory: Path
    sandbox: Sandbox
    store: str
    started: contextlib.ExitStack
    keys: dict[str, str] = field(default_factory=dict)

    def gateway(self, name: str, failpoint: str | None = None) -> Stack:
        """Start one, which is to die at a failpoint."""
        environ = {"IMAGE_GATEWAY_STORE": self.store, "IMAGE_GATEWAY_PEPPER": "0123456789abcdef" * 4}
        environ |= {VARIABLE: failpoint} if failpoint else {}
        own = self.directory / name
        own.mkdir()
        options = ("--lease", LEASE, "--assets", str(self.directory / "assets"))
        stack = self.started.enter_context(running_gateway(own, HASTY, self.sandbox, *options, environ=environ))
        stack.keys.update(self.keys)
        self.keys["team"] = stack.key()
        return stack


@pytest.fixture
def fleet(tmp_path: Path, sandbox: Sandbox) -> Iterator[Fleet]:
    """A store of their own; what is started is stopped."""
    (tmp_path / "store").mkdir()
    with store_url("embedded:", tmp_path / "store") as url, contextlib.ExitStack() as started:
        yield Fleet(tmp_path, sandbox, url, started)


def tasks_of(stack: Stack) -> list[Any]:
    """Every task of the project."""
    found: list[Any] = []
    page: Any = {"has_more": True}
    while page["has_more"]:
        after = f"&after={found[-1]['id']}" if found else ""
        page = stack.get(f"/v1/tasks?limit=100{after}").json
        found += page["data"]
    return found


def all_ended(stack: Stack, seconds: float = 100) -> list[Any]:
    """Wait until every task has ended."""

    def look() -> list[Any] | None:
        every = tasks_of(stack)
        return every if all(task["status"] in ("completed", "failed", "cancelled") for task in every) else None

    return list(wait_until(look, seconds, "the end of all tasks"))


def batches(sandbox: Sandbox) -> int:
    """How many batches were created."""
    return sum(
        each["method"] == "POST" and each["path"].endswith("/batches") and each["status"] == 200
        for each in sandbox.requests()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failpoint", "created"), [("batch_joined", 1), ("batch_creating", 1), ("batch_created", 1), ("task_submitted", 1)]
)
def test_a_batch_whose_gateway_died_while_it_was_made(fleet: Fleet, failpoint: str, created: int) -> None:
    """One that the provider has is found by its mark and followed; one that it has not is made again, once."""
    dying = fleet.gateway("first", f"{failpoint}:kill:1")
    asks = [Ask({"prompt": f"a lighthouse {number}"}, headers=WAITING) for number in range(4)]
    asyncio.run(crowd(asks, [dying], at_once=4))
    wait_until(lambda: dying.process.poll() is not None, 60, "the kill")
    heir = fleet.gateway("second")
    tasks = all_ended(heir)
    assert [task["status"] for task in tasks] == ["completed"] * 4, tasks
    settled(heir)
    spent = booked(heir)
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(fleet.sandbox), 4, 0)
    assert batches(fleet.sandbox) == created


@pytest.mark.slow
def test_three_hundred_tasks_and_a_gateway_that_is_killed(fleet: Fleet) -> None:
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
    tasks = all_ended(second)
    assert len(tasks) == 300
    assert {task["status"] for task in tasks} == {"completed"}, [
        t["error"] for t in tasks if t["status"] != "completed"
    ]
    settled(second)
    spent = booked(second)
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(fleet.sandbox), 300, 0)
    assert len(fleet.sandbox.bill()["lines"]) == 300

"""A task begins by the store alone: while that is away, none is held on its project's allowance."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, nano, settled
from tests.e2e.stack import Stack, wait_until
from tests.e2e.takeover import PATIENCE, Pair
from tests.e2e.test_outages import PATH, Valkey, valkey

__all__ = ["valkey"]

POLICY = """
providers:
  one: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
  two: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", limits: {concurrent: 1}}
routes:
  one: {provider: one, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  two: {provider: two, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  both: {routes: [one, two], defaults: {quality: low, size: 1024x1024}, retry: {attempts: 3, on_unknown: next_route}}
  two: {routes: [two], defaults: {quality: low, size: 1024x1024}}
projects:
  team:
    job_types: [both, two]
    default_job_type: both
    while_ledger_away: {allowance: "1"}
    budgets: [{window: total, limit: "100"}]
"""


def states(stack: Stack, task: dict[str, Any]) -> list[str]:
    """How the attempts of a task stand."""
    return [each["state"] for each in stack.record(task["request_id"])["attempts"]]


def test_a_task_that_was_taken_over_is_not_held_on_the_allowance(
    tmp_path: Path, sandbox: Sandbox, valkey: Valkey
) -> None:
    """Its heir finds the store away as room comes; what the call of its dead gateway may have cost stays booked."""
    with ExitStack() as started:
        pair = Pair(tmp_path, sandbox, valkey.url, started, POLICY)
        first = pair.gateway("first")
        sandbox.fault("timeout", match={"prompt_contains": "victim"})
        task = first.post(PATH, {"prompt": "victim", "async": True}).json
        wait_until(sandbox.requests, PATIENCE, "the call")
        first.stop(signal.SIGKILL)
        second = pair.gateway("second")
        sandbox.fault("slow", seconds=9, match={"prompt_contains": "in the way"})
        other = {"x-gateway-job-type": "two"}
        blocking = threading.Thread(target=lambda: second.post(PATH, {"prompt": "in the way"}, headers=other))
        blocking.start()
        wait_until(lambda: states(second, task) == ["void", "presumed"], PATIENCE, "the end of the lease")
        wait_until(lambda: second.metric("in_flight") == 2, PATIENCE, "the task in the queue of its route")
        valkey.kill()
        blocking.join()
        time.sleep(1)  # in which its turn comes
        valkey.start()
        wait_until(
            lambda: second.get(f"/v1/tasks/{task['id']}").json.get("status") == "completed", PATIENCE, "the task"
        )
        settled(second)
        attempts = second.record(task["request_id"])["attempts"]
        assert [(each["route"], each["state"]) for each in attempts if each["state"] != "void"] == [
            ("one", "presumed"),
            ("two", "settled"),
        ]
        told = nano(second.get(f"/v1/tasks/{task['id']}").json["cost"]["usd"])
        assert told == sum(nano(each["cost"]["route"]) for each in attempts if each["state"] != "void")
        assert billed(sandbox) <= booked(second).route

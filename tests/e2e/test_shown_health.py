"""What is wrong is seen from outside: by the gauges that alerts ask for, and on the console."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.sandbox.client import Sandbox
from tests.e2e.policies import tight
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until
from tests.e2e.test_outages import BODY, PATH, Valkey, gateway, readiness
from tests.e2e.test_outages import valkey as valkey

WORKERS = pytest.mark.parametrize(
    "options", [(), pytest.param(("--workers", "2"), marks=pytest.mark.slow)], ids=["one process", "two workers"]
)
READY, NOT_READY = (200, 1.0), (503, 0.0)
QUOTA = tight("100", "[{images: 1, per: day}]")


def health(stack: Stack) -> tuple[int, float | None]:
    """What `/readyz` answers, and what the gauge says."""
    with suppress(OSError):  # with workers the admin plane begins last
        return readiness(stack), stack.metrics().get("image_gateway_ready")
    return 0, None


def bad(stack: Stack) -> list[str]:
    """What the console's overview says is bad."""
    shown: Any = fetch(f"http://127.0.0.1:{stack.admin_port}/console/api/overview").json
    return [each["text"] for each in shown["attention"] if each["level"] == "bad"]


@WORKERS
def test_a_store_that_takes_no_writes_is_seen(
    tmp_path: Path, sandbox: Sandbox, valkey: Valkey, options: tuple[str, ...]
) -> None:
    """Reading goes on, so that all figures are there: the gauge and the console say that nothing is served."""
    with gateway(tmp_path / "g", sandbox, *options, store=valkey.url) as stack:
        wait_until(lambda: health(stack) == READY, 30, "readiness")
        stack.key()
        assert bad(stack) == []
        with redis.Redis.from_url(valkey.url) as store:
            store.replicaof("127.0.0.1", 1)
            wait_until(lambda: health(stack) == NOT_READY, 30, "the gauge")
            assert stack.post(PATH, BODY).error["code"] == "ledger_unavailable"
            assert "image_gateway_policy_info" in {name.partition("{")[0] for name in stack.metrics()}
            [said] = wait_until(lambda: bad(stack), 30, "the console")
            assert "not ready" in said
            assert "READONLY" in said
            store.replicaof("NO", "ONE")
            wait_until(lambda: health(stack) == READY, 30, "readiness again")
            wait_until(lambda: not bad(stack), 30, "the console again")
        valkey.kill()
        wait_until(lambda: health(stack) == NOT_READY, 30, "the gauge without a store")
        valkey.start()
        wait_until(lambda: health(stack) == READY, 30, "readiness after it came back")


@WORKERS
def test_a_gateway_that_leaves_is_not_ready(tmp_path: Path, sandbox: Sandbox, options: tuple[str, ...]) -> None:
    """Also where a process that knows of no client tells of all workers; that it leaves is told too, for alerts."""
    with gateway(tmp_path / "g", sandbox, "--shutdown-delay", "60", *options) as stack:
        wait_until(lambda: health(stack) == READY, 30, "readiness")
        assert stack.metric("leaving") == 0
        stack.process.send_signal(signal.SIGTERM)
        wait_until(lambda: health(stack) == NOT_READY, 30, "the gauge")
        processes = 2 if options else 1
        wait_until(lambda: stack.metric("leaving") == processes, 30, "all of them")
        assert stack.stop() == 0


@WORKERS
def test_tasks_that_no_route_or_quota_takes_are_seen(
    tmp_path: Path, sandbox: Sandbox, options: tuple[str, ...]
) -> None:
    """Their status is `processing` from the first moment, so only the worker that has them knows that they wait."""
    with running_gateway(tmp_path, QUOTA, sandbox, *options) as stack:
        wait_until(lambda: health(stack) == READY, 30, "readiness")
        assert stack.post(PATH, BODY).status == 200
        made = [stack.post(PATH, BODY, headers={"prefer": "respond-async"}) for _ in range(3)]
        assert [reply.status for reply in made] == [202] * 3
        wait_until(lambda: stack.metric("tasks_waiting") == 3, 60, "the gauge")
        assert (stack.metric("tasks", status="pending"), stack.metric("tasks", status="processing")) == (0, 3)
        for reply in made:
            assert stack.post(f"/v1/tasks/{reply.json['id']}/cancel").status == 200
        wait_until(lambda: stack.metric("tasks_waiting") == 0, 60, "the end of their waiting")
        assert len(sandbox.images()) == 1


def test_a_task_whose_call_is_under_way_waits_for_nothing(tmp_path: Path, sandbox: Sandbox) -> None:
    """However long its provider takes."""
    sandbox.fault("slow", seconds=5)
    with gateway(tmp_path / "g", sandbox) as stack:
        made = stack.post(PATH, BODY, headers={"prefer": "respond-async"})
        wait_until(sandbox.requests, 30, "its call")
        wait_until(lambda: stack.metrics()["image_gateway_tasks_waiting"] == 0, 30, "the gauge")
        assert stack.metric("tasks", status="processing") == 1
        wait_until(lambda: stack.get(f"/v1/tasks/{made.json['id']}").json["status"] == "completed", 30, "its end")

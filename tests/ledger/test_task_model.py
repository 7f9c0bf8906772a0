"""The queue of tasks against a plain model of it: workers that die, are slow, take over, end twice, and cancel."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.ledger.task_model import TaskModel
from tests.ledger.topologies import Server, running


def run(server: str, examples: int, steps: int) -> None:
    """Let hypothesis look for a history after which the two disagree."""

    class Machine(TaskModel):
        """The model, on this server."""

    Machine.server = server
    checks = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(Machine, settings=checks)


@pytest.mark.timeout(400)
def test_the_queue_agrees_with_its_model(server: str) -> None:
    """Random histories on the embedded server leave both with the same tasks, holders, turns and messages."""
    run(server, examples=25, steps=40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_queue_agrees_with_its_model_at_length(server: str) -> None:
    """Two thousand histories of sixty steps."""
    run(server, examples=2000, steps=60)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_it_agrees_on_this_machines_redis(tmp_path: Path) -> None:
    """Three hundred histories on redis-server, where this machine has one."""
    server = Server(tmp_path / "server")
    with running(server):
        run(server.url, examples=300, steps=40)

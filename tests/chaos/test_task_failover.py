"""The store's primary dies with tasks under way, and a replica that is behind takes over: none lost or paid twice."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.chaos.failover import Link, fail_over
from tests.chaos.fleet import StoreServer
from tests.chaos.task_trial import TaskTrial, task_trial
from tests.chaos.trial import until

log = logging.getLogger(__name__)

LEASE = 4.0
MANY, MORE = 200, 100
WORK_SECONDS = 8.0


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_two_hundred_tasks_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The primary dies with 200 tasks under way and others being made; each ends once, is told of, and paid once."""
    primary = StoreServer("store-0", tmp_path)
    front = Link("front", tmp_path, primary.port)
    running = task_trial(
        tmp_path,
        monkeypatch,
        lease=LEASE,
        gateways=3,
        work_seconds=WORK_SECONDS,
        store=primary,
        store_url=front.url,
        beside=[front],
    )
    async with running as trial, trial.fleet.kept_running():
        making: list[asyncio.Task[None]] = []

        async def under_way() -> None:
            await trial.clients.make(MANY)
            await until(lambda: _at_work(trial), 60, "tasks at the provider")
            making.append(asyncio.create_task(trial.clients.make(MORE, first=MANY)))
            await until(lambda: len(trial.clients.made) > MANY + MORE / 10, 60, "more tasks")

        await fail_over(trial.fleet, front, 1, under_way)
        await asyncio.gather(*making)
        found = await trial.come_to_rest()
        await trial.audit(found)


def _at_work(trial: TaskTrial) -> bool:
    """Whether most of the tasks whose provider takes work on are with it."""
    return len(trial.sandbox.tasks()) >= MANY / 2 - MANY / 20

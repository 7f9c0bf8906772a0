"""The store goes away while tasks wait, are worked on and are told of: they go on, and the money is right."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.task_trial import TaskTrial, task_trial
from tests.chaos.trial import away

LEASE, TASKS = 4.0, 100


async def _gone(trial: TaskTrial) -> None:
    """Be away for a minute, with its data."""
    with away(trial.fleet.store):
        await asyncio.sleep(60)


async def _frozen(trial: TaskTrial) -> None:
    """Stand still for longer than leases last."""
    trial.fleet.store.freeze()
    await asyncio.sleep(5 * LEASE)
    trial.fleet.store.thaw()


async def _restarted(trial: TaskTrial) -> None:
    """Die and come back at once, a few times."""
    for _ in range(3):
        trial.fleet.store.kill()
        await asyncio.sleep(1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("misfortune", [_gone, _frozen, _restarted])
async def test_tasks_outlast_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, misfortune: object) -> None:
    """A hundred tasks in all states are met by it; each ends, is paid once and told of."""
    assert callable(misfortune)
    async with task_trial(tmp_path, monkeypatch, lease=LEASE, gateways=2) as trial:
        async with trial.fleet.kept_running():
            making = asyncio.create_task(trial.clients.make(TASKS))
            while len(trial.clients.made) < TASKS / 2:  # noqa: ASYNC110 - its length is looked at
                await asyncio.sleep(0.02)
            await misfortune(trial)
            await making
            found = await trial.come_to_rest()
        await trial.audit(found)

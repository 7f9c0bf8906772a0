"""Gateways and their store killed again and again amid tasks: none is lost, none is paid twice, each is told of."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tests.chaos.task_trial import Clients, Killer, task_trial

log = logging.getLogger(__name__)

LEASE = 4.0


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_six_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six kills in sixty tasks lose none and pay none twice."""
    await survive(tmp_path, monkeypatch, tasks=60, kills=6, pause=1.5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_two_hundred_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred kills in two thousand tasks lose none and pay none twice."""
    await survive(tmp_path, monkeypatch, tasks=2000, kills=200, pause=1.0)


async def survive(directory: Path, environ: pytest.MonkeyPatch, *, tasks: int, kills: int, pause: float) -> None:
    """Kill while tasks are made and worked on, then ask the books, the bills and whoever was called back."""
    async with task_trial(directory, environ, lease=LEASE, gateways=3) as trial:
        killer = Killer(trial.fleet, trial.clients.seed, kills, pause)
        async with trial.fleet.kept_running():
            await asyncio.gather(killer.run(), _make(trial.clients, tasks, killer, kills))
            log.warning("%d deaths, and %d of the store", killer.deaths, killer.store_deaths)
            found = await trial.come_to_rest()
        await trial.audit(found)


async def _make(clients: Clients, tasks: int, killer: Killer, kills: int) -> None:
    """Make tasks as fast as gateways die, so that there are always some of every kind."""
    made = 0
    while made < tasks:
        want = min(tasks, max(int(tasks * (killer.deaths + 1) / kills), 16))
        if want > made:
            await clients.make(want - made, first=made)
            made = want
        await asyncio.sleep(0.05)

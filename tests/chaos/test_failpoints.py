"""A kill at every step of a request's way, fifty times each: whatever was half done ends as it must."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from gateway.failpoint import NAMES, VARIABLE
from tests.chaos.checks import few
from tests.chaos.fleet import Fleet
from tests.chaos.trial import Trial, away, chosen_seed, trial, until

log = logging.getLogger(__name__)

KILLS, LEASE, GATEWAYS = 50, 2.0, 3
PATIENCE = 300.0
"""Seconds for all kills of one failpoint."""

RARE = {"before_void": 1.0, "after_void": 1.0, "journal_written": 0.5}
"""How likely a kill is where few requests come by; elsewhere one in fifty is killed."""
USUAL = 0.02

OF_TASKS = {"task_added", "task_taken", "task_begun", "task_submitted", "before_task_end"}
OF_BATCHES = {"batch_joined", "batch_creating", "batch_created"}
"""Failpoints on the way of tasks and of batches, which this load makes none of; each has trials of its own."""

STORE_AWAY = {"journal_written"}
"""Failpoints that are reached only while the store is away."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in OF_TASKS | OF_BATCHES])
async def test_killed_at(tmp_path: Path, name: str) -> None:
    """Killed at this step, a request's money is neither lost nor leaked, no limit is passed, and the parts agree."""
    armed = {VARIABLE: f"{name}:kill:{RARE.get(name, USUAL):.3f}"}
    async with trial(tmp_path, gateways=GATEWAYS, lease=LEASE, seed=chosen_seed(), environ=armed) as chaos:
        async with chaos.under_load():
            outages = asyncio.create_task(_outages(chaos)) if name in STORE_AWAY else None
            await until(lambda: _killed(chaos.fleet) >= KILLS, PATIENCE, f"{KILLS} kills at {name}")
            if outages is not None:
                outages.cancel()
                await asyncio.gather(outages, return_exceptions=True)
            _disarm(chaos.fleet)
        log.warning("%s: %d kills", name, _killed(chaos.fleet))
        wrong = [*await chaos.rest(), *few("over a limit", chaos.over)]
        chaos.verdict([*wrong, *await chaos.audit()])


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_frozen_for_longer_than_a_lease(tmp_path: Path) -> None:
    """Gateways frozen with an answer in hand find their holds presumed spent, and correct them once."""
    armed = {VARIABLE: "before_settle:freeze:40"}
    async with trial(tmp_path, gateways=GATEWAYS, lease=LEASE, seed=chosen_seed(), environ=armed) as chaos:
        async with chaos.under_load():
            gateways = chaos.fleet.gateways
            await until(lambda: all(gateway.stands_still for gateway in gateways), PATIENCE, "every gateway frozen")
            await asyncio.sleep(1.5 * LEASE)
            for gateway in gateways:
                gateway.frozen = True
                gateway.thaw()
                if gateway is gateways[0]:  # it alone is there to end what has lapsed
                    await _lapsed(chaos)
            await asyncio.sleep(1)
        wrong = [*await chaos.rest(), *few("over a limit", chaos.over)]
        accounts = await chaos.books.accounts()
        corrected = [name for name, account in accounts.items() if account.sources == ["presumed", "usage"]]
        assert corrected, "nothing was settled late: the test proves nothing"
        chaos.verdict([*wrong, *await chaos.audit()])


async def _lapsed(chaos: Trial) -> None:
    """Wait until somebody's hold was presumed spent because it lapsed, not because a call broke off."""
    async with asyncio.timeout(PATIENCE):
        while not any(account.lapsed for account in (await chaos.books.accounts()).values()):  # noqa: ASYNC110 - the ledger tells nobody
            await asyncio.sleep(0.2)


def _killed(fleet: Fleet) -> int:
    return sum(gateway.killed for gateway in fleet.gateways)


def _disarm(fleet: Fleet) -> None:
    """Let the gateways start once more, now to stay."""
    for gateway in fleet.gateways:
        gateway.environ.pop(VARIABLE)
        gateway.kill()


async def _outages(chaos: Trial) -> None:
    """The store goes away for half a second, again and again."""
    while True:
        await asyncio.sleep(2.0)
        with away(chaos.fleet.store):
            await asyncio.sleep(0.5)

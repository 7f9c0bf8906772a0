"""A store that is away for longer than a lease, comes back empty, or comes back older."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.books import read_bill
from tests.chaos.checks import few
from tests.chaos.trial import Trial, away, chosen_seed, trial

log = logging.getLogger(__name__)

LEASE, OUTAGE = 2.0, 8.0
"""Seconds."""

ON_ITS_WAY = 0.5
"""Seconds that a call admitted before may take to reach the provider."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_store_away_for_longer_than_a_lease(tmp_path: Path, how: str) -> None:
    """Whether the store was killed or frozen: clients get their answers, and the books are right once it is back."""
    async with trial(tmp_path, gateways=3, lease=LEASE, seed=chosen_seed()) as chaos:
        async with chaos.under_load():
            for _ in range(2):
                await asyncio.sleep(2)
                before = Counter(chaos.load.heard.statuses)
                await _outage(chaos, how)
                await asyncio.sleep(2)
                log.warning("during the outage: %s", chaos.load.heard.statuses - before)
        wrong = [*await chaos.rest(), *few("over a limit", chaos.over)]
        chaos.verdict([*wrong, *await chaos.audit()])


async def _outage(chaos: Trial, how: str) -> None:
    store = chaos.fleet.store
    if how == "killed":
        with away(store):
            await asyncio.sleep(OUTAGE)
        return
    store.freeze()
    await asyncio.sleep(OUTAGE)
    store.thaw()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_store_restored_from_an_older_copy(tmp_path: Path) -> None:
    """A store that comes back two seconds older gets back what clients were told, and every hold that still runs."""
    async with trial(tmp_path, gateways=3, lease=LEASE, seed=chosen_seed()) as chaos:
        store = chaos.fleet.store
        async with chaos.under_load():
            await asyncio.sleep(3)
            shutil.copytree(store.home, tmp_path / "copy")
            await asyncio.sleep(2)
            with away(store):
                shutil.rmtree(store.home)
                shutil.copytree(tmp_path / "copy", store.home)
            await asyncio.sleep(3)
        chaos.verdict([*await chaos.rest(), *await chaos.audit()])


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_nothing_is_admitted_by_an_emptied_store_until_it_is_rebuilt(tmp_path: Path) -> None:
    """After FLUSHALL under load no call leaves until `ledger rebuild`; what was exported and what runs counts again."""
    async with trial(tmp_path, gateways=3, lease=LEASE, seed=chosen_seed()) as chaos:
        async with chaos.under_load():
            await asyncio.sleep(4)
            export = tmp_path / "export"
            await _ledger(chaos, "export", "--to", str(export))
            await chaos.store.execute("FLUSHALL")
            emptied = time.time()
            await asyncio.sleep(4)
            rebuilding = time.time()
            await _ledger(chaos, "rebuild", "--from", str(export))
            chaos.books.exports = (export,)
            before = Counter(chaos.load.heard.statuses)
            await asyncio.sleep(4)
            log.warning("after it was rebuilt: %s", chaos.load.heard.statuses - before)
        began = [charge.began for charge in read_bill(chaos.fleet.bill)]
        assert [moment for moment in began if emptied + ON_ITS_WAY < moment < rebuilding] == []
        assert max(began) > rebuilding, "nothing was admitted any more"
        chaos.verdict([*await chaos.rest(), *await chaos.audit()])


async def _ledger(chaos: Trial, *arguments: str) -> None:
    done = await asyncio.to_thread(chaos.fleet.command, "ledger", *arguments)
    log.warning("ledger %s: %s", arguments[0], done.stdout + done.stderr)
    assert done.returncode == 0

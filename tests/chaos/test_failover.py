"""A primary dies and a replica that is behind takes over: what was acknowledged comes back."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from tests.chaos.failover import Link, fail_over
from tests.chaos.fleet import StoreServer
from tests.chaos.trial import Trial, chosen_seed, trial

log = logging.getLogger(__name__)

LEASE, ROUNDS = 4.0, 5
"""Seconds, and how many primaries die one after another."""


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_acknowledged_settlement_is_missing(tmp_path: Path) -> None:
    """Five primaries die, each with a replica 300 ms behind; all that clients were told is in the books afterwards."""
    primary = StoreServer("store-0", tmp_path)
    front = Link("front", tmp_path, primary.port)
    running = trial(
        tmp_path, gateways=3, lease=LEASE, seed=chosen_seed(), store=primary, store_url=front.url, beside=[front]
    )
    async with running as chaos:
        async with chaos.under_load():
            for number in range(1, ROUNDS + 1):
                await fail_over(chaos.fleet, front, number, lambda: _answers(chaos))
                await asyncio.sleep(LEASE / 2)
        log.warning("over a limit while the store was younger than its gateways: %d", len(chaos.over))
        wrong = await chaos.rest()
        chaos.verdict([*wrong, *await chaos.audit()])


async def _answers(chaos: Trial) -> None:
    """Let clients be answered for a while."""
    heard, began = chaos.load.heard.statuses["200"], time.monotonic()
    await asyncio.sleep(LEASE / 2)
    log.warning("%d answers in %.1f s", chaos.load.heard.statuses["200"] - heard, time.monotonic() - began)

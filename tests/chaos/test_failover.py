"""A primary dies and a replica that is behind takes over: what was acknowledged comes back."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

import pytest

from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.chaos.fleet import Program, StoreServer
from tests.chaos.trial import Trial, chosen_seed, trial
from tests.e2e.stack import free_port

log = logging.getLogger(__name__)

LEASE, LAG, ROUNDS = 4.0, 0.3, 5
"""Seconds, seconds that a replica is behind, and how many primaries die one after another."""


class Link(Program):
    """A slow connection between two servers, or the fixed address in front of them."""

    def __init__(self, name: str, directory: Path, target: int, *, delay: float = 0.0) -> None:
        self.port = free_port()
        self._delay = delay
        super().__init__(name, [], os.environ, directory)
        self.point_to(target)

    def point_to(self, target: int) -> None:
        """Lead there from the next start on."""
        self.command = [sys.executable, "-m", "tests.chaos.link", str(self.port), str(target), str(self._delay)]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://127.0.0.1:{self.port}"


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
                await _fail_over(chaos, front, number)
                await asyncio.sleep(LEASE / 2)
        log.warning("over a limit while the store was younger than its gateways: %d", len(chaos.over))
        wrong = await chaos.rest()
        chaos.verdict([*wrong, *await chaos.audit()])


async def _fail_over(chaos: Trial, front: Link, number: int) -> None:
    """Give the primary a replica that is behind, wait until it follows, kill the primary, and promote the replica."""
    primary = chaos.fleet.store
    directory = primary.home.parent
    link = Link(f"link-{number}", directory, primary.port, delay=LAG)
    replica = StoreServer(f"store-{number}", directory, "--replicaof", f"127.0.0.1 {link.port}")
    for program in (link, replica):
        chaos.fleet.beside.append(program)
        program.start()
    store = Store(replica.url, deadline=5)
    try:
        await _following(store)
        heard, began = chaos.load.heard.statuses["200"], time.monotonic()
        await asyncio.sleep(LEASE / 2)
        log.warning("%d answers in %.1f s", chaos.load.heard.statuses["200"] - heard, time.monotonic() - began)
        async with asyncio.timeout(5):
            while (behind := await _count(chaos.store) - await _count(store)) <= 0:  # noqa: ASYNC110 - servers are asked
                await asyncio.sleep(LAG / 3)
        primary.down = link.down = True
        link.kill()
        primary.kill()
        await store.execute("REPLICAOF", "NO", "ONE")
        log.warning("failover %d: the replica was %d entries behind", number, behind)
    finally:
        await store.aclose()
    front.point_to(replica.port)
    front.kill()
    chaos.fleet.beside.remove(replica)
    chaos.fleet.store = replica


async def _following(store: Store) -> None:
    """Wait until the replica has all that was there when it began, and takes what comes."""
    async with asyncio.timeout(60):
        while "master_link_status:up" not in await _replication(store):  # noqa: ASYNC110 - a server is asked
            await asyncio.sleep(0.1)


async def _replication(store: Store) -> str:
    try:
        told = await store.execute("INFO", "replication")
    except LedgerUnavailable:
        return ""  # it starts, or loads what it was sent
    pairs = told.items() if isinstance(told, dict) else ()
    return "".join(f"{name}:{value}\n" for name, value in pairs) or str(told)


async def _count(store: Store) -> int:
    return int(await store.execute("XLEN", "igw:{chaos}:entries"))

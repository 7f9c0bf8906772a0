"""Failovers: a primary, a replica that is behind, and the fixed address in front of whichever of them serves."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.chaos.fleet import REALM, Fleet, Program, StoreServer
from tests.ports import free_port

log = logging.getLogger(__name__)

LAG = 0.3
"""Seconds that a replica is behind."""


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


async def fail_over(fleet: Fleet, front: Link, number: int, ready: Callable[[], Awaitable[None]]) -> None:
    """Give the primary a replica that is behind, wait until it follows, kill the primary, and promote the replica.

    `ready` is awaited once the replica follows: what is to have happened before the primary dies.
    """
    primary = fleet.store
    directory = primary.home.parent
    link = Link(f"link-{number}", directory, primary.port, delay=LAG)
    replica = StoreServer(f"store-{number}", directory, "--replicaof", f"127.0.0.1 {link.port}")
    for program in (link, replica):
        fleet.beside.append(program)
        program.start()
    served, store = Store(fleet.store_url, deadline=60), Store(replica.url, deadline=5)
    try:
        await _following(store)
        await ready()
        async with asyncio.timeout(5):
            while (behind := await _count(served) - await _count(store)) <= 0:  # noqa: ASYNC110 - servers are asked
                await asyncio.sleep(LAG / 3)
        primary.down = link.down = True
        link.kill()
        primary.kill()
        await store.execute("REPLICAOF", "NO", "ONE")
        log.warning("failover %d: the replica was %d entries behind", number, behind)
    finally:
        await store.aclose()
        await served.aclose()
    front.point_to(replica.port)
    front.kill()
    fleet.beside.remove(replica)
    fleet.store = replica


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
    return int(await store.execute("XLEN", f"igw:{{{REALM}}}:entries"))

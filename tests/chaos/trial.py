"""A trial: a fleet under load, watched all the while, and the questions put to its books once it has come to rest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.ledger.store import Store
from tests.chaos.books import Books, books_of
from tests.chaos.checks import after_invoice, before_invoice, few
from tests.chaos.fleet import REALM, Fleet, running_fleet
from tests.chaos.load import Load

log = logging.getLogger(__name__)

SLACK_SECONDS = 5.0
"""Until nothing may be held any more, after the last misfortune and a lease."""
UPSTREAM_SECONDS = 6.0
"""Longer than nearly every call takes at the provider."""


def chosen_seed() -> int:
    """The seed in CHAOS_SEED, else a new one; it is logged, so that a failure can be had again."""
    seed = int(os.environ.get("CHAOS_SEED") or random.randrange(10**6))
    log.warning("CHAOS_SEED=%d", seed)
    return seed


@dataclass
class Trial:
    """What a test sees of it. `lease` is seconds; `over` is every time a limit was seen to be passed."""

    fleet: Fleet
    store: Store
    books: Books
    load: Load
    lease: float
    over: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @contextlib.asynccontextmanager
    async def under_load(self, at_once: int = 24) -> AsyncIterator[None]:
        """Clients ask meanwhile, whatever dies comes back, and limits are watched; then all clients have an answer."""
        watching = asyncio.create_task(self.books.watch(self.over))
        async with self.fleet.kept_running():
            clients = asyncio.create_task(self.load.run(at_once))
            try:
                yield
            finally:
                self.load.stop()
                await clients
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        log.warning("%.0f s under load: %d requests", time.monotonic() - self.began, self.load.heard.sent)
        log.warning("clients heard %s", dict(self.load.heard.statuses))

    async def rest(self) -> list[str]:
        """Let every lease lapse, kept running; return what is held then, which is nothing if all is well."""
        async with self.fleet.kept_running():
            await asyncio.sleep(max(self.lease + SLACK_SECONDS, UPSTREAM_SECONDS))
            return few("still held", await self.books.held())

    async def audit(self) -> list[str]:
        """Everything that is wrong with the books, before the provider's invoice and after it."""
        wrong = await before_invoice(self.fleet, self.books, self.load.heard)
        return [*wrong, *await after_invoice(self.fleet, self.books)]

    def verdict(self, wrong: list[str]) -> None:
        """Fail with all that is wrong, and the ends of the logs."""
        assert not wrong, "\n".join([*wrong, self.fleet.log_text])


@contextlib.asynccontextmanager
async def trial(
    directory: Path, *, lease: float, seed: int, progress: Callable[[], float] = lambda: 0.0, **fleet_options: Any
) -> AsyncIterator[Trial]:
    """Run a fleet with a load at hand; see `running_fleet` for the rest."""
    with running_fleet(directory, lease=lease, seed=seed, **fleet_options) as fleet:
        store = Store(fleet.store_url, deadline=60)
        try:
            yield Trial(
                fleet,
                store,
                books_of(store, REALM, fleet.policy, fleet.environ),
                Load([gateway.url for gateway in fleet.gateways], fleet.keys, seed, progress),
                lease,
            )
        finally:
            await store.aclose()


async def until(reached: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait without blocking anybody; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def away(*programs: Any) -> Iterator[None]:
    """Kill these and keep them away meanwhile."""
    for program in programs:
        program.down = True
        program.kill()
    try:
        yield
    finally:
        for program in programs:
            program.down = False

"""A load of holds and settlements that goes on while servers come and go."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.domain.budget import Held
from gateway.domain.settlement import SettleResult
from gateway.ledger.redis_ledger import RedisLedger, operation_token
from gateway.ports import LedgerUnavailable
from tests.ledger.rules import ABOUT, budget, candidate, settlement

RULE = budget(10_000_000)
AMOUNT = 100
PATIENCE = 80.0
"""Seconds: servers on a busy machine may need several elections to agree."""


class Load:
    """Clients that hold and settle without end. Whatever is raised but LedgerUnavailable ends the load."""

    def __init__(self, ledger: RedisLedger) -> None:
        self._ledger = ledger
        self._numbers = itertools.count()
        self._progress = asyncio.Condition()
        self._owed: dict[str, str] = {}
        self.done = 0
        self.refused = 0

    async def client(self) -> None:
        """One of them."""
        while True:
            request_id = f"load{next(self._numbers)}"
            try:
                held = await self._ledger.choose_and_hold(request_id, [candidate((RULE, AMOUNT))], about=ABOUT)
                assert isinstance(held, Held)
                self._owed[request_id] = operation_token()
                result = await self._settle(request_id)
            except LedgerUnavailable:
                async with self._progress:
                    self.refused += 1
                    self._progress.notify_all()
                await asyncio.sleep(0.01)
            else:
                async with self._progress:
                    self.done += result is SettleResult.DONE
                    self._progress.notify_all()

    async def _settle(self, request_id: str) -> SettleResult:
        result = await self._ledger.settle(settlement(request_id, AMOUNT * 1000), token=self._owed[request_id])
        del self._owed[request_id]
        return result

    async def settle_rest(self) -> None:
        """Settle what the store did not take in time; a gateway has its journal for that."""
        for request_id in list(self._owed):
            await self._settle(request_id)

    async def more(self, operations: int = 50) -> None:
        """Wait until so many more were done."""
        wanted = self.done + operations
        async with asyncio.timeout(PATIENCE), self._progress:
            await self._progress.wait_for(lambda: self.done >= wanted)

    async def refusal(self) -> None:
        """Wait until one more was refused."""
        wanted = self.refused + 1
        async with asyncio.timeout(PATIENCE), self._progress:
            await self._progress.wait_for(lambda: self.refused >= wanted)


@asynccontextmanager
async def load_on(ledger: RedisLedger, clients: int = 20) -> AsyncIterator[Load]:
    """Clients at work meanwhile, and the ledger's background work too."""
    load = Load(ledger)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(ledger.run()), *(tasks.create_task(load.client()) for _ in range(clients))]
        await load.more()
        yield load
        for task in running:
            task.cancel()
    await ledger.aclose()

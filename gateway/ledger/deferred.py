"""Settlements that outlive an outage of the store: tried at once, else kept and repeated until they are done."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial

from gateway.domain.settlement import Settlement, SettleResult
from gateway.ledger.redis_ledger import RedisLedger, operation_token
from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


class DeferredSettlements:
    """Implements `ports.Settlements`. Waiting ones live in memory, and their holds are kept alive meanwhile.

    Should this process die first, the holds lapse to presumed spent: money is then booked too high, never too low.
    """

    def __init__(self, ledger: RedisLedger) -> None:
        self._ledger = ledger
        self._waiting: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        """How many are not in the store yet."""
        return len(self._waiting)

    async def settle(self, settlement: Settlement) -> SettleResult | None:
        """Settle; None if the store does not answer: it will be done in the background."""
        return await self._now_or_later(partial(self._ledger.settle, settlement, token=operation_token()))

    async def void(self, request_id: str, attempt: int, reason: str) -> SettleResult | None:
        """Void; None if the store does not answer: it will be done in the background."""
        token = operation_token()
        return await self._now_or_later(partial(self._ledger.void, request_id, attempt, reason, token=token))

    async def _now_or_later(self, work: Callable[[], Awaitable[SettleResult]]) -> SettleResult | None:
        try:
            return await work()
        except LedgerUnavailable as error:
            log.warning("a settlement waits for the store: %s", error)
        except asyncio.CancelledError:
            self._keep(work)  # the operation goes on, but nobody would see it fail
            raise
        self._keep(work)
        return None

    def _keep(self, work: Callable[[], Awaitable[SettleResult]]) -> None:
        task = asyncio.create_task(self._until_done(work))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _until_done(self, work: Callable[[], Awaitable[SettleResult]]) -> None:
        pause = FIRST_PAUSE
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            try:
                await work()
            except LedgerUnavailable:
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                return

    async def aclose(self, timeout: float) -> int:  # noqa: ASYNC109 - how long to drain, not a deadline of one call
        """Wait up to `timeout` seconds for those that are waiting; return how many had to be given up."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=timeout)
        given_up = list(self._waiting)
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        if given_up:
            log.error("%d settlements never reached the store; their holds lapse to presumed spent", len(given_up))
        return len(given_up)

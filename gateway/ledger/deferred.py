"""Settlements that outlive an outage of the store and of this process: tried at once, else on disk until done."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from gateway import failpoint
from gateway.domain.settlement import DONE, FIRST, LATE, Settlement, SettleResult
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.journal import Journal
from gateway.ledger.journal_lines import PendingWrite, Void
from gateway.ledger.own_holds import HoldRecord, member
from gateway.ledger.redis_ledger import RedisLedger, operation_token
from gateway.ports import Ended, LedgerUnavailable, Meanwhile

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
AT_ONCE = 8
"""How many waiting ones are told at the same time, so that new holds find connections too."""
TAKE_OVER_SECONDS = 5.0


class DeferredSettlements:
    """Implements `ports.Settlements`. What the store does not take is in the journal before anybody goes on.

    Holds that wait to be ended are kept alive meanwhile. Should this process die, another one that shares the journal's
    directory, or the next one to start there, goes on. Without a journal what waits is in memory alone, and if this
    process dies the holds lapse to presumed spent: money is then booked too high, never too low.
    """

    def __init__(self, ledger: RedisLedger, journal: Journal | None = None) -> None:
        self._ledger = ledger
        self._journal = journal
        self._waiting: dict[str, PendingWrite] = {}
        self._endings: dict[str, Callable[[SettleResult], object]] = {}
        self.on_void: Callable[[str], object] = lambda _: None
        """Is told of each hold that is to end for nothing, `request id:attempt`, whether or not the store answers."""
        self._teller: asyncio.Task[None] | None = None
        self._away = False
        self._closing = False

    def waits(self, token: str) -> bool:
        """Tell whether the store is still to be told what has this token."""
        return token in self._waiting

    def settle(
        self, settlement: Settlement, meanwhile: Meanwhile = None, ended: Ended = None
    ) -> Coroutine[Any, Any, SettleResult | None]:
        """Settle; None if the store does not answer: it is in the journal, and will be done in the background."""
        return self._now_or_later(settlement, meanwhile, ended)

    def void(self, request_id: str, attempt: int, reason: str) -> Coroutine[Any, Any, SettleResult | None]:
        """Void; None if the store does not answer: it is in the journal, and will be done in the background."""
        self.on_void(member(request_id, attempt))
        return self._now_or_later(Void(request_id, attempt, reason))

    async def hold(self, record: HoldRecord) -> bool:
        """Keep a hold that the store is to be told of; tells whether it is on disk. If not, nothing is kept."""
        if self._journal is None:
            return False
        pending = PendingWrite(record.token, _now(), None, record)
        on_disk = False
        try:
            on_disk = await self._journal.append(pending)
        finally:
            if not on_disk:
                self._journal.done(pending.token)
        if on_disk:
            self._ledger.restore(record)
            self._wait_for_store([pending])
        return on_disk

    async def _now_or_later(
        self, what: Settlement | Void, meanwhile: Meanwhile = None, ended: Ended = None
    ) -> SettleResult | None:
        token = operation_token()
        if not self._away:
            try:
                if isinstance(what, Settlement):
                    result = await self._ledger.settle(what, token=token, meanwhile=meanwhile)
                    if ended is not None and (result is DONE or result is LATE or result is FIRST):
                        ended(result)
                    return result
                return await self._ledger.void(what.request_id, what.attempt, what.reason, token=token)
            except LedgerUnavailable as error:
                self._away = not isinstance(error, LedgerRefused)
                log.warning("a settlement waits for the store: %s", error)
            except asyncio.CancelledError:
                _ = self._keep(what, token, ended)  # the operation goes on, but nobody would see it fail
                raise
        kept = self._keep(what, token, ended)
        if kept is not None and await kept:
            failpoint.reach("journal_written")
        return None

    def _keep(self, what: Settlement | Void, token: str, ended: Ended) -> asyncio.Future[bool] | None:
        if ended is not None:
            context = contextvars.copy_context()
            self._endings[token] = lambda result: context.run(ended, result)  # it is told in its own trace
        hold = self._ledger.record_of(what.request_id, what.attempt)  # as long as the store was not heard, it is known
        pending = PendingWrite(token, _now(), what, hold)
        kept = self._journal.append(pending) if self._journal is not None else None
        self._wait_for_store([pending])
        return kept

    def _wait_for_store(self, pending: Iterable[PendingWrite]) -> None:
        self._waiting |= {each.token: each for each in pending if each.token not in self._waiting}
        if self._waiting and (self._teller is None or self._teller.done()):
            self._teller = asyncio.create_task(self._until_done())

    def _forget(self, pending: PendingWrite) -> None:
        self._waiting.pop(pending.token, None)
        if self._journal is not None:
            self._journal.done(pending.token)

    async def _tell(self, pending: PendingWrite) -> SettleResult | None:
        what = pending.what
        if isinstance(what, Settlement):
            return await self._ledger.settle(what, token=pending.token)
        if what is not None:
            return await self._ledger.void(what.request_id, what.attempt, what.reason, token=pending.token)
        assert pending.hold is not None
        await self._ledger.put_back(pending.hold)
        return None

    async def _until_done(self) -> None:
        """Tell the store everything that waits, oldest first; what it does not take goes to the end."""
        pause = FIRST_PAUSE
        while self._waiting:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            if await self._tell_some(1 if self._away else AT_ONCE):
                pause = 0.0
            else:
                pause = min(max(pause * 2, FIRST_PAUSE), LONGEST_PAUSE)

    async def _tell_some(self, most: int) -> bool:
        """Tell some; return whether the store took them all."""
        some = list(self._waiting.values())[:most]
        results = await asyncio.gather(*map(self._tell, some), return_exceptions=True)
        for pending, result in zip(some, results, strict=True):
            if isinstance(result, LedgerUnavailable):
                self._waiting[pending.token] = self._waiting.pop(pending.token, pending)
                self._away = not isinstance(result, LedgerRefused)
            elif isinstance(result, BaseException):
                log.error("the store cannot be told of %s before the next start", pending.member, exc_info=result)
                self._waiting.pop(pending.token, None)
                self._endings.pop(pending.token, None)
            else:
                self._away = False
                self._forget(pending)
                ended = self._endings.pop(pending.token, None)
                if ended is not None and (result is DONE or result is LATE or result is FIRST):
                    ended(result)
        return not any(isinstance(result, BaseException) for result in results)

    async def run(self) -> None:
        """Take over what dead processes left in the journal's directory, now and every few seconds, until cancelled.

        A journal that cannot be written is told of first, while there is time to mend it.
        """
        if self._journal is not None:
            await self._journal.check()
        while True:
            await self.take_over()
            await asyncio.sleep(TAKE_OVER_SECONDS * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not a secret

    async def take_over(self) -> None:
        """Go on with what dead processes left."""
        if self._journal is None or self._closing:
            return
        found = await self._journal.take_over()
        if self._closing:  # they are in the own file, and stay there
            return
        for pending in found:
            if pending.what is not None and pending.hold is not None:
                self._ledger.restore(pending.hold)
        self._wait_for_store(found)

    async def aclose(self, timeout: float) -> int:  # noqa: ASYNC109 - how long to drain, not a deadline of one call
        """Wait up to `timeout` seconds for what waits; return how many had to be left. Closes the journal."""
        self._closing = True
        if self._teller is not None:
            await asyncio.wait([self._teller], timeout=timeout)
            self._teller.cancel()
            await asyncio.gather(self._teller, return_exceptions=True)
        left = len(self._waiting)
        on_disk = await self._journal.aclose() if self._journal is not None else 0
        self._waiting.clear()
        self._endings.clear()
        if on_disk:
            log.warning("%d settlements stay in the journal for the next start", on_disk)
        if left > on_disk:
            log.error("%d settlements never reached the store; their holds lapse to presumed spent", left - on_disk)
        return left


def _now() -> int:
    """Unix milliseconds."""
    return round(time.time() * 1000)

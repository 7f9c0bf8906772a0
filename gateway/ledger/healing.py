"""Healing: telling a store again what it has lost, before anything new is admitted.

A store that came back older, after a failover or from an old copy, lacks the last operations. Every instance repeats
its own: holds that still run are put back, those that ended lately are put back and ended again. All of it is
harmless where nothing was lost. A store that came back empty admits nothing until `image-gateway ledger rebuild`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from gateway.ledger import script
from gateway.ledger.calls import Calls
from gateway.ledger.errors import LedgerRefused, StoreError
from gateway.ledger.names import Names
from gateway.ledger.own_holds import HoldRecord, OwnHolds
from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
BINDING_SECONDS = "86400"


class Healing:
    """One instance's part. `open_again` returns the epoch of the ledger that is there, or raises LedgerRefused."""

    def __init__(
        self, calls: Calls, names: Names, holds: OwnHolds, *, lease: str, open_again: Callable[[], Awaitable[str]]
    ) -> None:
        self._calls = calls
        self._names = names
        self._holds = holds
        self._lease = lease
        self._open_again = open_again
        self._work: asyncio.Task[None] | None = None
        self._again = False

    @property
    def needed(self) -> bool:
        """Whether the store is still to be told something."""
        return self._work is not None

    def begin(self) -> None:
        """Start healing, unless it is under way; then once more after it."""
        self._again = True
        if self._work is None:
            log.warning("the store came back older than it was, or another: telling it again what runs")
            self._work = asyncio.create_task(self._until_done())

    async def wait(self) -> None:
        """Return once nothing is left to be told."""
        if self._work is not None:
            await asyncio.shield(self._work)

    async def _until_done(self) -> None:
        pause, told = FIRST_PAUSE, ""
        while self._again:
            self._again = False
            try:
                await self._heal()
            except (LedgerUnavailable, StoreError) as error:
                self._again = True
                if str(error) != told:
                    log.warning("healing waits: %s", error)
                    told = str(error)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                pause = min(pause * 2, LONGEST_PAUSE)
        self._work = None

    async def _heal(self) -> None:
        self._calls.start_over()
        epoch = await self._open_again()
        live, put_back = self._holds.live, 0
        for record in live:
            put_back += await self.reassert(record, epoch)
        repeated = 0
        for ending in self._holds.endings():
            if ending.record is not None:
                put_back += await self.reassert(ending.record, epoch)
            await self._repeat(ending.operation, ending.script, ending.keys, ending.args)
            repeated += 1
        fields = {"live": len(live), "ended": repeated, "put_back": put_back}
        log.warning("the store was told again what it may have lost", extra={"fields": fields})

    async def _repeat(self, operation: str, what: script.Script, keys: tuple[str, ...], args: tuple[str, ...]) -> None:
        try:
            await self._calls.write(operation, what, keys, args)
        except LedgerRefused as error:
            log.error("an operation cannot be repeated: %s", error)  # noqa: TRY400 - the message says it all

    async def reassert(self, record: HoldRecord, epoch: str) -> bool:
        """Put a hold back if the store does not know it; tells whether it was missing. Raises LedgerUnavailable."""
        names, binding = self._names, record.binding
        keys = [names.meta, names.balances, names.request(record.request_id), names.due]
        args = [epoch, record.token, record.request_id, str(record.attempt), record.state, str(record.at), self._lease]
        args += [record.about, record.candidate, str(record.index)]
        if binding is not None and not binding.claim:
            keys.append(names.binding(binding.name))
            args += [binding.fingerprint, BINDING_SECONDS]
        return bool(await self._calls.write("hold", script.REASSERT, keys, args) == "DONE")

    async def aclose(self) -> None:
        """Stop."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

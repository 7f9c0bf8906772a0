"""Resync: telling a store again what it has lost, before anything new is admitted.

A store that came back older, after a failover or from an old copy, lacks the last operations. Every instance repeats
its own: holds that still run are put back, those that ended lately are put back and ended again. All of it is
harmless where nothing was lost. Where a loss is only suspected the store is asked first, and work goes on. A store
that came back empty admits nothing until `image-gateway ledger rebuild`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import islice

from gateway.domain.settlement import CostSource
from gateway.ledger import script
from gateway.ledger.calls import Calls
from gateway.ledger.errors import LedgerRefused, StoreError
from gateway.ledger.names import Names
from gateway.ledger.own_holds import Ending, HoldRecord, OwnHolds
from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
BINDING_SECONDS = "86400"
LEFT_BEHIND_SECONDS = "3600"
"""An SDK's last retry comes some 20 minutes after its first try was left; a later one is of somebody's new request."""
BATCH = 200
AT_ONCE = 8
"""Attempts asked about in one call, and put back at the same time."""
GUESSED = "guessed"
OVERLAP_SECONDS = 1.0
"""By then, anything sent to the lost server has been answered or never will be."""


class Resync:
    """One instance's part. `open_again` returns the epoch of the ledger that is there, or raises LedgerRefused."""

    def __init__(
        self, calls: Calls, names: Names, holds: OwnHolds, *, lease: str, open_again: Callable[[], Awaitable[str]]
    ) -> None:
        self._calls = calls
        self._names = names
        self._holds = holds
        self._lease = lease
        self._open_again = open_again
        self.needed = False
        """Whether something still has to be re-sent to the store."""
        self._work: asyncio.Task[None] | None = None
        self._again = False
        self._why = ""
        self._look: asyncio.Task[None] | None = None
        self._suspected = False

    @property
    def reason(self) -> str:
        """Why nothing may be held meanwhile, in words."""
        return self._why or "the store is being told again what it lost"

    def begin(self) -> None:
        """Start the resync, unless it is under way; then once more after it."""
        self._again = True
        if not self.needed:
            self.needed = True
            log.warning("the store came back older than it was, or another: telling it again what runs")
            self._work = asyncio.create_task(self._until_done())

    def suspect(self) -> None:
        """Look soon whether the store lacks anything, and heal it only then."""
        self._suspected = True
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_for_losses())

    async def _look_for_losses(self) -> None:
        while self._suspected:
            await asyncio.sleep(OVERLAP_SECONDS)
            self._suspected = False
            try:
                lost = await self._lacks_anything()
            except LedgerUnavailable:
                self._suspected = True
                continue
            if lost:
                self.begin()

    async def _lacks_anything(self) -> bool:
        """Tell whether the store does not know of what runs, or of how something ended."""
        ended = [one for one in self._holds.endings() if one.attempt is not None]
        live = [(one.request_id, one.attempt) for one in self._holds.live]
        for at, state in await self._open_ends([*((one.request_id, one.attempt) for one in ended), *live]):
            if not state or (at < len(ended) and not _stands(ended[at], state)):
                return True
        return False

    async def _until_done(self) -> None:
        pause = FIRST_PAUSE
        try:
            while self._again:
                self._again = False
                try:
                    await self._heal()
                except (LedgerUnavailable, StoreError) as error:
                    self._again = True
                    if str(error) != self._why:
                        log.warning("the resync waits: %s", error)
                    self._why = str(error)
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                    pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self.needed, self._why = False, ""

    async def _heal(self) -> None:
        self._calls.start_over()
        epoch = await self._open_again()
        live, ended = self._holds.live, list(self._holds.endings())
        lost = [
            live[at]
            for at, state in await self._open_ends([(one.request_id, one.attempt) for one in live])
            if not state
        ]
        await _some_at_once(partial(self.reassert, record, epoch) for record in lost)
        for record in lost:
            if self._holds.find(record.request_id, record.attempt):  # a renewal may have given it up meanwhile
                self._holds.add(record)
        told = [ending for ending in ended if ending.attempt is not None]
        open_ends = await self._open_ends([(one.request_id, one.attempt) for one in told])
        lacking = [told[at] for at, state in open_ends if state == CostSource.PRESUMED or not _stands(told[at], state)]
        again = lacking + [ending for ending in ended if ending.attempt is None]
        of_request: dict[str, list[Ending]] = {}
        for ending in again:
            of_request.setdefault(ending.request_id, []).append(ending)
        await _some_at_once(partial(self._end_again, endings, epoch) for endings in of_request.values())
        fields = {"live": len(live), "ended": len(ended), "put_back": len(lost), "ended_again": len(again)}
        log.warning("the store was told again what it may have lost", extra={"fields": fields})

    async def _open_ends(self, attempts: Sequence[tuple[str, int | None]]) -> list[tuple[int, str]]:
        """Return which of these the store does not know as ended, by index, with the state it knows, if any."""
        found: list[tuple[int, str]] = []
        for start in range(0, len(attempts), BATCH):
            batch = attempts[start : start + BATCH]
            keys = [self._names.request(request_id) for request_id, _ in batch]
            reply = await self._calls.read(script.OPEN_ENDS, keys, [str(attempt) for _, attempt in batch])
            found += [(start + int(at) - 1, str(state)) for at, state in zip(reply[::2], reply[1::2], strict=True)]
        return found

    async def _end_again(self, endings: Iterable[Ending], epoch: str) -> None:
        """Repeat what ended a request's attempts, in the order in which it did: a correction comes after its guess."""
        for ending in endings:
            if ending.record is not None:
                await self.reassert(ending.record, epoch)
            try:
                await self._calls.write(ending.operation, ending.what, ending.keys, ending.args)
            except LedgerRefused as error:
                log.error("an operation cannot be repeated: %s", error)  # noqa: TRY400 - the message says it all

    async def reassert(self, record: HoldRecord, epoch: str) -> bool:
        """Put a hold back if the store does not know it; tells whether it was missing. Raises LedgerUnavailable."""
        names, binding = self._names, record.binding
        keys = [names.meta, names.balances, names.request(record.request_id), names.due]
        args = [epoch, record.token, record.request_id, str(record.attempt), record.state, str(record.at), self._lease]
        args += [record.about, record.candidate, str(record.index), str(record.promised_at)]
        if binding is not None and not binding.claim:
            keys.append(names.binding(binding.name))
            args += [binding.fingerprint, BINDING_SECONDS]
        return bool(await self._calls.write("hold", script.REASSERT, keys, args) == "DONE")

    async def aclose(self) -> None:
        """Stop."""
        tasks = [task for task in (self._look, self._work) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _stands(ending: Ending, state: str) -> bool:
    """Tell whether this state, though not for good, is what its end has left."""
    return (state == CostSource.PRESUMED and ending.presumed) or (state == GUESSED and ending.operation == "void")


async def _some_at_once(work: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Do all of it, a few at a time."""
    rest = iter(work)
    while some := list(islice(rest, AT_ONCE)):
        await asyncio.gather(*(each() for each in some))

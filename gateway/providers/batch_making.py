"""Batch making: lines gathered into one file, uploaded, and handed over exactly once.

What cannot be repeated is creating the batch. Before it, the store knows of the batch; after it, of its id. Where the
answer is lost, the provider's own list tells, by a mark that each batch carries.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.domain.batch import BatchTerms
from gateway.domain.retry import backoff, jittered
from gateway.domain.settlement import Outcome
from gateway.failpoint import reach
from gateway.ports import LedgerUnavailable, Rendered
from gateway.ports.batches import Batches
from gateway.ports.provider import UpstreamFailure
from gateway.providers.batch_lines import LineFile
from gateway.providers.batch_wire import BatchWire, Seen, not_sent

log = logging.getLogger("gateway.providers")

T = TypeVar("T")

QUIET: Final = 2.0
"""Seconds without a new line after which a batch is sent; they come all at once, when their time has come."""
LONGEST: Final = 60.0
"""Seconds after which it is sent even so."""
HEARD_EVERY: Final = 5.0
SILENCE: Final = 30.0
"""Seconds after which a batch that is being gathered counts as given up, if nobody is heard of."""
TRIES: Final = 4
LONGEST_PAUSE: Final = 10.0
"""Seconds; a provider that asks for more before it takes a file is left alone until its tasks are tried again."""
LISTED_LATE: Final = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Seconds between looks into the provider's list for a batch whose creation was not answered."""
STORE_PAUSE: Final = 1.0


class Making:
    """One batch from its first line until the provider has it, or surely never will."""

    def __init__(self, wire: BatchWire, records: Batches, terms: BatchTerms, endpoint: str) -> None:
        self._creating = wire.longest_call
        self.key = f"batch_{secrets.token_hex(16)}"
        self._wire, self._records, self._terms, self._endpoint = wire, records, terms, endpoint
        self._file = LineFile(endpoint, terms.most_requests, terms.most_bytes)
        self._joining = 0
        self._changed = time.monotonic()
        self._begun = False
        self._beginning = asyncio.Lock()
        self.closed = False

    @property
    def lines(self) -> int:
        """How many lines there are."""
        return self._file.lines

    async def add(self, custom_id: str, body: Rendered, announce: Callable[[], Awaitable[None]]) -> None:
        """Take a line; `announce` is awaited before it is written. Full if another batch must take it."""
        self._joining += 1
        try:
            async with self._beginning:
                if not self._begun:
                    await self._records.begin(self.key, SILENCE)
                    self._begun = True
            await announce()
            await self._file.add(custom_id, body)
        finally:
            self._joining -= 1
            self._changed = time.monotonic()

    async def run(self, told: Callable[[str, int], None]) -> Seen:
        """Wait until no more lines come, then send them; UpstreamFailure tells what became of all of them.

        `told` hears what became of it, and of how many lines.
        """
        try:
            seen = await self._sent(await self._uploaded())
            told("created", self.lines)
            return seen
        except UpstreamFailure:
            told("not_created", self.lines)
            raise
        finally:
            await self._file.aclose()

    async def _uploaded(self) -> str:
        """Gather the lines and store the file; until then others hear that somebody is at it."""
        heard = asyncio.create_task(self._heard())
        try:
            await self._gathered()
            return await self._upload()
        finally:
            heard.cancel()

    async def _heard(self) -> None:
        while True:
            await asyncio.sleep(HEARD_EVERY)
            await self._known(lambda: self._records.still(self.key, SILENCE))

    async def _gathered(self) -> None:
        began = time.monotonic()
        while True:
            now = time.monotonic()
            if self._joining == 0 and (now - self._changed >= QUIET or now - began >= LONGEST or self.closed):
                self.closed = True
                return
            await asyncio.sleep(QUIET / 4)

    async def _sent(self, file: str) -> Seen:
        try:
            return await self._handed_over(file)
        except UpstreamFailure as failure:
            if failure.outcome is Outcome.NOT_SENT:
                self._wire.forget(file)
            raise

    async def _handed_over(self, file: str) -> Seen:
        before = time.monotonic()
        if not await self._known(lambda: self._records.creating(self.key, file, self._creating)):
            raise _given_up()
        if time.monotonic() - before > self._creating / 4:  # another may look for it by now
            raise _given_up()
        reach("batch_creating")
        seen = await self._create(file)
        reach("batch_created")
        if not await self._known(lambda: self._records.created(self.key, seen.id)):
            log.error("batch %s was given up while it was created; it is cancelled", seen.id)
            await self._take_back(seen)
            raise _given_up()
        log.info("batch %s: %d requests sent as %s", self.key, self._file.lines, seen.id)
        return seen

    async def _take_back(self, seen: Seen) -> None:
        """Cancel a batch that others take for one that was never sent; UpstreamFailure (unknown) if it goes on."""
        try:
            await self._wire.cancel(seen.id)
        except UpstreamFailure as failure:
            raise UpstreamFailure(
                Outcome.UNKNOWN, failure.reason, f"batch {seen.id} cannot be cancelled: {failure.message}"
            ) from failure

    async def _upload(self) -> str:
        """Store the file. Nothing is billed for it, so it is done again if it fails."""
        if not self._file.lines:
            raise UpstreamFailure(Outcome.NOT_SENT, "batch_not_created", "no line of this batch could be written")
        for number in range(1, TRIES + 1):
            try:
                return await self._wire.upload(self.key, self._file.length, self._file.chunks)
            except UpstreamFailure as failure:
                lasting = failure.reason.startswith(("account", "status_4xx", "redirect"))
                if lasting or number == TRIES or (failure.retry_after or 0.0) > LONGEST_PAUSE:
                    await self._end()
                    raise not_sent(failure) from failure
                await asyncio.sleep(failure.retry_after or backoff(number, random.random))
        raise AssertionError("unreachable")

    async def _create(self, file: str) -> Seen:
        try:
            return await self._wire.create(self.key, file, self._endpoint, self._terms.window)
        except UpstreamFailure as failure:
            if failure.outcome is not Outcome.UNKNOWN:
                await self._end()
                raise not_sent(failure) from failure
            log.warning("batch %s: nobody knows whether it was created: %s", self.key, failure)
            found = await looked_up(self._wire, self.key)
            if found is not None:
                return found
            await self._end()
            raise not_sent(failure) from failure

    async def _end(self) -> None:
        await self._known(lambda: self._records.abandon(self.key, own=True))

    async def _known(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the store, again and again until it answers: a batch can wait."""
        while True:
            try:
                return await ask()
            except LedgerUnavailable as error:
                log.warning("batch %s waits for the store: %s", self.key, error)
                await asyncio.sleep(STORE_PAUSE)


async def looked_up(wire: BatchWire, key: str) -> Seen | None:
    """Look for a batch in the provider's list, until it is there or could have been for long.

    Raises UpstreamFailure while the list cannot be had: then it is not known whether the batch is there.
    """
    for pause in LISTED_LATE:
        await asyncio.sleep(jittered(pause, random.random))
        try:
            found = await wire.marked(key)
        except UpstreamFailure as failure:
            log.warning("batch %s cannot be looked for: %s", key, failure)
            if pause == LISTED_LATE[-1]:
                raise UpstreamFailure(
                    Outcome.UNKNOWN, "timeout", "the provider does not say which batches it has"
                ) from failure
            continue
        if found is not None:
            return found
    return None


def _given_up() -> UpstreamFailure:
    return UpstreamFailure(Outcome.NOT_SENT, "batch_not_created", "the batch was given up before it was created")

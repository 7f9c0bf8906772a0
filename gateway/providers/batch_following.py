"""Batch following: one batch looked at until it is over, for all of its lines that this process waits for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.domain.batch import BatchState, BatchTerms
from gateway.domain.errors import Unavailable
from gateway.domain.retry import jittered
from gateway.domain.settlement import Outcome
from gateway.ports import LedgerUnavailable
from gateway.ports.batches import Batches
from gateway.ports.provider import Answer, UpstreamFailure
from gateway.providers.batch_making import STORE_PAUSE, Making, looked_up
from gateway.providers.batch_results import ResultLine, Results
from gateway.providers.batch_wire import BatchWire, Seen, full
from gateway.providers.outcome import error_code, of_garbage, of_status

log = logging.getLogger("gateway.providers")

AFTER_ITS_WINDOW: Final = 6 * 3600.0
"""Seconds for which a batch is asked after that should be over, before nobody can tell any more."""
UNHEARD: Final = 3600.0
"""Seconds for which nothing but failures is heard of a batch, all requests of which are late, before the same."""
_MOST_ERROR: Final = 64 * 1024
_TRIES: Final = 5
_UNDONE = frozenset({"batch_expired", "batch_cancelled"})
"""Codes of lines that were not begun. The provider bills completed requests alone (Batch API guide: work that was
completed before a batch expired or was cancelled is charged)."""


class BatchAccount(NamedTuple):
    """What batches of one account are made and followed with. `told` hears what became of one, of how many requests."""

    wire: BatchWire
    records: Batches
    terms: BatchTerms
    told: Callable[[str, int], None]


class Following:
    """One batch. `wait` for a line; the looking is one coroutine however many wait.

    A line is answered as soon as it is here, and the last that waits may close this while others are looked for.
    """

    def __init__(self, account: BatchAccount, key: str, making: Making | None) -> None:
        self._wire, self._records, self._terms, self._told = account
        self.key = key
        self._making = making
        self._waiting = 0
        self._due: float | None = None
        self._last_due: float | None = None
        self._cancelled = False
        self._results: Results | None = None
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    @property
    def over(self) -> bool:
        """Whether it is known what became of it."""
        return self._task.done()

    @property
    def idle(self) -> bool:
        """Whether nobody waits any more."""
        return self._waiting == 0

    async def wait(self, custom_id: str, due: float | None) -> Answer:
        """Return the answer to one line; UpstreamFailure says what else became of it."""
        self._waiting += 1
        if due is not None:
            self._due = due if self._due is None else min(self._due, due)
            self._last_due = due if self._last_due is None else max(self._last_due, due)
        try:
            while not self._task.done():
                here = self._results
                if here is not None and (line := here.line(custom_id)) is not None:
                    return await self._judged(line, here)
                await self._news.wait()
            seen, results = await asyncio.shield(self._task)
            line = results.line(custom_id)
            if line is None:
                raise _without_result(seen, lacking=results.lacking)
            return await self._judged(line, results)
        finally:
            self._waiting -= 1

    def _tell(self) -> None:
        """Have everyone who waits look whether a line is here."""
        self._news.set()
        self._news = asyncio.Event()

    def _ended(self, task: asyncio.Task[tuple[Seen, Results]]) -> None:
        """Tell those who wait; retrieve the outcome in case nobody does."""
        if not task.cancelled():
            task.exception()
        self._tell()

    async def _judged(self, line: ResultLine, results: Results) -> Answer:
        """Return the answer of a line that has one; raises what became of any other."""
        response, error = line.document.get("response"), line.document.get("error")
        if isinstance(response, dict):
            status = response.get("status_code")
            if line.done and line.end:
                return await results.answer(line)
            told = not line.done and (line.end or error is None)  # what failed may have no body
            if told and isinstance(status, int) and 100 <= status <= 599:  # noqa: PLR2004 - what HTTP has
                failure = of_status(status, {}, await results.text(line, _MOST_ERROR), secret=self._wire.secret)
                raise full(failure.outcome, failure.message) if failure.reason == "status_429" else failure
        code = error_code(error) if isinstance(error, dict) else "error"
        if code in _UNDONE:
            raise UpstreamFailure(Outcome.REJECTED, code, "the batch ended before this request was done")
        if error is not None:
            raise UpstreamFailure(Outcome.REJECTED, "batch_failed", f"the batch did not do this request ({code})")
        raise of_garbage("the batch's line holds no answer")

    async def _run(self) -> tuple[Seen, Results]:
        seen = await (self._making.run(self._told) if self._making is not None else self._found())
        waiting = None
        try:
            seen = await self._over(seen)
            waiting = self._waiting
            self._results = results = Results()
            seen = await self._fetch(seen, results)
        except UpstreamFailure:
            self._told("lost", self._waiting)
            raise
        except asyncio.CancelledError:
            if waiting and self.idle:  # everyone was answered
                self._told(seen.status, waiting)
            raise
        finally:
            if seen.over:
                self._wire.forget(seen.source)
        self._told("lost" if results.lacking else seen.status, waiting)
        return seen, results

    async def _found(self) -> Seen:
        """Find out what another process made of it; whatever it may have sent is followed, never sent again."""
        while True:
            try:
                record = await self._records.find(self.key)
                if record is None or record.state is BatchState.ABANDONED:
                    raise UpstreamFailure(
                        Outcome.NOT_SENT,
                        "batch_not_created",
                        "the gateway was interrupted before the batch was created",
                    )
                if record.state is BatchState.CREATED:
                    return Seen(record.id, "validating")
                if record.overdue:
                    found = await self._recovered(record.state)
                    if found is not None:
                        return found
                elif record.state is BatchState.CREATING and (found := await self._listed()) is not None:
                    return found
            except LedgerUnavailable as error:
                log.warning("batch %s waits for the store: %s", self.key, error)
            await asyncio.sleep(jittered(min(self._terms.poll, 10 * STORE_PAUSE), random.random))

    async def _listed(self) -> Seen | None:
        """Return a batch that the provider has already, though nobody told its id so far; None if it has none yet."""
        try:
            found = await self._wire.marked(self.key, pages=1)
        except UpstreamFailure as failure:
            log.warning("batch %s cannot be looked for: %s", self.key, failure)
            return None
        if found is not None:
            await self._records.created(self.key, found.id)
        return found

    async def _recovered(self, state: BatchState) -> Seen | None:
        """Look for a batch whose maker fell silent; one that is nowhere is given up, so that nobody can create it."""
        if state is BatchState.CREATING:
            found = await looked_up(self._wire, self.key)
            if found is not None:
                await self._records.created(self.key, found.id)
                return found
        if await self._records.abandon(self.key):
            record = await self._records.find(self.key)
            self._wire.forget(record.file or None if record else None)
        return None

    async def _over(self, seen: Seen) -> Seen:
        """Look until it is over, and give it up where a request's time would run out."""
        patience, heard = time.monotonic() + self._terms.window + AFTER_ITS_WINDOW, time.time()
        while not seen.over:
            if time.monotonic() > patience:
                raise UpstreamFailure(Outcome.UNKNOWN, "timeout", "the provider did not end the batch in time")
            if self._last_due is not None and time.time() - max(heard, self._last_due) > UNHEARD:
                raise UpstreamFailure(Outcome.UNKNOWN, "timeout", "the provider does not say how the batch stands")
            await asyncio.sleep(self._pause())
            try:
                seen = await self._wire.look(seen.id)
                heard = time.time()
            except UpstreamFailure as failure:
                log.warning("batch %s cannot be looked at: %s", seen.id, failure)
            if self._is_late() and not self._cancelled and not seen.over:
                seen = await self._given_up(seen)
        return seen

    async def _given_up(self, seen: Seen) -> Seen:
        """Have it cancelled, and return how it stands then."""
        log.info("batch %s is cancelled: a request of it would be too late", seen.id)
        try:
            seen = await self._wire.cancel(seen.id)
            self._cancelled = True
        except UpstreamFailure as failure:
            log.warning("batch %s cannot be cancelled: %s", seen.id, failure)
        return seen

    def _pause(self) -> float:
        pause = jittered(self._terms.poll, random.random)
        if self._due is not None and not self._is_late():
            pause = min(pause, max(self._due - self._terms.spare - time.time(), 0.1))
        return pause

    def _is_late(self) -> bool:
        return self._due is not None and time.time() >= self._due - self._terms.spare

    async def _fetch(self, seen: Seen, results: Results) -> Seen:
        """Take the files of results, each that can be had, and return what the batch was last seen as.

        Files may be named, and grow, a moment after its end: it is looked at again while it tells of more than they
        hold.
        """
        taken: set[str] = set()
        for number in range(_TRIES):
            if number:
                await asyncio.sleep(jittered(self._terms.poll, random.random))
                seen = await self._looked(seen)
                taken = taken if results.holds(seen.requests, seen.done) else set()
            for file in seen.files:
                if file not in taken and await self._took(seen, file, results):
                    taken.add(file)
            named = bool(seen.files) or seen.status != "completed"  # each line of one that was done is in a file
            if named and taken.issuperset(seen.files) and results.holds(seen.requests, seen.done):
                return seen
        results.lacking = True
        return seen

    async def _looked(self, seen: Seen) -> Seen:
        """Look again at one that is over; as it was seen before if that fails, or says that it goes on."""
        try:
            again = await self._wire.look(seen.id)
        except UpstreamFailure as failure:
            log.warning("batch %s cannot be looked at: %s", seen.id, failure)
            return seen
        return again if again.over else seen

    async def _took(self, seen: Seen, file: str, results: Results) -> bool:
        """Take one file of results, answer the lines in it, and tell whether all of it could be had."""
        try:
            await results.take(self._wire.content(file))
        except (UpstreamFailure, Unavailable) as failure:
            log.warning("results of batch %s cannot be had: %s", seen.id, failure)
            return False
        finally:
            self._tell()
        return True

    async def aclose(self) -> None:
        """Stop looking, and let go of results that nobody reads."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, UpstreamFailure):
            await self._task
        if self._results is not None:
            results, self._results = self._results, None
            await results.returned(read=False)


def _without_result(seen: Seen, *, lacking: bool) -> UpstreamFailure:
    """Judge a line without a result; its outcome is unknown only if the batch ran to completion."""
    if lacking:
        return of_garbage("the batch was done, and its results cannot be had")
    if seen.status == "completed":
        return of_garbage("the batch was completed and holds nothing of this request")
    if seen.status == "failed":
        why = f"the provider refused the batch: {seen.message or 'it does not say why'}"
        return full(Outcome.REJECTED, why) if seen.full else UpstreamFailure(Outcome.REJECTED, "batch_failed", why)
    return UpstreamFailure(Outcome.REJECTED, f"batch_{seen.status}", "the batch ended before this request was done")

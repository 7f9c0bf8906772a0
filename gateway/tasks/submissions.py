"""Task submissions: what a provider has taken on for a task, kept where another gateway finds it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

from gateway.domain.price import Price
from gateway.domain.price_record import prices_of, records_of
from gateway.domain.route import Quote
from gateway.failpoint import reach
from gateway.ports import LedgerUnavailable
from gateway.ports.provider import Submitted
from gateway.ports.tasks import Tasks

log = logging.getLogger(__name__)

PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between the tries to note what was submitted; the work goes on meanwhile."""

ADVANCED_EVERY = 1.0
"""Seconds for which news of progress is gathered before it is told."""
ALMOST = 99
MOST_ROWS = 12 * 1024
"""Characters of the prices that are noted with a call; where they are longer, policy's count as they are by then."""


def read_submitted(kept: Mapping[str, object]) -> Submitted:
    """Read back what was noted."""
    urls, facts = kept.get("urls"), kept.get("facts")
    return Submitted(
        str(kept.get("id", "")),
        {str(name): str(url) for name, url in urls.items()} if isinstance(urls, Mapping) else {},
        {str(name): str(fact) for name, fact in facts.items()} if isinstance(facts, Mapping) else {},
    )


def settled_by(official: Price, own: Price, multiplier: Fraction) -> dict[str, object]:
    """Return what a call is settled by, as it is noted: policy may say otherwise by then."""
    rows = records_of(official, own)
    noted: dict[str, object] = {"rows": rows} if len(json.dumps(rows)) <= MOST_ROWS else {}
    return {**noted, "multiplier": str(multiplier)}


def quote_as_noted(quote: Quote, kept: Mapping[str, Any]) -> Quote:
    """Return a quote with the prices and the multiplier that were noted; as it is where none were noted."""
    if "multiplier" in kept:
        quote = replace(quote, multiplier=Fraction(kept["multiplier"]))
    if "rows" not in kept:
        return quote
    official, own = prices_of(kept["rows"])
    return replace(quote, official_price=official, route_price=own)


class NotedInQueue:
    """Implements `ports.provider.Submissions` for one task. `known` is None unless the task is taken over."""

    __slots__ = (
        "_advancing",
        "_attempt",
        "_known",
        "_progress",
        "_task_id",
        "_tasks",
        "_telling",
        "_terms",
        "_token",
        "_told",
    )

    def __init__(
        self, tasks: Tasks, task_id: str, token: str, known: Mapping[int, Mapping[str, object]] | None = None
    ) -> None:
        self._tasks = tasks
        self._task_id = task_id
        self._token = token
        self._known = None if known is None else {number: read_submitted(kept) for number, kept in known.items()}
        self._attempt: int | None = None
        self._terms: Callable[[], Mapping[str, object]] = dict
        self._telling: tuple[asyncio.Task[None], ...] = ()
        self._progress: dict[int, int] = {}
        self._told = 0
        self._advancing = False

    @property
    def known(self) -> Mapping[int, Submitted] | None:
        """What an earlier process submitted."""
        return self._known

    def begin(self, attempt: int, terms: Callable[[], Mapping[str, object]] = dict) -> None:
        """Let the next call be a new one, of this attempt: what was known has been followed to its end.

        What `terms` returns is noted with all that it submits.
        """
        self._known, self._attempt, self._terms = None, attempt, terms

    async def note(self, number: int, submitted: Submitted) -> None:
        """Keep what was submitted; while the store is away it is tried again in the background."""
        attempt = self._attempt  # what is told late must not be taken for what a later attempt submitted
        told = {**asdict(submitted), **self._terms()}
        if not await self._tell(number, told, attempt):
            self._spawn(self._tell_later(number, told, attempt))
        reach("task_submitted")

    async def announce(self, number: int, submitted: Submitted) -> bool:
        """Keep what is about to be submitted; see `ports.provider.Submissions`."""
        assert self._attempt is not None
        told = {**asdict(submitted), **self._terms()}
        mine = await self._tasks.announced(self._task_id, self._token, number, told, attempt=self._attempt)
        if mine:
            reach("task_submitted")
        return mine

    def advanced(self, number: int, progress: int) -> None:
        """Take note of how far a call is; what is told of the task is the mean of its calls, and never goes back."""
        self._progress[number] = progress
        if not self._advancing:
            self._advancing = True
            self._spawn(self._advance())

    async def _advance(self) -> None:
        await asyncio.sleep(ADVANCED_EVERY)
        self._advancing = False
        mean = min(sum(self._progress.values()) // len(self._progress), ALMOST)
        if mean <= self._told:
            return
        self._told = mean
        try:
            await self._tasks.advanced(self._task_id, mean)
        except LedgerUnavailable as error:
            log.debug("how far %s is cannot be told: %s", self._task_id, error)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._telling += (task,)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._telling = tuple(each for each in self._telling if each is not task)

    async def _tell_later(self, number: int, told: Mapping[str, object], attempt: int | None) -> None:
        for pause in PAUSES:
            await asyncio.sleep(pause)
            if await self._tell(number, told, attempt):
                return

    async def _tell(self, number: int, told: Mapping[str, object], attempt: int | None) -> bool:
        try:
            await self._tasks.submitted(self._task_id, number, told, attempt=attempt)
        except LedgerUnavailable as error:
            log.warning("what %s has submitted is not noted: %s", self._task_id, error)
            return False
        except ValueError as error:
            log.error("what %s has submitted cannot be noted: %s", self._task_id, error)  # noqa: TRY400 - no fault here
        return True

    def close(self) -> None:
        """Tell no more."""
        for task in self._telling:
            task.cancel()

"""Follower: reads the ledger's entries once, from when somebody first looks, and keeps up with them from then on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count

from gateway.console.rollup import DAYS_KEPT, Rollup
from gateway.domain.period import day_start
from gateway.ledger.entries import JunkEntry, decode
from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.ledger.stream import position, raw_page
from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

PAGE = 100
"""Entries decoded in one go: a few milliseconds in which nothing else runs."""
WATCHED_SECONDS, ALONE_SECONDS = 1.0, 60.0
"""Between two looks, while somebody watches and while nobody does."""
WATCHED_FOR = 30.0
PRUNE_EVERY = 30
"""Looks, or pages in one look, after which what is too old is forgotten."""


class Follower:
    """Fills `rollup`: with today at once, and with the whole period as soon as that is read.

    While it reads the period it takes half of the time at most, so that requests have theirs.
    """

    def __init__(
        self,
        store: Store,
        realm: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.rollup = Rollup()
        self.complete = False
        """Whether the whole period is in it, up to the last look."""
        self.stage = 0
        """Counts up whenever the figures become others altogether."""
        self.trouble = ""
        """Why the store did not answer, if it did not."""
        self.version = 0
        self._whole = Rollup()
        self._store = store
        self._key = Names(realm).entries
        self._clock = clock
        self._wanted = asyncio.Event()
        self._changed = asyncio.Condition()
        self._watched = float("-inf")
        self._cursor = ""

    def watch(self) -> None:
        """Say that somebody looks."""
        self._watched = time.monotonic()
        self._wanted.set()

    async def changed(self, version: int, seconds: float) -> int:
        """Return the version once it is another than this, or when so many seconds are over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.version != version)
        return self.version

    def progress(self) -> float:
        """Return how much of the period was read, from 0 to 1, by the time of the entries."""
        if self.complete:
            return 1.0
        began, now = self._start().timestamp(), self._clock().timestamp()
        at = position(self._cursor)[0] / 1000 if self._cursor else began
        return min(max((at - began) / (now - began), 0.0), 0.99)

    async def run(self) -> None:
        """Follow until cancelled; nothing is read before somebody looks."""
        looks = 0
        while True:
            await self._wanted.wait()
            try:
                if looks % PRUNE_EVERY == 0:
                    self._whole.prune(self._clock())
                if not self.complete:
                    await self._read_today()
                await self._catch_up()
                if self.trouble:
                    self.trouble = ""
                    await self._tell()
            except LedgerUnavailable as error:
                self.trouble = str(error)
                await self._tell()
            looks += 1
            await self._pause()

    async def _pause(self) -> None:
        if time.monotonic() - self._watched < WATCHED_FOR:
            await asyncio.sleep(WATCHED_SECONDS)
            return
        self._wanted.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ALONE_SECONDS):
                await self._wanted.wait()
        self._wanted.set()

    async def _read_today(self) -> None:
        today, start = Rollup(), str(int(day_start(self._clock()).timestamp() * 1000))
        self.rollup = today
        while page := await raw_page(self._store, self._key, start, "+", PAGE):
            for entry_id, fields in page:
                _add(today, entry_id, fields)
            start = f"({page[-1][0]}"
        self.stage += 1
        await self._tell()

    async def _catch_up(self) -> None:
        for pages in count(1):
            start = self._cursor or str(int(self._start().timestamp() * 1000))
            page = await raw_page(self._store, self._key, start, "+", PAGE + 1)
            if self._cursor and not (page and page[0][0] == self._cursor):
                # The store came back older, or was trimmed: the next look reads what it has.
                self._whole, self._cursor, self.complete = Rollup(), "", False
                return
            page = page[1:] if self._cursor else page[:PAGE]
            began = time.monotonic()
            for entry_id, fields in page:
                _add(self._whole, entry_id, fields)
                self._cursor = entry_id
            if len(page) < PAGE:
                if not self.complete:
                    self.rollup, self.complete = self._whole, True
                    self.stage += 1
                    await self._tell()
                elif page:
                    await self._tell()
                return
            if pages % PRUNE_EVERY == 0:
                self._whole.prune(self._clock())
            await self._tell()
            await asyncio.sleep(time.monotonic() - began)

    async def _tell(self) -> None:
        async with self._changed:
            self.version += 1
            self._changed.notify_all()

    def _start(self) -> datetime:
        return self._clock() - timedelta(days=DAYS_KEPT)


def _add(rollup: Rollup, entry_id: str, fields: Mapping[str, str]) -> None:
    try:
        rollup.add(decode(entry_id, fields))
    except JunkEntry as error:
        log.warning("%s; it is left out", error)

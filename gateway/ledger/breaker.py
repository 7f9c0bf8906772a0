"""The breaker: while the store is known to be away nothing is sent to it but a probe now and then."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.25
"""Seconds between probes; each is one small command, and what waits for it is every client."""


class Breaker:
    """`reason` says why the store is away, None while it is not. `probe` returns once it answers as it should.

    `on_open` is called when it is found to be away. `was_well` tells whether it ever answered.
    """

    def __init__(self, where: str, probe: Callable[[], Awaitable[None]], on_open: Callable[[], None]) -> None:
        self.reason: str | None = None
        self.was_well = False
        self._where = where
        self._probe = probe
        self._on_open = on_open
        self._probing: asyncio.Task[None] | None = None

    def open(self, why: str) -> None:
        """Let nothing through until a probe comes back."""
        if self.reason is None:
            self.reason = f"store {self._where}: {why}"
            # Whoever cannot begin at all says so; only a store that was there can go away.
            log.log(logging.WARNING if self.was_well else logging.INFO, "the store is away: %s", self.reason)
            self._probing = asyncio.create_task(self._until_well())
            self._on_open()

    async def aclose(self) -> None:
        """Stop probing."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    async def _until_well(self) -> None:
        pause = FIRST_PAUSE
        try:
            while True:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                try:
                    await self._probe()
                except LedgerUnavailable:
                    pause = min(pause * 2, LONGEST_PAUSE)
                else:
                    self.was_well = True
                    log.warning("the store is back: %s", self._where)
                    return
        finally:
            self.reason = None

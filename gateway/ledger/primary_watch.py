"""Watching the sentinels: a primary that was replaced may take commands for seconds more, and what it books is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from gateway.ledger.address import Endpoint
from gateway.ledger.failures import FAULTS

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between looks. Sentinels leave a replaced primary that still answers alone for eight.

https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#sentinel-reconfiguration-of-instances-outside-of-failover
"""


class PrimaryWatch:
    """Finds the primary for new connections, then looks again every second; `on_change` is called if it is another."""

    def __init__(self, locate: Callable[[], Awaitable[Endpoint]], on_change: Callable[[], Awaitable[None]]) -> None:
        self._locate = locate
        self._on_change = on_change
        self._last: Endpoint | None = None
        self._looking: asyncio.Task[None] | None = None

    async def locate(self) -> Endpoint:
        """Return the primary; RedisError if nobody can tell."""
        self._last = await self._locate()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        return self._last

    async def aclose(self) -> None:
        """Stop watching."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(PAUSE * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not a secret
            try:
                primary = await self._locate()
            except FAULTS:
                continue  # what is known is used on
            if primary != self._last:
                log.warning("the sentinels name another primary: %s:%d", *primary)
                self._last = primary
                await self._on_change()

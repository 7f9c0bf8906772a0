"""The store's clock, which all gateways share, beside other clocks, and beside itself as it was before."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.ledger.stream import position
from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

AHEAD = 60_000
"""Milliseconds by which clocks may differ without being wrong."""


async def store_time(store: Store) -> float:
    """Return Unix seconds by the store's clock; raises LedgerUnavailable."""
    seconds, micros = await store.execute("TIME", repeatable=True)
    return int(seconds) + int(micros) / 1_000_000


class StoreClock:
    """The store's clock as it goes on here since it was last looked at, whatever this machine's is set to."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()  # until the first look

    async def look(self, store: Store) -> None:
        """Ask the store; raises LedgerUnavailable."""
        told = await store_time(store)
        self._ahead = told - time.monotonic()

    def now(self) -> float:
        """Return Unix seconds."""
        return time.monotonic() + self._ahead


async def earlier_time(store: Store) -> float:
    """Return Unix seconds by the own clock or the store's, whichever is behind; 0 while the store does not answer.

    By it nothing is deleted too early: a gateway whose clock is ahead would delete what others still need.
    """
    try:
        told = await store_time(store)
    except LedgerUnavailable:
        return 0.0
    return min(time.time(), told)


def told_ahead(entry_id: str, now: int) -> str:
    """Say that the newest entry is ahead of the store's clock, which stands at `now` (ms); empty if it is not."""
    ahead = position(entry_id or "0-0")[0]
    if ahead <= now + AHEAD:
        return ""
    until = datetime.fromtimestamp(ahead / 1000, UTC)
    return (
        f"the store's clock was ahead, up to {until:%Y-%m-%d %H:%M}: what was booked meanwhile is dated in the future, "
        "and is missing from reports of the time when it was booked"
    )


async def warn_if_ahead(store: Store, realm: str) -> None:
    """Log a warning if the newest entry is ahead of the store's clock; raises LedgerUnavailable."""
    last = await store.execute("XREVRANGE", Names(realm).entries, "+", "-", "COUNT", 1, repeatable=True)
    seconds, _ = await store.execute("TIME", repeatable=True)
    if told := told_ahead(last[0][0] if last else "", int(seconds) * 1000):
        log.warning("%s", told)

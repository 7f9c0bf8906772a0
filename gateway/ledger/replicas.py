"""Replicas: a write is on one of them before anything rests on it, where the store has any.

Redis replicates after it has answered. What a gateway can tell a store again needs no waiting for; a task that its
client was told of, and a call that must not be made twice, are known to the store alone.
"""

from __future__ import annotations

import logging
import re
import time

from gateway.ledger.errors import LedgerRefused
from gateway.ledger.names import Names
from gateway.ledger.store import Store

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds for which a replica is waited for that is behind; then the work goes on."""
ASKED_MS = "20"
"""How long one question waits at the store, well within the deadline of a call."""
SEEN_SECONDS = 1.0
"""For which it is believed that there is no replica."""
_INFO = "return redis.call('INFO', 'replication')"
_REACHED = re.compile(r"^master_repl_offset:(\d+)", re.MULTILINE)
_ACKNOWLEDGED = re.compile(r"^slave\d+:.*\bstate=online,offset=(\d+)", re.MULTILINE)


class Replicas:
    """Those of one realm's store. Every method raises LedgerUnavailable."""

    def __init__(self, store: Store, names: Names) -> None:
        self._store = store
        self._names = names
        self._alone_until = 0.0

    async def reached(self) -> bool:
        """Return once a replica has all that was written so far; False if none had it in time, True without any."""
        if time.monotonic() < self._alone_until:
            return True
        try:
            written, acknowledged = await self._offsets()
        except LedgerRefused as error:
            log.debug("the store does not tell of its replicas: %s", error)
            written, acknowledged = 0, []
        if not acknowledged:
            self._alone_until = time.monotonic() + SEEN_SECONDS
            return True
        until = time.monotonic() + PATIENCE
        while acknowledged and max(acknowledged) < written:
            if time.monotonic() > until:
                log.warning("no replica has caught up within %g s: what was written is on the primary alone", PATIENCE)
                return False
            ask = [("HSET", self._names.meta, "asked", "1"), ("WAIT", "1", ASKED_MS)]
            await self._store.execute_all(ask)  # replicas tell unasked once a second alone
            _, acknowledged = await self._offsets()
        return True

    async def _offsets(self) -> tuple[int, list[int]]:
        """Return how far the primary has got, and each replica as it last told."""
        told = str(await self._store.execute("EVAL", _INFO, 1, self._names.meta, repeatable=True))
        reached = _REACHED.search(told)
        return int(reached[1]) if reached else 0, [int(each) for each in _ACKNOWLEDGED.findall(told)]

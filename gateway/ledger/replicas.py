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
from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds for which a replica is waited for that is behind; then the work goes on."""
ASKED_MS = "20"
"""How long one question waits at the store, well within the deadline of a call."""
SEEN_SECONDS = 1.0
"""For which it is believed that there is no replica."""
EXPECTED_SECONDS = 30.0
"""For which replicas are believed to come back that were there: a primary that is cut off from them is about to go."""
_LOOK = "return {redis.call('INFO', 'replication'), redis.call('HGET', KEYS[1], ARGV[1])}"
_REACHED = re.compile(r"^master_repl_offset:(\d+)", re.MULTILINE)
_ACKNOWLEDGED = re.compile(r"^slave\d+:.*\bstate=online,offset=(\d+)", re.MULTILINE)


class Replicas:
    """Those of one realm's store. Every method raises LedgerUnavailable."""

    def __init__(self, store: Store, names: Names) -> None:
        self._store = store
        self._names = names
        self._alone_until = self._expected_until = 0.0

    async def reached(self, key: str, field: str, value: str) -> bool:
        """Return once a replica has what was written to a field of a hash, and whatever was written before.

        False if none had it in time, True if there is none. LedgerUnavailable too if who answers now does not know of
        it: that is another server, or has lost it.
        """
        if time.monotonic() < self._alone_until:
            return True
        try:
            written, acknowledged = await self._look(key, field, value)
        except LedgerRefused as error:
            log.debug("the store does not tell of its replicas: %s", error)
            written, acknowledged = 0, []
        until = time.monotonic() + PATIENCE
        while max(acknowledged, default=-1) < written:
            now = time.monotonic()
            if not acknowledged and now > self._expected_until:
                self._alone_until = now + SEEN_SECONDS
                return True
            if now > until:
                log.warning("no replica has caught up within %g s: what was written is on the primary alone", PATIENCE)
                self._expected_until = now if not acknowledged else self._expected_until
                return False
            ask = [("HSET", self._names.meta, "asked", "1"), ("WAIT", "1", ASKED_MS)]
            await self._store.execute_all(ask)  # replicas tell unasked once a second alone
            _, acknowledged = await self._look(key, field, value)
        return True

    async def _look(self, key: str, field: str, value: str) -> tuple[int, list[int]]:
        """Return how far the primary has got, and each replica as it last told."""
        told, known = await self._store.execute("EVAL", _LOOK, 1, key, field, repeatable=True)
        if known != value:
            raise LedgerUnavailable("the store does not know of what it has just been told")
        reached, acknowledged = _REACHED.search(str(told)), [int(each) for each in _ACKNOWLEDGED.findall(str(told))]
        if acknowledged:
            self._expected_until = time.monotonic() + EXPECTED_SECONDS
        return int(reached[1]) if reached else 0, acknowledged

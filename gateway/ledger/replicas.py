"""Replicas: a write is on one of them before anything rests on it, where the store has any.

Redis replicates after it has answered. What a gateway can tell a store again needs no waiting for; a task that its
client was told of, and a call that must not be made twice, are known to the store alone.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import NamedTuple

from gateway.ledger.errors import LedgerRefused
from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds for which a replica is waited for that is behind; then the work goes on."""
ASKED_SECONDS = 0.02
"""How long one question waits at the store, well within the silence after which a store counts as away."""
SEEN_SECONDS = 1.0
"""For which it is believed that there is no replica."""
EXPECTED_SECONDS = 30.0
"""For which replicas are believed to come back that were there: a primary that they have left may be about to go."""
_LOOK = "return {redis.call('INFO', 'replication'), ARGV[1] ~= '' and redis.call('HGET', KEYS[1], ARGV[1]) or ''}"
_REACHED = re.compile(r"^master_repl_offset:(\d+)", re.MULTILINE)
_ACKNOWLEDGED = re.compile(r"^slave\d+:.*\bstate=online,offset=(\d+)", re.MULTILINE)
_REPLICA = re.compile(r"^role:slave", re.MULTILINE)


class Written(NamedTuple):
    """A field of a hash, and what was written to it, which nobody else would."""

    key: str
    field: str
    value: str


class Replicas:
    """Those of one realm's store. Every method raises LedgerUnavailable."""

    def __init__(self, store: Store, names: Names) -> None:
        self._store = store
        self._names = names
        self._nothing = Written(names.meta, "", "")
        self._alone_until = self._expected_until = 0.0

    async def reached(self, written: Written | None = None) -> bool:
        """Return once a replica has what was written so far; False if none had it in time, True without any.

        LedgerUnavailable too if whoever answers now does not know of what was `written`: that is another server, or
        has lost it.
        """
        if time.monotonic() < self._alone_until:
            return True
        what = written or self._nothing
        try:
            most, acknowledged = await self._look(what)
        except LedgerRefused as error:
            log.debug("the store does not tell of its replicas: %s", error)
            self._alone_until = time.monotonic() + SEEN_SECONDS
            return True
        until = time.monotonic() + PATIENCE
        while max(acknowledged, default=-1) < most:
            now = time.monotonic()
            if not acknowledged and now > self._expected_until:
                self._alone_until = now + SEEN_SECONDS
                return True
            if now > until:
                log.warning("no replica has caught up within %g s: what was written is on the primary alone", PATIENCE)
                if not acknowledged:
                    self._expected_until = now
                return False
            await self._asked(replicas=bool(acknowledged))
            _, acknowledged = await self._look(what)
        return True

    async def _asked(self, *, replicas: bool) -> None:
        """Let replicas tell how far they are, which they do unasked once a second alone; wait a moment without any."""
        if not replicas:
            await asyncio.sleep(ASKED_SECONDS)
            return
        wait = ("WAIT", "1", str(round(ASKED_SECONDS * 1000)))
        waking = asyncio.create_task(self._wake())
        try:
            await self._store.execute_all([("HSET", self._names.meta, "asked", "1"), wait])
        finally:
            waking.cancel()

    async def _wake(self) -> None:
        """Let the store look at its clock, which it does ten times a second alone if it has nothing else to do."""
        await asyncio.sleep(2 * ASKED_SECONDS)
        try:
            await self._store.execute("PING")
        except LedgerUnavailable as error:
            log.debug("the store is not woken: %s", error)

    async def _look(self, what: Written) -> tuple[int, list[int]]:
        """Return how far the primary has got, and each replica as it last told."""
        told, known = await self._store.execute("EVAL", _LOOK, 1, what.key, what.field, repeatable=True)
        if known != what.value or _REPLICA.search(told):
            raise LedgerUnavailable("the store does not know of what it has just been told")
        reached, acknowledged = _REACHED.search(told), [int(each) for each in _ACKNOWLEDGED.findall(told)]
        if acknowledged:
            self._expected_until = time.monotonic() + EXPECTED_SECONDS
        return int(reached[1]) if reached else 0, acknowledged

"""Heartbeats in Redis: what every process on a store says of itself, and what happened in all of them by hours.

No money depends on it: what cannot be written is written later, and what is lost was a count for people to look at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.ledger import script
from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.ledger.wire import to_json

KEEP_SECONDS = 35 * 86_400
"""How long counts are kept."""
SILENT_SECONDS = 45.0
"""A process that said nothing for so long is gone."""
FORGOTTEN_SECONDS = 3600.0

Word = Mapping[str, Any]


def hour_of(seconds: float) -> str:
    """Return the name of the hour (UTC) that a Unix time lies in."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H")


class Heartbeats:
    """Of one realm. Every method raises LedgerUnavailable."""

    def __init__(self, store: Store, realm: str) -> None:
        self._store = store
        self._names = Names(realm)

    async def beat(
        self, instance: str, word: Word | None, counts: Mapping[str, int], refusals: Iterable[Mapping[str, object]]
    ) -> None:
        """Say something of a process (None: that it ends), add counts to those of this hour, and keep refusals."""
        now = time.time()
        keys = [self._names.heartbeats, self._names.happened(hour_of(now)), self._names.refused]
        told = "" if word is None else to_json({**word, "at": now})
        args = [instance, told, str(KEEP_SECONDS), str(len(counts))]
        args += [part for name, count in counts.items() for part in (name, str(count))]
        args += [to_json(refusal) for refusal in refusals]
        await self._store.run(script.PULSE, keys, args)

    async def words(self) -> list[dict[str, Any]]:
        """Return the last word of every process that is alive, longest serving first."""
        found: Mapping[str, str] = await self._store.execute("HGETALL", self._names.heartbeats)
        words = [{"instance": instance, **json.loads(word)} for instance, word in found.items()]
        now = time.time()
        if gone := [word["instance"] for word in words if now - word["at"] > FORGOTTEN_SECONDS]:
            await self._store.execute("HDEL", self._names.heartbeats, *gone)
        alive = [word for word in words if now - word["at"] < SILENT_SECONDS]
        return sorted(alive, key=lambda word: (word["started"], word["instance"]))

    async def happened(self, hour: str) -> dict[str, int]:
        """Return the counts of an hour by name."""
        found: Mapping[str, str] = await self._store.execute("HGETALL", self._names.happened(hour))
        return {name: int(count) for name, count in found.items()}

    async def refused(self, most: int) -> Sequence[dict[str, Any]]:
        """Return the newest refusals, newest first."""
        return [json.loads(each) for each in await self._store.execute("LRANGE", self._names.refused, 0, most - 1)]

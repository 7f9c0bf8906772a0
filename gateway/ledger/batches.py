"""Batches in Redis: a hash each, so that what one gateway sent another finds and follows, and never sends again."""

from __future__ import annotations

import time

from gateway.domain.batch import BatchRecord, BatchState
from gateway.ledger import calls, script
from gateway.ledger.calls import Calls
from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.ledger.task_fields import pairs
from gateway.observe.event import Observer

DAY = 86_400
KEPT = 7 * DAY
"""Seconds; longer than any batch takes and its tasks are remembered."""


class RedisBatches:
    """Implements `ports.batches.Batches`."""

    def __init__(self, store: Store, realm: str = "main", *, observer: Observer | None = None) -> None:
        self._names = Names(realm)
        # What the store lost of batches the provider's own list tells.
        self._calls = Calls(store, self._names, observer)

    async def begin(self, key: str, within: float) -> None:
        """Note that lines are gathered for a new batch; see `ports.batches.Batches`."""
        await self._move(key, (), BatchState.ASSEMBLING, within)

    async def still(self, key: str, within: float) -> bool:
        """Say that it is still being gathered; False if it was given up."""
        return await self._move(key, (BatchState.ASSEMBLING,), BatchState.ASSEMBLING, within)

    async def creating(self, key: str, file: str, within: float) -> bool:
        """Note that it is about to be created; False if it must not be."""
        return await self._move(key, (BatchState.ASSEMBLING,), BatchState.CREATING, within, file=file)

    async def created(self, key: str, batch_id: str) -> bool:
        """Note under which id the provider has it; False if it was given up."""
        before = (BatchState.CREATING, BatchState.CREATED)
        return await self._move(key, before, BatchState.CREATED, 0.0, id=batch_id, created=f"{time.time():.3f}")

    async def abandon(self, key: str, *, own: bool = False) -> bool:
        """Give up one that was not created; see `ports.batches.Batches`."""
        before = (BatchState.ASSEMBLING, BatchState.CREATING)
        return await self._move(key, before, BatchState.ABANDONED, 0.0, overdue=not own)

    async def find(self, key: str) -> BatchRecord | None:
        """Return what is known of a batch."""
        flat, overdue = await self._calls.read(script.BATCH_FIND, [self._names.batch(key)], [])
        if not flat:
            return None
        known = pairs(flat)
        return BatchRecord(
            BatchState(known["state"]),
            file=known.get("file", ""),
            id=known.get("id", ""),
            created=float(known.get("created", "0")),
            overdue=bool(overdue),
        )

    async def _move(
        self,
        key: str,
        before: tuple[BatchState, ...],
        to: BatchState,
        within: float,
        *,
        overdue: bool = False,
        **said: str,
    ) -> bool:
        args = [calls.token(), "".join(f"{state} " for state in before), to, str(round(within * 1000))]
        args += ["1" if overdue else "", str(KEPT), *(part for pair in said.items() for part in pair)]
        return bool(await self._calls.run("batch", script.BATCH_MOVE, [self._names.batch(key)], args))

"""Records that a client hung up, so that its next retry learns that the request may already have been done."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gateway.ports import Ledger
from gateway.request.answer_keeping import leave_behind


@dataclass(slots=True)
class ClientDisconnect:
    """One request that goes through. `name` is what a retry calls it by; None where none could."""

    ledger: Ledger
    name: str | None
    request_id: str
    _task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Take note that its client is gone; harmless when repeated."""
        if self.name is not None and self._task is None:
            self._task = asyncio.create_task(leave_behind(self.ledger, self.name, self.request_id))

    async def finish(self) -> None:
        """Do the same, and return once the next retry finds it."""
        self.begin()
        if self._task is not None:
            await self._task

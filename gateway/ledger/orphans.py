"""Orphans: requests that their clients left behind, by the names that retries call them by."""

from __future__ import annotations

import asyncio

from gateway.domain.idempotency import Binding
from gateway.ledger import script
from gateway.ledger.calls import Calls
from gateway.ledger.names import Names
from gateway.ledger.resync import LEFT_BEHIND_SECONDS


class Orphans:
    """Tells the store of them. A retry that comes at once must not reach the store first: it would find nothing."""

    def __init__(self, calls: Calls, names: Names) -> None:
        self._calls = calls
        self._names = names
        self._under_way: dict[str, list[asyncio.Event]] = {}

    async def note(self, name: str, request_id: str) -> None:
        """Let a retry with a claim of this name take the request over; LedgerUnavailable as from any write."""
        ended = asyncio.Event()
        self._under_way.setdefault(name, []).append(ended)
        try:
            args = [request_id, LEFT_BEHIND_SECONDS]
            await self._calls.write("hold", script.ORPHAN, [self._names.binding(name)], args)
        finally:
            ended.set()
            self._under_way[name].remove(ended)
            if not self._under_way[name]:
                del self._under_way[name]

    async def key(self, binding: Binding) -> str:
        """Return the key of a binding; for a claim, once what was left behind here by its name has been told."""
        while binding.claim and (under_way := self._under_way.get(binding.name)) is not None:
            await under_way[0].wait()
        return self._names.binding(binding.name)

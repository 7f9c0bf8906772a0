"""What gateways that share a store know of each other's batches. Every method may raise LedgerUnavailable."""

from __future__ import annotations

from typing import Protocol

from gateway.domain.batch import BatchRecord


class Batches(Protocol):
    """Batches by their key: one gateway makes each of them, any may follow it."""

    async def begin(self, key: str, within: float) -> None:
        """Note that this gateway gathers lines for a batch, and will be heard of again within so many seconds."""

    async def still(self, key: str, within: float) -> bool:
        """Say that it is still being gathered; False if another gateway has given it up meanwhile."""

    async def creating(self, key: str, file: str, within: float) -> bool:
        """Note that it is about to be created; False if it was given up, and then it must not be."""

    async def created(self, key: str, batch_id: str) -> bool:
        """Note under which id the provider has it; False if it was given up meanwhile."""

    async def abandon(self, key: str, *, own: bool = False) -> bool:
        """Give up one that was not created, by whoever makes it or once it is overdue; True if it is given up now."""

    async def find(self, key: str) -> BatchRecord | None:
        """Return what is known of a batch; None once it is forgotten, days after its end."""

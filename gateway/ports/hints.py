"""What gateways under one address leave for each other: calls of providers that arrived at the wrong one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Mailboxes(Protocol):
    """A mailbox for each gateway, by a name in hexadecimal. Every method may raise LedgerUnavailable."""

    async def leave(self, owner: str, call: str) -> None:
        """Put a call into a gateway's mailbox. One that is full, or that nobody empties, forgets it."""

    async def collect(self, owner: str) -> Sequence[str]:
        """Take what is in a mailbox, oldest first, as much as one look may bring."""

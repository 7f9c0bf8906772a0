"""What can be wrong with the store: its set-up, each in one clear line for whoever starts the gateway, or a call."""

from __future__ import annotations

from gateway.ports import LedgerUnavailable


class StoreError(Exception):
    """The store cannot be used as configured; the message says what is wrong and what to do."""


class PepperMismatch(StoreError):
    """The keys in the store were made with another pepper, so that none of them would be recognised."""


class LedgerRefused(LedgerUnavailable):
    """The store answered, but refused: junk where a balance should be, out of memory, read-only, another ledger."""

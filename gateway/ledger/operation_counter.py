"""Operation counter: the operations of one instance, by which it notices a store that came back older than it was.

Each operation that writes carries this instance's name and a number that counts up; the store keeps the highest number
of each instance, and answers with the one before. If that is lower than what this instance had seen done before it
asked, writes were lost: a replica that lagged behind took over, or an old copy was restored. No clock is involved, and
it does not matter what other instances have written since. Operations that overlap while the server changes can hide
a loss from each other's numbers, so a lost connection is itself a reason to look.
"""

from __future__ import annotations

from typing import Protocol

from gateway.ledger.line import Losses


class OnDoubt(Protocol):
    """Hears that the store is older than it was, or may be."""

    def __call__(self, *, certainly: bool) -> None:
        """Do something about it; return at once."""


class OperationCounter:
    """Counts operations, whose numbers the store keeps at `key` under the `instance`. `done` of them are known done.

    `on_doubt` is called when the store turns out to have lost what it had done (`certainly`), or when it answers after
    a connection was lost, and so may have.
    """

    def __init__(self, key: str, instance: str, losses: Losses, on_doubt: OnDoubt) -> None:
        self.key = key
        self.instance = instance
        self.done = 0
        self._number = 0
        self._losses = losses
        self._lost = losses.count
        self._on_doubt = on_doubt

    def next(self) -> int:
        """Return the number of another operation."""
        self._number += 1
        return self._number

    def did(self, number: int, done: int, before: int) -> None:
        """Record a completed operation. `done` was known when it was sent, `before` is the count the store had."""
        self.done = max(self.done, number)
        lost = self._losses.count
        if before < done:
            self._on_doubt(certainly=True)
        elif lost != self._lost:
            self._on_doubt(certainly=False)
        self._lost = lost

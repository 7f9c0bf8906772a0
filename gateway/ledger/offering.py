"""Offering: the candidates of a hold as its script takes them, the first few alone before all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.domain.budget import Candidate
from gateway.ledger import wire

FEW = 4
"""Candidates that are offered at first: nearly every request takes one of them, and of many each costs time."""


class Offers:
    """The candidates of one hold, each written out when it is first needed. ValueError for malformed amounts."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = candidates
        self._written: list[str] = []

    def __getitem__(self, index: int) -> str:
        """Return a candidate as JSON."""
        while len(self._written) <= index:
            self._written.append(wire.candidate_arg(self._candidates[len(self._written)]))
        return self._written[index]

    async def ask(self, hold: Callable[[str, str], Awaitable[Any]], *, only_if_held: bool) -> Any:
        """Return the reply of `hold`, which is given candidates as JSON, and "1" to release only if something is held.

        Where none of a few was taken all are judged at once: what stands in the way of the first ones opens the ranges
        of those after them, and may have changed meanwhile. Nothing is given back before.
        """
        count = len(self._candidates)
        if count > FEW:
            reply = await hold(self._first(FEW), "1")
            if reply[0] != "DENIED":
                return reply
        return await hold(self._first(count), "1" if only_if_held else "")

    def _first(self, count: int) -> str:
        return "[" + ",".join(self[index] for index in range(count)) + "]"

"""Offering: the candidates of a hold as its script takes them, the first alone, then a few, then all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.domain.budget import Candidate
from gateway.ledger import wire

FEW = 4
"""Candidates that are offered before all are: nearly every request takes one of them, and of many each costs time."""
WARY = 16
"""How often the first candidate must have been taken, since it last was not, to be offered alone again."""
_MOST_ROUTES = 4096


class Firsts:
    """Whether first candidates were taken lately, by their routes: while they are, one alone costs the least.

    It decides how many calls a hold takes, never what is held.
    """

    def __init__(self) -> None:
        self._wary: dict[str, int] = {}

    def few(self, route: str) -> int:
        """Return how many candidates to offer at first where the first is on this route."""
        return FEW if route in self._wary else 1

    def ask(
        self, candidates: Sequence[Candidate], hold: Callable[[str, str], Awaitable[Any]], *, only_if_held: bool
    ) -> Awaitable[Any]:
        """Return the reply of `hold`, which is given candidates as JSON, and "1" to release only if something is held.

        Where none of a few was taken all are judged at once: what stands in the way of the first ones opens the ranges
        of those after them, and may have changed meanwhile. Nothing is given back before. ValueError for malformed
        amounts.
        """
        count, release = len(candidates), "1" if only_if_held else ""
        if count == 1:
            return hold(f"[{wire.candidate_arg(candidates[0])}]", release)
        return self._by_steps(candidates, hold, release) if count else hold("[]", release)

    async def _by_steps(
        self, candidates: Sequence[Candidate], hold: Callable[[str, str], Awaitable[Any]], release: str
    ) -> Any:
        count, route = len(candidates), candidates[0].route
        offered = min(self.few(route), count)
        while True:
            reply = await hold(_written(candidates, offered), "1" if offered < count else release)
            if reply[0] != "DENIED" or offered == count:
                self.told(route, reply)
                return reply
            offered = FEW if offered < FEW < count else count

    def told(self, route: str, reply: Sequence[Any]) -> None:
        """Take note of what the script replied to candidates the first of which is on this route."""
        if reply[0] == "DENIED" or (reply[0] == "HELD" and int(reply[1]) > 0):
            if len(self._wary) >= _MOST_ROUTES:
                self._wary.clear()
            self._wary[route] = WARY
        elif reply[0] == "HELD" and (left := self._wary.pop(route, 1) - 1):
            self._wary[route] = left


def _written(candidates: Sequence[Candidate], count: int) -> str:
    """Return the first so many as JSON; each is written when it is first needed."""
    return f"[{','.join([wire.candidate_arg(candidates[index]) for index in range(count)])}]"

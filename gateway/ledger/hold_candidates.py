"""Hold candidates as the script takes them, the first alone, then a few, then all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.domain.budget import Budget, Candidate, Counted, Quota
from gateway.domain.money import MAX_MICRO
from gateway.ledger import wire

FEW = 4
"""Candidates offered before the full list: nearly every request takes one of them, and each further one costs time."""
WARY = 16
"""Consecutive times the first candidate must be taken before it is offered alone again."""
_MOST_ROUTES = 4096
OFFERS = 1024
"""Candidates of which it is kept how they are offered."""
NOT_TAKEN, ENDLESS = -1, -1
"""What an offer says of a line that an earlier one has taken, and of a range that has no upper end."""
_offers: dict[str, str] = {}  # by candidates as records have them


class FirstChoiceStats:
    """Tracks by route whether the first candidate was taken lately; while it is, offering it alone costs least.

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
        """Return the reply of `hold`, given candidates as its script reads them, and "1" to release only if it holds.

        Where none of a few was taken all are judged at once: what stands in the way of the first ones opens the ranges
        of those after them, and may have changed meanwhile. Nothing is given back before. ValueError for malformed
        amounts.
        """
        count, release = len(candidates), "1" if only_if_held else ""
        if count == 1:
            return hold(offer_arg(candidates[0]), release)
        return self._by_steps(candidates, hold, release) if count else hold("", release)

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
    """Return the first so many as the script reads them; each is written when it is first needed."""
    return "".join([offer_arg(candidates[index]) for index in range(count)])


def offer_arg(candidate: Candidate) -> str:
    """A candidate as the script of a hold reads it, which `offers.lua` tells; kept while it is in use."""
    record = wire.candidate_arg(candidate)
    written = _offers.get(record)
    if written is None:
        if len(_offers) >= OFFERS:
            _offers.clear()
        written = _offers[record] = _offer(candidate)
    return written


def _offer(candidate: Candidate) -> str:
    """Return one that was found well formed. Of lines of one meter, hence one cell, the first takes the most."""
    first: dict[str, int] = {}
    taken: dict[int, int] = {}
    for at, line in enumerate(candidate.lines):
        before = first.setdefault(line.rule.meter, at)
        if before != at:
            most = taken.get(before, candidate.lines[before].amount)
            taken[before], taken[at] = max(most, line.amount), NOT_TAKEN
    figures: list[int | str] = [len(candidate.lines)]
    kept = []
    for at, line in enumerate(candidate.lines):
        rule = line.rule
        figures += [_counts(rule), rule.meter, line.amount, max(min(rule.limit, MAX_MICRO), 0)]
        if (amount := taken.get(at, line.amount)) != NOT_TAKEN:
            kept.append(_kept(rule, amount))
    pressure = candidate.pressure
    if taken or pressure.at_least or pressure.below is not None:
        figures += [pressure.at_least, ENDLESS if pressure.below is None else pressure.below]
        for at, amount in taken.items():
            figures += [at + 1, amount]
    worst = '","'.join(wire.worst(candidate))
    text = f'{{"index":%d,"at":"%s","worst":["{worst}"],"lines":[{",".join(kept)}]%s}}'
    return f"{wire.to_json(figures)}\n{wire.to_json(candidate.facts)}\n{text}\n"


def _counts(rule: Budget | Quota) -> str | int:
    """What a line of the rule counts: a calendar window, the seconds of a rolling one, or 0 for what is under way."""
    return str(rule.window) if isinstance(rule, Budget) else rule.seconds


def _kept(rule: Budget | Quota, amount: int) -> str:
    """A line as an attempt keeps it, JSON, as a format that lacks its window or bucket."""
    meter = wire.to_json(rule.meter).replace("%", "%%")
    if isinstance(rule, Budget):
        return f'["usd",{meter[:-1]}@%s","{amount}","{rule.view}"]'
    if rule.counted is Counted.CONCURRENT:
        return f'["live",{meter},"{amount}"]'
    return f'["rolling",{meter},"{amount}","{rule.seconds}","%s"]'

"""Superseded entries: those that a store had lost, and others that it booked in their place when it was told again.

A store that comes back older lacks its newest entries; an export may have them. What gateways then tell it again, or an
invoice says again, is booked in entries with ids of their own, and beside an export both would count.

Each entry of an attempt is a statement: what it cost, and what was booked before (`was`; before a booking nothing was).
The statements that count are a path, each going on from the amount of the one before. A new one goes on from its `was`;
what the path had behind that was not known to the store any more, and leaves the path. There it may be told again:

- It comes to an amount of what has left (an adjustment: by the same id): what was behind that goes on from it.
- It comes to another amount: what has left counts no more. If that weighs more than what is now at the end, as an
  invoice does beside what a gateway says, it is missed and named: until it goes on as above, or as much weight is said.

An amount of no known request stands as it was booked last by its id.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from enum import IntEnum
from typing import NamedTuple

from gateway.domain.settlement import CostSource

Place = tuple[int, int]
"""Where an entry stands among others; see `stream.position`."""

Amounts = tuple[int, ...]
"""Nano-USD in each view."""

_FIRST: Place = (0, 0)
_BEFORE: Place = (-1, 0)
"""Stands for the first booking of an attempt, of which nothing is kept but that it was known."""

_VOID = "void"
_GUESSED = frozenset({"cancelled", "not_begun"})  # see scripts/guessing.lua
TELLING = frozenset({str(CostSource.INVOICE), _VOID})
"""Sources of which the outcome tells more: the id of an adjustment, or the reason of a void."""


class Weight(IntEnum):
    """How much a statement is worth beside another one: of two that weigh the same the later one is right."""

    GUESS = 0
    KNOWN = 1
    INVOICE = 2


_WEIGHTS = {str(CostSource.PRESUMED): Weight.GUESS, str(CostSource.INVOICE): Weight.INVOICE}
_KNOWN = Weight.KNOWN


def weight_of(source: str, reason: str = "") -> Weight:
    """Return what a statement from this source weighs; the reason matters where a cost was voided."""
    if source == _VOID and reason in _GUESSED:
        return Weight.GUESS
    return _WEIGHTS.get(source, _KNOWN)


class _Statement(NamedTuple):
    """What an attempt cost, None if nobody can tell. At `_FIRST` it is none, but an amount that others go on from."""

    place: Place
    amount: Amounts | None
    weight: Weight
    adjustment: str = ""

    def says_again(self, other: _Statement) -> bool:
        return self.amount == other.amount and self.adjustment in ("", other.adjustment)


class _Attempt:
    """The path, and what is missed: a former end of it with something that weighs more than its end now."""

    __slots__ = ("missed", "path")

    def __init__(self) -> None:
        self.path: list[_Statement] = []
        self.missed: list[_Statement] = []


class SupersededEntries:
    """Is fed all entries in order, those of an export and those of the stream, and then knows which ones stand."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._guessed: set[int] = set()
        self._booked_last: dict[Hashable, Place] = {}
        self._attempts: dict[Hashable, _Attempt] = {}
        self._posted: dict[str, Place] = {}
        self._lost: set[Place] = set()
        self._carried: dict[Place, tuple[Place, int]] = {}

    def booked(
        self,
        attempt: Hashable,
        place: Place,
        amounts: Amounts | None = None,
        weight: Weight = _KNOWN,
        adjustment: str = "",
    ) -> None:
        """Take note of an attempt's booking, and of what it came to as far as that can be read."""
        mark = hash(attempt)  # a number is all that is kept of the many that are booked once
        again = mark in self._seen
        self._seen.add(mark)
        if again:
            self._booked_last[attempt] = place
        of = self._of(attempt) if again or adjustment else None
        if of is not None and again and not of.path and mark not in self._guessed:
            of.path.append(_Statement(_BEFORE, None, _KNOWN))
        if weight is Weight.GUESS:
            self._guessed.add(mark)
        if of is not None:
            self._tell(of, 0, _Statement(place, amounts, weight, adjustment))

    def corrected(  # noqa: PLR0917 - by place, as `booked`
        self,
        attempt: Hashable,
        place: Place,
        was: Amounts | None,
        change: Amounts,
        weight: Weight = _KNOWN,
        adjustment: str = "",
    ) -> None:
        """Take note of a correction. Entries of earlier versions don't tell what `was`: nothing is known behind one."""
        of = self._of(attempt)
        amount = None if was is None else tuple(map(sum, zip(was, change, strict=True)))
        told = _Statement(place, amount, weight, adjustment)
        if was is None:
            self._tell(of, len(of.path), told)
            return
        run = range(_last_run(of.path), len(of.path))
        before = next((at for at in reversed(run) if of.path[at].amount == was and of.path[at].weight <= weight), None)
        if before is None:
            before = len(of.path)
            of.path.append(_Statement(_FIRST, was, Weight.GUESS))
        self._tell(of, before + 1, told)

    def _of(self, attempt: Hashable) -> _Attempt:
        known = self._attempts.get(attempt)
        if known is None:
            known = self._attempts[attempt] = _Attempt()
        return known

    def _tell(self, of: _Attempt, keep: int, told: _Statement) -> None:
        """Put a statement behind this many of the path, and what goes on from it behind that."""
        left = of.path[keep:]
        begin = [_Statement(_FIRST, of.path[keep - 1].amount, Weight.GUESS)] if keep else []
        former = [*begin, *left]
        again, at = former, _said_before(former, told)
        if at is None:
            again, at = of.missed, _said_before(of.missed, told)
        behind = [] if at is None else again[at + 1 :]
        for each in left:
            self._lost.add(each.place)
            self._carried.pop(each.place, None)
        of.path[keep:] = [told, *behind]
        self._carried.update((each.place, (told.place, number)) for number, each in enumerate(behind))
        missed = max(former, of.missed, key=_weight)
        of.missed = missed if _weight(missed) > of.path[-1].weight else []

    def posted(self, name: str, place: Place) -> None:
        """Take note of an amount of no known request, booked by this id."""
        if name in self._posted:
            self._lost.add(self._posted[name])
        self._posted[name] = place

    def stands(self, attempt: Hashable, place: Place) -> bool:
        """Tell whether no later entry was booked in place of this one."""
        if place in self._carried:
            return True
        return place not in self._lost and place >= self._booked_last.get(attempt, _FIRST)

    def carried(self, place: Place) -> tuple[Place, int] | None:
        """Return behind which later entry a correction stands, and its turn there; None where it was told."""
        return self._carried.get(place)

    def dropped(self, attempt: Hashable, place: Place, amounts: Amounts | None = None) -> bool:
        """Tell whether this is missed: it says more than what counts, of an amount that was not booked again."""
        of = self._attempts.get(attempt)
        if of is None or not of.missed or of.missed[-1].amount == of.path[-1].amount:
            return False
        if of.missed[-1].place == _BEFORE:
            return place not in self._lost and amounts != of.path[-1].amount
        return any(each.place == place and each.weight > of.path[-1].weight for each in of.missed)


def _last_run(path: Sequence[_Statement]) -> int:
    """Return where those begin of which each goes on from the one before, up to the last."""
    for at in reversed(range(len(path))):
        if path[at].amount is None:
            return at + 1
        if path[at].place == _FIRST:
            return at
    return 0


def _said_before(former: Sequence[_Statement], told: _Statement) -> int | None:
    """Return which of these is told again, None if it is none; the first, so that all that was behind it goes on."""
    if told.amount is None:
        return None
    return next((at for at in range(_last_run(former), len(former)) if told.says_again(former[at])), None)


def _weight(statements: Sequence[_Statement]) -> int:
    return max((each.weight for each in statements), default=-1)

"""Superseded entries: those that a store had lost, and others that it booked in their place when it was told again.

A store that comes back older lacks its newest entries; an export may have them. What gateways then tell it again, or an
invoice says again, is booked in entries with ids of their own, and beside an export both would count. Of two bookings
of an attempt the later one stands. A correction says what was booked before: what led elsewhere since was not known to
the store any more. An amount of no known request stands as it was booked last by its id.
"""

from __future__ import annotations

from collections.abc import Hashable

Place = tuple[int, int]
"""Where an entry stands among others; see `stream.position`."""

Amounts = tuple[int, ...]
"""Nano-USD in each view."""


class SupersededEntries:
    """Is fed all entries in order, those of an export and those of the stream, and then knows which ones stand."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._booked_last: dict[Hashable, Place] = {}
        self._amounts: dict[Hashable, list[tuple[Place, Amounts]]] = {}
        self._posted: dict[str, Place] = {}
        self._lost: set[Place] = set()

    def booked(self, attempt: Hashable, place: Place) -> None:
        """Take note of an attempt's booking."""
        mark = hash(attempt)  # a number is all that is kept of the many that are booked once
        if mark in self._seen:
            self._booked_last[attempt] = place
        self._seen.add(mark)
        self._amounts.pop(attempt, None)

    def corrected(self, attempt: Hashable, place: Place, was: Amounts | None, change: Amounts) -> None:
        """Take note of a correction. Entries of earlier versions don't tell what `was`: nothing is known behind one."""
        if was is None:
            self._amounts.pop(attempt, None)
            return
        known = self._amounts.setdefault(attempt, [])
        before = max((at for at, (_, amount) in enumerate(known) if amount == was), default=None)
        if before is None:
            known[:] = [((0, 0), was)]
        else:
            self._lost.update(lost for lost, _ in known[before + 1 :])
            del known[before + 1 :]
        known.append((place, tuple(map(sum, zip(was, change, strict=True)))))

    def posted(self, name: str, place: Place) -> None:
        """Take note of an amount of no known request, booked by this id."""
        if name in self._posted:
            self._lost.add(self._posted[name])
        self._posted[name] = place

    def stands(self, attempt: Hashable, place: Place) -> bool:
        """Tell whether no later entry was booked in place of this one."""
        return place >= self._booked_last.get(attempt, (0, 0)) and place not in self._lost

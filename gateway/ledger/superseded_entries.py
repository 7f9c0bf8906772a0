"""Superseded entries: those that a store had lost, and others that it booked in their place when it was told again.

A store that comes back older lacks its newest entries; an export may have them. What gateways then tell it again, or an
invoice says again, is booked in entries with ids of their own, and beside an export both would count. Of two bookings
of an attempt the later one stands. A correction says what was booked before: what led elsewhere since was not known to
the store any more. So do those stand behind a later booking that go on from its amount; others nobody can bring back.
An amount of no known request stands as it was booked last by its id.
"""

from __future__ import annotations

from collections.abc import Hashable

Place = tuple[int, int]
"""Where an entry stands among others; see `stream.position`."""

Amounts = tuple[int, ...]
"""Nano-USD in each view."""

_FIRST: Place = (0, 0)


class SupersededEntries:
    """Is fed all entries in order, those of an export and those of the stream, and then knows which ones stand."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._booked_last: dict[Hashable, Place] = {}
        self._amounts: dict[Hashable, list[tuple[Place, Amounts]]] = {}
        self._corrections: dict[Hashable, list[Place]] = {}
        self._posted: dict[str, Place] = {}
        self._lost: set[Place] = set()
        self._carried: set[Place] = set()
        self._dropped: dict[Hashable, set[Place]] = {}

    def booked(self, attempt: Hashable, place: Place, amounts: Amounts | None = None) -> None:
        """Take note of an attempt's booking, and of what it came to as far as that can be read."""
        mark = hash(attempt)  # a number is all that is kept of the many that are booked once
        if mark in self._seen:
            self._booked_last[attempt] = place
            self._carry_on(attempt, amounts)
        self._seen.add(mark)

    def _carry_on(self, attempt: Hashable, amounts: Amounts | None) -> None:
        """Let those corrections stand that go on from the amount that was booked again; its own are in it already."""
        known, corrections = self._amounts.pop(attempt, []), self._corrections.pop(attempt, [])
        begins = max((at for at, (_, amount) in enumerate(known) if amount == amounts), default=None)
        if begins is None:
            if corrections:
                self._lost.update(corrections)
                self._dropped.setdefault(attempt, set()).update(corrections)
            return
        self._amounts[attempt] = [(_FIRST, known[begins][1]), *known[begins + 1 :]]
        self._corrections[attempt] = carried = [place for place, _ in known[begins + 1 :]]
        self._carried.update(carried)
        self._lost.update(place for place in corrections if place not in carried)

    def corrected(self, attempt: Hashable, place: Place, was: Amounts | None, change: Amounts) -> None:
        """Take note of a correction. Entries of earlier versions don't tell what `was`: nothing is known behind one."""
        self._corrections.setdefault(attempt, []).append(place)
        self._dropped.pop(attempt, None)  # what is right was said again
        if was is None:
            self._amounts.pop(attempt, None)
            return
        known = self._amounts.setdefault(attempt, [])
        before = max((at for at, (_, amount) in enumerate(known) if amount == was), default=None)
        if before is None:
            known[:] = [(_FIRST, was)]
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
        if place in self._lost:
            return False
        return place in self._carried or place >= self._booked_last.get(attempt, _FIRST)

    def carried(self, place: Place) -> bool:
        """Tell whether this is a correction that stands behind a booking of later than itself."""
        return place in self._carried

    def dropped(self, attempt: Hashable, place: Place) -> bool:
        """Tell whether this is a correction of another amount than the one that was booked again, and not made anew."""
        return place in self._dropped.get(attempt, ())

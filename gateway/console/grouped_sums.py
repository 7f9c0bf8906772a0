"""Grouped sums by project, job type, route and model together, in little room: there may be as many as entries."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from gateway.domain.spend import Row

Part = tuple[str, str, str, str]
"""A project, job type, route and model."""
_WIDTH = 6
_MOST = 2**63 - 1
"""Nano-USD; nine billion dollars in a bucket are the work of somebody who writes to the store."""


class GroupedSums:
    """Sums by bucket (Unix time of its beginning) and part."""

    def __init__(self) -> None:
        self._numbers: dict[Part, int] = {}
        self._names: list[Part] = []
        self._buckets: dict[int, tuple[dict[int, int], array[int]]] = {}
        """By bucket, where in the array the sums of a part begin, by its number."""

    def add(self, bucket: int, part: Part, change: Row) -> None:
        """Add what an entry adds."""
        number = self._numbers.get(part)
        if number is None:
            number = self._numbers[part] = len(self._names)
            self._names.append(part)
        found = self._buckets.get(bucket)
        if found is None:
            found = self._buckets[bucket] = ({}, array("q"))
        places, sums = found
        place = places.get(number)
        if place is None:
            place = places[number] = len(sums)
            sums.extend((0,) * _WIDTH)
        amounts = (change.requests, change.images, change.official, change.route, change.internal, change.unconfirmed)
        for at, amount in enumerate(amounts, place):
            try:
                sums[at] += amount
            except OverflowError:
                sums[at] = _MOST if amount > 0 else -_MOST

    def buckets(self) -> list[int]:
        """Return the buckets that there are."""
        return list(self._buckets)

    def rows(self, bucket: int) -> Iterator[Row]:
        """Yield the sums of each part in a bucket, with the part as its group."""
        places, sums = self._buckets[bucket]
        for number, place in places.items():
            yield Row(self._names[number], *sums[place : place + _WIDTH])

    def forget(self, before: float) -> None:
        """Forget buckets that begin before a time."""
        for bucket in [each for each in self._buckets if each < before]:
            del self._buckets[bucket]

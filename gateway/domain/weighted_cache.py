"""An LRU cache bounded by total weight."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

MOST = 20_000


class WeightedCache:
    """Keeps values by key until all of them together weigh more than `most`; then the one unused longest goes."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._kept: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._weight = 0

    def find(self, key: Hashable) -> object | None:
        """Return what is kept under the key; None if it is not there any more."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def keep(self, key: Hashable, value: object, weight: int) -> None:
        """Keep a value in place of what the key had; one heavier than all that may be kept is let go at once."""
        _, before = self._kept.pop(key, (None, 0))
        self._kept[key] = (value, weight)
        self._weight += weight - before
        while self._weight > self.most:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._weight -= dropped

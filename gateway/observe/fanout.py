"""Several observers as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, get_args

from gateway.observe.event import Event, Observer, Selective


class Observers:
    """Passes each event to every observer that takes its type, in the order given."""

    def __init__(self, observers: Iterable[Observer | None]) -> None:
        there = [observer for observer in observers if observer is not None]
        kinds: tuple[type[Event], ...] = get_args(Event)
        self._takers = {kind: tuple(_takers(there, kind)) for kind in kinds}
        self.takers: Mapping[type[Event], Callable[[Any], None]] = MappingProxyType(
            {kind: takers[0] if len(takers) == 1 else self.emit for kind, takers in self._takers.items()}
        )

    def emit(self, event: Event) -> None:
        """Pass one event on."""
        for take in self._takers[type(event)]:
            take(event)


def _takers(observers: Iterable[Observer], kind: type[Event]) -> Iterable[Callable[[Any], None]]:
    for observer in observers:
        if not isinstance(observer, Selective):
            yield observer.emit
        elif kind in observer.takers:
            yield observer.takers[kind]

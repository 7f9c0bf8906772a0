"""Several observers as one."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.observe.event import Event, Observer


class Observers:
    """Passes each event to every observer that there is, in the order given."""

    def __init__(self, observers: Iterable[Observer | None]) -> None:
        self._observers = tuple(observer for observer in observers if observer is not None)

    def emit(self, event: Event) -> None:
        """Pass one event on."""
        for observer in self._observers:
            observer.emit(event)

"""Several observers as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, get_args

from gateway.observe.deferred_events import DeferredEvents
from gateway.observe.event import Event, Observer, Patient, Selective


class Observers:
    """Passes each event to every observer that takes its type, in the order given.

    Those that are patient with its type hear of it after the others, within about `later.TOGETHER_SECONDS`.
    """

    def __init__(self, observers: Iterable[Observer | None]) -> None:
        there = [observer for observer in observers if observer is not None]
        kinds: tuple[type[Event], ...] = get_args(Event)
        patient = {kind: [each for each in there if _has_time(each, kind)] for kind in kinds}
        later = DeferredEvents({kind: tuple(_takers(patient[kind], kind)) for kind in kinds})
        self.flush = later.flush
        """Pass on now what the patient ones have not heard yet."""
        self._takers = {
            kind: tuple(_takers((each for each in there if each not in patient[kind]), kind)) for kind in kinds
        }
        for kind in kinds:
            if patient[kind]:
                self._takers[kind] += (later.take,)
        self.takers: Mapping[type[Event], Callable[[Any], None]] = MappingProxyType(
            {kind: takers[0] if len(takers) == 1 else self.emit for kind, takers in self._takers.items()}
        )

    def emit(self, event: Event) -> None:
        """Pass one event on."""
        for take in self._takers[type(event)]:
            take(event)


def _has_time(observer: Observer, kind: type[Event]) -> bool:
    return isinstance(observer, Patient) and kind in observer.patient and kind in observer.takers


def _takers(observers: Iterable[Observer], kind: type[Event]) -> Iterable[Callable[[Any], None]]:
    for observer in observers:
        if not isinstance(observer, Selective):
            yield observer.emit
        elif kind in observer.takers:
            yield observer.takers[kind]

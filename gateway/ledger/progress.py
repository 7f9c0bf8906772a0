"""Progress: how far long work got, told to whoever listens. Without a listener it costs a look a page of entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

OFTEN = 500
"""Things between two steps that are told."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a pass over things of one name got: so many, and which share of all, 0 to 1; None where nobody knows."""

    name: str
    done: int
    share: float | None = None


Listener = Callable[[Step], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Tell a listener of every step meanwhile, in this context and in tasks that are begun in it."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


def is_heard() -> bool:
    """Tell whether somebody listens."""
    return _listener.get() is not None


def tell(name: str, done: int, share: float | None = None) -> None:
    """Tell of a step; a smaller `done` than before is a new pass."""
    listener = _listener.get()
    if listener is not None:
        listener(Step(name, done, share))


class Meter:
    """Counts things of one name, each with its weight in `total` (a number of things, or of bytes)."""

    def __init__(self, name: str, total: int | None = None, *, often: int = OFTEN) -> None:
        self._name = name
        self._total = total
        self._often = often
        self._done = self._weight = 0

    def add(self, weight: int = 1) -> None:
        """Count one more."""
        self._done += 1
        self._weight += weight
        if self._done % self._often == 0:
            tell(self._name, self._done, min(self._weight / self._total, 1.0) if self._total else None)

"""Commands: each in a module of its own, loaded when it is asked for: a server needs none but `serve`."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

import click


class Commands(MutableMapping[str, click.Command]):
    """Commands by name, as click keeps them; `places` says for each its module and its name there, `module:name`."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        """Return a command, loaded by now."""
        if name not in self._loaded:
            module, _, attribute = self._places[name].partition(":")
            with _without_collecting():
                self._loaded[name] = getattr(importlib.import_module(module), attribute)
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        """Add a command that is loaded."""
        self._places.setdefault(name, "")
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        """Take a command away."""
        del self._places[name]
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        """Yield the names; nothing is loaded for it."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._places)


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Look for no garbage, now or at the end: modules leave none, and looking takes a third of a command's time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()

"""On demand: modules that are loaded when something of them is first used, since most processes never need them."""

from __future__ import annotations

import importlib
from types import ModuleType


class OnDemand(ModuleType):
    """Stands for a module of this name; ImportError at its first use if there is none. Any thread may be the first."""

    def __getattr__(self, name: str) -> object:
        """Return what the module has under a name."""
        return getattr(importlib.import_module(self.__name__), name)

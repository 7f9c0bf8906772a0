"""Values that every request makes dozens of: frozen dataclasses that cost no more than others.

A frozen dataclass sets each field by a call of `object.__setattr__`, which takes several times as long as setting it
(https://docs.python.org/3/library/dataclasses.html#frozen-instances). Here type checkers alone hold a value frozen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["record"]

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:
    from dataclasses import dataclass

    def record(*, frozen: bool, slots: bool) -> object:
        """Make a dataclass of a class, compared and hashed by its fields as a frozen one is."""
        return dataclass(slots=slots, unsafe_hash=frozen)

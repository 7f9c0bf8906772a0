"""Keys: what one map of a policy takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys a map takes, and those that belong elsewhere, with where."""

    known: tuple[str, ...]
    elsewhere: Mapping[str, str] = field(default_factory=dict)

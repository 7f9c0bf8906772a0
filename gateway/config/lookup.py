"""Names that refer to something defined elsewhere in the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.config.documents import Node
from gateway.config.problems import Report, did_you_mean, shown
from gateway.config.values import name

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """All things of one kind by name; None stands for one whose definition was too wrong to be read.

    `complete` is false if a file could not be read: then a name that is missing may well be defined there.
    """

    kind: str
    things: Mapping[str, T | None]
    complete: bool

    def find(self, node: Node, report: Report) -> T | None:
        """Return what a name stands for; None if that is unknown (which is reported) or was wrong itself."""
        wanted = name(node, report)
        if wanted is None:
            return None
        if wanted not in self.things and self.complete:
            report.problem(node.place, f"unknown {self.kind} {shown(wanted)}{did_you_mean(wanted, self.things)}")
        return self.things.get(wanted)

    def checked(self, node: Node, report: Report) -> str | None:
        """Return the name itself after the same check."""
        wanted = name(node, report)
        if wanted is not None and wanted not in self.things and self.complete:
            report.problem(node.place, f"unknown {self.kind} {shown(wanted)}{did_you_mean(wanted, self.things)}")
            return None
        return wanted

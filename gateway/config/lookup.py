"""Names that refer to something defined elsewhere in the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    of_models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of routes alone: those of each model, by every name of it, since one is easily written for the other."""

    def find(self, node: Node, report: Report) -> T | None:
        """Return what a name stands for; None if that is unknown (which is reported) or was wrong itself."""
        wanted = name(node, report)
        if wanted is None:
            return None
        if wanted not in self.things and self.complete:
            report.problem(node.place, self.unknown(wanted))
        return self.things.get(wanted)

    def checked(self, node: Node, report: Report) -> str | None:
        """Return the name itself after the same check."""
        wanted = name(node, report)
        if wanted is not None and wanted not in self.things and self.complete:
            report.problem(node.place, self.unknown(wanted))
            return None
        return wanted

    def unknown(self, wanted: str) -> str:
        """Say that nothing has this name, and what may be meant."""
        told = f"unknown {self.kind} {shown(wanted)}"
        if wanted not in self.of_models:
            none = f": none is defined; add it to {self.kind.replace(' ', '_')}s"
            return told + (did_you_mean(wanted, self.things) if self.things else none)
        routes = ", ".join(self.of_models[wanted])
        remedy = f"name a route of it: {routes}" if routes else "there is no route of it yet, add one to routes"
        return f"{told}: that is a model; {remedy}"

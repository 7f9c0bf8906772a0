"""Selection: the sums of a rollup that are of one project, of one job type, or of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.console.rollup import ALL, PARTS, Rollup, Rows, add_up, merge
from gateway.domain.spend import Row


class Sums(Protocol):
    """What pages ask of figures; a `Rollup` has it for everything."""

    def sums(self, dimension: str, span: int, since: int) -> Rows:
        """Return what came in buckets from `since` on, by name."""

    def total(self, span: int, since: int) -> Row:
        """Return the sum of everything in these buckets."""

    def buckets(self, dimension: str, span: int) -> Mapping[int, Rows]:
        """Return what is known by bucket."""


@dataclass(frozen=True, slots=True)
class Only:
    """A project and a job type that something is to be of; None is any."""

    project: str | None = None
    job_type: str | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Only:
        """Read it from a query's parameters; an empty one is any."""
        return cls(query.get("project") or None, query.get("job_type") or None)

    def takes(self, project: object, job_type: object) -> bool:
        """Tell whether something of this project and job type belongs to it."""
        return self.project in (None, project) and self.job_type in (None, job_type)

    @property
    def anything(self) -> bool:
        """Whether everything belongs to it."""
        return self.project is None and self.job_type is None


class Selection:
    """Implements `Sums` by the parts of a rollup that belong to it."""

    def __init__(self, rollup: Rollup, only: Only) -> None:
        self._rollup = rollup
        self._only = only

    def sums(self, dimension: str, span: int, since: int) -> Rows:
        """Return what came in buckets from `since` on, by name."""
        return add_up(self.buckets(dimension, span), since)

    def total(self, span: int, since: int) -> Row:
        """Return the sum of everything in these buckets."""
        return self.sums(ALL, span, since).get("-", Row(("-",)))

    def buckets(self, dimension: str, span: int) -> Mapping[int, Rows]:
        """Return what is known by bucket."""
        place = PARTS.index(dimension) if dimension in PARTS else None
        found: dict[int, Rows] = {}
        for bucket in self._rollup.parts[span].buckets():
            rows = found[bucket] = {}
            for row in self._rollup.parts[span].rows(bucket):
                if self._only.takes(row.group[0], row.group[1]):
                    name = "-" if place is None else row.group[place]
                    merge(rows.setdefault(name, Row((name,))), row)
        return found


def selected(rollup: Rollup, only: Only) -> Sums:
    """Return the figures of a selection."""
    return rollup if only.anything else Selection(rollup, only)

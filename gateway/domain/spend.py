"""Spend reports: entries of the ledger, added up by whatever they are to be told apart by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.domain.route import Views


class Spent(Protocol):
    """What a report needs of an entry. `cost` may be negative where it corrects an earlier one."""

    @property
    def time(self) -> datetime:
        """When it was booked."""

    @property
    def images(self) -> int:
        """How many images it brought."""

    @property
    def cost(self) -> Views:
        """Nano-USD in three views."""

    @property
    def unconfirmed(self) -> bool:
        """Whether it is presumed."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Project, key, job type, route, model, operation, size, quality; tags as `tag:NAME`."""


DIMENSIONS = ("project", "key", "job_type", "route", "model", "operation", "quality", "size", "day")


@dataclass(slots=True)
class Row:
    """One line of a report. Amounts are nano-USD; `unconfirmed` is the part of `route` that is presumed."""

    group: tuple[str, ...]
    requests: int = 0
    images: int = 0
    official: int = 0
    route: int = 0
    internal: int = 0
    unconfirmed: int = 0

    @property
    def savings(self) -> int:
        """What the routes cost less than the vendor's published price."""
        return self.official - self.route


def is_dimension(name: str) -> bool:
    """Tell whether a report can be made by this: a known dimension, or a tag as `tag:NAME`."""
    return name in DIMENSIONS or (name.startswith("tag:") and len(name) > len("tag:"))


def report(entries: Iterable[Spent], by: Sequence[str]) -> list[Row]:
    """Add entries up by the dimensions given, dearest first; the last row, `total`, is the sum of all."""
    rows: dict[tuple[str, ...], Row] = {}
    total = Row(("total", *[""] * (len(by) - 1)) if by else ("total",))
    for entry in entries:
        group = tuple(_value(entry, name) for name in by)
        row = rows.setdefault(group, Row(group))
        for target in (row, total):
            _add(target, entry)
    ordered = sorted(rows.values(), key=lambda row: (-row.route, row.group)) if by else []
    return [*ordered, total]


def _value(entry: Spent, name: str) -> str:
    if name == "day":
        return entry.time.date().isoformat()
    return entry.labels.get(name, "-")


def _add(row: Row, entry: Spent) -> None:
    row.requests += entry.cost.route >= 0 and entry.images >= 0
    row.images += entry.images
    row.official += entry.cost.official
    row.route += entry.cost.route
    row.internal += entry.cost.internal
    row.unconfirmed += entry.cost.route if entry.unconfirmed else 0

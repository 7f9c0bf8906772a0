"""Spend reports: entries of the ledger, added up by whatever they are to be told apart by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.domain.route import Views

DIMENSIONS = ("project", "key", "job_type", "route", "model", "provider", "operation", "quality", "size", "day")
PRESUME, CORRECT = "presume", "correct"
TAG = "tag:"


class Spent(Protocol):
    """What a report needs of an entry. `cost` is nano-USD, negative where it corrects an earlier one downwards."""

    @property
    def time(self) -> datetime:
        """When it was booked."""

    @property
    def kind(self) -> str:
        """`settle`, `presume` (booked without being known) or `correct` (the difference to what was presumed)."""

    @property
    def request_id(self) -> str:
        """The request."""

    @property
    def attempt(self) -> int:
        """Which of its attempts."""

    @property
    def images(self) -> int:
        """How many images it brought."""

    @property
    def cost(self) -> Views:
        """Nano-USD in three views."""

    @property
    def tags(self) -> Mapping[str, str]:
        """What the client tagged the request with."""


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

    def add(self, entry: Spent, unconfirmed: int) -> None:
        """Add an entry; `unconfirmed` is what it changes in that column."""
        self.requests += entry.kind != CORRECT
        self.images += entry.images
        self.official += entry.cost.official
        self.route += entry.cost.route
        self.internal += entry.cost.internal
        self.unconfirmed += unconfirmed


def is_dimension(name: str) -> bool:
    """Tell whether a report can be made by this: a known dimension, or a tag as `tag:NAME`."""
    return name in DIMENSIONS or (name.startswith(TAG) and len(name) > len(TAG))


def report(entries: Iterable[Spent], by: Sequence[str]) -> tuple[list[Row], Row]:
    """Add entries, oldest first, up by the dimensions given; returns the rows, dearest first, and the sum of all."""
    rows: dict[tuple[str, ...], Row] = {}
    total = Row(())
    presumed: dict[tuple[str, int], int] = {}
    for entry in entries:
        attempt = (entry.request_id, entry.attempt)
        change = 0
        if entry.kind == PRESUME:
            change = presumed[attempt] = entry.cost.route
        elif entry.kind == CORRECT:
            change = -presumed.pop(attempt, 0)
        group = tuple(_value(entry, name) for name in by)
        rows.setdefault(group, Row(group)).add(entry, change)
        total.add(entry, change)
    return sorted(rows.values(), key=lambda row: (-row.route, row.group)), total


def _value(entry: Spent, name: str) -> str:
    if name == "day":
        return entry.time.date().isoformat()
    if name.startswith(TAG):
        return entry.tags.get(name.removeprefix(TAG)) or "-"
    return str(getattr(entry, name)) or "-"

"""Spend reports: entries of the ledger, added up by whatever they are to be told apart by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from gateway.domain.route import Views
from gateway.domain.settlement import CostSource

DIMENSIONS = (
    "project",
    "key",
    "job_type",
    "route",
    "model",
    "provider",
    "operation",
    "quality",
    "size",
    "experiment",
    "arm",
    "shadow",
    "hour",
    "day",
    "month",
)
PRESUME, CORRECT, ADJUST = "presume", "correct", "adjust"
GIVEN_BACK = "void"
"""The source of a correction to nothing."""
TAG = "tag:"
NO_REQUEST = "-"
"""The request of an entry that belongs to none the ledger knows."""

OF_TRIALS = ("experiment", "arm", "shadow")
"""What the record says of a request that is part of a trial."""

_ANSWERED = ("quality", "size")
"""What an answer may say otherwise than the request did."""

AttemptKey = tuple[str, int]


class Spent(Protocol):
    """What a report needs of an entry. `cost` is nano-USD, negative where it corrects an earlier one downwards."""

    @property
    def time(self) -> datetime:
        """When it was booked."""

    @property
    def kind(self) -> str:
        """`settle`, `presume` (booked without being known), or `correct` and `adjust` (the difference to the truth)."""

    @property
    def source(self) -> str:
        """How the cost was known; of a correction, what it was corrected by."""

    @property
    def request_id(self) -> str:
        """The request, "-" where the ledger knows none."""

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

    @property
    def about(self) -> Mapping[str, Any]:
        """What the record says of the request; of an entry without one, its `day`, or the `request` it once was."""


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

    def add(self, entry: Spent, requests: int, unconfirmed: int) -> None:
        """Add an entry; `requests` and `unconfirmed` are what it changes in those columns."""
        self.requests += requests
        self.images += entry.images
        self.official += entry.cost.official
        self.route += entry.cost.route
        self.internal += entry.cost.internal
        self.unconfirmed += unconfirmed


@dataclass(slots=True)
class Presumed:
    """A booking that nobody has confirmed, and what of it is presumed still: nano-USD in the route view."""

    entry: Spent
    route: int


class Presumptions:
    """What is booked without being known, of entries that come oldest first. `open` has the bookings by attempt."""

    def __init__(self) -> None:
        self.open: dict[AttemptKey, Presumed] = {}

    def change(self, entry: Spent) -> int:
        """Take note of an entry and return what it changes of the presumed sum, nano-USD in the route view."""
        key, route = attempt_of(entry), entry.cost.route
        given_back = key not in self.open and route > 0  # by a guess, and now presumed by whoever made the call
        if entry.kind == PRESUME or (presumes(entry) and given_back):
            self.open[key] = Presumed(entry, route)
            return route
        if is_booking(entry) or key not in self.open:
            return 0
        if presumes(entry):
            self.open[key].route += route
            return route
        return -self.open.pop(key).route


class Calls:
    """How many calls there were, of entries that come oldest first: one that is given back is none."""

    def __init__(self) -> None:
        self._given_back: set[AttemptKey] = set()

    def change(self, entry: Spent) -> int:
        """Take note of an entry and return by how many calls there are more: again one, if it was made after all."""
        if is_booking(entry):
            return 1
        key = attempt_of(entry)
        if entry.kind == CORRECT and entry.source == GIVEN_BACK:
            self._given_back.add(key)
            return -1
        if key in self._given_back:
            self._given_back.remove(key)
            return 1
        return 0


class Tally:
    """Adds entries up, oldest first, by the dimensions given."""

    def __init__(self, by: Sequence[str]) -> None:
        self._by = by
        self._rows: dict[tuple[str, ...], Row] = {}
        self._presumptions = Presumptions()
        self._calls = Calls()
        self._answered: dict[AttemptKey, tuple[str, str]] | None = {} if set(by) & set(_ANSWERED) else None
        self.total = Row(())

    @property
    def rows(self) -> list[Row]:
        """The rows, dearest first."""
        return sorted(self._rows.values(), key=lambda row: (-row.route, row.group))

    def add(self, entry: Spent) -> None:
        """Add an entry."""
        changes = self._calls.change(entry), self._presumptions.change(entry)
        group = self._group(entry)
        self._rows.setdefault(group, Row(group)).add(entry, *changes)
        self.total.add(entry, *changes)

    def _group(self, entry: Spent) -> tuple[str, ...]:
        answered = self._answered_before(entry) if self._answered is not None else {}
        return tuple(answered.get(name) or _value(entry, name) for name in self._by)

    def _answered_before(self, entry: Spent) -> dict[str, str]:
        """An invoice does not say what the answer did: an adjustment stands where what it adjusts stands."""
        assert self._answered is not None
        if entry.kind != ADJUST:
            self._answered[attempt_of(entry)] = (_value(entry, "quality"), _value(entry, "size"))
            return {}
        return dict(zip(_ANSWERED, self._answered.get(attempt_of(entry), ("", "")), strict=True))


def is_dimension(name: str) -> bool:
    """Tell whether a report can be made by this: a known dimension, or a tag as `tag:NAME`."""
    return name in DIMENSIONS or (name.startswith(TAG) and len(name) > len(TAG))


def is_booking(entry: Spent) -> bool:
    """Tell whether the entry is the first of its attempt, rather than a change to what was booked before."""
    return entry.kind not in {CORRECT, ADJUST}


def presumes(entry: Spent) -> bool:
    """Tell whether nobody knows yet what was booked: at first, or after it was presumed lower than before."""
    return entry.kind == PRESUME or (entry.kind == CORRECT and entry.source == CostSource.PRESUMED)


def is_shadow(entry: Spent) -> bool:
    """Tell whether the entry is of a shadow request, whose money is that of a trial and of no project's budget."""
    return entry.about.get("shadow") is True


def attempt_of(entry: Spent) -> AttemptKey:
    """Return the attempt that an entry is about, also where the ledger had forgotten the request when it was booked."""
    if entry.request_id != NO_REQUEST:
        return entry.request_id, entry.attempt
    named, number = entry.about.get("request"), entry.about.get("attempt")
    return (named, number) if isinstance(named, str) and isinstance(number, int) else (NO_REQUEST, 0)


def _value(entry: Spent, name: str) -> str:
    if name == "hour":
        return entry.time.strftime("%Y-%m-%dT%H:00")
    if name in ("day", "month"):
        return day_of(entry)[: len("2026-11") if name == "month" else None]
    if name == "shadow":
        return "yes" if is_shadow(entry) else "no"
    if name in OF_TRIALS:
        return str(entry.about.get(name) or "-")
    if name.startswith(TAG):
        return entry.tags.get(name.removeprefix(TAG)) or "-"
    return str(getattr(entry, name)) or "-"


def day_of(entry: Spent) -> str:
    """Return the UTC day of an entry: the one that an entry without a request names, else when it was booked."""
    named = entry.about.get("day") if entry.request_id == NO_REQUEST else None
    return named if isinstance(named, str) else entry.time.date().isoformat()

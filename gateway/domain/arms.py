"""Arms: entries of one experiment, added up by its arms to be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Protocol

from gateway.domain.spend import Spent, is_booking, is_shadow
from gateway.domain.trial import CONTROL

MEDIAN, HIGH = Fraction(50, 100), Fraction(95, 100)


class Timed(Spent, Protocol):
    """What a comparison needs of an entry besides."""

    @property
    def route(self) -> str:
        """The route's name."""

    @property
    def answer(self) -> Mapping[str, Any]:
        """What the settlement says of the call: `seconds` among others."""


@dataclass(slots=True)
class ArmRow:
    """What was booked in one arm. `cost` is nano-USD in the route view; `seconds` are those of calls that made images.

    `failed` are requests that were paid for and brought no image; `elsewhere` those whose images came from another
    route than the arm's.
    """

    arm: str
    requests: int = 0
    images: int = 0
    cost: int = 0
    failed: int = 0
    elsewhere: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def cost_per_image(self) -> int | None:
        """Nano-USD, rounded up; None without an image."""
        return -(-self.cost // self.images) if self.images else None

    @property
    def mean(self) -> float | None:
        """Mean seconds of a call; None if none is known."""
        return math.fsum(self.seconds) / len(self.seconds) if self.seconds else None

    def percentile(self, share: Fraction) -> float | None:
        """Return the seconds within which this share of the calls was done (nearest rank); None if none is known."""
        ranked = sorted(self.seconds)
        return ranked[max(math.ceil(share * len(ranked)), 1) - 1] if ranked else None


@dataclass(slots=True)
class _Request:
    arm: str
    images: int = 0
    elsewhere: int = 0


class ArmTally:
    """Adds the entries of one experiment up, oldest first."""

    def __init__(self, experiment: str) -> None:
        self._experiment = experiment
        self._requests: dict[str, _Request] = {}
        self._sums: dict[str, ArmRow] = {}

    def add(self, entry: Timed) -> None:
        """Add an entry, if it is of the experiment."""
        if entry.about.get("experiment") != self._experiment or is_shadow(entry):
            return
        arm = str(entry.about.get("arm") or CONTROL)
        row = self._sums.setdefault(arm, ArmRow(arm))
        row.images += entry.images
        row.cost += entry.cost.route
        if is_booking(entry):
            self._requests.setdefault(entry.request_id, _Request(arm))
        request = self._requests.get(entry.request_id)
        if request is None:  # it was booked before the period, or an amount belongs to no request
            return
        request.images += entry.images
        if entry.route != arm != CONTROL:
            request.elsewhere += entry.images
        seconds = entry.answer.get("seconds")
        if entry.images > 0 and isinstance(seconds, int | float):
            row.seconds.append(float(seconds))

    def rows(self) -> list[ArmRow]:
        """Return the arms, control first."""
        rows = {arm: replace(row) for arm, row in self._sums.items()}
        for request in self._requests.values():
            row = rows[request.arm]
            row.requests += 1
            row.failed += request.images <= 0
            row.elsewhere += request.elsewhere > 0
        return sorted(rows.values(), key=lambda row: (row.arm != CONTROL, row.arm))


def total(rows: Sequence[ArmRow]) -> ArmRow:
    """Return all arms as one."""
    return ArmRow(
        "",
        requests=sum(row.requests for row in rows),
        images=sum(row.images for row in rows),
        cost=sum(row.cost for row in rows),
        failed=sum(row.failed for row in rows),
        elsewhere=sum(row.elsewhere for row in rows),
        seconds=[seconds for row in rows for seconds in row.seconds],
    )

"""Batches: many requests handed to a provider at once, done within a window and at a lower price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction

from gateway.domain.job import Operation
from gateway.domain.price import Price

HOUR = 3600.0
PATHS: Mapping[Operation, str] = {
    Operation.GENERATE: "/v1/images/generations",
    Operation.EDIT: "/v1/images/edits",
}
"""What a line of a batch names as the endpoint that does it, whatever the account's own paths are."""


class IfLate(StrEnum):
    """What becomes of a request that no batch does in time: sent by itself at the full price, or failed."""

    SEND = "send"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class BatchTerms:
    """How one account takes batches. `window` is the seconds it promises, `multiplier` what prices are multiplied by.

    `poll` is seconds between two looks at a batch, `spare` seconds before a request's time is over at which its batch
    is given up. `most_requests` and `most_bytes` are what one file may hold; both of the vendor's by default.
    """

    window: float = 24 * HOUR
    multiplier: Fraction = Fraction(1, 2)
    endpoints: Mapping[Operation, str] = field(default_factory=lambda: dict(PATHS))
    poll: float = 60.0
    spare: float = 600.0
    most_requests: int = 50_000
    most_bytes: int = 200_000_000


@dataclass(frozen=True, slots=True)
class Collecting:
    """How a job type's requests are collected: for `after` seconds at most, or until there are `requests` of them.

    `min_wait` is the shortest time, in seconds, that a request must be willing to wait to be collected at all.
    """

    after: float = 900.0
    requests: int = 500
    if_late: IfLate = IfLate.FAIL
    min_wait: float = HOUR


@dataclass(frozen=True, slots=True)
class BatchLine:
    """That a request goes by batch, and when it must be done: Unix seconds, None while that is not known."""

    terms: BatchTerms
    due: float | None = None

    def by(self, due: float) -> BatchLine:
        """Return the same with its time."""
        return replace(self, due=due)


def batch_prices(official: Price, own: Price, multiplier: Fraction) -> tuple[Price, Price]:
    """Return the official price and a route's as they are by batch; who resells at its own has no say in the vendor's.

    The vendor's is that of a batch too where the route charges it.
    """
    cheaper = replace(own, multiplier=own.multiplier * multiplier)
    return (cheaper if own is official else official), cheaper


class BatchState(StrEnum):
    """Where a batch of ours stands, as all gateways on one store know it."""

    ASSEMBLING = "assembling"
    CREATING = "creating"
    """The provider may have heard of it."""
    CREATED = "created"
    ABANDONED = "abandoned"
    """It was never created, and never will be."""


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What is known of a batch. `file` and `id` are the provider's names, empty until told.

    `created` is Unix seconds; `overdue` tells that whoever was making it has not been heard of in time.
    """

    state: BatchState
    file: str = ""
    id: str = ""
    created: float = 0.0
    overdue: bool = False

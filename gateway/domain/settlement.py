"""How a hold ends: what a call really cost, and how that is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Final

from gateway.domain.record import record
from gateway.domain.responses import Said
from gateway.domain.route import Views


class Outcome(StrEnum):
    """What a failed upstream call means for money."""

    NOT_SENT = "not_sent"
    """No byte of the request reached the provider: nothing can have been billed."""
    REJECTED = "rejected"
    """The provider answered that it did not do the work: nothing was billed."""
    UNKNOWN = "unknown"
    """The request left and no clear answer came: it may have been billed."""


class CostSource(StrEnum):
    """How the cost is known, best first."""

    REPORTED = "reported"
    USAGE = "usage"
    ESTIMATE = "estimate"
    PRESUMED = "presumed"
    """Nobody knows; the worst case is booked and marked unconfirmed."""
    INVOICE = "invoice"
    """The provider's invoice, or a refund: booked afterwards by an adjustment."""


PRESUMED: Final = CostSource.PRESUMED
"""By itself, as below: until Python 3.12 to find a member in its class takes as long as a call, or two."""


@record(frozen=True, slots=True)
class Usage:
    """Tokens as the provider reported them; all are whole numbers, zero where it named none."""

    text_in: int = 0
    image_in: int = 0
    text_in_cached: int = 0
    image_in_cached: int = 0
    image_out: int = 0
    text_out: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Return the sum, kind by kind."""
        return Usage(
            text_in=self.text_in + other.text_in,
            image_in=self.image_in + other.image_in,
            text_in_cached=self.text_in_cached + other.text_in_cached,
            image_in_cached=self.image_in_cached + other.image_in_cached,
            image_out=self.image_out + other.image_out,
            text_out=self.text_out + other.text_out,
        )


UNREAD = "unread"
"""The usage problem of an answer that is too long even without its images."""


@record(frozen=True, slots=True)
class Reading:
    """What was picked out of an answer as it went by. `None` and 0 where the answer did not say.

    `images` counts finished images; `error` is the code of an error found inside a stream or a 200.
    `complete` tells whether the answer was read to its proper end.
    """

    usage: Usage | None = None
    usage_problem: str | None = None
    size: str | None = None
    quality: str | None = None
    output_format: str | None = None
    images: int = 0
    error: str | None = None
    complete: bool = False
    reported: int | None = None
    """What the provider says that it charges for this call, nano-USD in the route view."""
    announced: bool = False
    """Whether `reported` was told when the work began: of work that failed then it is no bill."""
    units: Fraction | None = None
    """Billable units that the provider counted, where it sells by units of its own."""
    seconds: Fraction | None = None
    """How long it says that it worked, where it sells by the second."""
    said: Said | None = None
    """Of a response in a conversation: what it says of itself; images are then those of its tool."""
    parts: tuple[PartReading, ...] = ()
    """Where several calls make up the answer: those that may have been billed. The rest sums them up."""

    @property
    def unread(self) -> bool:
        """Whether it was too long to be read: nothing is known of what it says."""
        return self.usage_problem == UNREAD


@record(frozen=True, slots=True)
class PartReading:
    """One of several calls: how many images it was asked for, and what its answer said, nothing if none came.

    `charged_for` is that of `UpstreamFailure`, where it was refused.
    """

    n: int
    reading: Reading
    charged_for: str | None = None


@record(frozen=True, slots=True)
class Settlement:
    """Replaces a hold: the cost in three views, nano-USD, and what the entry stream shall say about it."""

    request_id: str
    attempt: int
    cost: Views
    source: CostSource
    images: int
    usage: Usage | None = None
    facts: dict[str, object] = field(default_factory=dict)


class SettleResult(StrEnum):
    """What settling or voiding did."""

    DONE = "done"
    LATE = "late"
    """Something was booked before, as of a hold that had lapsed to presumed spent; the difference was booked once."""
    FIRST = "first"
    """The hold had been given back by a guess, unbooked: its whole cost was booked now, once."""
    SAME = "same"
    """It had already ended; nothing changed."""
    GONE = "gone"
    """No such hold is known."""


DONE: Final = SettleResult.DONE
LATE: Final = SettleResult.LATE
FIRST: Final = SettleResult.FIRST


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What an attempt that has ended is now known to have cost, in place of what was booked: three views, nano-USD.

    `id` makes it happen once, however often it is posted.
    """

    id: str
    request_id: str
    attempt: int
    cost: Views
    reason: str


@dataclass(frozen=True, slots=True)
class Posting:
    """An amount that belongs to no known request, nano-USD by view, negative where it gives back.

    `lines` are micro-USD by balance cell, empty where no budget is to feel it. `about` says what the entry stream shall
    tell: project, route, model, provider, day; what it leaves out reports show as "-". `id` makes it happen once.
    """

    id: str
    cost: Views
    reason: str
    about: dict[str, object] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

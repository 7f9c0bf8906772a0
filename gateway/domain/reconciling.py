"""Reconciling: a provider's invoice laid beside what the ledger has booked, every difference in a class of its own.

Amounts of the ledger are nano-USD in the route view: what the provider should charge. A request's part of the invoice
is summed exactly and rounded up once to a nano-USD, as the ledger rounds its costs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Any

from gateway.domain.invoice import Row
from gateway.domain.route import NOTHING, Views
from gateway.domain.spend import NO_REQUEST


class Kind(StrEnum):
    """What came of laying one thing beside its counterpart."""

    MATCHED = "matched"
    """Both have it, at the same amount."""
    OTHER_AMOUNT = "other_amount"
    """Both have it, at different amounts."""
    ONLY_OURS = "only_ours"
    """Booked, and not on the invoice."""
    ONLY_THEIRS = "only_theirs"
    """On the invoice, and not booked."""
    PRESUMED_BILLED = "presumed_billed"
    """Booked as presumed, and on the invoice: it was billed."""
    PRESUMED_UNBILLED = "presumed_unbilled"
    """Booked as presumed, and not on the invoice: it was not billed."""
    DOUBLED = "doubled"
    """A row that the invoice has twice; the second one."""
    AT_EDGE = "at_edge"
    """Booked so near to an edge of the period, or for more than the period, that it may be on another invoice."""


@dataclass(slots=True)
class Booked:
    """What the ledger has on one attempt: nano-USD by view, and `unconfirmed`, the part of the route view presumed.

    An amount that was posted without a request has the request id "-". `changes` counts the entries it is made of, so
    that a correction can be told from an earlier one of the same amount. `lines` are micro-USD by balance cell.
    Of an amount that is for some moment of a stretch, `time` begins that and `until` ends it. `held` is what was held,
    where anybody said. `text_model` led a conversation, and `text` is its part of the route view, None where the entry
    does not say. `posted` and `posted_lines` are the part of `cost` and `lines` that was booked beside the attempt's
    record.
    """

    request_id: str
    attempt: int
    time: datetime
    cost: Views
    model: str = ""
    upstream_model: str = ""
    upstream_ids: set[str] = field(default_factory=set)
    images: int = 0
    unconfirmed: int = 0
    changes: int = 1
    lines: dict[str, int] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    until: datetime | None = None
    held: Views = NOTHING
    text_model: str = ""
    text: int | None = None
    posted: Views = NOTHING
    posted_lines: dict[str, int] = field(default_factory=dict)

    @property
    def day(self) -> date:
        """The UTC day it was booked on."""
        return self.time.date()

    @property
    def is_unsplit(self) -> bool:
        """Whether it is what two models cost, and nobody knows which cost how much: an earlier version booked it."""
        return self.text_model != "" and self.text is None and self.cost.route != 0 and self.unconfirmed == 0


@dataclass(frozen=True, slots=True)
class Terms:
    """From when until when (not included) the invoice goes; how near to these edges, in time, nothing is judged.

    `tolerance` (nano-USD) is the difference up to which amounts count as equal, since some invoices round.
    """

    since: datetime
    until: datetime
    edge: timedelta = timedelta(0)
    tolerance: int = 0

    def covers(self, moment: datetime) -> bool:
        """Tell whether the invoice should have what happened then."""
        return self.since <= moment < self.until

    def covers_booked(self, booked: Booked) -> bool:
        """Tell whether the invoice should have what is booked; of what is for a stretch, any part of it."""
        if booked.until is None:
            return self.covers(booked.time)
        return booked.time < self.until and self.since < booked.until

    def is_partial(self, booked: Booked) -> bool:
        """Tell whether what is booked is for a stretch of which the invoice has but a part, or nothing."""
        return booked.until is not None and (booked.time < self.since or self.until < booked.until)

    def is_edge(self, booked: Booked) -> bool:
        """Tell whether what is booked may be on the invoice before or after this one; an invoice's own times are so."""
        if booked.request_id == NO_REQUEST:
            return self.is_partial(booked)
        return not self.since + self.edge <= booked.time < self.until - self.edge

    def reaches(self, moment: datetime) -> bool:
        """Tell whether this lies in the period, or so near to it that it may have been billed there."""
        return self.since - self.edge <= moment < self.until + self.edge


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing and its class. `ours` is nano-USD, None where nothing is booked; `theirs` None where nothing is billed.

    `booked` is what to correct; of a day it is the sum of all that was booked. `time` is when that was billed which
    the invoice alone has: then, or some time until `until`; None for a whole `day`. `stands_for` is the presumption
    that gives way to it. `of` is the attempt, billed on another invoice, that this one has another amount of.
    """

    kind: Kind
    booked: Booked | None = None
    rows: tuple[Row, ...] = ()
    day: date | None = None
    model: str = ""
    time: datetime | None = None
    until: datetime | None = None
    stands_for: Booked | None = None
    of: Booked | None = None

    @property
    def ours(self) -> int | None:
        """What is booked."""
        return self.booked.cost.route if self.booked else None

    @property
    def theirs(self) -> int | None:
        """What the invoice says."""
        return nano(row.amount for row in self.rows) if self.rows else None

    @property
    def difference(self) -> int:
        """How much more the invoice says than is booked."""
        return (self.theirs or 0) - (self.ours or 0)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to be explained or confirmed."""
        return self.kind in {Kind.MATCHED, Kind.AT_EDGE}


def nano(amounts: Iterable[Fraction]) -> int:
    """Return the sum of exact nano-USD amounts, rounded up once."""
    total = sum(amounts, Fraction(0))
    return -(-total.numerator // total.denominator)


def unexplained(findings: Iterable[Finding]) -> int:
    """Return the one figure: nano-USD by which ledger and invoice differ, item by item, whichever way."""
    return sum(abs(finding.difference) for finding in findings if not finding.is_settled)


def may_be_in(finding: Finding, unread: Collection[str]) -> bool:
    """Tell whether rows that could not be read may be about this, by the cells that stand in them."""
    booked = finding.booked
    ids = {named for row in finding.rows for named in (row.id, row.request)}
    ids |= booked.upstream_ids | {booked.request_id} if booked else set()
    waits = not finding.rows or finding.stands_for is not None  # with the presumption, which has no row
    return bool(unread) and (waits or any(named in unread for named in ids - {"", NO_REQUEST}))


def classed(booked: Booked | None, rows: tuple[Row, ...], terms: Terms, *, presumed: bool) -> Kind | None:
    """Return the class of what is booked and what is billed; None where both say nothing.

    `presumed` tells that what is booked is one attempt, so that its row or the lack of it tells what became of it.
    """
    ours = booked.cost.route if booked else 0
    unknown = presumed and booked is not None and booked.unconfirmed != 0
    if not rows:
        return Kind.PRESUMED_UNBILLED if unknown else Kind.ONLY_OURS if ours else None
    if unknown:
        return Kind.PRESUMED_BILLED
    theirs = nano(row.amount for row in rows)
    if abs(theirs - ours) <= terms.tolerance:
        return Kind.MATCHED
    return Kind.OTHER_AMOUNT if booked else Kind.ONLY_THEIRS

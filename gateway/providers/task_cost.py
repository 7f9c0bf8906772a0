"""Task cost: what a provider tells of the cost of work, at whichever of its answers it tells it."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from gateway.domain.json_path import first, is_null
from gateway.domain.settlement import Reading
from gateway.domain.task_profile import TaskProfile
from gateway.ports.provider import Submitted
from gateway.providers.amounts import nano, number, told

COST = "cost"
"""The fact of submitted work that is the number at `TaskProfile.submitted_cost`, as a fraction."""


def told_at_once(profile: TaskProfile, document: object, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the facts of cost in the answer to a submission."""
    cost = profile.submitted_cost
    amount = None if cost is None else told(cost, document, headers)
    return {} if amount is None else {COST: str(amount)}


def reading_of(profile: TaskProfile, submitted: Submitted, document: object, headers: Mapping[str, str]) -> Reading:
    """Return what is known of the cost: what stands in the last document or its headers, else what was told at once.

    Work that never started took no time.
    """
    reported, units, announced = None, None, False
    amount = None if profile.reported is None else told(profile.reported, document, headers)
    if amount is not None and profile.reported is not None:
        usd = profile.reported.usd
        reported, units = (None, amount) if usd is None else (nano(amount, usd), None)
    at_once = submitted.facts.get(COST)
    if reported is None and at_once is not None and profile.submitted_cost is not None:
        usd = profile.submitted_cost.usd
        reported, announced = (None, False) if usd is None else (nano(Fraction(at_once), usd), True)
    seconds = number(first(document, profile.seconds)) if profile.seconds else None
    if seconds is None and profile.started and is_null(document, profile.started):
        seconds = Fraction(0)
    return Reading(reported=reported, announced=announced, units=units, seconds=seconds)

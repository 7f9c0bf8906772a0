"""Adjusting one attempt by hand: which one is meant, what is booked in its place, and by what id it is booked once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.cli.options import Fatal
from gateway.domain import money
from gateway.domain.adjusting import held_of, scaled
from gateway.domain.route import Views
from gateway.domain.settlement import Adjustment, SettleResult
from gateway.ledger.redis_ledger import RedisLedger


@dataclass(frozen=True, slots=True)
class Adjusted:
    """What was booked, or had been `booked` before; `change` is of the route view, nano-USD."""

    adjustment: Adjustment
    booked: bool
    change: int


async def adjusted(
    books: RedisLedger, request_id: str, wanted: int | None, cost: int, reason: str, name: str | None
) -> Adjusted:
    """Book what an attempt cost in truth, once by its `name`; Fatal if it is none, or not clear which."""
    attempt = _billed(await books.request(request_id), request_id, wanted)
    number, was = int(attempt["attempt"]), attempt["cost"]
    views, made_of = _in_views(was, cost, held_of(attempt["facts"])), [request_id, number, cost, reason]
    adjustment = Adjustment(name or _digest(made_of), request_id, number, views, reason)
    result = await books.adjust(adjustment)
    if result is SettleResult.SAME and name is None and was.route != cost:  # another amount was booked after it
        adjustment = replace(adjustment, id=_digest([*made_of, attempt["ended_at"]]))
        result = await books.adjust(adjustment)
    if result is SettleResult.GONE:
        raise Fatal(f"request {request_id} has no attempt {number}")
    booked = result is not SettleResult.SAME
    return Adjusted(adjustment, booked, cost - was.route if booked else 0)


def _digest(made_of: list[object]) -> str:
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]


def _billed(record: dict[str, object] | None, request_id: str, wanted: int | None) -> Mapping[str, Any]:
    """Return the record of the attempt that is meant, with what is booked for it; Fatal if it is none or not clear."""
    attempts = record["attempts"] if record else None
    if not isinstance(attempts, list):
        raise Fatal(f"no request {request_id} is remembered: finished ones are forgotten after 30 days")
    ended: list[Mapping[str, Any]] = [each for each in attempts if "cost" in each]
    if wanted is None:
        ended = [each for each in ended if each["state"] != "void"] or ended
    found = [each for each in ended if wanted in (None, each["attempt"])]
    if len(found) > 1:
        numbers = ", ".join(str(each["attempt"]) for each in found)
        raise Fatal(f"request {request_id} has several attempts that were billed: give --attempt, one of {numbers}")
    if not found:
        which = f"attempt {wanted} of request {request_id}" if wanted else f"request {request_id}"
        raise Fatal(f"{which} has not ended, or was never made")
    return found[0]


def _in_views(was: Views, cost: int, held: Views) -> Views:
    """Return all views of what was booked at its true cost; Fatal if one would be more than an entry holds."""
    views = scaled(was, cost, held)
    if max(views.official, views.internal) > money.MAX_MICRO:
        raise Fatal(f"{money.format_usd(cost)} USD comes to more than an entry can hold in another price view")
    return views

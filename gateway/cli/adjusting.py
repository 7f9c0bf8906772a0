"""Adjusting one attempt by hand: which one is meant, what is booked in its place, and by what id it is booked once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from gateway.cli.options import Fatal
from gateway.domain import money
from gateway.domain.adjusting import held_of, scaled
from gateway.domain.route import NOTHING, Views
from gateway.domain.settlement import Adjustment, CostSource, Posting, SettleResult
from gateway.domain.spend import NO_REQUEST, attempt_of
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.reporting.recorded import recorded_entries


@dataclass(frozen=True, slots=True)
class Adjusted:
    """What was booked, or had been `booked` before; `change` is of the route view, nano-USD."""

    adjustment: Adjustment
    booked: bool
    change: int


async def adjusted(
    books: RedisLedger,
    store: Store,
    realm: str,
    request_id: str,
    wanted: int | None,
    cost: int,
    reason: str,
    name: str | None,
) -> Adjusted:
    """Book what an attempt cost in truth, once by its `name`; Fatal if it is none, or not clear which.

    What an invoice gave back beyond its cost stands beside its record, and is taken back.
    """
    attempt = _billed(await books.request(request_id), request_id, wanted)
    number, was = int(attempt["attempt"]), attempt["cost"]
    views, made_of = _in_views(was, cost, held_of(attempt["facts"])), [request_id, number, cost, reason]
    beside = await _beside(store, realm, request_id, attempt)
    adjustment = Adjustment(name or _digest(made_of), request_id, number, views, reason)
    result = await books.adjust(adjustment)
    if result is SettleResult.SAME and name is None and was.route != cost:  # another amount was booked after it
        adjustment = replace(adjustment, id=_digest([*made_of, attempt["ended_at"]]))
        result = await books.adjust(adjustment)
    if result is SettleResult.GONE:
        raise Fatal(f"request {request_id} has no attempt {number}")
    booked = result is not SettleResult.SAME
    if beside is not None and (booked or name is None):
        rest = replace(beside, id=_digest([adjustment.id, beside.id]), reason=reason)
        booked = await books.post(rest) is SettleResult.DONE or booked
    given_back = beside.cost.route if beside is not None else 0
    return Adjusted(adjustment, booked, cost - was.route + given_back if booked else 0)


async def _beside(store: Store, realm: str, request_id: str, attempt: Mapping[str, Any]) -> Posting | None:
    """Return what takes back all that was posted about an attempt, as far as the store has it; None where nothing is.

    Its id is the last of the entries that it takes back.
    """
    if attempt["source"] != CostSource.INVOICE:
        return None
    found = Posting("", NOTHING, "")
    async for entry in recorded_entries(store, realm, since=datetime.fromtimestamp(attempt["held_at"], UTC)):
        if entry.request_id == NO_REQUEST and attempt_of(entry) == (request_id, attempt["attempt"]):
            lines = {cell: found.lines.get(cell, 0) - micro for cell, micro in entry.lines.items()}
            about = {name: value for name, value in entry.about.items() if name != "invoice"}
            found = replace(found, id=entry.id, cost=found.cost - entry.cost, about=about, lines=found.lines | lines)
    return found if found.cost != NOTHING else None


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

"""Applying: what an invoice says booked in place of what the ledger says, each correction once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from gateway.domain import money
from gateway.domain.corrections import Source, adjustment, belated, beside, is_too_much, needs_booking, posting
from gateway.domain.reconciling import Finding
from gateway.domain.settlement import Adjustment, SettleResult
from gateway.domain.spend import NO_REQUEST
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.progress import Meter
from gateway.ledger.redis_ledger import RedisLedger
from gateway.reporting.reconciliation import ReconcileError

_LIVE = ("queued", "sent")

Record = dict[str, object]


@dataclass(slots=True)
class Applied:
    """What was booked: how many corrections, how many had been booked before, how many requests still run.

    `lost` is how many attempts the store has no record of that should be there still; `left` are the findings that
    may differ after all: what was not booked now.
    """

    booked: int = 0
    before: int = 0
    running: int = 0
    lost: int = 0
    left: list[Finding] = field(default_factory=list)


async def book_corrections(
    ledger: RedisLedger, findings: Iterable[Finding], source: Source, lost_since: datetime | None = None
) -> Applied:
    """Book every correction, each once however often it is applied; raises LedgerUnavailable, and may then go on.

    Attempts that were booked since `lost_since` and have no record are lost: none of them is corrected. ReconcileError,
    and nothing is booked, if any is more than an entry can hold.
    """
    applied = Applied()
    wanted = [finding for finding in findings if needs_booking(finding)]
    unbilled: dict[int, Record] = {}
    for number, finding in enumerate(wanted):
        record = await _thought_unbilled(ledger, finding, source.provider)
        if record is not None:
            unbilled[number] = record
        if is_too_much(finding, source, record):
            raise ReconcileError(_told_too_much(finding))
    meter = Meter("corrections", len(wanted), often=20)
    for number, finding in enumerate(wanted):
        result = await _correct(ledger, finding, source, lost_since, unbilled.get(number))
        applied.booked += result is SettleResult.DONE
        applied.before += result is SettleResult.SAME
        applied.running += result is None
        applied.lost += result is SettleResult.GONE
        if result in {SettleResult.SAME, SettleResult.GONE}:
            applied.left.append(finding)
        meter.add()
    return applied


def _told_too_much(finding: Finding) -> str:
    rows = finding.rows
    named = (rows[0].id or rows[0].request) if rows else ""
    what = named or " on ".join(str(each) for each in (finding.model, finding.day) if each)
    usd = money.format_usd(finding.theirs or 0)
    return f"{usd} USD for {what} is more than an entry can hold: is --currency-unit right? Nothing was booked"


async def _correct(
    ledger: RedisLedger, finding: Finding, source: Source, lost_since: datetime | None, unbilled: Record | None
) -> SettleResult | None:
    """Correct one; None for a call that has not ended, whose own settlement will tell, GONE for one that is lost.

    `unbilled` is the record of a call that was thought to be so.
    """
    booked = finding.booked
    if booked is not None and booked.request_id != NO_REQUEST:
        result = await _adjusted(ledger, finding, source)
        is_lost = lost_since is not None and booked.time > lost_since
        if result is not SettleResult.GONE or is_lost:
            return result
    elif unbilled is not None:
        return None if unbilled["state"] in _LIVE else await ledger.post(belated(finding, source, unbilled))
    return await ledger.post(posting(finding, source))


async def _adjusted(ledger: RedisLedger, finding: Finding, source: Source) -> SettleResult | None:
    """Make the record of an attempt, and what was posted beside it, what the invoice says."""
    wanted, rest = adjustment(finding, source), beside(finding, source)
    assert wanted is not None
    if rest is not None and rest.cost.route > 0:  # first: without it budgets may have less than is taken from them now
        state = await _state(ledger, wanted)
        if state is None or state in _LIVE:
            return None if state else SettleResult.GONE
        await ledger.post(rest)
        rest = None
    try:
        result = await ledger.adjust(wanted)
    except LedgerRefused:
        if await _state(ledger, wanted) in _LIVE:
            return None
        raise
    if rest is not None and result is not SettleResult.GONE:
        return await ledger.post(rest)
    return result


async def _state(ledger: RedisLedger, wanted: Adjustment) -> object:
    """The state of the attempt that is to be adjusted, None if the store has no record of it."""
    record = await ledger.request(wanted.request_id)
    attempts = cast("list[Mapping[str, object]]", record["attempts"]) if record else []
    return next((each["state"] for each in attempts if each["attempt"] == wanted.attempt), None)


async def _thought_unbilled(ledger: RedisLedger, finding: Finding, provider: str) -> Record | None:
    """The last attempt at the provider of the request that a row names, with the request's `about`, if it is known.

    None where the books have the call.
    """
    if finding.of is not None or finding.booked is not None or not finding.rows:
        return None
    request_id = finding.rows[0].request or finding.rows[0].id
    record = await ledger.request(request_id) if request_id else None
    if record is None:
        return None
    attempts = record["attempts"]
    assert isinstance(attempts, list)
    own = [each for each in attempts if each["facts"].get("provider") == provider]
    return {**own[-1], "about": record["about"]} if own else None

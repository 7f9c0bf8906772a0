"""Lines of the journal: what the store is still to be told, each with a checksum, as JSON.

`CRC {"op":…,"realm":…,"store":…,"token":…,"at":…,"settlement"|"void":…,"hold":…}`: CRC is the CRC-32 of the JSON as 8
hex digits, `store` the URL of the store to be told, without secrets (earlier versions left it out), `at` Unix
milliseconds, `hold` what is needed to put the hold back, or null.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement, Usage
from gateway.ledger import wire
from gateway.ledger.names import Names
from gateway.ledger.own_holds import HoldRecord, member

OLDEST_DAYS = 25
"""The store remembers a request for 30 days after it ended; a hold put back later would be booked twice."""
IsAnother = Callable[[str], bool]
"""Tells of a store, by its URL without secrets, whether its ledger is another one than that which is served here."""
_DAY_MS = 86_400_000
_CRC_DIGITS = 8
_HOLD, _SETTLE, _VOID = "hold", "settle", "void"


class OtherLedger(Exception):
    """A line is for the ledger in another store, whose URL without secrets it says."""


def none_is(_store: str) -> bool:
    """Take every line for one of the ledger that is served here."""
    return False


@dataclass(frozen=True, slots=True)
class Void:
    """A hold that is to end for nothing."""

    request_id: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """One thing that the store is still to be told: how a hold ends, or (`what` is None) that it was taken.

    `token` makes it happen once; `at` is Unix milliseconds. `hold` is there unless it is not known here.
    """

    token: str
    at: int
    what: Settlement | Void | None
    hold: HoldRecord | None

    @property
    def member(self) -> str:
        """The hold's name, `request id:attempt`."""
        of = self.what or self.hold
        assert of is not None
        return member(of.request_id, of.attempt)


@dataclass(frozen=True, slots=True)
class Damaged:
    """Consecutive lines, counted from 1, that say nothing that may be believed; `why` of the first."""

    first: int
    last: int
    data: bytes
    why: str


def check(pending: PendingWrite, realm: str) -> None:
    """Raise ValueError for what the ledger would refuse: ids, amounts, a hold of another attempt."""
    names, what, hold = Names(realm), pending.what, pending.hold
    for of in (what, hold):
        if of is not None:
            names.request(of.request_id)
            if type(of.attempt) is not int or of.attempt < 1:
                raise ValueError("an attempt counts from 1")
    if what is None and hold is None:
        raise ValueError("it is about no hold")
    if what is not None and hold is not None and hold.member != pending.member:
        raise ValueError("its hold is another one")
    if isinstance(what, Settlement):
        wire.settlement_args(what)


def to_line(pending: PendingWrite, realm: str, store: str = "") -> bytes:
    """Return the line, with its line break; ValueError as from `check`."""
    check(pending, realm)
    what = pending.what
    said: dict[str, object] = {"op": _HOLD, "realm": realm, "token": pending.token, "at": pending.at}
    if store:
        said["store"] = store
    if isinstance(what, Settlement):
        said |= {"op": _SETTLE, "settlement": asdict(what)}
    elif what is not None:
        said |= {"op": _VOID, "void": asdict(what)}
    said["hold"] = pending.hold.to_dict() if pending.hold is not None else None
    body = wire.to_json(said).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(body), body)


def from_line(line: bytes, realm: str, now: int, is_another: IsAnother = none_is) -> PendingWrite:
    """Read a line without its line break; ValueError says why it may not be believed. `now` is Unix milliseconds.

    OtherLedger if it is for a store of which `is_another` says that its ledger is not the one that is served here.
    """
    crc, space, body = line[:_CRC_DIGITS], line[_CRC_DIGITS : _CRC_DIGITS + 1], line[_CRC_DIGITS + 1 :]
    if space != b" " or crc != b"%08x" % zlib.crc32(body):
        raise ValueError("cut off, or its checksum is wrong")
    try:
        said = json.loads(body)
        pending, whose, store = _pending(said), said["realm"], str(said.get("store", ""))
        check(pending, realm)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not an entry: {error!r}") from error
    if whose != realm:
        raise ValueError(f"it belongs to realm {whose!r}")
    if store and is_another(store):
        raise OtherLedger(store)
    if pending.at < now - OLDEST_DAYS * _DAY_MS:
        raise ValueError(f"it is older than {OLDEST_DAYS} days")
    return pending


def _pending(said: Mapping[str, Any]) -> PendingWrite:
    operation, hold = said["op"], said["hold"]
    record = HoldRecord.from_dict(hold) if hold is not None else None
    if record is not None:
        _check_hold(record)
    what: Settlement | Void | None = None
    if operation == _SETTLE:
        what = _settlement(said["settlement"])
    elif operation == _VOID:
        what = Void(**said["void"])
        if not isinstance(what.reason, str):
            raise ValueError("its reason is no text")
    elif operation != _HOLD:
        raise ValueError(f"unknown operation {operation!r}")
    token, at = said["token"], said["at"]
    if not isinstance(token, str) or not token or type(at) is not int:
        raise ValueError("it has no token or no time")
    return PendingWrite(token, at, what, record)


def _check_hold(record: HoldRecord) -> None:
    texts = (record.token, record.state, record.about, record.candidate)
    if not all(isinstance(text, str) for text in texts) or {
        type(each) for each in (record.at, record.index, record.promised_at)
    } != {int}:
        raise ValueError("its hold is malformed")


def _settlement(said: Mapping[str, Any]) -> Settlement:
    usage = said["usage"]
    told = {
        **said,
        "cost": Views(**said["cost"]),
        "source": CostSource(said["source"]),
        "usage": Usage(**usage) if usage is not None else None,
    }
    return Settlement(**told | {"facts": dict(said["facts"])})


def read_lines(data: bytes, realm: str, now: int, is_another: IsAnother = none_is) -> Iterator[PendingWrite | Damaged]:
    """Yield what a file's lines say, in order; a line whose break alone is missing is whole. OtherLedger."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    bad: Damaged | None = None
    for number, line in enumerate(lines, 1):
        try:
            pending = from_line(line, realm, now, is_another)
        except ValueError as error:
            why = bad.why if bad else str(error)
            bad = Damaged(bad.first if bad else number, number, (bad.data if bad else b"") + line + b"\n", why)
            continue
        if bad is not None:
            yield bad
            bad = None
        yield pending
    if bad is not None:
        yield bad

"""Audit: every balance against what the entries and the live holds add up to.

Each balance of money must have spent what was trimmed from the stream plus what the stream says, and must hold what
live holds took. The balances are read in one step; entries are read in pages up to the last one of that moment, so
that traffic may go on. Counts in rolling windows are not in the stream and pass by themselves: only their form is
checked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from gateway.domain.budget import Counted
from gateway.domain.money import NANO_PER_MICRO, format_usd
from gateway.ledger.clock import told_ahead
from gateway.ledger.entries import MONEY, JunkEntry, decode
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.history import History, read_history
from gateway.ledger.names import Names
from gateway.ledger.segments import Export
from gateway.ledger.snapshot import LiveHolds, Snapshot, add_unlisted, read_live_holds, take_snapshot
from gateway.ledger.store import Store
from gateway.ledger.stream import PAGE, position, raw_entries

TRIES = 5
"""How often an audit begins anew because entries were trimmed while it read them."""
LIVE = f"{Counted.CONCURRENT}|"
ROLLING = tuple(f"{counted}|" for counted in Counted if counted is not Counted.CONCURRENT)

_PAIR = re.compile(r"([0-9]{1,16}) ([0-9]{1,16})", re.ASCII)
_BUCKETS = re.compile(r"([0-9]+:[0-9]+( [0-9]+:[0-9]+)*)?", re.ASCII)
_TOTAL = re.compile(r"-?[0-9]{1,18}", re.ASCII)


class Kind(StrEnum):
    """What a finding is about."""

    LEDGER = "ledger"
    BALANCE = "balance"
    BASE = "base"
    ENTRY = "entry"
    HOLD = "hold"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be; `name` is a cell, an entry's id, a hold, or "" for the ledger itself."""

    kind: Kind
    name: str
    message: str
    found: str | None = None
    expected: str | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.name))) + f": {self.message}"


@dataclass(frozen=True, slots=True)
class WrongCell:
    """A balance to be put right. `found` is as it lies in the store, "" if missing; `right` is "" if it is to go.

    `spent` and `held` are what it is short of, micro-USD or counts.
    """

    cell: str
    found: str
    right: str
    spent: int = 0
    held: int = 0


@dataclass(slots=True)
class Audit:
    """What was found. `notes` are worth saying and no fault."""

    snapshot: Snapshot
    holds: LiveHolds
    totals: dict[str, int] = field(default_factory=dict)
    history: History | None = None
    wrong: list[WrongCell] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    compared: int = 0

    @property
    def agrees(self) -> bool:
        """Whether everything is as it should be."""
        return not self.findings

    @property
    def base_is_sound(self) -> bool:
        """Whether the sum of trimmed entries is as the last trim left it."""
        return base_digest(self.snapshot.base) == self.snapshot.base_digest

    def say(self, kind: Kind, name: str, message: str, found: str | None = None, expected: str | None = None) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, name, message, found, expected))


async def audit(
    store: Store,
    realm: str = "main",
    *,
    export: Sequence[Path] = (),
    thorough: bool = False,
    page: int = PAGE,
) -> Audit:
    """Compare a realm's balances with its entries; with an export, that too.

    `thorough` also looks through all requests for holds that nobody lists; that is done anyhow where more is held than
    is known. Raises LedgerUnavailable, and ExportError for an export that is not whole.
    """
    names = Names(realm)
    for _ in range(TRIES):
        files = Export(export) if export else None
        found = Audit(snapshot := await take_snapshot(store, names), LiveHolds())
        whole = await _add_entries(store, names, found, page)
        found.holds = await read_live_holds(store, names, snapshot.due)
        if files is not None:
            found.history = await read_history(store, names, snapshot, files, page=page)
            found.notes += [f"{files.cut}: the last line is cut; the next export takes it away"] if files.cut else []
        if thorough or _held_too_much(found):
            await add_unlisted(store, names, found.holds)
        trimmed = await store.execute("HGET", names.meta, "trimmed")
        if whole and (trimmed or "") == snapshot.trimmed:
            _judge(found)
            return found
    raise LedgerRefused(f"store {store.where}: entries are being removed all the time; try again")


async def _add_entries(store: Store, names: Names, found: Audit, page: int) -> bool:
    """Add the entries up; tells whether they were as many as there were at the snapshot."""
    count = 0
    if found.snapshot.last:
        async for entry_id, fields in raw_entries(store, names.entries, end=found.snapshot.last, page=page):
            count += 1
            try:
                lines = decode(entry_id, fields).lines
            except JunkEntry as error:
                problem = str(error).partition(" is ")[2]
                found.say(Kind.ENTRY, entry_id, f"is {problem}", json.dumps(dict(fields)))
                continue
            for cell, micro in lines.items():
                found.totals[cell] = found.totals.get(cell, 0) + micro
    return count == found.snapshot.entries


def _judge(found: Audit) -> None:
    snapshot, holds = found.snapshot, found.holds
    if not snapshot.epoch:
        found.say(Kind.LEDGER, "", "there is no ledger in this realm: the store was emptied, or never used")
    for member, problem in (holds.stray | holds.unlisted).items():
        found.say(Kind.HOLD, member, problem)
    base = _base(found)
    for cell, micro in base.items():
        found.totals[cell] = found.totals.get(cell, 0) + micro
    for cell in sorted(snapshot.balances.keys() | found.totals.keys() | holds.taken.keys()):
        _judge_cell(found, cell)
    if told := told_ahead(snapshot.last, snapshot.time):
        found.notes.append(told)
    if snapshot.deleted and _newer(snapshot.deleted, snapshot.trimmed):
        found.notes.append(f"entries were deleted from the stream by hand, the newest of them {snapshot.deleted}")


def _base(found: Audit) -> Mapping[str, int]:
    """Return the sum of trimmed entries: the export's if there is one, else the store's as far as it can be read."""
    kept: dict[str, int] = {}
    for cell, text in found.snapshot.base.items():
        if _TOTAL.fullmatch(text) and cell.startswith(MONEY):
            kept[cell] = int(text)
        else:
            found.say(Kind.BASE, cell, "is junk", text)
    history = found.history
    if history is None:
        if not found.base_is_sound:
            found.say(
                Kind.BASE, "", "the sum of trimmed entries was changed by other hands; only an export can tell it"
            )
        return kept
    for cell in sorted(kept.keys() | history.base.keys()):
        have, should = kept.get(cell, 0), history.base.get(cell, 0)
        if have != should:
            message = f"{usd(have)} USD of trimmed entries where the export says {usd(should)}"
            found.say(Kind.BASE, cell, message, found.snapshot.base.get(cell), str(should))
    _judge_export(found, history)
    return history.base


def _judge_export(found: Audit, history: History) -> None:
    trimmed = found.snapshot.trimmed
    if _newer(trimmed, history.last):
        ends = f"it ends with entry {history.last}; those after it up to {trimmed} were trimmed and are not in it"
        found.say(Kind.EXPORT, "", ends)
    elif history.untold:
        found.say(Kind.EXPORT, trimmed, "is the last that was trimmed, and not in the export as it was")
    for each in history.unexported:
        found.say(Kind.EXPORT, each, "is in the stream and not in the export, which is beyond it")
    for each in history.changed:
        found.say(Kind.EXPORT, each, "is another in the stream than in the export")
    for each, (request, attempt) in history.dropped:
        found.say(
            Kind.EXPORT,
            each,
            f"says what request {request}, attempt {attempt} cost, of which another amount was booked again since: "
            "it counts no more; book what is right with `ledger adjust`",
        )
    found.notes += [
        f"entry {each} says what request {request}, attempt {attempt} cost, of which another amount was booked again "
        "since: it counts no more, and the request is forgotten, so that none can be booked in its place"
        for each, (request, attempt) in history.forgotten
    ]
    if history.lost:
        few = ", ".join(history.lost[:5]) + (", …" if len(history.lost) > 5 else "")  # noqa: PLR2004 - enough to go by
        found.notes.append(
            f"{len(history.lost)} exported entries are no longer in the stream, and were not trimmed: {few}"
        )
    if history.repeated:
        found.notes.append(f"{history.repeated} exported entries were booked again later, and count once")
    if history.junk:
        found.notes.append(f"{len(history.junk)} exported entries are junk and count for nothing: {history.junk[0]} …")


def _judge_cell(found: Audit, cell: str) -> None:
    raw = found.snapshot.balances.get(cell, "")
    if cell.startswith(ROLLING):
        found.compared += 1
        if not _BUCKETS.fullmatch(raw):
            found.say(Kind.BALANCE, cell, f"holds junk: {raw[:80]!r}", raw)
            found.wrong.append(WrongCell(cell, raw, ""))
        return
    if not cell.startswith((MONEY, LIVE)):
        found.notes.append(f"balance {cell}: of no kind that this version knows; left alone")
        return
    found.compared += 1
    total, held = found.totals.get(cell, 0), found.holds.taken.get(cell, 0)
    if total < 0:
        found.say(Kind.ENTRY, "", f"entries of {cell} add up to {usd(total)} USD, less than nothing: some are missing")
    match, right = _PAIR.fullmatch(raw or "0 0"), f"{max(total, 0)} {held}"
    if match is None:
        found.say(
            Kind.BALANCE, cell, f"holds junk: {raw[:80]!r}; {_as_it_should(cell, max(total, 0), held)}", raw, right
        )
        found.wrong.append(WrongCell(cell, raw, right))
        return
    spent, was_held = int(match[1]), int(match[2])
    short, short_held = max(total, 0) - spent, held - was_held
    if short or short_held:
        said = "is missing" if not raw else _as_it_is(cell, spent, was_held)
        found.say(Kind.BALANCE, cell, f"{said}; {_as_it_should(cell, max(total, 0), held)}", raw, right)
        found.wrong.append(WrongCell(cell, raw, right, short, short_held))


def _as_it_is(cell: str, spent: int, held: int) -> str:
    return f"{held} under way" if cell.startswith(LIVE) else f"{usd(spent)} USD spent, {usd(held)} held"


def _as_it_should(cell: str, spent: int, held: int) -> str:
    if cell.startswith(LIVE):
        return f"live holds are {held}"
    return f"entries add up to {usd(spent)} spent, live holds to {usd(held)}"


def _held_too_much(found: Audit) -> bool:
    return any(held > found.holds.taken.get(cell, 0) for cell, held in _held(found.snapshot.balances))


def _held(balances: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    for cell, raw in balances.items():
        match = _PAIR.fullmatch(raw) if cell.startswith((MONEY, LIVE)) else None
        if match is not None:
            yield cell, int(match[2])


def base_digest(base: Mapping[str, object]) -> str:
    """Return what tells whether the sum of trimmed entries is as it was left: hexadecimal, "" for none at all."""
    sums = sorted((cell, str(micro)) for cell, micro in base.items())
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest() if sums else ""


def usd(micro: int) -> str:
    """Micro-USD as decimal USD."""
    return format_usd(micro * NANO_PER_MICRO)


def _newer(one: str, other: str) -> bool:
    return position(one or "0-0") > position(other or "0-0")

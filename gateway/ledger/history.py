"""History: an export laid beside the stream, to tell what the store should remember of entries it no longer has."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.domain.spend import NO_REQUEST
from gateway.ledger import script
from gateway.ledger.entries import JunkEntry, decode
from gateway.ledger.names import Names
from gateway.ledger.segments import Export, ExportError, ExportLine
from gateway.ledger.snapshot import Snapshot, batches, is_member, request_keys
from gateway.ledger.store import Store
from gateway.ledger.stream import PAGE, Raw, position, raw_entries
from gateway.ledger.superseded_entries import TELLING, Amounts, Place, SupersededEntries, weight_of

Attempt = tuple[str, str]
"""A request's id and the number of one of its attempts."""


@dataclass(slots=True)
class History:
    """What an export says. Lists are of entry ids.

    `base` is the sum, micro-USD by cell, of the exported entries that the stream does not have. `trimmed` and
    `trimmed_hash` name the last exported line before the stream's first entry, `last` and `last_hash` the last of all.
    What the store had lost and was told again counts once, as it was booked last; the earlier entries are `repeated`,
    but for those that say more than what counts, of an amount that was not booked again: they are `dropped`, or
    `forgotten` if the store has no record of their attempts, which nobody can adjust any more. `carried` are lost
    entries that count behind a later one, by attempt and id: which one, and its turn there.
    `unexported` are entries of before its end that only the stream has, `passed` those with the later ones of their
    attempts. `common` counts what both have alike, were it trimmed since. `untold` is the last entry that was trimmed,
    if the export does not have it by the hash that the store knows.
    """

    lines: int = 0
    base: dict[str, int] = field(default_factory=dict)
    trimmed: str = ""
    trimmed_hash: str = ""
    last: str = ""
    last_hash: str = ""
    lost: list[str] = field(default_factory=list)
    unexported: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    junk: list[str] = field(default_factory=list)
    dropped: list[tuple[str, Attempt]] = field(default_factory=list)
    forgotten: list[tuple[str, Attempt]] = field(default_factory=list)
    carried: dict[Attempt, dict[str, tuple[Place, int]]] = field(default_factory=dict)
    repeated: int = 0
    common: int = 0
    untold: str = ""

    @property
    def is_foreign(self) -> bool:
        """Whether it is the export of another ledger: it lacks what was trimmed, or has nothing of the stream.

        Lacking some entries of before its end it may be this ledger's own: where a clock was ahead, a store that came
        back older goes on with lower ids.
        """
        return bool(self.untold or (self.unexported and not self.common))


Beside = tuple[ExportLine | None, Raw | None]
"""An exported line, the entry of the stream with the same id, or both."""


async def read_history(store: Store, names: Names, snapshot: Snapshot, export: Export, *, page: int = PAGE) -> History:
    """Lay an export beside the stream as it was at the snapshot, which is to be the later of both.

    ExportError if the export is not whole, LedgerUnavailable as ever.
    """

    def stream() -> AsyncIterator[Raw]:
        return raw_entries(store, names.entries, end=snapshot.last or "0-0", page=page)

    history, alone = History(untold=snapshot.trimmed), list[tuple[str, Attempt]]()
    superseded = await _superseded(_beside(export.lines(), stream()))
    stream_began = False
    async for line, raw in _beside(export.lines(), stream()):
        stream_began = stream_began or raw is not None
        if line is None:
            if raw is not None:
                alone.append((raw[0], _attempt(raw[1])))
            continue
        if line.realm != names.realm:
            raise ExportError(f"{line.where}: this is an export of realm {line.realm!r}, not of {names.realm!r}")
        if holds(line, snapshot.trimmed, snapshot.trimmed_hash):
            history.untold, history.common = "", history.common + 1
        _note(history, line, raw, stream_began=stream_began)
        if raw is None:
            _fold(history, line, snapshot, superseded)
    _note_passed(history, alone)
    await _part_forgotten(store, names, history)
    return history


async def _part_forgotten(store: Store, names: Names, history: History) -> None:
    """Part what was dropped by whether the store knows the attempt: only then `ledger adjust` can end it."""
    named = {":".join(attempt) for _, attempt in history.dropped}
    known = {each for each in named if is_member(names, each)}
    for batch in batches(sorted(known)):
        numbers = [each.rpartition(":")[2] for each in batch]
        reply = await store.run(script.OPEN_ENDS, request_keys(names, batch), numbers, repeatable=True)
        known -= {batch[int(at) - 1] for at, state in zip(reply[::2], reply[1::2], strict=True) if not state}
    history.forgotten = [each for each in history.dropped if ":".join(each[1]) not in known]
    history.dropped = [each for each in history.dropped if ":".join(each[1]) in known]


def _note_passed(history: History, alone: Sequence[tuple[str, Attempt]]) -> None:
    """Tell which of the entries that the stream alone has the export went past."""
    end = position(history.last or "0-0")
    before = {entry_id: attempt for entry_id, attempt in alone if position(entry_id) < end}
    attempts = {attempt for attempt in before.values() if attempt[0] != NO_REQUEST}
    history.unexported = list(before)
    history.passed = [entry_id for entry_id, attempt in alone if entry_id in before or attempt in attempts]


def holds(line: ExportLine, trimmed: str, trimmed_hash: str) -> bool:
    """Tell whether a line is that of the last trimmed entry, whose hash the store knows: each hash is of all before."""
    return line.id == trimmed and line.hash == (trimmed_hash or line.hash)


def _note(history: History, line: ExportLine, raw: Raw | None, *, stream_began: bool) -> None:
    history.lines += 1
    history.last, history.last_hash = line.id, line.hash
    if not stream_began:
        history.trimmed, history.trimmed_hash = line.id, line.hash
    if raw is not None:
        alike = dict(raw[1]) == dict(line.fields)
        history.common += alike
        history.changed += [] if alike else [line.id]


def _fold(history: History, line: ExportLine, snapshot: Snapshot, superseded: SupersededEntries) -> None:
    attempt = _attempt(line.fields)
    if not superseded.stands(attempt, line.place):
        if superseded.dropped(attempt, line.place, _readable(line.fields.get("cost", ""))):
            history.dropped.append((line.id, attempt))
        else:
            history.repeated += 1
        return
    if position(line.id) > position(snapshot.trimmed or "0-0"):
        history.lost.append(line.id)
    behind = superseded.carried(line.place)
    if behind is not None:
        history.carried.setdefault(attempt, {})[line.id] = behind
    try:
        entry = decode(line.id, line.fields)
    except JunkEntry:
        history.junk.append(line.id)
        return
    for cell, micro in entry.lines.items():
        history.base[cell] = history.base.get(cell, 0) + micro


async def _superseded(beside: AsyncIterator[Beside]) -> SupersededEntries:
    """Return what is known of entries that were lost and told again."""
    superseded = SupersededEntries()
    async for line, raw in beside:
        entry_id, fields = raw or ((line.id, line.fields) if line else ("0-0", {}))
        try:
            _tell(superseded, position(entry_id), fields)
        except (KeyError, ValueError, TypeError, AttributeError):
            continue  # junk, of which whoever decodes it tells
    return superseded


def _tell(superseded: SupersededEntries, place: Place, fields: Mapping[str, str]) -> None:
    attempt, source, reason, adjustment = _attempt(fields), fields.get("source", ""), "", ""
    if source in TELLING or attempt[0] == NO_REQUEST:
        told = json.loads(fields["outcome"])
        reason, adjustment = told.get("reason", ""), told["id"] if attempt[0] == NO_REQUEST else told.get("id", "")
    weight = weight_of(source, reason)
    if fields.get("kind") in ("settle", "presume"):
        superseded.booked(attempt, place, _readable(fields.get("cost", "")), weight, adjustment)
    elif attempt[0] == NO_REQUEST:
        superseded.posted(adjustment, place)
    else:
        was = _amounts(fields["was"]) if "was" in fields else None
        superseded.corrected(attempt, place, was, _amounts(fields["cost"]), weight, adjustment)


def _amounts(text: str) -> Amounts:
    official, route, internal = map(int, text.split(" "))
    return official, route, internal


def _readable(text: str) -> Amounts | None:
    try:
        return _amounts(text)
    except ValueError:
        return None  # junk, of which whoever decodes it tells


def _attempt(fields: Mapping[str, str]) -> Attempt:
    return str(fields.get("request")), str(fields.get("attempt"))


async def _beside(lines: Iterator[ExportLine], stream: AsyncIterator[Raw]) -> AsyncIterator[Beside]:
    """Yield both in order, those with the same id together."""
    line, raw = next(lines, None), await anext(stream, None)
    while line is not None or raw is not None:
        left = position(line.id) if line else None
        right = position(raw[0]) if raw else None
        with_line = right is None or (left is not None and left <= right)
        with_raw = left is None or (right is not None and right <= left)
        yield (line if with_line else None), (raw if with_raw else None)
        line = next(lines, None) if with_line else line
        raw = await anext(stream, None) if with_raw else raw

"""Recorded: the entries of a period, from the store and from exports of what was trimmed there, each of them once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import astuple
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

from gateway.domain.spend import NO_REQUEST
from gateway.ledger.entries import Entry, read_entries, readable
from gateway.ledger.history import holds
from gateway.ledger.names import Names
from gateway.ledger.segments import Export, ExportError
from gateway.ledger.store import Store
from gateway.ledger.stream import position
from gateway.ledger.superseded_entries import Place, SupersededEntries, weight_of


async def trimmed_until(store: Store, realm: str) -> datetime | None:
    """Return when the last entry was booked that the store no longer has; None if it has all. LedgerUnavailable.

    Such were trimmed, or lost by a store that came back older and was rebuilt.
    """
    gone = await store.execute("HMGET", Names(realm).meta, "trimmed", "lost")
    last = max((each for each in gone if each), key=position, default=None)
    return _moment(last) if last else None


def _moment(entry_id: str) -> datetime:
    """Return the moment that an id tells; it may be later than the one in which its entry was booked."""
    return datetime.fromtimestamp(position(entry_id)[0] / 1000, UTC)


async def recorded_entries(
    store: Store,
    realm: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    export: Sequence[Path] = (),
) -> AsyncIterator[Entry]:
    """Yield entries in order, `since` included and `until` not; raises LedgerUnavailable.

    `export` are files or directories of an export; ExportError, before any entry, if it is not whole, of another
    realm or ledger, or ends before what was trimmed. What a store lost and was told again counts as it was booked
    last; corrections that still count come behind it.
    """
    if not export:
        async for entry in read_entries(store, realm, since=since, until=until):
            yield entry
        return
    last, digest = await store.execute("HMGET", Names(realm).meta, "trimmed", "trimmed_hash")
    exported = _Exported(export, realm, last or "", digest or "")
    superseded = await _superseded(exported.beside(read_entries(store, realm)))
    trimmed = await trimmed_until(store, realm)
    if trimmed is not None and (exported.until is None or exported.until < trimmed):
        raise ExportError(f"entries up to {trimmed.isoformat()} were trimmed; the export does not reach so far")
    exported.check()
    carried: dict[Place, list[tuple[int, Entry]]] = {}
    async for entry in exported.beside(read_entries(store, realm, until=until)):
        inside = (since is None or entry.time >= since) and (until is None or entry.time < until)
        place = position(entry.id)
        if not inside or not superseded.stands(_key(entry), place):
            continue
        behind = superseded.carried(place)
        if behind is not None:  # told behind what it corrects
            carried.setdefault(behind[0], []).append((behind[1], entry))
            continue
        yield entry
        for correction in _in_turn(carried.pop(place, ())):
            yield correction
    for entry in (each for corrections in carried.values() for each in _in_turn(corrections)):
        yield entry


def _in_turn(carried: Iterable[tuple[int, Entry]]) -> list[Entry]:
    return [entry for _, entry in sorted(carried, key=itemgetter(0))]


_FOREIGN = "it is the export of another ledger"


class _Exported:
    def __init__(self, paths: Sequence[Path], realm: str, trimmed: str, trimmed_hash: str) -> None:
        self._paths = paths
        self._trimmed = trimmed, trimmed_hash
        self.untold = trimmed
        """The last entry that was trimmed, until it is read here as the store knows it."""
        self.passed, self.common = "", False
        """An entry that the store alone has, of before the export's end; whether any is in both, or was."""
        self.until: datetime | None = None
        first = next(Export(paths).lines())
        if first.realm != realm:
            raise ExportError(f"{first.where}: this is an export of realm {first.realm!r}, not of {realm!r}")

    def entries(self) -> Iterator[Entry]:
        for line in Export(self._paths).lines():
            if holds(line, *self._trimmed):
                self.untold, self.common = "", True
            entry = readable(line.id, line.fields)
            if entry is not None:
                self.until = _moment(entry.id)
                yield entry

    def check(self) -> None:
        """Refuse, once all was read, the export of another ledger; see `History.is_foreign`."""
        if self.untold:
            raise ExportError(f"entry {self.untold}, the last that was trimmed, is not in the export; {_FOREIGN}")
        if self.passed and not self.common:
            raise ExportError(
                f"entry {self.passed} is in the store and not in the export, which is beyond it; {_FOREIGN}"
            )

    async def beside(self, live: AsyncIterator[Entry]) -> AsyncIterator[Entry]:
        """Merge both runs of entries, which are in order; what is in both comes once."""
        exported = self.entries()
        waiting = next(exported, None)
        async for entry in live:
            here, known = position(entry.id), False
            while waiting is not None and position(waiting.id) <= here:
                known = position(waiting.id) == here
                self.common = self.common or waiting == entry
                if not known:
                    yield waiting
                waiting = next(exported, None)
            if waiting is not None and not known:
                self.passed = entry.id
            yield entry
        while waiting is not None:
            yield waiting
            waiting = next(exported, None)


def _key(entry: Entry) -> tuple[str, int]:
    """By what entries are told apart that take each other's place, as in `history`: a posting is of no attempt."""
    return entry.request_id, entry.attempt


async def _superseded(entries: AsyncIterator[Entry]) -> SupersededEntries:
    """Return what is known of entries that were lost and told again."""
    superseded = SupersededEntries()
    async for entry in entries:
        place, said = position(entry.id), (weight_of(entry.source, entry.reason), entry.adjustment)
        if entry.kind.books:
            superseded.booked(_key(entry), place, astuple(entry.cost), *said)
        elif entry.request_id == NO_REQUEST:
            superseded.posted(entry.adjustment, place)
        else:
            was = astuple(entry.was) if entry.was else None
            superseded.corrected(_key(entry), place, was, astuple(entry.cost), *said)
    return superseded

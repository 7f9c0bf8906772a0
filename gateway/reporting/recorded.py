"""Recorded: the entries of a period, from the store and from exports of what was trimmed there, each of them once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from gateway.domain.spend import AttemptKey, attempt_of
from gateway.ledger.entries import Entry, read_entries, read_exported
from gateway.ledger.names import Names
from gateway.ledger.segments import Export, ExportError
from gateway.ledger.store import Store
from gateway.ledger.stream import position


async def trimmed_until(store: Store, realm: str) -> datetime | None:
    """Return when the last entry was booked that the store no longer has; None if it has all. LedgerUnavailable."""
    last = await store.execute("HGET", Names(realm).meta, "trimmed")
    return datetime.fromtimestamp(position(last)[0] / 1000, UTC) if last else None


async def recorded_entries(
    store: Store,
    realm: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    export: Sequence[Path] = (),
) -> AsyncIterator[Entry]:
    """Yield entries in order, `since` included and `until` not; raises LedgerUnavailable.

    `export` are files or directories of an export; ExportError if it is not whole, of another realm, or ends before
    what was trimmed. What a store lost and was told again counts as it was booked last.
    """
    if not export:
        async for entry in read_entries(store, realm, since=since, until=until):
            yield entry
        return
    exported = _Exported(export, realm)
    again = await _booked_again(_beside(exported.entries(), read_entries(store, realm)))
    trimmed = await trimmed_until(store, realm)
    if trimmed is not None and (exported.until is None or exported.until < trimmed):
        raise ExportError(f"entries up to {trimmed.isoformat()} were trimmed; the export does not reach so far")
    async for entry in _beside(exported.entries(), read_entries(store, realm, until=until)):
        superseded = position(entry.id) < again.get(attempt_of(entry), (0, 0))
        inside = (since is None or entry.time >= since) and (until is None or entry.time < until)
        if inside and not superseded:
            yield entry


class _Exported:
    def __init__(self, paths: Sequence[Path], realm: str) -> None:
        self._paths = paths
        self.until: datetime | None = None
        first = next(Export(paths).lines(), None)
        if first is not None and first.realm != realm:
            raise ExportError(f"{first.where}: this is an export of realm {first.realm!r}, not of {realm!r}")

    def entries(self) -> Iterator[Entry]:
        for entry in read_exported(self._paths):
            self.until = entry.time
            yield entry


async def _booked_again(entries: AsyncIterator[Entry]) -> dict[AttemptKey, tuple[int, int]]:
    """Attempts that were booked more than once, and the id of the last booking."""
    seen: set[int] = set()
    again: dict[AttemptKey, tuple[int, int]] = {}
    async for entry in entries:
        if not entry.kind.books:
            continue
        attempt = attempt_of(entry)
        mark = hash(attempt)  # a number is all that is kept of the many that were booked once
        if mark in seen:
            again[attempt] = position(entry.id)
        seen.add(mark)
    return again


async def _beside(exported: Iterator[Entry], live: AsyncIterator[Entry]) -> AsyncIterator[Entry]:
    """Merge two ordered runs of entries; what is in both comes once."""
    waiting = next(exported, None)
    async for entry in live:
        here = position(entry.id)
        while waiting is not None and position(waiting.id) <= here:
            if position(waiting.id) < here:
                yield waiting
            waiting = next(exported, None)
        yield entry
    while waiting is not None:
        yield waiting
        waiting = next(exported, None)

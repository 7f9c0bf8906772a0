"""Export: entries copied to files, and only then trimmed from the stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.ledger import script
from gateway.ledger.audit import base_digest
from gateway.ledger.entries import JunkEntry, decode
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.export_files import SEGMENT_BYTES, ExportFiles, export_files
from gateway.ledger.names import Names
from gateway.ledger.progress import tell
from gateway.ledger.segments import GENESIS, ExportError, ExportLine, write_line
from gateway.ledger.snapshot import Snapshot, take_snapshot
from gateway.ledger.store import Store
from gateway.ledger.stream import PAGE, Raw, after, position, raw_entries, raw_page


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did: entries written and trimmed, the last one in the directory, and what was cut from its end."""

    written: int
    trimmed: int
    last: str
    cut: str | None


async def export(
    store: Store,
    realm: str,
    directory: Path,
    *,
    keep: float | None = None,
    page: int = PAGE,
    segment_bytes: int = SEGMENT_BYTES,
) -> Exported:
    """Append what the directory does not have yet, and tell the store how far it got.

    With `keep` (seconds) exported entries older than that are trimmed from the stream. It may be killed at any moment
    and run again. ExportError for a directory that belongs to another ledger, or in which something is missing;
    raises LedgerUnavailable.
    """
    names = Names(realm)
    with export_files(directory, segment_bytes) as files:
        snapshot = await take_snapshot(store, names)
        await _check_same_ledger(store, names, snapshot, files)
        written, told = 0, position(snapshot.exported or "0-0")
        last, digest = _continued(snapshot, files.last)
        if files.last and files.last.place > told and (snapshot.last or snapshot.trimmed):
            await _check_none_passed(store, names, snapshot.exported, files)
            await _tell(store, names, last, digest)  # the last export was killed before it did
        async for part in _parts(store, names, last, page):
            text = []
            for entry_id, fields in part:
                line, digest = write_line(entry_id, realm, fields, digest)
                text.append(line + "\n")
            last = part[-1][0]
            files.append(part[0][0], "".join(text))
            if position(last) > told:
                await _tell(store, names, last, digest)
            written += len(part)
        trimmed = 0
        if keep is not None:
            trimmed = await _trim(store, names, files, _trim_end(last, snapshot.time, keep), page)
        return Exported(written, trimmed, last, files.cut)


async def export_lines(store: Store, realm: str) -> AsyncIterator[str]:
    """Yield what the stream has as lines of an export; nothing counts as exported by that."""
    names = Names(realm)
    snapshot = await take_snapshot(store, names)
    digest = snapshot.trimmed_hash or GENESIS
    async for entry_id, fields in raw_entries(store, names.entries):
        line, digest = write_line(entry_id, realm, fields, digest)
        yield line


def _continued(snapshot: Snapshot, last: ExportLine | None) -> tuple[str, str]:
    """Return the entry and the hash that the next line follows."""
    if last is not None:
        return last.id, last.hash
    return snapshot.trimmed, snapshot.trimmed_hash or GENESIS


async def _tell(store: Store, names: Names, last: str, digest: str) -> None:
    await store.execute("HSET", names.meta, "exported", last, "exported_hash", digest)


async def _parts(store: Store, names: Names, last: str, page: int) -> AsyncIterator[Sequence[Raw]]:
    part: list[Raw] = []
    async for raw in raw_entries(store, names.entries, start=f"({last}" if last else "-", page=page):
        part.append(raw)
        if len(part) == page:
            yield part
            part = []
    if part:
        yield part


async def _check_same_ledger(store: Store, names: Names, snapshot: Snapshot, files: ExportFiles) -> None:
    """Refuse a directory whose lines do not lead up to what the stream has."""
    last = files.last
    if last is None or (not snapshot.last and not snapshot.trimmed):
        return
    other = (
        f"{files.directory} holds the export of another ledger, or of this one before it was lost; give an empty one"
    )
    if last.realm != names.realm:
        raise ExportError(f"{other}: its realm is {last.realm!r}")
    if snapshot.trimmed:
        if position(snapshot.trimmed) > last.place:
            raise ExportError(
                f"{files.directory} ends with entry {last.id}; those up to {snapshot.trimmed} were trimmed"
            )
        first = next(files.lines((0, 0)))
        if first.prev == snapshot.trimmed_hash:
            return
        line = files.line(position(snapshot.trimmed))
        if line is None or line.hash != snapshot.trimmed_hash:
            raise ExportError(f"{other}, or `ledger rebuild --from` it")
        return
    for entry_id, fields in await raw_page(store, names.entries, "-", "+", 1):
        line = files.line(position(entry_id)) if position(entry_id) <= last.place else None
        if line is None or dict(line.fields) != dict(fields):
            raise ExportError(f"{other}, or `ledger rebuild --from` it: the stream's first entry is not in it")


async def _check_none_passed(store: Store, names: Names, told: str, files: ExportFiles) -> None:
    """Refuse to go on from a line beyond entries that would never be exported: the store came back older."""
    assert files.last is not None
    lines, start = files.lines(position(told or "0-0")), f"({told}" if told else "-"
    async for entry_id, _ in raw_entries(store, names.entries, start=start, end=files.last.id):
        place = position(entry_id)
        if next((line.place for line in lines if line.place >= place), None) != place:
            raise ExportError(
                f"{files.directory} goes beyond entry {entry_id} and does not have it: the store came back older; "
                "`ledger rebuild --from` it first"
            )


def _trim_end(last: str, now: int, keep: float) -> str:
    """Return the bound of what may be trimmed: exported up to `last`, and `keep` seconds old."""
    cutoff = max(now - int(keep * 1000), 1)  # the store takes no bound that nothing can be before
    return last if last and position(last) < (cutoff, 0) else f"({cutoff}-0"


async def _trim(store: Store, names: Names, files: ExportFiles, end: str, page: int) -> int:
    snapshot = await take_snapshot(store, names)
    lines = files.lines(position(snapshot.trimmed or "0-0"))
    base, digest, count = {cell: int(text) for cell, text in _sound_base(snapshot).items()}, snapshot.base_digest, 0
    while True:
        part = await raw_page(store, names.entries, "-", end, page)
        if not part:
            return count
        last = _exported_up_to(part, lines)
        changed = _add(base, part)
        was, digest = digest, base_digest(base)
        args = [was, digest, part[0][0], part[-1][0], str(len(part)), after(part[-1][0]), last.hash]
        args += [text for cell in changed for text in (cell, str(base[cell]))]
        if await store.run(script.TRIM, [names.meta, names.base, names.entries], args) != "DONE":
            raise LedgerRefused(f"store {store.where}: somebody else trims, or the stream was changed; try again")
        count += len(part)
        tell("entries trimmed", count)


def _exported_up_to(part: Sequence[Raw], lines: Iterator[ExportLine]) -> ExportLine:
    """Return the line of the last of these entries; ExportError unless each is in the export as it is."""
    found: ExportLine | None = None
    for entry_id, fields in part:
        place = position(entry_id)
        found = next((line for line in lines if line.place >= place), None)
        if found is None or found.place != place or dict(found.fields) != dict(fields):
            raise ExportError(
                f"entry {entry_id} is not in the export as it is in the stream; nothing of it was trimmed. "
                "If the store came back older, `ledger rebuild --from` it first"
            )
    assert found is not None
    return found


def _add(base: dict[str, int], part: Sequence[Raw]) -> list[str]:
    """Add entries to the base; returns the cells that changed. Junk counts for nothing, here and in an audit."""
    changed: dict[str, None] = {}
    for entry_id, fields in part:
        try:
            lines = decode(entry_id, fields).lines
        except JunkEntry:
            continue
        for cell, micro in lines.items():
            base[cell] = base.get(cell, 0) + micro
            changed[cell] = None
    return list(changed)


def _sound_base(snapshot: Snapshot) -> dict[str, str]:
    if base_digest(snapshot.base) != snapshot.base_digest:
        raise LedgerRefused("the sum of trimmed entries was changed by other hands; `ledger verify` tells more")
    return dict(snapshot.base)

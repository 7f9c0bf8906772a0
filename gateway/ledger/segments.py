"""Exports: the entry stream as files of JSON lines, each line carrying a hash of itself and of all before it.

A directory holds segments, named after the first entry in them. A line is
`{"id", "realm", "time", "fields", "prev", "hash"}`: `prev` is the hash of the line before it (64 zeros on the first),
`hash` the SHA-256, in hexadecimal, of `prev` followed by the line as compact JSON without `hash`, keys sorted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.ledger.errors import StoreError
from gateway.ledger.progress import Meter
from gateway.ledger.stream import position

GENESIS = "0" * 64
"""What the first line of all continues."""
PREFIX, SUFFIX = "entries-", ".jsonl"


class ExportError(StoreError):
    """An export that cannot be read or continued; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class ExportLine:
    """An entry as it was exported; `where` is its file and line."""

    id: str
    realm: str
    fields: Mapping[str, str]
    prev: str
    hash: str
    where: str

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among others."""
        return position(self.id)


def write_line(entry_id: str, realm: str, fields: Mapping[str, str], prev: str) -> tuple[str, str]:
    """Return the line of an entry, without its newline, and its hash."""
    said = {"id": entry_id, "realm": realm, "time": _time(entry_id, fields), "fields": dict(fields), "prev": prev}
    digest = _hash(said, prev)
    return _compact({**said, "hash": digest}), digest


def read_line(raw: bytes, where: str) -> ExportLine:
    """Read a line back; ExportError if it is none, or is not as it was written."""
    try:
        said = json.loads(raw.decode())
        digest = said.pop("hash")
        if digest != _hash(said, said["prev"]):
            raise ExportError(f"{where}: the line was changed: its hash does not fit")
        position(said["id"])
        return ExportLine(said["id"], said["realm"], dict(said["fields"]), said["prev"], digest, where)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError(f"{where}: not a line of an export ({error})") from error


class Export:
    """An export as it was when this was made: what is appended meanwhile is left for the next time."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = list(paths)
        self._segments = [(path, path.stat().st_size) for path in segments(self._paths)]
        self.cut: str | None = None
        """Where the last line breaks off, once it was read: an export that was killed, or is being written."""

    def lines(self) -> Iterator[ExportLine]:
        """Yield every line once, oldest first, from all segments, checking that none is missing.

        Exports that begin anew may overlap with those before them. ExportError names the file and line where the
        chain breaks, and tells an export that does not begin at the beginning, or has no line at all.
        """
        last: ExportLine | None = None
        meter = Meter("exported lines", sum(size for _, size in self._segments))
        for path, size in self._segments:
            before: ExportLine | None = None
            for line in self._read(path, size, meter):
                if before is not None and (line.prev != before.hash or line.place <= before.place):
                    raise ExportError(f"{line.where}: the chain is broken: it does not continue the line before it")
                before = line
                if last is not None and line.place <= last.place:
                    continue
                if line.prev != (last.hash if last else GENESIS):
                    raise ExportError(f"{line.where}: the chain is broken: {_gap(last)}")
                yield line
                last = line
        if last is None:  # an export of nothing, and whatever file was given by mistake, would bring back nothing
            raise ExportError(f"{', '.join(str(path) for path in self._paths)}: there is no whole line of an export")

    def _read(self, path: Path, size: int, meter: Meter) -> Iterator[ExportLine]:
        for raw, where in read_raw(path, size):
            meter.add(len(raw))
            if raw.endswith(b"\n"):
                yield read_line(raw, where)
            else:
                self.cut = where


def _gap(last: ExportLine | None) -> str:
    if last is None:
        return "an export begins before this line; give that too"
    return f"it does not continue {last.where} (entry {last.id})"


def read_raw(path: Path, size: int) -> Iterator[tuple[bytes, str]]:
    """Yield the lines within the first `size` bytes of a file, and where each is."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            yield raw[:size], f"{path}:{number}"
            size -= len(raw)
            if size <= 0:
                return


def segments(paths: Iterable[Path]) -> list[Path]:
    """Return the segment files among paths and in directories, oldest first; ExportError if there are none."""
    given, found = list(paths), []
    for path in given:
        if path.is_dir():
            found += [each for each in path.iterdir() if first_id(each) is not None]
        elif path.is_file():
            found.append(path)
        else:
            raise ExportError(f"{path}: there is no such file or directory")
    if not found:
        raise ExportError(f"{', '.join(map(str, given))}: there is no export")
    return sorted(found, key=lambda path: (first_id(path) or (0, 0), str(path)))


def segment_name(entry_id: str) -> str:
    """Return the name of a segment that begins with this entry."""
    return f"{PREFIX}{entry_id}{SUFFIX}"


def first_id(path: Path) -> tuple[int, int] | None:
    """Return the first entry of a segment, by its name; None for any other file."""
    if not (path.name.startswith(PREFIX) and path.name.endswith(SUFFIX)):
        return None
    try:
        return position(path.name.removeprefix(PREFIX).removesuffix(SUFFIX))
    except ValueError:
        return None


def _hash(said: Mapping[str, object], prev: str) -> str:
    return hashlib.sha256((prev + _compact(said)).encode()).hexdigest()


def _compact(said: Mapping[str, object]) -> str:
    return json.dumps(said, separators=(",", ":"), sort_keys=True)


def _time(entry_id: str, fields: Mapping[str, str]) -> str | None:
    try:
        moment = int(fields["at"]) if "at" in fields else position(entry_id)[0]
        return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return None  # an id, or a date, that was made up

"""The files of an export as they are written: one writer at a time, on disk before anybody relies on them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.ledger.segments import ExportError, ExportLine, first_id, read_line, read_raw, segment_name

SEGMENT_BYTES = 64_000_000
LOCK = ".lock"
BLOCK = 65_536


class ExportFiles:
    """A directory being appended to. `last` is its last line, `cut` tells what was taken away from its end, if any."""

    def __init__(self, directory: Path, segment_bytes: int) -> None:
        self.directory = directory
        self.last: ExportLine | None = None
        self.cut: str | None = None
        self._segment_bytes = segment_bytes
        self._current: Path | None = None
        self._open_last()

    def segments(self) -> list[Path]:
        """Return the segments, oldest first."""
        found = ((first_id(path), path) for path in self.directory.iterdir())
        return [path for _, path in sorted((first, path) for first, path in found if first is not None)]

    def _open_last(self) -> None:
        for path in reversed(self.segments()):
            size = _whole_size(path)
            if size < path.stat().st_size:
                self.cut = f"{path}: the last line was cut, and is taken away"
                with path.open("r+b") as file:
                    file.truncate(size)
                    os.fsync(file.fileno())
            if size:
                self._current, self.last = path, read_line(_last_line(path), f"{path}: its last line")
                return
            path.unlink()
            self._sync_directory()

    def line(self, entry_id: tuple[int, int]) -> ExportLine | None:
        """Return the line of an entry; None if there is none. ExportError for a line that was changed."""
        return next((line for line in self.lines(entry_id) if line.place == entry_id), None)

    def lines(self, start: tuple[int, int]) -> Iterator[ExportLine]:
        """Yield lines in order, from the one of an entry, or from before it, on."""
        every = self.segments()
        first = max((i for i, path in enumerate(every) if (first_id(path) or start) <= start), default=0)
        for path in every[first:]:
            yield from (read_line(raw, where) for raw, where in read_raw(path, path.stat().st_size))

    def append(self, first: str, text: str) -> None:
        """Write whole lines, the first of which is that entry's, and have them on disk before returning."""
        current = self._current
        if current is None or current.stat().st_size >= self._segment_bytes:
            current = self.directory / segment_name(first)
            self._current = current
        new = not current.exists()
        with current.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        if new:
            self._sync_directory()

    def _sync_directory(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def export_files(directory: Path, segment_bytes: int = SEGMENT_BYTES) -> Iterator[ExportFiles]:
    """Yield a directory, made if need be, to append to; ExportError if another export is writing there."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExportError(f"{directory}: another export is writing there") from error
        yield ExportFiles(directory, segment_bytes)


def _whole_size(path: Path) -> int:
    """Return how many bytes of a file are whole lines."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(end - BLOCK, 0)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def _last_line(path: Path) -> bytes:
    with path.open("rb") as file:
        size, taken = file.seek(0, os.SEEK_END), BLOCK
        while True:
            start = max(size - taken, 0)
            file.seek(start)
            tail = file.read(size - start)
            newline = tail.rfind(b"\n", 0, len(tail) - 1)
            if newline >= 0 or not start:
                return tail[newline + 1 :]
            taken *= 2

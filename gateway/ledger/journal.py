"""The journal: what the store is still to be told, on disk before anything else is done with it.

Each process has a file of its own, made when it is first needed and emptied as soon as the store knows all of it. A
file whose process is gone is taken over by whoever locks it first: its lines are copied to the own file, then it is
removed. A line may so be told twice, which its token makes harmless, but it is never lost. Files for the ledger of
another store are left to the gateways of that one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from gateway.ledger.errors import StoreError
from gateway.ledger.identity import FILE, is_another
from gateway.ledger.journal_file import SUFFIX, JournalFile
from gateway.ledger.journal_lines import Damaged, IsAnother, OtherLedger, PendingWrite, none_is, read_lines, to_line

log = logging.getLogger(__name__)

T = TypeVar("T")

_FOREIGN = (
    "it is for the ledger in {}, and a gateway with that store books it. If that ledger lives on in this store, remove "
    "the other from {} in the data directory and start again"
)
LARGE = 1 << 20
"""Bytes from which on a file that is mostly done is written anew."""


class Journal:
    """Of one process and one realm, in a directory that any number of processes on this machine may share.

    A disk that is full or read-only loses nothing while the process lives: what could not be written is kept in
    memory, and written with the next lines if the disk takes those, or else with the next look for other files.
    """

    def __init__(self, directory: Path, realm: str = "main", store: str = "", is_another: IsAnother = none_is) -> None:
        """For the ledger in `store`, a URL without secrets."""
        self._directory = directory
        self._realm = realm
        self._line = partial(to_line, realm=realm, store=store)
        self._is_another = is_another
        self._file: JournalFile | None = None
        self._live: dict[str, PendingWrite] = {}
        self._unwritten: dict[str, bytes] = {}
        self._lines = 0
        self._commit: asyncio.Task[bool] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._disk = asyncio.Lock()
        self._failing = False
        self._unreadable = False
        self._left_alone: set[Path] = set()
        self._told: set[Path] = set()

    @classmethod
    def within(cls, data_dir: Path, realm: str, store: str) -> Journal:
        """Return the journal that gateways have in their data directory."""
        return cls(data_dir / "journal", realm, store, partial(is_another, data_dir, store, realm))

    @property
    def path(self) -> Path | None:
        """The own file, once there is one."""
        return self._file.path if self._file else None

    def append(self, pending: PendingWrite) -> asyncio.Future[bool]:
        """Keep it; the future tells whether it is on disk, or in memory alone.

        What is appended while the disk is busy is written together, with one fsync for all. ValueError for what the
        ledger would refuse.
        """
        self._unwritten[pending.token] = self._line(pending)
        self._live[pending.token] = pending
        if self._commit is None:
            self._commit = self._start(self._write())
        return asyncio.shield(self._commit)

    def done(self, token: str) -> None:
        """The store knows it now."""
        self._live.pop(token, None)
        self._unwritten.pop(token, None)
        if self._file is not None and (not self._live or self._mostly_done(self._file)):
            _ = self._start(self._tidy())

    def _mostly_done(self, file: JournalFile) -> bool:
        return file.size > LARGE and self._lines > 2 * len(self._live)

    async def check(self) -> None:
        """Tell at once if the disk would not take a file; what is appended is kept in memory then."""
        async with self._disk:
            try:
                await asyncio.to_thread(self._make_and_remove)
            except OSError as error:
                self._disk_fails(error)

    async def take_over(self) -> list[PendingWrite]:
        """Return what dead processes left behind; it is in the own file now. Nothing, for now, if that cannot be."""
        self._write_the_rest()
        return await asyncio.shield(self._start(self._take_over()))  # to its end, or lines were copied unnoticed

    async def aclose(self) -> int:
        """Finish writing; return how many lines stay on disk for the next start. The file goes if there are none."""
        self._write_the_rest()
        while self._tasks:
            await asyncio.gather(*self._tasks)
        async with self._disk:
            file, self._file = self._file, None
            try:
                if file is not None and not self._live:
                    await asyncio.to_thread(file.remove)
                elif file is not None:
                    file.close()
            except OSError as error:
                self._disk_fails(error)
        return len(self._live) - len(self._unwritten)

    def _start(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _write_the_rest(self) -> None:
        """Try again what the disk did not take: it may by now."""
        if self._unwritten and self._commit is None:
            self._commit = self._start(self._write())

    async def _write(self) -> bool:
        async with self._disk:  # whatever is appended while somebody else has the disk is written here too
            self._commit = None
            lines = dict(self._unwritten)
            try:
                await asyncio.to_thread(self._append, list(lines.values()))
            except OSError as error:
                self._disk_fails(error)
                return False
            self._disk_works()
            for token in lines:
                self._unwritten.pop(token, None)
            return True

    async def _tidy(self) -> None:
        async with self._disk:
            file, kept = self._file, [pending for token, pending in self._live.items() if token not in self._unwritten]
            try:
                if file is not None and not self._live:
                    await asyncio.to_thread(self._empty, file)
                elif file is not None and self._mostly_done(file):
                    await asyncio.to_thread(self._write_anew, file, kept)
            except OSError as error:
                self._disk_fails(error)

    def _make_and_remove(self) -> None:
        JournalFile.create(self._directory, self._realm).remove()

    def _append(self, lines: Sequence[bytes]) -> None:
        if not lines:
            return
        if self._file is None:
            self._file = JournalFile.create(self._directory, self._realm)
        self._file.append(b"".join(lines))
        self._lines += len(lines)

    def _empty(self, file: JournalFile) -> None:
        if file.size:
            file.empty()
        self._lines = 0

    def _write_anew(self, file: JournalFile, kept: Sequence[PendingWrite]) -> None:
        fresh = JournalFile.create(self._directory, self._realm)
        try:
            fresh.append(b"".join(self._line(pending) for pending in kept))
        except OSError:
            fresh.remove()
            raise
        self._file, self._lines = fresh, len(kept)
        file.remove()

    async def _take_over(self) -> list[PendingWrite]:
        async with self._disk:
            found = await asyncio.to_thread(self._copy_orphans)
            self._live |= {pending.token: pending for pending in found}
        return found

    def _copy_orphans(self) -> list[PendingWrite]:
        found: list[PendingWrite] = []
        try:
            for path in self._found():
                if path != self.path and path not in self._left_alone:
                    found += self._copy_orphan(path)
        except OSError as error:
            self._disk_fails(error)
        return found

    def _found(self) -> list[Path]:
        """Return the realm's files; none, which is told once, where the folder cannot be read: a glob says nothing."""
        try:
            paths = sorted(self._directory.iterdir())
        except FileNotFoundError:
            paths = []
        except OSError as error:
            if not self._unreadable:
                told = "the journal in %s cannot be read; what a gateway that is gone left there waits: %s"
                log.error(told, self._directory, error)  # noqa: TRY400 - it says it all
            self._unreadable = True
            return []
        if self._unreadable:
            log.warning("the journal in %s is read again", self._directory)
        self._unreadable = False
        return [path for path in paths if path.match(f"{self._realm}.*{SUFFIX}")]

    def _copy_orphan(self, path: Path) -> list[PendingWrite]:
        try:
            file = JournalFile.take(path)
        except OSError as error:  # it may pass: out of open files, say
            return self._later(path, error)
        if file is None:
            return []
        found: list[PendingWrite] = []
        damaged: list[Damaged] = []
        try:
            now, is_another = round(time.time() * 1000), cache(self._is_another)  # which reads a file
            for each in read_lines(file.read(), self._realm, now, is_another):
                if isinstance(each, Damaged):
                    damaged.append(each)
                else:
                    found.append(each)
            self._append([self._line(pending) for pending in found])
        except OtherLedger as other:
            self._leave_alone(path, _FOREIGN.format(other, FILE))
            file.close()
            return []
        except StoreError as error:
            file.close()
            return self._later(path, error)
        except OSError:
            file.close()
            raise
        if self._set_aside(file, damaged):
            file.remove()
        if found:
            fields = {"file": str(path), "entries": len(found)}
            log.warning("the journal of a gateway that is gone is taken over", extra={"fields": fields})
        return found

    def _later(self, path: Path, error: Exception) -> list[PendingWrite]:
        if path not in self._told:
            log.error("journal %s cannot be taken over yet: %s", path, error)
        self._told.add(path)
        return []

    def _set_aside(self, file: JournalFile, damaged: Sequence[Damaged]) -> bool:
        """Keep what cannot be believed where somebody can look at it; False if even that cannot be."""
        for each in damaged:
            lines = f"line {each.first}" if each.first == each.last else f"lines {each.first} to {each.last}"
            log.error("journal %s, %s: rejected: %s", file.path, lines, each.why)
        try:
            if damaged:
                file.set_aside(b"".join(each.data for each in damaged))
        except OSError as error:
            self._leave_alone(file.path, error)
            file.close()
            return False
        return True

    def _leave_alone(self, path: Path, why: object) -> None:
        self._left_alone.add(path)
        log.error("journal %s is left as it is: %s", path, why)

    def _disk_fails(self, error: OSError) -> None:
        if not self._failing:
            log.error("the journal in %s cannot be written; it is kept in memory: %s", self._directory, error)
        self._failing = True

    def _disk_works(self) -> None:
        if self._failing:
            log.warning("the journal in %s is written again", self._directory)
        self._failing = False

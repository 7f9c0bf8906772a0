"""Blobs on disk: bytes under a name, whole or not at all, for all gateways that share the folder."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import secrets
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from gateway.assets.clock import Now, own_time
from gateway.assets.recording import FILE_MODE, FOLDER_MODE
from gateway.ports.storage import AWAY, FULL, Blob, StorageUnavailable, Stored

log = logging.getLogger(__name__)

Result = TypeVar("Result")

ABANDONED = 3600.0
"""Seconds after the last byte; a partial file so old belongs to a gateway that died."""
SWEEP_EVERY = 600.0
_BATCH = 256 * 1024
"""Bytes written or read in one go off the event loop."""
_NAME = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*", re.ASCII)
_PART = ".part"
_COMING = "coming"
"""Where what has no name yet is written."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def checked(name: str) -> str:
    """Return a name; ValueError if it names no blob."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} names no blob")
    return name


class BlobsOnDisk:
    """Implements `ports.storage.Blobs` in a private folder.

    `keep_for` says by the first part of a name how many seconds such blobs are kept at most; what it does not name is
    kept until it is deleted. `now` tells when that time is over.
    """

    def __init__(self, folder: Path, *, keep_for: Mapping[str, float] | None = None, now: Now = own_time) -> None:
        self._now = now
        self._folder = folder
        self._keep_for = {**(keep_for or {}), _COMING: ABANDONED}

    def _path(self, name: str) -> Path:
        return self._folder / checked(name)

    async def put(self, name: str | Callable[[], str], content: AsyncIterator[bytes], *, durable: bool = True) -> int:
        """Keep bytes under a name, and return how many; what was there before is replaced. On disk when it returns."""
        length = 0
        if isinstance(name, str):
            path = self._path(name)
            part = path.with_name(f"{path.name}-{secrets.token_hex(4)}{_PART}")
        else:
            part = self._folder / _COMING / f"{secrets.token_hex(8)}{_PART}"
        try:
            await _off_loop(lambda: _create(part))
            waiting = bytearray()
            async for chunk in content:
                waiting += chunk
                if len(waiting) >= _BATCH:
                    length += len(waiting)
                    batch, waiting = waiting, bytearray()
                    await _off_loop(partial(_append, part, batch))
            length += len(waiting)
            path = self._path(name if isinstance(name, str) else name())
            await _off_loop(partial(_finish, part, waiting, path, durable=durable))
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        return length

    async def get(self, name: str) -> Blob | None:
        """Return what is kept under a name; None if nothing is."""
        path = self._path(name)
        try:
            state = await asyncio.to_thread(path.stat)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageUnavailable(str(error)) from error
        return Blob(state.st_size, partial(_chunks, path), state.st_mtime)

    async def delete(self, name: str, *, unless_after: float | None = None) -> bool:
        """Delete it, and tell whether there was something to delete; harmless if there is nothing."""
        return await _off_loop(partial(_delete, self._path(name), unless_after))

    async def list(self, prefix: str, *, after: str = "") -> AsyncGenerator[Stored, None]:
        """Yield what is kept below `prefix/`, in the order of names."""
        for each in await _off_loop(partial(_listed, self._folder, self._path(prefix))):
            if each.name > after:
                yield each

    async def run(self) -> None:
        """Delete what is too old, again and again, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.sweep, await self._now())
            except OSError as error:
                log.warning("old files cannot be deleted: %s", error)
            await asyncio.sleep(SWEEP_EVERY)

    def sweep(self, now: float) -> int:
        """Delete what is kept for too long, and partial files that nobody writes; returns how many. Blocking."""
        deleted = 0
        for prefix, seconds in self._keep_for.items():
            for path in (self._folder / prefix).rglob("*"):
                with contextlib.suppress(FileNotFoundError):  # another gateway sweeps too
                    state = path.stat()
                    old = now - state.st_mtime > (ABANDONED if path.name.endswith(_PART) else seconds)
                    if old and path.is_file():
                        path.unlink()
                        deleted += 1
        return deleted


async def _off_loop(work: Callable[[], Result]) -> Result:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise StorageUnavailable(str(error), FULL if error.errno in _NO_ROOM else AWAY) from error


async def _chunks(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        chunk = await _off_loop(partial(_read, path, start, min(end - start, _BATCH)))
        if not chunk:
            raise StorageUnavailable(f"{path.name} is shorter than it was")
        yield chunk
        start += len(chunk)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, all of them private; only the last one would be, left to `mkdir`."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def _create(part: Path) -> None:
    make_folder(part.parent)
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE))


def _append(part: Path, content: bytes | bytearray, *, sync: bool = False) -> None:
    # Opened for each batch: a descriptor kept open could be closed under a thread whose request was broken off.
    file = os.open(part, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(file, view) :]
        if sync:
            os.fsync(file)
    finally:
        os.close(file)


def _finish(part: Path, rest: bytearray, path: Path, *, durable: bool) -> None:
    _append(part, rest, sync=durable)
    if part.parent != path.parent:
        make_folder(path.parent)
    part.rename(path)


def _delete(path: Path, unless_after: float | None) -> bool:
    if unless_after is None:
        existed = path.exists()
        path.unlink(missing_ok=True)
        return existed
    aside = path.with_name(f"{path.name}-{secrets.token_hex(4)}{_PART}")
    try:
        if path.stat().st_mtime > unless_after:
            return False
        path.rename(aside)
    except FileNotFoundError:
        return False
    younger = aside.stat().st_mtime > unless_after
    if younger:  # put again between the two steps: it goes back, unless one that is younger still has come
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(aside)
    aside.unlink(missing_ok=True)
    return not younger


def _listed(folder: Path, below: Path) -> list[Stored]:
    found: list[Stored] = []
    for path in below.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another gateway sweeps
            state = path.stat()
            if path.suffix != _PART and stat.S_ISREG(state.st_mode):
                found.append(Stored(str(path.relative_to(folder)), state.st_size, state.st_mtime))
    return sorted(found)


def _read(path: Path, start: int, length: int) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.pread(file, length, start)
    finally:
        os.close(file)

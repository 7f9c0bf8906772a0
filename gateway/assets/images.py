"""Images on disk: each kept once under its hash, for a day after it was last made, for whoever has a link to it.

The oldest go earlier once there are too many bytes of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from gateway.assets.batches import batches, read_batch
from gateway.assets.recording import FILE_MODE, FOLDER_MODE
from gateway.domain.links import is_name, name_of
from gateway.ports import Outbound

log = logging.getLogger(__name__)

DAY = 86_400.0
MOST_BYTES = 10 * 2**30
"""How many bytes of images are kept."""
SWEEP_EVERY = 600.0
"""Seconds between two looks for what may go."""
SWEEP_AFTER = 2**30
"""Bytes after which one looks at once, so that a burst cannot fill a disk meanwhile."""
ABANDONED = 3600.0
"""Seconds after the last byte; a partial file so old belongs to a gateway that died."""
_BATCH = 256 * 1024
"""Bytes read in one go; with what is in flight, the memory one reader takes."""

_OURS = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW

_TYPES = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (8, b"WEBP", "image/webp"),
    (0, b"GIF8", "image/gif"),
    (0, b"<svg", "image/svg+xml"),
)
"""Place and value of the first bytes by which a file is known, and its type."""


class _Found(NamedTuple):
    length: int
    start: bytes


class _Kept(NamedTuple):
    at: float
    size: int
    path: str


class ImagesOnDisk:
    """Implements `gateway.linking.Images` in a private folder that gateways may share.

    `keep_for` is seconds, `most` how many bytes there may be after a sweep; one begins after `sweep_after` new ones.
    """

    def __init__(
        self, folder: Path, *, keep_for: float = DAY, most: int = MOST_BYTES, sweep_after: int = SWEEP_AFTER
    ) -> None:
        self._folder = folder
        self._keep_for = keep_for
        self._most = most
        self._sweep_after = sweep_after
        self._written = 0
        self._full = asyncio.Event()

    async def keep(self, project: str, content: AsyncIterator[bytes]) -> str:
        """Keep an image and return its name; raises what `content` raises, or OSError. Nothing stays behind then."""
        part, digest = self._folder / f"{secrets.token_hex(8)}.part", hashlib.sha256()
        try:
            await asyncio.to_thread(self._create, part)
            async for batch in content:
                digest.update(batch)
                await asyncio.to_thread(_append, part, batch)
                self._count(len(batch))
            name = name_of(project, digest.hexdigest())
            await asyncio.to_thread(part.rename, self._folder / name)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return name

    def _count(self, size: int) -> None:
        self._written += size
        if self._written >= self._sweep_after:
            self._written = 0
            self._full.set()

    def _create(self, part: Path) -> None:
        self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        os.close(os.open(part, _OURS | os.O_CREAT | os.O_EXCL, FILE_MODE))

    async def find(self, name: str) -> Outbound | None:
        """Return an image with its type and length; None if there is none by that name (any more)."""
        if not is_name(name):
            return None
        try:
            found = await asyncio.to_thread(self._find, name)
        except FileNotFoundError:
            return None
        if found is None:
            return None
        headers = [("content-type", type_of(found.start)), ("content-length", str(found.length))]
        return Outbound(200, headers, batches(self._folder / name, found.start, found.length, _BATCH))

    def _find(self, name: str) -> _Found | None:
        state = (self._folder / name).stat()
        if time.time() - state.st_mtime > self._keep_for:
            return None
        return _Found(state.st_size, read_batch(self._folder / name, 0, _BATCH))

    async def run(self) -> None:
        """Delete what is too old or too much, again and again, until cancelled."""
        while True:
            self._full.clear()
            try:
                await asyncio.to_thread(self.sweep)
            except OSError as error:
                log.warning("old images cannot be deleted: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), SWEEP_EVERY)

    def sweep(self) -> int:
        """Delete images older than a day, the oldest of too many, and partial files that nobody writes.

        Returns how many. Blocking.
        """
        now, size, deleted, kept = time.time(), 0, 0, []
        self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with os.scandir(self._folder) as files:
            for file in files:
                with contextlib.suppress(FileNotFoundError):  # another gateway sweeps too
                    state, partial = file.stat(follow_symlinks=False), file.name.endswith(".part")
                    if now - state.st_mtime > (ABANDONED if partial else self._keep_for):
                        deleted += _deleted(file.path)
                        continue
                    size += state.st_size
                    if not partial:
                        kept.append(_Kept(state.st_mtime, state.st_size, file.path))
        for each in sorted(kept) if size > self._most else ():
            if size <= self._most:
                break
            deleted, size = deleted + _deleted(each.path), size - each.size
        return deleted


def _deleted(path: str) -> bool:
    """Delete a file; False if another gateway was first."""
    try:
        os.unlink(path)  # noqa: PTH108 - of a directory entry, not a Path
    except FileNotFoundError:
        return False
    return True


def type_of(start: bytes) -> str:
    """Return the media type of a file by its first bytes; one that is not known is no type at all."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<?xml"):
        text = text.partition(b"?>")[2].lstrip()
    for place, value, kind in _TYPES:
        if (text if value == b"<svg" else start)[place : place + len(value)] == value:
            return kind
    return "application/octet-stream"


def _append(part: Path, content: bytes) -> None:
    # Opened for each batch: a descriptor kept open could be closed under a thread whose request was broken off.
    file = os.open(part, _OURS | os.O_APPEND)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(file, view) :]
    finally:
        os.close(file)

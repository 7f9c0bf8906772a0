"""Recording: one answer on its way to disk, beside its way to the client."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from gateway.ports import Headers

log = logging.getLogger(__name__)

FOLDER_MODE, FILE_MODE = 0o700, 0o600
BATCH = 256 * 1024
"""Bytes written in one go off the event loop; a smaller answer is written once, when it is whole."""


class DiskRecording:
    """Implements `ports.Recording`. At most two batches are in memory; no error of the disk reaches the request."""

    __slots__ = ("_file", "_folder", "_length", "_name", "_over", "_suffix", "_waiting", "_work")

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._suffix = secrets.token_hex(4)
        self._waiting = bytearray()
        self._length = 0
        self._file: int | None = None
        self._work: asyncio.Task[None] | None = None
        self._over = False

    @property
    def _part(self) -> Path:
        """Where it lies while it is not whole; made when it is needed, for a path has all its parts interned."""
        return self._folder / f"{self._name}-{self._suffix}.part"

    async def write(self, chunk: bytes) -> None:
        """Keep some bytes of the body; waits only while the disk is two batches behind."""
        if self._over:
            return
        self._waiting += chunk
        self._length += len(chunk)
        if len(self._waiting) >= BATCH:
            await self._idle()
            batch, self._waiting = self._waiting, bytearray()
            if not self._over:
                self._begin(lambda: self._append(batch))

    async def commit(self, status: int, headers: Headers) -> None:
        """Make the answer findable; its body is whole."""
        await self._idle()
        if self._over:
            return
        rest, head = self._waiting, {"status": status, "headers": [list(pair) for pair in headers]}
        text = json.dumps({**head, "length": self._length}).encode()
        self._begin(lambda: self._finish(rest, text))
        await self._idle()
        self._over, self._waiting = True, bytearray()

    async def discard(self) -> None:
        """Let go of it, unless it was committed."""
        await self._idle()
        if not self._over and self._file is not None:
            self._begin(self._remove)
            await self._idle()
        self._over, self._waiting = True, bytearray()

    def _begin(self, job: Callable[[], None]) -> None:
        self._work = asyncio.create_task(asyncio.to_thread(job))

    async def _idle(self) -> None:
        """Wait for what is being written; it goes on if the wait is cancelled, and the next one waits for it again."""
        if self._work is None:
            return
        try:
            await asyncio.shield(self._work)
        except OSError as error:
            log.warning("the answer of %s is not kept: %s", self._name, error)
            self._over, self._waiting = True, bytearray()
            await asyncio.to_thread(self._remove_quietly)
        self._work = None

    def _append(self, batch: bytearray) -> None:
        if self._file is None:
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self._file = _create(self._part)
        _write(self._file, batch)

    def _finish(self, rest: bytearray, head: bytes) -> None:
        self._append(rest)
        self._close()
        self._part.rename(self._folder / f"{self._name}.body")
        file = _create(self._part)
        try:
            _write(file, head)
        finally:
            os.close(file)
        self._part.rename(self._folder / f"{self._name}.json")

    def _remove(self) -> None:
        self._close()
        self._part.unlink(missing_ok=True)

    def _remove_quietly(self) -> None:
        try:
            self._remove()
        except OSError as error:
            log.warning("a partial answer of %s stays behind: %s", self._name, error)

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)


def _write(file: int, content: bytes | bytearray) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]

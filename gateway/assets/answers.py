"""Answers on disk: bodies beside small JSON heads, kept for a day for whoever repeats a request.

`answers/ID.body` is written as `ID-….part` while it goes by and renamed when it is whole; `answers/ID.json` follows and
makes it findable. Nothing here waits for the disk itself: what a power loss takes away is found short, or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

from gateway.assets.clock import Now, own_time
from gateway.assets.recording import FOLDER_MODE, DiskRecording
from gateway.ports import Headers, Outbound, Truncated

log = logging.getLogger(__name__)

DAY = 86_400.0
SWEEP_EVERY = 600.0
"""Seconds between two looks for what may go."""
ABANDONED = 3600.0
"""Seconds after the last byte; a partial file so old belongs to a gateway that died."""
_BATCH = 64 * 1024
"""Bytes read in one go; with what is in flight, the memory one replay takes."""
_REQUEST_ID = re.compile(r"req_[A-Za-z0-9_]{1,96}", re.ASCII)


class _Found(NamedTuple):
    status: int
    headers: Headers
    length: int
    start: bytes


class AnswersOnDisk:
    """Implements `ports.Answers` in a folder that may be shared by many gateways. `now` tells when they are over."""

    def __init__(self, folder: Path, *, now: Now = own_time) -> None:
        self._now = now
        self._folder = folder

    def record(self, request_id: str) -> DiskRecording:
        """Begin to keep the answer of a request; ValueError for an id that is none of ours."""
        return DiskRecording(self._folder, checked_id(request_id))

    async def find(self, request_id: str) -> Outbound | None:
        """Return a kept answer, body and headers as they were; None if there is none, or none that is whole."""
        name = checked_id(request_id)
        try:
            found = await asyncio.to_thread(self._find, name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the kept answer of %s cannot be read: %s", name, error)
            return None
        chunks = _batches(self._folder / f"{name}.body", found.start, found.length, _BATCH)
        return Outbound(found.status, found.headers, chunks)

    def _find(self, name: str) -> _Found:
        head: Mapping[str, object] = json.loads((self._folder / f"{name}.json").read_bytes())
        status, length, headers = head["status"], head["length"], head["headers"]
        if not isinstance(status, int) or not isinstance(length, int) or not isinstance(headers, list):
            raise TypeError("its head is not one of ours")
        start = _read_batch(self._folder / f"{name}.body", 0, _BATCH)
        if length != (self._folder / f"{name}.body").stat().st_size:
            raise ValueError("its body is not whole")
        return _Found(status, [(str(key), str(value)) for key, value in headers], length, start)

    async def run(self) -> None:
        """Delete what is too old, again and again, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.sweep, await self._now())
            except OSError as error:
                log.warning("old answers cannot be deleted: %s", error)
            await asyncio.sleep(SWEEP_EVERY)

    def sweep(self, now: float) -> int:
        """Delete answers older than a day, and partial files that nobody writes; returns how many. Blocking."""
        deleted = 0
        self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with os.scandir(self._folder) as files:
            for file in files:
                age = ABANDONED if file.name.endswith(".part") else DAY
                with contextlib.suppress(FileNotFoundError):  # another gateway sweeps too
                    if now - file.stat(follow_symlinks=False).st_mtime > age:
                        os.unlink(file.path)  # noqa: PTH108 - a directory entry, not a Path
                        deleted += 1
        return deleted


def checked_id(request_id: str) -> str:
    """Return an id as part of a file's name; ValueError for one that the gateway has not made."""
    if not _REQUEST_ID.fullmatch(request_id):
        raise ValueError(f"{request_id!r} is not a request id")
    return request_id


def _read_batch(path: Path, offset: int, size: int) -> bytes:
    """Return up to `size` bytes from an offset on; raises OSError. Blocks.

    The file is opened for each batch: a thousand readers need no thousand descriptors.
    """
    with path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), size, offset)


async def _batches(path: Path, start: bytes, length: int, size: int) -> AsyncIterator[bytes]:
    """Yield a file of `length` bytes whose `start` was read already; Truncated if it cannot be read to its end."""
    chunk, sent = start, 0
    while sent < length:
        if sent:
            try:
                chunk = await asyncio.to_thread(_read_batch, path, sent, size)
            except OSError as error:
                log.warning("%s cannot be read on: %s", path.name, error)
                raise Truncated from error
        if not chunk:
            raise Truncated
        sent += len(chunk)
        yield chunk

"""Shadows on disk: the answer to a request beside that of its shadow, for people and programs that compare them.

`shadows/DAY/ID/primary.json` and `shadow.json` are small heads (status, headers, length), `primary.body` and
`shadow.body` the answers as they came; ID is that of the request. The oldest go once there are too many of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from gateway.assets.clock import Now, own_time
from gateway.assets.recording import FOLDER_MODE, DiskRecording

log = logging.getLogger(__name__)

KEEP = 7 * 86_400.0
MOST, MOST_BYTES = 10_000, 10 * 2**30
"""How many comparisons are kept, and how many bytes of them."""
SWEEP_EVERY = 300.0
"""Seconds between two looks for what may go."""
SWEEP_AFTER = 500
"""Comparisons after which one looks at once, so that a burst cannot fill a disk meanwhile."""


class ShadowLimits(NamedTuple):
    """What may be kept: seconds, comparisons, bytes."""

    seconds: float = KEEP
    comparisons: int = MOST
    size: int = MOST_BYTES


class _Kept(NamedTuple):
    at: float
    size: int
    path: Path


class ShadowsOnDisk:
    """Implements `gateway.request.comparison.Comparisons` in a private folder that may be shared by many gateways.

    `now` tells when the time for which something may be kept is over.
    """

    def __init__(self, folder: Path, limits: ShadowLimits | None = None, *, now: Now = own_time) -> None:
        self._now = now
        self._folder = folder
        self._limits = limits or ShadowLimits()
        self._begun = 0
        self._full = asyncio.Event()

    def record(self, request_id: str, part: Literal["primary", "shadow"]) -> DiskRecording:
        """Begin to store one of the two answers of a request."""
        if "/" in request_id or request_id.startswith("."):
            raise ValueError(f"{request_id!r} is not a request id")
        with contextlib.suppress(OSError):  # whoever writes there meets it again, and says so
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self._begun += 1
        if self._begun % SWEEP_AFTER == 0:
            self._full.set()
        return DiskRecording(self._folder / f"{datetime.now(UTC):%Y-%m-%d}" / request_id, part)

    async def run(self) -> None:
        """Delete what is too old or too much, again and again, until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.sweep, await self._now())
            except OSError as error:
                log.warning("old answers of shadows cannot be deleted: %s", error)
            self._full.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_EVERY):
                    await self._full.wait()

    def sweep(self, now: float) -> int:
        """Delete the oldest until what is left is within every limit; returns how many went. Blocking."""
        kept = sorted(found for day in _folders(self._folder) for found in map(_kept, _folders(day)) if found)
        number, size, deleted = len(kept), sum(each.size for each in kept), 0
        for each in kept:
            limits = self._limits
            if now - each.at <= limits.seconds and number <= limits.comparisons and size <= limits.size:
                break
            shutil.rmtree(each.path, ignore_errors=True)  # another gateway sweeps too
            number, size, deleted = number - 1, size - each.size, deleted + 1
        for day in _folders(self._folder):
            with contextlib.suppress(OSError):  # it is not empty, or gone already
                if day.name < f"{datetime.now(UTC):%Y-%m-%d}":
                    day.rmdir()
        return deleted


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:  # another gateway sweeps too
        return []


def _kept(folder: Path) -> _Kept | None:
    try:
        with os.scandir(folder) as files:
            size = sum(file.stat(follow_symlinks=False).st_size for file in files)
        return _Kept(folder.stat().st_mtime, size, folder)
    except FileNotFoundError:
        return None

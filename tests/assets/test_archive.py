"""Archive: what is kept beside answers, and what becomes of it where too much waits."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

from gateway.assets.blobs import BlobsOnDisk
from gateway.assets.images import StoredImages
from gateway.domain.links import Signer
from gateway.images.answer_cache import AnswerCache
from gateway.images.archive import MOST_WAITING, Archives
from gateway.images.linking import Linker
from gateway.observe.event import Event


class Deaf:
    """An observer that keeps nothing."""

    def emit(self, event: Event) -> None:
        """Let it go."""


async def test_what_finds_too_much_waiting_is_let_go_of(tmp_path: Path) -> None:
    """A note that cannot be written in time is never begun, and nothing of it is left over."""
    blobs = BlobsOnDisk(tmp_path)
    linker = Linker(StoredImages(blobs, dict), Signer(b"s" * 32))
    archives = Archives(linker, blobs, AnswerCache(blobs, linker, Deaf()))
    may_end = asyncio.Event()
    for _ in range(MOST_WAITING):
        archives.spawn(_until(may_end))
    note = archives.note("req_1", {"project": "team"})
    assert not archives.begin(note)
    assert inspect.getcoroutinestate(note) == inspect.CORO_CLOSED
    may_end.set()
    await archives.aclose(30)
    assert await archives.noted("req_1") is None


async def _until(event: asyncio.Event) -> None:
    await event.wait()

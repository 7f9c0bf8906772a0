"""Clocks that differ: what a gateway whose own is ahead may delete, and what it goes by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.assets.answers import AnswersOnDisk
from gateway.assets.blobs import BlobsOnDisk
from gateway.assets.shadows import ShadowsOnDisk
from gateway.ledger.clock import earlier_time
from gateway.ledger.store import Store
from gateway.observe.fanout import Observers
from gateway.process.storage_wiring import StorageWiring
from tests.builders import policy

DAYS = 7 * 86_400.0 + 1


async def some(content: bytes) -> AsyncIterator[bytes]:
    """Bytes to be kept."""
    yield content


async def test_a_gateway_whose_clock_is_ahead_deletes_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept answers, images, bodies of tasks and comparisons are others' too, and none of them is too old."""
    where = SimpleNamespace(data=tmp_path, assets=tmp_path / "assets", bucket=None, public_url=None)
    current = policy()
    storage = StorageWiring(where, lambda: current, b"secret", Observers([]), store)
    assert isinstance(storage.answers, AnswersOnDisk)
    assert isinstance(storage.blobs, BlobsOnDisk)
    recording = storage.answers.record("req_1")
    await recording.write(b"answer")
    await recording.commit(200, [])
    await storage.blobs.put("tasks/task_1", some(b"body"))
    await storage.images.keep("p", some(b"image"))
    comparisons = ShadowsOnDisk(storage.folder / "shadows", now=storage.now)
    compared = comparisons.record("req_1", "primary")
    await compared.write(b"answer")
    await compared.commit(200, [])
    files = {path for path in storage.folder.rglob("*") if path.is_file()}
    ahead = time.time() + DAYS
    monkeypatch.setattr(time, "time", lambda: ahead)
    for sweep in (storage.answers.sweep, storage.blobs.sweep, comparisons.sweep):
        assert await asyncio.to_thread(sweep, await storage.now()) == 0
    assert await storage.images.sweep() == 0
    assert {path for path in storage.folder.rglob("*") if path.is_file()} == files
    for sweep in (storage.answers.sweep, storage.blobs.sweep, comparisons.sweep):
        assert await asyncio.to_thread(sweep, ahead)


async def test_the_earlier_of_two_clocks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The own one where that is behind, the store's where it is not; while that is away nothing is too old."""
    now = time.time()
    for own, expected in ((now + DAYS, now), (now - DAYS, now - DAYS)):
        monkeypatch.setattr(time, "time", lambda own=own: own)
        assert abs(await earlier_time(store) - expected) < 60
    away = Store("redis://127.0.0.1:1")
    assert await earlier_time(away) == 0
    await away.aclose()

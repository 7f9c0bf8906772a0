"""Blobs on disk: whole or not at all, private, and gone when their time is over."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.assets.blobs import BlobsOnDisk
from gateway.ports.storage import StorageUnavailable

BIG = os.urandom(700_000)


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    """Yield the chunks."""
    for chunk in chunks:
        yield chunk


async def content(blobs: BlobsOnDisk, name: str, start: int = 0, end: int | None = None) -> bytes:
    """A range of what is kept."""
    blob = await blobs.get(name)
    assert blob is not None
    return b"".join([chunk async for chunk in blob.chunks(start, blob.length if end is None else end)])


async def test_bytes_come_back_as_they_were(tmp_path: Path) -> None:
    """Whole, by range, again and again, and for another process on the same folder."""
    blobs = BlobsOnDisk(tmp_path)

    assert await blobs.put("tasks/a-1", pieces(BIG[:10], b"", BIG[10:])) == len(BIG)

    assert await content(BlobsOnDisk(tmp_path), "tasks/a-1") == BIG
    assert await content(blobs, "tasks/a-1", 300_000, 300_007) == BIG[300_000:300_007]
    await blobs.put("tasks/a-1", pieces(b"new"))
    assert await content(blobs, "tasks/a-1") == b"new"
    assert stat.S_IMODE((tmp_path / "tasks" / "a-1").stat().st_mode) == 0o600


async def test_what_breaks_off_is_not_kept(tmp_path: Path) -> None:
    """The error comes through, nothing is found, and nothing lies about."""

    async def broken() -> AsyncIterator[bytes]:
        yield BIG
        raise ValueError("no more")

    blobs = BlobsOnDisk(tmp_path)
    with pytest.raises(ValueError, match="no more"):
        await blobs.put("tasks/a", broken())

    assert await blobs.get("tasks/a") is None
    assert list((tmp_path / "tasks").iterdir()) == []


async def test_deleting_is_harmless_when_repeated(tmp_path: Path) -> None:
    """What is gone stays gone."""
    blobs = BlobsOnDisk(tmp_path)
    await blobs.put("a", pieces(b"x"))

    await blobs.delete("a")
    await blobs.delete("a")

    assert await blobs.get("a") is None


@pytest.mark.parametrize("name", ["", "../a", "a/../b", "/a", "a//b", "a.part", "a/", "ä"])
async def test_other_names_never_become_paths(tmp_path: Path, name: str) -> None:
    """Letters, digits, `-`, `_` and `/` alone."""
    with pytest.raises(ValueError, match="names no blob"):
        await BlobsOnDisk(tmp_path).get(name)


async def test_a_disk_that_fails_is_told_in_words(tmp_path: Path) -> None:
    """A folder that cannot be made is a storage that is away."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable):
        await BlobsOnDisk(tmp_path / "file").put("tasks/a", pieces(b"x"))


async def test_old_ones_are_swept(tmp_path: Path) -> None:
    """By the first part of their names; partial files of gateways that died go too, and others stay."""
    blobs = BlobsOnDisk(tmp_path, keep_for={"tasks": 3600.0})
    for name in ("tasks/old", "tasks/new", "other/old"):
        await blobs.put(name, pieces(b"x"))
    (tmp_path / "tasks" / "x-1.part").write_text("")
    for name in ("tasks/old", "other/old", "tasks/x-1.part"):
        os.utime(tmp_path / name, (time.time() - 7200,) * 2)

    assert blobs.sweep(time.time()) == 2

    assert await blobs.get("tasks/old") is None
    assert await content(blobs, "tasks/new") == await content(blobs, "other/old") == b"x"

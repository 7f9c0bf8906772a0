"""Stored images: once each, whole or not at all, for as long as policy says, on disk as in a bucket."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.assets.blobs import BlobsOnDisk
from gateway.assets.images import DAY, ImageStore, Terms
from gateway.domain.image_type import type_of
from gateway.domain.links import belongs_to, digest_of, is_name, mark_of, mark_of_name
from gateway.images.linking import Found
from gateway.ports.storage import SLOW, StorageUnavailable
from tests.assets.conftest import Storage
from tests.e2e.clients import picture

PNG = picture()
LARGE = PNG + bytes(700_000)
VERY_LARGE = PNG + bytes(9_000_000)
TERMS = {
    mark_of(name): Terms(name, kept_for, quota)
    for name, kept_for, quota in [
        ("team", DAY, None),
        ("other", DAY, None),
        ("brief", 3600.0, None),
        ("small", DAY, 3_000),
    ]
}


def stored(storage: Storage, *, most: int | None = None) -> ImageStore:
    """The images under test."""
    return ImageStore(storage.blobs, lambda: TERMS, most=most)


async def pieces(content: bytes, *, size: int = 100_000, error: Exception | None = None) -> AsyncIterator[bytes]:
    """The content in pieces, and then an error if there is one."""
    for start in range(0, len(content), size):
        yield content[start : start + size]
    if error is not None:
        raise error


async def keep(images: ImageStore, content: bytes, project: str = "team") -> str:
    """Keep an image and return its name."""
    return (await images.keep(project, pieces(content))).name


async def content_of(found: Found | None) -> bytes:
    """The bytes of an image that is there."""
    assert found is not None
    return b"".join([chunk async for chunk in found.blob.chunks(0, found.blob.length)])


def place(name: str) -> str:
    """Where an image lies."""
    return f"images/{mark_of_name(name)}/{digest_of(name)}"


@pytest.mark.parametrize("content", [PNG, LARGE, VERY_LARGE, b"x"], ids=["small", "large", "very large", "tiny"])
async def test_an_image_comes_back_as_it_was(storage: Storage, content: bytes) -> None:
    """Byte for byte, with its length and type, under a name that says whose it is."""
    kept = await stored(storage).keep("team", pieces(content))
    assert is_name(kept.name)
    assert belongs_to(kept.name, "team")
    assert not belongs_to(kept.name, "other")
    assert digest_of(kept.name) == hashlib.sha256(content).hexdigest()
    assert (kept.length, kept.media_type) == (len(content), type_of(content))
    assert time.time() + DAY - 60 < kept.until <= time.time() + DAY
    found = await stored(storage).find(kept.name)
    assert found is not None
    assert (found.blob.length, found.media_type) == (len(content), kept.media_type)
    assert hashlib.sha256(await content_of(found)).hexdigest() == digest_of(kept.name)
    if len(content) > 300_000:
        assert b"".join([chunk async for chunk in found.blob.chunks(299_990, 300_000)]) == content[299_990:300_000]


async def test_on_disk_nobody_else_can_read_them(tmp_path: Path) -> None:
    """Files and folders are the gateway's own."""
    images = ImageStore(BlobsOnDisk(tmp_path / "assets"), lambda: TERMS)
    name = await keep(images, PNG)
    found = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "assets").rglob("*")}
    assert found == {"coming": 0o700, "images": 0o700, mark_of("team"): 0o700, digest_of(name): 0o600}


async def test_the_same_image_is_kept_once_for_each_project(storage: Storage) -> None:
    """Made again it keeps its name and its time begins anew; another project's has a name of its own."""
    images = stored(storage)
    name = await keep(images, PNG)
    storage.age(place(name), DAY / 2)
    names = await asyncio.gather(*(keep(images, PNG, project) for project in ("team", "team", "other")))
    assert names[0] == names[1] == name != names[2]
    until = await images.kept_until(name)
    assert until is not None
    assert until > time.time() + DAY - 1000
    assert len([each async for each in storage.blobs.list("images")]) == 2


async def test_an_image_that_breaks_off_leaves_nothing_behind(storage: Storage) -> None:
    """Neither an image nor a part of one."""
    with pytest.raises(ValueError, match="broken"):
        await stored(storage).keep("team", pieces(LARGE, error=ValueError("broken")))
    assert not [each async for each in storage.blobs.list("images")]
    assert not list(storage.root.rglob("*.part"))


async def test_a_cancellation_leaves_nothing_behind(storage: Storage) -> None:
    """A request that is broken off in the middle of an image has no image."""
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield PNG
        reached.set()
        await asyncio.Event().wait()

    keeping = asyncio.create_task(stored(storage).keep("team", endless()))
    await reached.wait()
    keeping.cancel()
    await asyncio.wait({keeping})
    assert not [each async for each in storage.blobs.list("images")]
    assert not list(storage.root.rglob("*.part"))


async def test_one_that_takes_too_long_is_given_up(storage: Storage) -> None:
    """Whoever waits for a link waits for so long and no longer."""
    images = ImageStore(storage.blobs, lambda: TERMS, patience=0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield PNG
        await asyncio.Event().wait()

    with pytest.raises(StorageUnavailable) as caught:
        await images.keep("team", slow())
    assert caught.value.reason == SLOW


async def test_images_stay_as_long_as_their_project_says(storage: Storage) -> None:
    """What is older is not found, and swept away; of a project that policy does not know any more after a day."""
    images = stored(storage)
    names = [await keep(images, PNG, project) for project in ("team", "brief", "gone")]
    for name in names:
        storage.age(place(name), 7200)
    assert [await images.kept_until(name) is not None for name in names] == [True, False, True]
    assert await images.find(names[1]) is None
    assert await images.sweep() == 1
    storage.age(place(names[2]), DAY + 60)
    assert await images.sweep() == 1
    assert [each.name async for each in storage.blobs.list("images")] == [place(names[0])]


async def test_a_projects_oldest_go_beyond_its_quota(storage: Storage) -> None:
    """As many as it takes and no more, and nobody else's; what is left is told by project."""
    images = stored(storage)
    names = [await keep(images, bytes([number]) * 1_000, "small") for number in range(5)]
    others = [await keep(images, bytes([number]) * 1_000) for number in range(5)]
    for age, name in enumerate(reversed(names)):
        storage.age(place(name), 60 * age + 60)
    assert await images.sweep() == 2
    assert [await images.find(name) is not None for name in (*names, *others)] == [False, False] + [True] * 8
    assert images.held == {"team": 5_000, "small": 3_000, "other": 0, "brief": 0}


async def test_the_oldest_of_all_go_beyond_what_the_disk_has(storage: Storage) -> None:
    """Where there is a bound for all projects together, no less than their quotas add up to."""
    images = stored(storage, most=4_000)
    names = [await keep(images, bytes([number]) * 1_000, "team") for number in range(6)]
    for age, name in enumerate(reversed(names)):
        storage.age(place(name), 60 * age + 60)
    assert await images.sweep() == 2
    assert [await images.find(name) is not None for name in names] == [False, False] + [True] * 4


async def test_what_is_made_again_while_it_is_swept_stays(storage: Storage) -> None:
    """A sweep that has seen an old image deletes no young one of its name."""
    name = await keep(stored(storage), PNG)
    storage.age(place(name), 2 * DAY)
    [seen] = [each async for each in storage.blobs.list("images")]
    await keep(stored(storage), PNG)
    assert await storage.blobs.delete(seen.name, unless_after=seen.modified) is False
    assert await stored(storage).find(name) is not None


async def test_several_gateways_sweep_at_once(storage: Storage) -> None:
    """Each may find a thing gone that it was to delete."""
    names = [await keep(stored(storage), bytes([number]) * 100) for number in range(20)]
    for name in names[:15]:
        storage.age(place(name), 2 * DAY)
    deleted = await asyncio.gather(*(stored(storage).sweep() for _ in range(4)))
    assert sum(deleted) >= 15
    assert len([each async for each in storage.blobs.list("images")]) == 5


async def test_a_burst_is_swept_at_once(tmp_path: Path) -> None:
    """After so many new bytes nobody waits for the next regular sweep."""
    images = ImageStore(BlobsOnDisk(tmp_path), lambda: TERMS, most=3_000, sweep_after=6_000)
    sweeping = asyncio.create_task(images.run())
    try:
        for number in range(6):
            await keep(images, bytes([number]) * 1_000)
        async with asyncio.timeout(60):
            while sum(images.held.values()) != 3_000:  # noqa: ASYNC110 - the sweep tells nobody of its end
                await asyncio.sleep(0.01)
    finally:
        sweeping.cancel()
        await asyncio.wait({sweeping})


async def test_a_project_lists_its_own(storage: Storage) -> None:
    """Page by page in the order of ids, and nothing that is too old."""
    images = stored(storage)
    names = sorted([await keep(images, bytes([number]) * 10) for number in range(5)])
    await keep(images, PNG, "other")
    storage.age(place(names[1]), 2 * DAY)
    first = await images.listing("team", after="", most=2)
    assert [each.name for each in first] == [names[0], names[2]]
    rest = await images.listing("team", after=first[-1].name, most=5)
    assert [each.name for each in rest] == names[3:]
    assert {each.length for each in (*first, *rest)} == {10}
    assert await images.delete(names[0]) is True
    assert await images.delete(names[0]) is False
    assert await images.listing("nobody", after="", most=5) == []


@pytest.mark.parametrize("name", ["", "..", "../pepper", "img_x", f"img_{'0' * 16}_{'0' * 64}", "00.part", "\0"])
async def test_nothing_else_is_an_image(storage: Storage, name: str) -> None:
    """Names that were not given out find nothing, and lead nowhere else."""
    await keep(stored(storage), PNG)
    assert await stored(storage).find(name) is None
    assert await stored(storage).kept_until(name) is None
    assert await stored(storage).delete(name) is False


async def test_an_image_that_goes_away_while_it_is_read(storage: Storage) -> None:
    """Its reader sees that it is not whole."""
    images = stored(storage)
    name = await keep(images, VERY_LARGE)
    found = await images.find(name)
    assert found is not None
    chunks = found.blob.chunks(0, found.blob.length)
    await anext(chunks)
    await images.delete(name)
    with pytest.raises(StorageUnavailable):
        await anext(chunks)


async def test_what_a_power_loss_left_empty_is_no_image(tmp_path: Path) -> None:
    """A file whose bytes never came to the disk is not there, until the image is made again."""
    blobs = BlobsOnDisk(tmp_path)
    images = ImageStore(blobs, lambda: TERMS)
    name = await keep(images, PNG)
    (tmp_path / place(name)).write_bytes(b"")
    assert (await images.find(name), await images.kept_until(name)) == (None, None)
    assert await keep(images, PNG) == name
    assert await content_of(await images.find(name)) == PNG


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (PNG, "image/png"),
        (picture(kind="JPEG"), "image/jpeg"),
        (picture(kind="WEBP"), "image/webp"),
        (picture(kind="GIF"), "image/gif"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n <svg/>', "image/svg+xml"),
        (b"<html><script>", "application/octet-stream"),
        (b"RIFF", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
    ids=str,
)
def test_the_type_is_told_by_the_first_bytes(start: bytes, kind: str) -> None:
    """What is no image has no type that a browser would show."""
    assert type_of(start) == kind

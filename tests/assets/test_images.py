"""Images on disk: once each, whole or not at all, for nobody else to read, and for a day."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.assets.images import ABANDONED, DAY, ImagesOnDisk, type_of
from gateway.domain.links import belongs_to, is_name
from gateway.ports import Outbound, Truncated
from tests.e2e.clients import picture

PNG = picture()
LARGE = PNG + bytes(700_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where images are kept; it does not exist yet."""
    return tmp_path / "assets" / "images"


@pytest.fixture
def images(folder: Path) -> ImagesOnDisk:
    """The images under test."""
    return ImagesOnDisk(folder)


def modes(folder: Path) -> dict[str, int]:
    """The permissions of the folder and of the files there, by name."""
    return {path.name if path != folder else ".": path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}


async def pieces(content: bytes, *, size: int = 100_000, error: Exception | None = None) -> AsyncIterator[bytes]:
    """The content in pieces, and then an error if there is one."""
    for start in range(0, len(content), size):
        yield content[start : start + size]
    if error is not None:
        raise error


async def content_of(found: Outbound | None) -> bytes:
    """The body of an image that is there."""
    assert found is not None
    return b"".join([chunk async for chunk in found.chunks])


@pytest.mark.parametrize("content", [PNG, LARGE, b"x"], ids=["small", "large", "tiny"])
async def test_an_image_comes_back_as_it_was(images: ImagesOnDisk, folder: Path, content: bytes) -> None:
    """Byte for byte, with its length, in a file that nobody else can read, under a name that says whose it is."""
    name = await images.keep("team", pieces(content))
    assert is_name(name)
    assert belongs_to(name, "team")
    assert not belongs_to(name, "other")
    assert name.endswith(hashlib.sha256(content).hexdigest())
    found = await images.find(name)
    assert found is not None
    assert dict(found.headers)["content-length"] == str(len(content))
    assert await content_of(found) == content
    assert modes(folder) == {".": 0o700, name: 0o600}


async def test_the_same_image_is_kept_once_for_each_project(images: ImagesOnDisk, folder: Path) -> None:
    """Made again it keeps its name and starts its day anew; another project's has a name of its own."""
    name = await images.keep("team", pieces(PNG))
    old = time.time() - DAY / 2
    os.utime(folder / name, (old, old))
    names = await asyncio.gather(*(images.keep(project, pieces(PNG)) for project in ("team", "team", "other")))
    assert names[0] == names[1] == name != names[2]
    assert (folder / name).stat().st_mtime > old + 1000
    assert len(modes(folder)) == 1 + 2


async def test_an_image_that_breaks_off_leaves_nothing_behind(images: ImagesOnDisk, folder: Path) -> None:
    """Neither an image nor a part of one."""
    with pytest.raises(ValueError, match="broken"):
        await images.keep("team", pieces(LARGE, error=ValueError("broken")))
    assert modes(folder) == {".": 0o700}


async def test_a_cancellation_leaves_nothing_behind(images: ImagesOnDisk, folder: Path) -> None:
    """A request that is broken off in the middle of an image has no image."""
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield PNG
        reached.set()
        await asyncio.Event().wait()

    keeping = asyncio.create_task(images.keep("team", endless()))
    await reached.wait()
    keeping.cancel()
    await asyncio.wait({keeping})
    assert modes(folder) == {".": 0o700}


async def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """The error is the disk's own."""
    (tmp_path / "images").write_text("not a folder")
    with pytest.raises(OSError, match="images"):
        await ImagesOnDisk(tmp_path / "images").keep("team", pieces(PNG))


async def test_an_image_is_there_for_a_day(images: ImagesOnDisk, folder: Path) -> None:
    """Older ones are not found, and are swept away, as are parts that nobody writes any more; others stay."""
    old, young = await images.keep("team", pieces(PNG)), await images.keep("team", pieces(LARGE))
    for name, age in ((old, DAY), ("00.part", ABANDONED), ("11.part", 0)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age - 60, time.time() - age - 60))
    os.utime(folder / "11.part", (time.time() - 60, time.time() - 60))
    assert await images.find(old) is None
    assert images.sweep() == 2
    assert modes(folder).keys() == {".", "11.part", young}


async def test_the_oldest_go_once_there_is_too_much(folder: Path) -> None:
    """As many as it takes and no more; what is being written counts, and stays."""
    images = ImagesOnDisk(folder, most=3_000)
    names = [await images.keep("team", pieces(bytes([number]) * 1_000)) for number in range(4)]
    for age, name in enumerate(reversed(names)):
        os.utime(folder / name, (time.time() - 60 * age - 60, time.time() - 60 * age - 60))
    assert images.sweep() == 1
    assert modes(folder).keys() == {".", *names[1:]}
    (folder / "00.part").write_bytes(bytes(1_500))
    os.utime(folder / "00.part", (time.time() - 600, time.time() - 600))
    assert images.sweep() == 2
    assert modes(folder).keys() == {".", names[3], "00.part"}
    assert await images.find(names[0]) is None
    assert await images.find(names[3]) is not None


async def test_a_burst_is_swept_at_once(folder: Path) -> None:
    """After so many new bytes nobody waits for the next regular sweep."""
    images = ImagesOnDisk(folder, most=2_500, sweep_after=4_000)
    sweeping = asyncio.create_task(images.run())
    try:
        names = [await images.keep("team", pieces(bytes([number]) * 1_000)) for number in range(4)]
        async with asyncio.timeout(60):
            while await images.find(names[1]) is not None:  # noqa: ASYNC110 - the sweep tells nobody of its end
                await asyncio.sleep(0.01)
        assert await images.find(names[2]) is not None
    finally:
        sweeping.cancel()
        await asyncio.wait({sweeping})


@pytest.mark.parametrize("name", ["", "..", "../pepper", "img_x", f"img_{'0' * 16}_{'0' * 64}", "00.part", "\0"])
async def test_nothing_else_is_an_image(images: ImagesOnDisk, folder: Path, name: str) -> None:
    """Names that were not given out find nothing, and lead nowhere else."""
    await images.keep("team", pieces(PNG))
    (folder / "00.part").write_text("half")
    assert await images.find(name) is None


async def test_an_image_that_goes_away_while_it_is_read(images: ImagesOnDisk, folder: Path) -> None:
    """Its reader sees that it is not whole."""
    name = await images.keep("team", pieces(LARGE))
    found = await images.find(name)
    assert found is not None
    await anext(found.chunks)
    (folder / name).unlink()
    with pytest.raises(Truncated):
        await anext(found.chunks)


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

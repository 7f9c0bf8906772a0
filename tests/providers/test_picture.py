"""Format and size of images, told by their first bytes."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from gateway.domain.job import Size
from gateway.providers.picture import picture_of


def file_of(kind: str, **options: object) -> bytes:
    """A picture of 48x32 as a file."""
    written = io.BytesIO()
    mode = "RGBA" if options.pop("alpha", False) else "RGB"
    Image.new(mode, (48, 32), "red").save(written, kind, **options)
    return written.getvalue()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (file_of("PNG"), "png"),
        (file_of("JPEG"), "jpeg"),
        (file_of("JPEG", progressive=True, exif=b"Exif\x00\x00" + bytes(5000)), "jpeg"),
        (file_of("WEBP", lossless=True), "webp"),
        (file_of("WEBP", lossless=False), "webp"),
        (file_of("WEBP", alpha=True, lossless=False), "webp"),
        (file_of("GIF"), "gif"),
    ],
)
def test_what_an_encoder_wrote_is_read(content: bytes, word: str) -> None:
    """Format and size of every kind are read, of whatever variant."""
    assert picture_of(content) == (word, Size(48, 32))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_what_is_cut_off_is_read_as_far_as_it_goes(kind: str) -> None:
    """A file that ends too early is what it begins as, with no size it does not say; nothing raises."""
    content = file_of(kind)
    for end in range(12, 64):
        found = picture_of(content[:end])
        assert found is not None
        assert found.size in (None, Size(48, 32))


def test_what_is_no_image_is_none() -> None:
    """A page, JSON and nothing are no images; a drawing in text is one, without pixels."""
    assert [picture_of(content) for content in (b"<html>", b"{}", b"")] == [None, None, None]
    assert picture_of(b"<?xml version='1.0'?><svg xmlns=''/>") == ("svg", None)

"""Conversion: the same picture in another format, or none at all."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image, ImageCms

from gateway.assets.converting import MOST_BYTES, PillowConverter, converted
from gateway.ports.provider import NotConvertible

SIZE = (48, 32)


def drawn(kind: str, mode: str = "RGB", **how: Any) -> bytes:
    """A picture with more than one colour."""
    image = Image.linear_gradient("L").resize(SIZE).convert(mode)
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def opened(content: bytes) -> Image.Image:
    """A picture, every pixel of it decoded."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def clear(alpha: int) -> bytes:
    """A PNG with an alpha channel."""
    image = Image.linear_gradient("L").resize(SIZE).convert("RGBA")
    image.putalpha(alpha)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("found", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("wanted", ["png", "jpeg", "webp"])
def test_pixels_and_what_is_said_of_them_are_kept(found: str, wanted: str) -> None:
    """Size, colours (to a hair for JPEG), colour profile and EXIF; nothing is scaled."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a picture"
    made = drawn(found, icc_profile=profile, exif=exif.tobytes())
    result = opened(converted(made, f"image/{wanted}"))
    assert (result.format, result.size) == (wanted.upper(), SIZE)
    assert result.info["icc_profile"] == profile
    assert result.getexif()[0x010E] == "a picture"
    before, after = opened(made).convert("RGB").tobytes(), result.convert("RGB").tobytes()
    assert max(abs(one - two) for one, two in zip(before, after, strict=True)) <= (8 if wanted == "jpeg" else 0)


def test_what_is_transparent_stays_so() -> None:
    """Or is refused, where the format cannot be; an alpha channel that hides nothing is no reason."""
    assert opened(converted(clear(100), "image/webp")).getchannel("A").getextrema() == (100, 100)
    with pytest.raises(NotConvertible, match="transparent"):
        converted(clear(254), "image/jpeg")
    assert opened(converted(clear(255), "image/jpeg")).mode == "RGB"


@pytest.mark.parametrize(
    ("content", "wanted", "why"),
    [
        (drawn("JPEG", "CMYK"), "image/png", "colours"),
        (drawn("PNG", "I;16"), "image/jpeg", "colours"),
        (drawn("GIF", "P"), "image/png", "cannot be read"),
        (drawn("PNG"), "image/gif", "not written here"),
        (drawn("PNG")[:-200], "image/jpeg", "cannot be read"),
        (b"<svg/>", "image/png", "cannot be read"),
        (b"", "image/png", "cannot be read"),
    ],
)
def test_what_would_lose_something_is_refused(content: bytes, wanted: str, why: str) -> None:
    """Whoever asked gets it as it came then."""
    with pytest.raises(NotConvertible, match=why):
        converted(content, wanted)


@pytest.mark.parametrize("found", ["PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0II*\0",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0\0\0\0\0",
    ],
    ids=["too short", "an orientation that is a word"],
)
def test_broken_exif_is_no_other_error(found: str, exif: bytes) -> None:
    """An image that nobody can convert for what is said in it comes as it is, and its request does not fail."""
    with pytest.raises(NotConvertible, match="cannot be read"):
        converted(drawn(found, exif=exif), "image/jpeg")


def test_an_animation_is_refused() -> None:
    """One frame would not be the same."""
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(NotConvertible, match="animated"):
        converted(out.getvalue(), "image/png")


def test_a_bomb_is_not_unpacked() -> None:
    """A small file of very many pixels is refused by its head."""
    out = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(out, "PNG")
    with pytest.raises(NotConvertible, match="pixels"):
        converted(out.getvalue(), "image/jpeg")


async def test_no_more_is_read_than_may_be() -> None:
    """An image without an end is let go of."""
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 2**20
            yield bytes(2**20)

    with pytest.raises(NotConvertible, match="bytes"):
        await PillowConverter().convert(endless(), "image/png")
    assert read <= MOST_BYTES + 2**20

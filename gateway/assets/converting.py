"""Converting: an image in another format, its pixels, profile and EXIF kept; refused where something would be lost."""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Final

from gateway.on_demand import OnDemand
from gateway.ports.provider import NotConvertible

if TYPE_CHECKING:
    from PIL import Image
else:  # few processes ever look into an image
    Image = OnDemand("PIL.Image")

MOST_BYTES: Final = 64 * 1024 * 1024
MOST_PIXELS: Final = 40_000_000
"""Pixels of an image that is decoded; each takes four bytes of memory. The largest that models make have 17 million."""
_FORMATS: Final = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
"""Modes of 8 bits a channel and no colours of print; others would lose something."""
_HOW: Final[Mapping[str, Mapping[str, int]]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
}
_OPAQUE: Final = 255
UNREADABLE: Final = (OSError, ValueError, SyntaxError, TypeError, LookupError, OverflowError, EOFError, struct.error)
"""What Pillow raises over broken images and EXIF, besides `DecompressionBombError`."""


class PillowConverter:
    """Implements `ports.provider.Converter`, one image at a time, in a thread."""

    def __init__(self) -> None:
        self._one = asyncio.Semaphore(1)

    async def convert(self, content: AsyncIterator[bytes], media_type: str) -> bytes:
        """Return an image as PNG, JPEG or WebP; raises NotConvertible, or what `content` raises."""
        async with self._one:
            data = bytearray()
            async for chunk in content:
                data += chunk
                if len(data) > MOST_BYTES:
                    raise NotConvertible(f"it has more than {MOST_BYTES} bytes")
            return await asyncio.to_thread(converted, bytes(data), media_type)


def converted(data: bytes, media_type: str) -> bytes:
    """Return an image in another format; NotConvertible if that cannot be, or would lose some of it. Blocking."""
    target = _FORMATS.get(media_type)
    if target is None:
        raise NotConvertible(f"{media_type} is not written here")
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_FORMATS.values())) as image:
            _check(image)
            image.load()
            profile, exif = image.info.get("icc_profile"), image.getexif()
            about = {"icc_profile": profile} | ({"exif": exif.tobytes()} if exif else {})
            return _written(_as_fits(image, target), target, about)
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise NotConvertible(f"it cannot be read: {error}") from error


def _check(image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise NotConvertible(f"it has more than {MOST_PIXELS} pixels")
    if getattr(image, "n_frames", 1) > 1:
        raise NotConvertible("it is animated")
    if image.mode not in _MODES:
        raise NotConvertible(f"its colours ({image.mode}) would not all be kept")


def _as_fits(image: Image.Image, target: str) -> Image.Image:
    """Return the image in a mode that the format has; what is transparent stays so, or is refused."""
    see_through = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    if not see_through:
        return image if image.mode in ("L", "RGB") else image.convert("RGB")
    full = image.convert("RGBA")
    lowest, _ = full.getchannel("A").getextrema()
    if lowest == _OPAQUE:
        return full.convert("RGB")
    if target == "JPEG":
        raise NotConvertible("it is transparent, which a JPEG cannot be")
    return full


def _written(image: Image.Image, target: str, about: Mapping[str, object]) -> bytes:
    out = io.BytesIO()
    image.save(out, target, **about, **_HOW[target])
    return out.getvalue()

"""Thumbnails: an image made small, for people to look at."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Final

from gateway.assets.converting import MOST_BYTES, MOST_PIXELS, UNREADABLE
from gateway.on_demand import OnDemand
from gateway.ports.storage import Blob

if TYPE_CHECKING:
    from PIL import Image
else:  # few processes ever look into an image
    Image = OnDemand("PIL.Image")

EDGE: Final = 320
"""Pixels of the longer edge."""
_FORMATS: Final = ("PNG", "JPEG", "WEBP")


async def thumbnail(blob: Blob) -> bytes | None:
    """Return a small WebP of a stored image; None if it is none, or too large. Raises StorageUnavailable."""
    if blob.length > MOST_BYTES:
        return None
    data = b"".join([chunk async for chunk in blob.chunks(0, blob.length)])
    return await asyncio.to_thread(_small, data)


def _small(data: bytes) -> bytes | None:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                return None
            image.draft("RGB", (EDGE, EDGE))
            image.thumbnail((EDGE, EDGE))
            out = io.BytesIO()
            image.convert("RGBA" if "A" in image.mode else "RGB").save(out, "WEBP", quality=80)
            return out.getvalue()
    except (*UNREADABLE, Image.DecompressionBombError):
        return None

"""Picture: format and size of an image, by its first bytes."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from gateway.domain.image_type import type_of
from gateway.domain.job import Size

LEADING: Final = 256 * 1024
"""How many of the first bytes are looked at: a JPEG may begin with a preview of itself."""

_FORMATS = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/svg+xml": "svg",
}
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


class Picture(NamedTuple):
    """What an image is: `png`, `jpeg`, …, and its pixels where they could be read."""

    output_format: str
    size: Size | None


def picture_of(start: bytes) -> Picture | None:
    """Return what an image is; None if it is no image that is known here."""
    word = _FORMATS.get(type_of(start))
    if word is None:
        return None
    read = {"png": _png, "jpeg": _jpeg, "webp": _webp, "gif": _gif}.get(word)
    try:
        size = read(start) if read else None
    except (struct.error, IndexError):
        size = None  # cut off before it says
    return Picture(word, size if size and size.width and size.height else None)


def _png(data: bytes) -> Size:
    return Size(*struct.unpack_from(">II", data, 16))


def _gif(data: bytes) -> Size:
    return Size(*struct.unpack_from("<HH", data, 6))


def _jpeg(data: bytes) -> Size | None:
    """Go from segment to segment to the one that begins the picture."""
    at = 2
    while data[at] == 0xFF:  # noqa: PLR2004 - what each marker begins with
        marker = data[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 - a byte of padding
            at += 1
        elif marker in _NO_LENGTH:
            at += 2
        elif marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Size(width, height)
        else:
            at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return None


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return Size(_three(data, 24) + 1, _three(data, 27) + 1)
    if kind == b"VP8L":
        bits = int(struct.unpack_from("<I", data, 21)[0])
        return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Size(width & 0x3FFF, height & 0x3FFF)
    return None


def _three(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")

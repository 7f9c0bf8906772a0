"""What an image is, told by its first bytes and by nothing that anybody says of it."""

from __future__ import annotations

_TYPES = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (8, b"WEBP", "image/webp"),
    (0, b"GIF8", "image/gif"),
    (0, b"<svg", "image/svg+xml"),
)
"""Place and value of the first bytes by which a file is known, and its type."""

OUTPUT_FORMAT = "X-Gateway-Output-Format"
"""The header that names the format of the first image, where that is another than was asked for."""

NEEDED = 12
"""How many of the first bytes tell any type but SVG."""

PHOTOS = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""What providers take as input: pixels."""


def type_of(start: bytes) -> str:
    """Return the media type of a file by its first bytes; one that is not known is no type at all."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<?xml"):
        text = text.partition(b"?>")[2].lstrip()
    for place, value, kind in _TYPES:
        if (text if value == b"<svg" else start)[place : place + len(value)] == value:
            return kind
    return "application/octet-stream"

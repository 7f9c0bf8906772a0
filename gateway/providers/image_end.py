"""Image end: whether an image is all there that nothing but the end of its connection framed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gateway.base64_stream import decoded
from gateway.providers.picture import LEADING
from gateway.spool import Spool

_HEAD: Final = 24
_ENDING: Final = 64 * 1024
"""How much of the end is looked at: some programs write a little behind an image's last byte."""
_END_OF_SVG = re.compile(rb"</[^<>]*svg\s*>")


def is_framed(headers: Mapping[str, str]) -> bool:
    """Tell whether an answer said where its body ends, so that one that broke off has failed; names in lower case."""
    return "content-length" in headers or headers.get("transfer-encoding", "").strip().lower().endswith("chunked")


async def is_whole(output_format: str, spool: Spool, *, base64: bool = False) -> bool:
    """Tell whether a spool that holds an image, or the `base64` of one, ends as its format does."""
    start = max(spool.size - _ENDING, 0)
    end = await _part(spool, start, spool.size, base64=base64)
    match output_format:
        case "png":
            return b"IEND\xaeB`\x82" in end
        case "jpeg":
            headers = _headers_of_jpeg(await _part(spool, 0, min(2 * LEADING, spool.size), base64=base64))
            return b"\xff\xd9" in end[max(headers - (start // 4 * 3 if base64 else start), 0) :]
        case "webp":
            head = await _part(spool, 0, min(_HEAD, spool.size), base64=base64)
            size = spool.size // 4 * 3 if base64 else spool.size
            return size >= 8 + int.from_bytes(head[4:8], "little")
        case "gif":
            return end.rstrip(b"\0").endswith(b";")
        case "svg":
            return _END_OF_SVG.search(end) is not None
        case _:
            return True


def _headers_of_jpeg(head: bytes) -> int:
    """Return how long a JPEG's headers are, previews in them included, which have an end of their own."""
    at = len(b"\xff\xd8")
    while head[at : at + 1] == b"\xff" and head[at + 1 : at + 2] != b"\xda":
        at += 1 if head[at + 1 : at + 2] == b"\xff" else 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return at


async def _part(spool: Spool, start: int, end: int, *, base64: bool) -> bytes:
    read = spool.read(start, end)
    return b"".join([chunk async for chunk in (decoded(read) if base64 else read)])

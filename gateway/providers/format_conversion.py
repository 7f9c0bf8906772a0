"""Format conversion: the format of images, by their bytes; converted to the one asked for where policy has it so."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final

from gateway.base64_stream import decoded, encoded
from gateway.domain.errors import Unavailable
from gateway.ports.provider import Call, Converter, NotConvertible
from gateway.providers.part import IN_MEMORY, Part
from gateway.providers.picture import picture_of
from gateway.spool import Spool

log = logging.getLogger("gateway.providers")

_PHOTOS: Final = frozenset({"png", "jpeg", "webp"})
"""Formats that are converted into each other."""
_HEAD: Final = 4096
"""Characters of base64 by which a format is told."""


def wanted_of(call: Call) -> str | None:
    """Return the format that was asked for, by the client or by policy; None where any will do."""
    return call.job.wanted_format


async def convert_formats(parts: Sequence[Part], wanted: str | None, converter: Converter | None) -> None:
    """Let each part say what format its images are in, converted first where that is possible and wanted."""
    for part in parts:
        for number in range(len(part.images)):
            found = await _format_of(part, number)
            if converter is not None and wanted is not None and found != wanted and {found, wanted} <= _PHOTOS:
                found = await _converted(part, number, found, wanted, converter)
            if found is None:
                continue
            if wanted is not None and found != wanted:
                part.other_format = found
            if not number:
                part.document = {**part.document, "output_format": found}


async def _format_of(part: Part, number: int) -> str | None:
    """Return the format of an image by its first bytes; None for a link, or where it is none that is known."""
    text = part.text_of(number)
    if text is None:
        return None
    spool, start, end = text
    head = b""
    try:
        async for chunk in decoded(spool.read(start, min(start + _HEAD, end))):
            head += chunk
    except ValueError:
        return None
    picture = picture_of(head)
    return picture.output_format if picture else None


async def _converted(part: Part, number: int, found: str | None, wanted: str, converter: Converter) -> str | None:
    """Convert an image, and return the format that it is in then."""
    text = part.text_of(number)
    assert text is not None
    spool, start, end = text
    try:
        content = await converter.convert(decoded(spool.read(start, end)), f"image/{wanted}")
    except (NotConvertible, ValueError) as error:
        log.warning("an image stays %s, although %s was asked for: %s", found, wanted, error)
        return found
    written = Spool(IN_MEMORY)
    try:
        async for piece in encoded(_pieces(content)):
            written.write(piece)
            await written.drain()
    except Unavailable as error:
        await written.aclose()
        log.warning("an image stays %s, although %s was asked for: %s", found, wanted, error)
        return found
    part.replaced[number] = written
    return wanted


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _BATCH):
        yield content[start : start + _BATCH]


_BATCH: Final = 3 * 64 * 1024
"""Bytes made base64 at a time."""

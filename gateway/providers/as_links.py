"""As links: images of an answer kept elsewhere, and named in it by `url` in place of `b64_json`."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator, Sequence

from gateway.ports import Links
from gateway.providers.part import Part

log = logging.getLogger("gateway.providers")

_LONGEST_ESCAPE = len("\\u0000")
_WHITE = b" \t\r\n"
_GROUP = 4
"""Characters of base64 that make whole bytes."""


async def link(parts: Sequence[Part], links: Links) -> None:
    """Keep every image of the parts; one that cannot be kept stays in the answer as it came."""
    for part in parts:
        for number, place in enumerate(part.images):
            if place.inline is None:
                continue
            _, start, end = place.inline
            try:
                part.urls[number] = await links.keep(decoded(part.spool.read(start, end)))
            except (OSError, ValueError) as error:
                log.warning("an image cannot be kept for its link: %s", error)


async def decoded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what base64 stands for, out of a JSON string without its quotes that is cut anywhere; ValueError if none.

    Escapes, line breaks and missing padding are what some encoders do.
    """
    text, group = b"", b""
    async for chunk in chunks:
        text += chunk
        cut = text.rfind(b"\\", max(len(text) - _LONGEST_ESCAPE + 1, 0))
        cut = len(text) if cut < 0 else cut  # an escape is not taken before all of it is there
        group += _plain(text[:cut])
        text = text[cut:]
        usable = len(group) // _GROUP * _GROUP
        if usable:
            yield base64.b64decode(group[:usable], validate=True)
        group = group[usable:]
    group += _plain(text)
    yield base64.b64decode(group + b"=" * (-len(group) % _GROUP), validate=True)


def _plain(text: bytes) -> bytes:
    if b"\\" in text:
        text = json.loads(b'"' + text + b'"').encode("ascii")
    return text.translate(None, _WHITE)

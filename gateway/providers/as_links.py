"""As links: images of an answer kept elsewhere, and named in it by `url` in place of `b64_json`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from gateway.base64_stream import decoded
from gateway.ports.provider import Links
from gateway.ports.storage import StorageUnavailable
from gateway.providers.part import Part

log = logging.getLogger("gateway.providers")


async def link(parts: Sequence[Part], links: Links) -> None:
    """Keep every image of the parts; one that cannot be kept stays in the answer as it came, and is counted there."""
    for part in parts:
        for number in range(len(part.images)):
            text = part.text_of(number)
            if text is None:
                continue
            spool, start, end = text
            try:
                part.urls[number] = await links.keep(decoded(spool.read(start, end)))
            except (StorageUnavailable, OSError, ValueError) as error:
                part.not_linked += 1
                log.info("an image is given inline instead of by link: %s", error)

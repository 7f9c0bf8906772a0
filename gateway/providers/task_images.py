"""Task images: results that are told as links, fetched at once, for links die within minutes, or as data URIs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from gateway.base64_stream import from_base64
from gateway.domain.errors import Unavailable
from gateway.domain.json_path import found
from gateway.domain.task_profile import TaskProfile
from gateway.ports.egress import Fetcher, Unfetchable
from gateway.providers.image_end import is_framed, is_whole
from gateway.providers.picture import LEADING, Picture, picture_of
from gateway.spool import Spool

log = logging.getLogger("gateway.providers")

MAX_IMAGE: Final = 64 * 1024 * 1024
"""Bytes; several times the largest picture that a model makes."""
FETCH_SECONDS: Final = 120.0
"""The longest that one fetch may take."""
TRIES: Final = 3
MOST: Final = 10
"""How many images of one task are fetched: as many as one request can ask for."""
_PAUSE = 0.5
_IN_MEMORY = 256 * 1024
_PIECE = 64 * 1024
_INLINE = "data:image/"
_LINKS = ("http://", "https://", _INLINE)
_GONE = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
PASSING = frozenset({"dns", "connect", "timeout", "broken"})
"""Reasons that may be gone a moment later."""


class NoImage(Exception):
    """A link that led to no image. `gone` tells that it was answered by 403, 404 or 410: a new one may do."""

    def __init__(self, reason: str, message: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.gone = gone


@dataclass(slots=True)
class Image:
    """An image that is here; `aclose` frees it."""

    spool: Spool
    picture: Picture

    async def aclose(self) -> None:
        """Free memory and the temporary file."""
        await self.spool.aclose()


def links_of(profile: TaskProfile, document: object) -> list[str]:
    """Return the links to images that a document tells, data URIs included: those of the first path that has any."""
    for path in profile.images:
        values = [item for value in found(document, path) for item in (value if isinstance(value, list) else [value])]
        links = [value for value in values if isinstance(value, str) and value.startswith(_LINKS)]
        if links:
            return links
    return []


async def fetch_all(
    fetcher: Fetcher, links: Sequence[str], trusted: Collection[str], lifetime: float
) -> list[Image | NoImage]:
    """Fetch all at once, but those beyond `MOST`, each within the seconds that links live.

    A cancellation frees them all.
    """
    if len(links) > MOST:
        log.warning("%d images of a task are not fetched, for so many cannot be asked for", len(links) - MOST)
    seconds = min(FETCH_SECONDS, lifetime)
    tasks = [asyncio.create_task(_fetch(fetcher, link, trusted, seconds)) for link in links[:MOST]]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Image):
                await ended.aclose()
        raise


async def _fetch(fetcher: Fetcher, link: str, trusted: Collection[str], seconds: float) -> Image | NoImage:
    """Fetch one, again where the fault may pass; to read is to change nothing."""
    if link.startswith(_INLINE):
        return await _inline(link)
    missing = NoImage("unfetchable", "the image could not be fetched")
    for number in range(TRIES):
        if number:
            await asyncio.sleep(_PAUSE * 2**number)
        try:
            return await _once(fetcher, link, trusted, seconds)
        except Unfetchable as error:
            missing = NoImage(error.reason, "the image could not be fetched")
            if error.reason not in PASSING:
                return missing
        except NoImage as error:
            missing = error
            if error.gone or error.reason == "no_image":
                return missing
        except Unavailable:
            return NoImage("no_room", "the image does not fit on the gateway's disk")
    return missing


async def _inline(uri: str) -> Image | NoImage:
    """Take an image out of its data URI; its length is that of the document that told it, at most."""
    _, base64, text = uri.partition(";base64,")

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(text), _PIECE):
            yield text[at : at + _PIECE].encode("ascii", "replace")

    try:
        if base64:
            return await _kept(from_base64(pieces()))
    except ValueError:
        pass  # said below
    except NoImage as error:
        return error
    except Unavailable:
        return NoImage("no_room", "the image does not fit on the gateway's disk")
    return NoImage("no_image", "what the provider told as a data URI is no image")


async def _once(fetcher: Fetcher, link: str, trusted: Collection[str], seconds: float) -> Image:
    answer = await fetcher.get(link, seconds=seconds, limit=MAX_IMAGE, trusted=trusted)
    try:
        if answer.status != HTTPStatus.OK:
            gone = answer.status in _GONE
            message = "the link to the image has expired" if gone else "the image could not be fetched"
            raise NoImage("expired" if gone else f"status_{answer.status // 100}xx", message, gone=gone)
        return await _kept(answer.chunks(), framed=is_framed(answer.headers))
    finally:
        await answer.aclose()


async def _kept(chunks: AsyncIterator[bytes], *, framed: bool = True) -> Image:
    """Keep an image; NoImage if it is none, or half of one that was not `framed`."""
    spool, image = Spool(_IN_MEMORY), None
    try:
        async for chunk in chunks:
            spool.write(chunk)
            await spool.drain()
        start = b"".join([chunk async for chunk in spool.read(0, min(LEADING, spool.size))])
        picture = picture_of(start)
        if picture is None:
            raise NoImage("no_image", "what the provider told or linked to is no image")
        if not framed and not await is_whole(picture.output_format, spool):
            raise NoImage("broken", "the image could not be fetched")
        image = Image(spool, picture)
        return image
    finally:
        if image is None:
            await spool.aclose()

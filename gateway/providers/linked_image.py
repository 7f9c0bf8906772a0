"""Linked image: what an answer links to, fetched as base64, again where the fault may pass."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Final

import httpx

from gateway.base64_stream import decoded, encoded
from gateway.domain.errors import Unavailable
from gateway.ports.egress import Fetcher, Unfetchable
from gateway.ports.provider import UpstreamFailure
from gateway.providers.answer import read_body
from gateway.providers.endpoint import Endpoint, origin_of
from gateway.providers.image_end import is_framed, is_whole
from gateway.providers.part import IN_MEMORY
from gateway.providers.picture import LEADING, Picture, picture_of
from gateway.providers.task_images import PASSING, TRIES
from gateway.spool import Spool

log = logging.getLogger("gateway.providers")

MAX_IMAGE: Final = 64 * 1024 * 1024
"""Bytes of an image that is fetched."""
FETCH_SECONDS: Final = 60.0
"""Seconds that its bytes may take, pauses between them added up; none is fetched again after so many."""
PAUSE = 0.5
"""Seconds before the second try; each further pause is twice as long."""


async def fetched(url: httpx.URL, endpoint: Endpoint, fetcher: Fetcher | None) -> Spool | None:
    """Return the base64 of an image that is there; None for a link that leads to none, which is logged.

    Credentials go to the endpoint's own origin alone; elsewhere the `fetcher` goes, if there is one.
    """
    began = time.monotonic()
    for number in range(TRIES):
        if number:
            await asyncio.sleep(PAUSE * 2 ** (number - 1))
        spool, whole = Spool(IN_MEMORY), False
        try:
            await _take(url, endpoint, fetcher, spool)
            whole = True
            return spool
        except (Unfetchable, UpstreamFailure, Unavailable) as error:
            log.warning("an image of an answer cannot be fetched (try %d): %s", number + 1, error)
            if not _may_pass(error) or time.monotonic() - began > FETCH_SECONDS:
                break
        finally:
            if not whole:
                await spool.aclose()
    return None


async def picture_at(spool: Spool, start: int, end: int) -> Picture | None:
    """Return what an image is, by the first bytes of its base64, as many as that takes."""
    found, picture = b"", None
    try:
        async for chunk in decoded(spool.read(start, min(start + 2 * LEADING, end))):
            found += chunk
            picture = picture_of(found)
            if picture is not None and picture.size is not None:
                break
    except ValueError:
        return picture
    return picture


async def _take(url: httpx.URL, endpoint: Endpoint, fetcher: Fetcher | None, spool: Spool) -> None:
    """Fetch it once; raises if it is no image, or but a part of one."""
    if origin_of(url) == endpoint.origin:
        response = await endpoint.get(url)
        try:
            await _keep(read_body(response, limit=MAX_IMAGE, seconds=FETCH_SECONDS), spool, response.status_code)
        finally:
            await response.aclose()
        framed = is_framed(response.named)
    elif fetcher is not None:
        answer = await fetcher.get(str(url), seconds=FETCH_SECONDS, limit=MAX_IMAGE)
        try:
            await _keep(answer.chunks(), spool, answer.status)
        finally:
            await answer.aclose()
        framed = is_framed(answer.headers)
    else:
        raise Unfetchable("unavailable", "the gateway fetches no links")
    picture = await picture_at(spool, 0, spool.size)
    if picture is None:
        raise Unfetchable("no_image", "what it leads to is no image")
    if not framed and not await is_whole(picture.output_format, spool, base64=True):
        raise Unfetchable("broken", "the connection broke off")


async def _keep(chunks: AsyncIterator[bytes], spool: Spool, status: int) -> None:
    if not httpx.codes.is_success(status):
        raise Unfetchable(f"status_{status // 100}xx", f"its server answered {status}")
    async for text in encoded(chunks):
        spool.write(text)
        await spool.drain()


def _may_pass(error: Unfetchable | UpstreamFailure | Unavailable) -> bool:
    """Tell whether the same link may lead to the image a moment later."""
    if isinstance(error, UpstreamFailure):  # of the connection; one with a status is a body that does not end
        return error.status is None
    return isinstance(error, Unfetchable) and error.reason in {*PASSING, "status_5xx"}

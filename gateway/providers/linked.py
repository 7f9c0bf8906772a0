"""Linked: answers that name images by link alone, or as data URIs, are read to their end and put into shape.

What the links lead to is fetched. Any other answer is told by its first bytes, and goes on as it comes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final

from gateway.ports.provider import Answer, Call, UpstreamFailure
from gateway.ports.wrapped import WrappedAnswer
from gateway.providers.content import Content
from gateway.providers.normalised import Normaliser

MOST: Final = 64 * 1024
"""Bytes of an answer without an image in it, links to ten of them included."""
_INLINE: Final = re.compile(rb'"b64_json"\s*:\s*"([^"]{5}|[^"]+")')


async def without_links(answer: Answer, call: Call, headers: Mapping[str, str], normaliser: Normaliser) -> Answer:
    """Return an answer in the normaliser's shape if it has links alone, or data URIs, else as it comes.

    `headers` are all of the answer's. What breaks off meanwhile is told by the answer.
    """
    if answer.event_stream:
        return answer
    body = answer.at_once()
    if body is None:
        answer = ahead = _Ahead(answer)
        body = await ahead.look()
    return await normaliser.normalised(answer, call, headers) if _out_of_shape(body) else answer


def _out_of_shape(beginning: bytes) -> bool:
    """Tell whether the first image is a data URI, or all images of a document are links; what is cut is none."""
    inline = _INLINE.search(beginning)
    if inline is not None:
        return inline[1].lower() == b"data:"
    if len(beginning) > MOST or b'"url"' not in beginning:
        return False
    content = Content()
    content.feed(beginning)
    return any(place.link is not None for place in content.images())


class _Ahead(WrappedAnswer):
    """Implements `ports.Answer` for one that was looked into: what was read of it comes again."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._read: list[bytes] = []
        self._broken: UpstreamFailure | None = None

    async def look(self) -> bytes:
        """Read until an image begins, the answer ends, or it is too long for links alone; return what was read."""
        found = b""
        try:
            async for chunk in self._answer.chunks():
                self._read.append(chunk)
                found += chunk
                if len(found) > MOST or _INLINE.search(found):
                    break
        except UpstreamFailure as failure:
            self._broken = failure
        return found

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it came and comes."""
        while self._read:
            yield self._read.pop(0)
        if self._broken is not None:
            raise self._broken
        async for chunk in self._answer.chunks():
            yield chunk

"""Image inspection as an answer streams by: number and format; stores them where policy says so.

What is to be kept goes to a temporary file beside the answer's way. A disk that stays behind costs the images that they
are kept, never the client its answer.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache, partial
from typing import Final

from gateway.base64_stream import decoded
from gateway.domain.errors import Unavailable
from gateway.domain.job import RESPOND
from gateway.domain.settlement import Reading
from gateway.ports import Headers
from gateway.ports.provider import Answer, Archive, Call, UpstreamFailure, is_collected
from gateway.ports.storage import FULL, StorageUnavailable
from gateway.ports.whole import WholeAnswer
from gateway.ports.wrapped import WrappedAnswer
from gateway.providers.collected import MISSING, OUTPUT_FORMAT
from gateway.providers.content import Content
from gateway.providers.event_content import EventContent
from gateway.providers.format_conversion import wanted_of
from gateway.providers.picture import picture_of
from gateway.spool import Spool

UNFOUND: Final = "unread"
"""Why images are not kept that came in a form in which they cannot be found."""
BEHIND: Final = "behind"
"""Why images are not kept that the disk could not take as fast as they came."""
MOST_WAITING: Final = 1024 * 1024
"""Bytes of an answer that may wait for the disk."""
PATIENCE: Final = 1.0
"""Seconds for which a disk that is behind may hold one answer up, all in all."""
_IN_MEMORY: Final = 256 * 1024

_INLINE: Final = b'"b64_json"'
_FIRST: Final = re.compile(rb'"b64_json"\s{0,8}:\s{0,8}"([^"]{24})')
_CUT: Final = 64
"""Bytes in which the beginning of an image may be cut by the end of a chunk."""
_LOOKED_AT: Final = 256 * 1024
"""Bytes of an answer in which its first image is looked for."""


def inspected(answer: Answer, call: Call) -> Answer:
    """Return an answer that is looked at as it goes by; one that is here whole, and not to be kept, is at once."""
    if isinstance(answer, WholeAnswer) and call.archive is None:
        at = answer.body.find(_INLINE)
        match = _FIRST.search(answer.body, at) if at >= 0 else None
        if match is not None and (found := _format_of(match[1])) is not None:
            answer.headers = _with_format(answer.headers, found, wanted_of(call))
        answer.headers = _with_missing(answer.headers, answer.reading(), _asked_for(call))
        return answer
    kind = InspectedCollectedAnswer if is_collected(answer) else InspectedAnswer
    return kind(answer, call)


class InspectedAnswer(WrappedAnswer):
    """Implements `ports.Answer` by another one."""

    def __init__(self, answer: Answer, call: Call) -> None:
        super().__init__(answer)
        self._wanted = wanted_of(call)
        self._n = _asked_for(call)
        self._sniffer: Sniffer | None = None
        self._sniffed = False
        self._found: str | None = None
        self._tap = Tap(call.archive, call.job.n, event_stream=answer.event_stream) if call.archive else None

    @property
    def headers(self) -> Headers:
        """What may be passed to the client, and what is known by now: another format, fewer images than asked for."""
        headers = _with_missing(self._answer.headers, self.reading(), self._n)
        return headers if self._found is None else _with_format(headers, self._found, self._wanted)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        async for chunk in self._answer.chunks():
            if not self._sniffed:
                self._look(chunk)
            if self._tap is not None:
                await self._tap.feed(chunk)
            yield chunk
        if self._tap is not None:
            tap, self._tap = self._tap, None
            tap.end(self._told())

    def _told(self) -> int:
        """Return how many images came, as far as that can be read; none of a conversation's, which are not kept."""
        missing = sum(int(count) for name, count in self._answer.headers if name == MISSING)
        reading = self.reading()
        return min(self._n - missing, self._n if reading.unread else reading.images)

    def _look(self, chunk: bytes) -> None:
        self._sniffer = sniffer = self._sniffer or Sniffer()
        if sniffer.feed(chunk):
            self._found, self._sniffer, self._sniffed = sniffer.found, None, True

    async def aclose(self) -> None:
        """Free the answer; what did not come to its end is not kept."""
        if self._tap is not None:
            tap, self._tap = self._tap, None
            await tap.discard()
        await self._answer.aclose()


class InspectedCollectedAnswer(InspectedAnswer):
    """One that was put together from several."""

    @property
    def failures(self) -> Sequence[UpstreamFailure]:
        """What became of the calls that are left out."""
        return self._answer.failures if is_collected(self._answer) else ()


def _asked_for(call: Call) -> int:
    """Return how many images the client asked for; none in a conversation, whose text model decides within a bound."""
    return 0 if call.job.operation is RESPOND else call.job.n


def _with_format(headers: Headers, found: str, wanted: str | None) -> Headers:
    """Return the headers with the format of an image, unless it is the one asked for."""
    if wanted is None or found == wanted or any(name == OUTPUT_FORMAT for name, _ in headers):
        return headers
    return [*headers, (OUTPUT_FORMAT, found)]


def _with_missing(headers: Headers, reading: Reading, wanted: int) -> Headers:
    """Return the headers with how many images are not there, where some are and the answer is known to its end."""
    if not 0 < reading.images < wanted or not reading.complete or any(name == MISSING for name, _ in headers):
        return headers
    return [*headers, (MISSING, str(wanted - reading.images))]


class Sniffer:
    """Tells the format of the first image that lies inline in an answer."""

    def __init__(self) -> None:
        self._room = _LOOKED_AT
        self._cut = b""
        self.found: str | None = None

    def feed(self, chunk: bytes) -> bool:
        """Take the next bytes; returns whether there is nothing more to be learned."""
        text = self._cut + chunk
        match = _FIRST.search(text)
        self._room -= len(chunk)
        if match is None:
            self._cut = text[-_CUT:]
            return self._room <= 0
        self.found = _format_of(match[1])
        return True


@lru_cache(64)
def _format_of(text: bytes) -> str | None:
    """Return the format of an image by the first 24 bytes of its base64; None if it is none that is known."""
    try:
        picture = picture_of(base64.b64decode(text.replace(b"\\", b"")[:20], validate=True))
    except binascii.Error:
        return None
    return picture.output_format if picture else None


class Tap:
    """Keeps what goes by in a temporary file, and hands its images on once all of it has."""

    def __init__(self, archive: Archive, images: int, *, event_stream: bool) -> None:
        self._archive = archive
        self._images = images
        self._content: Content | EventContent = EventContent() if event_stream else Content()
        self._spool: Spool | None = Spool(_IN_MEMORY)
        self._waiting = 0
        self._patience = PATIENCE
        self._draining: asyncio.Task[None] | None = None

    async def feed(self, chunk: bytes) -> None:
        """Take the next bytes; waits only for a disk that is behind, and not for long."""
        if self._spool is None:
            return
        self._content.feed(chunk)
        self._spool.write(chunk)
        self._waiting += len(chunk)
        if self._draining is not None and not self._draining.done():
            if self._waiting > MOST_WAITING and not await self._caught_up(self._draining):
                self._give_up(self._spool, BEHIND)
            return
        if self._draining is not None and self._draining.exception() is not None:
            self._give_up(self._spool, FULL)
        elif self._waiting > _IN_MEMORY:
            self._waiting = 0
            self._draining = asyncio.create_task(self._spool.drain())

    async def _caught_up(self, draining: asyncio.Task[None]) -> bool:
        """Wait for the disk, as long as patience lasts for this answer."""
        clock = asyncio.get_running_loop().time
        began = clock()
        await asyncio.wait({draining}, timeout=self._patience)
        self._patience = max(self._patience - (clock() - began), 0.0)
        return draining.done()

    def _give_up(self, spool: Spool, reason: str) -> None:
        self._archive.lost(reason, self._images)
        self._spool = None
        self._archive.take((), {}, partial(self._free, spool))

    def end(self, told: int) -> None:
        """Take note that the answer is whole, and how many images it told; those that are not found are lost."""
        spool = self._spool
        if spool is None:
            return
        document = self._content.document() or {}
        found = self._content.images()
        if told > len(found):
            self._archive.lost(UNFOUND, told - len(found))
        ranges = [image.inline for image in found if image.inline is not None]
        images = [partial(self._image, spool, start, end) for _, start, end in ranges]
        self._archive.take(images, document, partial(self._free, spool))

    async def _image(self, spool: Spool, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes of an image; ValueError if it is none, StorageUnavailable if it is not all there."""
        if self._draining is not None:
            try:
                await self._draining
            except Unavailable as error:
                raise StorageUnavailable("the answer did not fit on the gateway's disk", FULL) from error
        async for piece in decoded(spool.read(start, end)):
            yield piece

    async def _free(self, spool: Spool) -> None:
        if self._draining is not None:
            await asyncio.wait({self._draining})
            if not self._draining.cancelled():
                self._draining.exception()  # it was counted, or nobody needs what it kept
        await spool.aclose()

    async def discard(self) -> None:
        """Let go of what did not come to its end."""
        if self._spool is not None:
            await self._free(self._spool)

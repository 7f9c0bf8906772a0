"""Gemini answer: what `generateContent` answers, in the shape of the API that is served here, images by range.

An answer is read to its end first: only then is it known whether it holds an image, and what it took.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from gateway.base64_stream import decoded, unescaped
from gateway.domain.errors import Unavailable
from gateway.domain.settlement import Outcome, Reading, Usage
from gateway.ports.provider import Answer, Call, UpstreamFailure
from gateway.providers.answer import plain_id
from gateway.providers.collected import CollectedAnswer, Piece
from gateway.providers.content import Element
from gateway.providers.gemini_errors import refusal
from gateway.providers.gemini_usage import told
from gateway.providers.long_strings import LongStrings
from gateway.providers.outcome import of_garbage
from gateway.providers.part import IN_MEMORY, Part
from gateway.providers.picture import LEADING, picture_of
from gateway.providers.usage import read_usage
from gateway.spool import Spool

_HEAD: Final = 256
"""Bytes in which a data URI within a text begins."""
_DATA_URI: Final = re.compile(rb"data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/=]*+")

Object = Mapping[str, object]


class _Image(NamedTuple):
    """Where the base64 of an image lies: the text of a JSON string, escapes included."""

    spool: Spool
    start: int
    end: int


async def put_in_shape(answer: Answer, call: Call) -> CollectedAnswer:
    """Read an answer to its end and return it in shape; UpstreamFailure if it is none, or holds no image."""
    part = Part(call.job.n, headers=answer.headers, rate_limits=answer.rate_limits)
    try:
        strings = await _read(answer, part.spool)
        document = strings.document()
        if not isinstance(document, dict):
            raise of_garbage("the answer is no JSON document", answer.status)
        part.upstream_request_id = answer.upstream_request_id or plain_id(document.get("responseId"))
        images = [image async for image in _images(document, strings, part)][: call.job.n]
        usage = told(document.get("usageMetadata"))
        part.reading = _reading(usage, len(images), complete=answer.reading().complete)
        if not images:
            raise refusal(document, part.reading)
        return await _whole(part, images, usage, call)
    except BaseException:
        await part.aclose()
        raise


async def _read(answer: Answer, spool: Spool) -> LongStrings:
    strings = LongStrings()
    try:
        async for chunk in answer.chunks():
            strings.feed(chunk)
            spool.write(chunk)
            await spool.drain()
    except Unavailable as error:
        raise UpstreamFailure(Outcome.UNKNOWN, "no_room", "the answer does not fit on the gateway's disk") from error
    return strings


def _reading(usage: object, images: int, *, complete: bool) -> Reading:
    read = read_usage(usage, images=images)
    if isinstance(read, Usage):
        return Reading(usage=read, images=images, complete=complete)
    return Reading(usage_problem=read, images=images, complete=complete)


async def _images(document: Object, strings: LongStrings, part: Part) -> AsyncIterator[_Image]:
    """Yield the images of the answer, those that were thought on the way left out."""
    for piece in _parts(document):
        if piece.get("thought") is True:
            continue
        inline = piece.get("inlineData", piece.get("inline_data"))
        data, text = inline.get("data") if isinstance(inline, dict) else None, piece.get("text")
        found = None
        if isinstance(data, str) and data:
            found = await _told_at(data, strings, part)
        elif isinstance(text, str):
            found = await _within_text(text, strings, part)
        if found is not None:
            yield found


def _parts(document: Object) -> Iterator[Object]:
    candidates = document.get("candidates")
    for candidate in candidates if isinstance(candidates, list) else []:
        content = candidate.get("content") if isinstance(candidate, dict) else None
        parts = content.get("parts") if isinstance(content, dict) else None
        yield from (part for part in (parts if isinstance(parts, list) else []) if isinstance(part, dict))


async def _told_at(data: str, strings: LongStrings, part: Part) -> _Image:
    """Return where the base64 of an image lies; a short one is kept for it."""
    place = strings.place(data)
    return _Image(part.spool, *place) if place is not None else await _kept(_once(data), part)


async def _within_text(text: str, strings: LongStrings, part: Part) -> _Image | None:
    """Return an image that resellers write into a text as a data URI; None if there is none in it."""
    place = strings.place(text)
    chunks = _once(text) if place is None else unescaped(part.spool.read(*place))
    image = _after_head(chunks)
    first = await anext(image, None)
    return None if first is None else await _kept(_followed(first, image), part)


async def _after_head(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the base64 of the data URI that begins near the text's start; nothing if there is none."""
    head, begun = b"", False
    try:
        async for chunk in chunks:
            text = chunk
            if not begun:
                head += chunk
                match = _DATA_URI.search(head, 0, _HEAD)
                if match is None and len(head) < _HEAD:
                    continue
                if match is None:
                    return
                text, begun = head[match.end() :], True
            good = _BASE64.match(text)
            end = good.end() if good else 0
            if end:
                yield text[:end]
            if end < len(text):
                return
    except ValueError:  # an escape that stands for no text
        return


async def _kept(chunks: AsyncIterator[bytes], part: Part) -> _Image:
    spool = Spool(IN_MEMORY)
    part.fetched.append(spool)
    async for chunk in chunks:
        spool.write(json.dumps(chunk.decode("utf-8", "replace"))[1:-1].encode())
        await spool.drain()
    return _Image(spool, 0, spool.size)


async def _once(text: str) -> AsyncIterator[bytes]:
    yield text.encode("utf-8", "replace")  # which may be cut within a character


async def _followed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


async def _whole(part: Part, images: list[_Image], usage: object, call: Call) -> CollectedAnswer:
    head: dict[str, object] = {"created": int(time.time())}
    picture = picture_of(await _beginning(images[0]))
    if picture is not None:  # what came, whatever was asked for
        head["output_format"] = picture.output_format
        part.reading = replace(part.reading, output_format=picture.output_format)
        if picture.size is not None:
            head["size"] = str(picture.size)
    pieces: list[Piece] = [json.dumps(head, separators=(",", ":"))[:-1].encode() + b',"data":[']
    for number, image in enumerate(images):
        pieces += [b'{"b64_json":"' if number == 0 else b',{"b64_json":"', (image.spool, image.start, image.end), b'"}']
    told_usage = b"" if part.reading.usage is None else b',"usage":' + json.dumps(usage).encode()
    pieces.append(b"]" + told_usage + b"}")
    # The part's own images are of no use to whoever passes the whole on by its pieces.
    part.images = [Element(0, 0)] * len(images)
    return CollectedAnswer([part], pieces, missing=max(call.job.n - len(images), 0))


async def _beginning(image: _Image) -> bytes:
    """Return as much of an image as tells what it is; nothing if it is not base64."""
    found = b""
    try:
        async for chunk in decoded(image.spool.read(image.start, min(image.start + LEADING, image.end))):
            found += chunk
    except ValueError:
        return b""
    return found

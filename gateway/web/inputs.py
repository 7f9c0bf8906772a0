"""Inputs: the images that came with a body, one by one, for providers that take them in another form.

Types are told by the first bytes alone. A data URL is checked to its end when the inputs are asked for, and decoded
again whenever it is read, a piece at a time: no image is ever whole in memory.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.base64_stream import from_base64, unescaped
from gateway.domain.errors import InvalidRequest
from gateway.domain.image_type import NEEDED, PHOTOS, type_of
from gateway.ports import InputImage, Inputs
from gateway.spool import Spool
from gateway.web.form_fields import IMAGE_URLS, IMAGES, MARKUP, MASK, REFERENCES
from gateway.web.json_scan import LongString
from gateway.web.multipart_parts import Part

_LONGEST_URL = 8 * 1024
_HTTP_URL = re.compile(r"https?://[!-~]+", re.IGNORECASE | re.ASCII)
_DATA_HEAD = re.compile(rb"data:[^,]{0,200};base64,", re.IGNORECASE)
_LONGEST_HEAD = 256
"""Bytes; a data URL's head is shorter."""

Text = Callable[[], AsyncIterator[bytes]]
"""A string's text from its beginning, each time it is called."""


async def form_inputs(spool: Spool, parts: Sequence[Part]) -> Inputs:
    """Return the images of a form; InvalidRequest names the part that is none."""
    overlays = {part.name: part for part in parts if part.name in (MASK, MARKUP)}
    images = tuple([await _upload(spool, part) for part in parts if part.is_image])
    mask, markup = overlays.get(MASK), overlays.get(MARKUP)
    return Inputs(
        images,
        None if mask is None else await _upload(spool, mask),
        None if markup is None else await _upload(spool, markup),
    )


async def _upload(spool: Spool, part: Part) -> InputImage:
    content = partial(spool.read, part.start, part.end)
    beginning = await _beginning(content, NEEDED)
    return InputImage(content=content, length=part.end - part.start, media_type=_type(beginning, part.name))


@dataclass(frozen=True, slots=True)
class JsonInputs:
    """The images of a JSON body: its fields, in which a long string is a marker of where it lies in the spool."""

    spool: Spool
    fields: Mapping[str, object]
    marker_prefix: str
    long_strings: Sequence[LongString]

    async def read(self) -> Inputs:
        """Return the images; InvalidRequest names the field that is none."""
        images = [await self._reference(item, f"{IMAGES}[{at}]") for at, item in enumerate(self._list(IMAGES))]
        urls = [await self._named(url, f"{IMAGE_URLS}[{at}]") for at, url in enumerate(self._list(IMAGE_URLS))]
        return Inputs((*images, *urls), await self._overlay(MASK), await self._overlay(MARKUP))

    def _list(self, name: str) -> Sequence[object]:
        value = self.fields.get(name)
        return value if isinstance(value, list) else ()

    async def _overlay(self, name: str) -> InputImage | None:
        value = self.fields.get(name)
        return None if value is None else await self._reference(value, name)

    async def _reference(self, value: object, param: str) -> InputImage:
        url, file_id = (value.get(key) if isinstance(value, dict) else None for key in REFERENCES)
        if url is not None:
            return await self._named(url, f"{param}.{REFERENCES[0]}")
        if not isinstance(file_id, str) or self._place(file_id) is not None:
            raise InvalidRequest(f"{param} must be an object with exactly one of image_url, file_id.", param=param)
        return InputImage(file_id=file_id)

    async def _named(self, url: object, param: str) -> InputImage:
        """Return an image by its URL, which may be a data URL of any length."""
        if isinstance(url, str):
            place = self._place(url)
            if place is None and len(url) <= _LONGEST_URL and _HTTP_URL.fullmatch(url):
                return InputImage(url=url)
            text = partial(_of, url.encode()) if place is None else partial(self._spooled, *place)
            head = _DATA_HEAD.match(await _beginning(text, _LONGEST_HEAD, param))
            if head is not None:
                return await _data(partial(_decoded, text, head.end()), param)
        message = f"{param} must be an http or https URL, or a data URL in base64 (data:image/png;base64,…)."
        raise InvalidRequest(message, param=param)

    def _place(self, value: str) -> tuple[int, int] | None:
        """Return where a long string's text lies in the spool; None for a short one."""
        prefix = self.marker_prefix
        if not self.long_strings or not value.startswith(prefix):
            return None
        long = self.long_strings[int(value.removeprefix(prefix))]
        return long.start + 1, long.end - 1

    def _spooled(self, start: int, end: int) -> AsyncIterator[bytes]:
        return unescaped(self.spool.read(start, end))


async def _data(content: Text, param: str) -> InputImage:
    """Read a data URL's content once: that it is base64 to its end, how long it is, and what."""
    beginning, length = b"", 0
    try:
        async for chunk in content():
            if length < NEEDED:
                beginning += chunk[:NEEDED]
            length += len(chunk)
    except ValueError as error:
        raise InvalidRequest(f"{param} is a data URL whose content is not base64.", param=param) from error
    return InputImage(content=content, length=length, media_type=_type(beginning, param))


async def _beginning(text: Text, size: int, param: str | None = None) -> bytes:
    """Return the first bytes, at most `size`."""
    found = b""
    try:
        async for chunk in text():
            found += chunk[: size - len(found)]
            if len(found) >= size:
                break
    except ValueError as error:  # an escape that stands for no text
        raise InvalidRequest(f"{param} is not text.", param=param) from error
    return found


async def _of(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _decoded(text: Text, head: int) -> AsyncIterator[bytes]:
    return from_base64(_after(text(), head))


async def _after(chunks: AsyncIterator[bytes], skipped: int) -> AsyncIterator[bytes]:
    """Yield what follows the first `skipped` bytes."""
    async for chunk in chunks:
        if skipped < len(chunk):
            yield chunk[skipped:]
        skipped = max(skipped - len(chunk), 0)


def _type(beginning: bytes, param: str) -> str:
    found = type_of(beginning)
    if found not in PHOTOS:
        raise InvalidRequest(
            f"{param} is no image: its first bytes must be those of a PNG, JPEG, WebP or GIF.", param=param
        )
    return found

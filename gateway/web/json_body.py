"""A JSON body: strictly read, rendered again with some fields changed and the rest as it was written."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Final

from gateway.domain.errors import InvalidRequest
from gateway.ports import Inputs, Rendered
from gateway.spool import Spool
from gateway.steps.classify import MAX_PROMPT_CHARS
from gateway.web.form_fields import IMAGE_URLS, IMAGES, MASK, OVERLAYS, READ_HERE, REFERENCES, SINGLE, other_spelling
from gateway.web.inputs import JsonInputs
from gateway.web.json_alike import CONTENT_TYPE, PROMPT, Alike, AlikeBody, find_alike
from gateway.web.json_object import Member, read_object
from gateway.web.json_scan import LongString, Scanner
from gateway.web.limits import BodyLimits

_PART = "image"
"""What input images are called in a form."""
_PARSED_INLINE = 64 * 1024
"""Bytes; beyond it parsing takes long enough to be worth a thread."""

Piece = bytes | tuple[int, int]
"""Bytes, or a range of the spool."""


class JsonBody:
    """Implements `ports.Body`. EvoLink's `image_urls` are rendered as `images`."""

    def __init__(
        self, spool: Spool, members: list[Member], scanner: Scanner, *, fingerprint: str | None = None
    ) -> None:
        self._spool = spool
        self.fingerprint = fingerprint
        self._members = members
        self._long_strings: list[LongString] = scanner.long_strings
        self._marker_prefix = scanner.marker_prefix
        self._fields = {member.name: member.value for member in members}
        self._check_names()
        self._check_lengths()
        self._image_urls = self._read_image_urls()
        self._images = self._count_images()
        if self._fields.get(MASK) is not None:
            self._check_reference(self._fields[MASK], MASK)

    encoding: Final = "json"
    likeness = None
    """What is long, or has no prompt, is like no other."""

    @property
    def fields(self) -> Mapping[str, object]:
        """Every top-level field, decoded; a string too long to decode is an opaque marker."""
        return self._fields

    @property
    def images(self) -> int:
        """How many input images are named, by URL, data URL or file id."""
        return self._images

    @property
    def mask(self) -> bool:
        """Whether a mask, or a markup in place of one, is named."""
        return any(self._fields.get(name) is not None for name in OVERLAYS)

    def render(self, changes: Mapping[str, object]) -> Rendered:
        """Return the object with fields replaced, added or left out; without any change, the client's own bytes."""
        if not changes and IMAGE_URLS not in self._fields:
            pieces: list[Piece] = [(0, self._spool.size)]
        else:
            pieces = self._pieces(self.written(changes))
        length = sum(len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces)
        whole = pieces[0] if len(pieces) == 1 and isinstance(pieces[0], bytes) else None
        return Rendered(CONTENT_TYPE, length, lambda: self._chunks(pieces), whole=whole)

    async def inputs(self) -> Inputs:
        """Return the images it names; InvalidRequest if one of them is none."""
        return await JsonInputs(self._spool, self._fields, self._marker_prefix, self._long_strings).read()

    async def aclose(self) -> None:
        """Free memory and the temporary file."""
        await self._spool.aclose()

    def written(self, changes: Mapping[str, object]) -> str:
        """Return the object's text with fields replaced, added or left out, long strings as their markers."""
        written: list[str] = []
        urls = self._image_urls
        for member in self._members:
            name, value = member.written_name, member.written_value
            if member.name in changes:
                new = changes[member.name]
                if new is None:
                    continue
                value = json.dumps(new)
            elif member.name == IMAGE_URLS and urls:
                name, value = json.dumps(IMAGES), json.dumps([{"image_url": url} for url in urls])
            elif member.name == IMAGE_URLS or (member.name == IMAGES and urls):
                continue
            written.append(f"{name}:{value}")
        added = ((name, new) for name, new in changes.items() if name not in self._fields and new is not None)
        written += [f"{json.dumps(name)}:{json.dumps(new)}" for name, new in added]
        return "{" + ",".join(written) + "}"

    def _pieces(self, text: str) -> list[Piece]:
        if not self._long_strings:
            return [text.encode()]
        parts = re.split(rf'"{self._marker_prefix}([0-9]+)"'.encode(), text.encode())
        pieces: list[Piece] = []
        for position, part in enumerate(parts):
            long = self._long_strings[int(part)] if position % 2 else None
            pieces.append(part if long is None else (long.start, long.end))
        return pieces

    async def _chunks(self, pieces: list[Piece]) -> AsyncIterator[bytes]:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                async for chunk in self._spool.read(*piece):
                    yield chunk

    def _check_names(self) -> None:
        for name in self._fields.keys() - READ_HERE:
            plain = other_spelling(name)
            if plain is not None:
                raise InvalidRequest(f"{name[:100]!r} must be spelt {plain!r}.", param=name[:100])
        if self._fields.get(_PART) is not None:  # some read it in JSON too: it would go uncounted
            message = "image is a part of forms; in JSON send images, an array of {image_url} or {file_id} objects."
            raise InvalidRequest(message, param=_PART)

    def _check_lengths(self) -> None:
        for name in SINGLE & self._fields.keys() if self._long_strings else ():
            value = self._fields[name]
            if isinstance(value, str) and value.startswith(self._marker_prefix):
                most = f" At most {MAX_PROMPT_CHARS} characters are allowed." if name == PROMPT else ""
                raise InvalidRequest(f"{name} is far too long.{most}", param=name, code="string_above_max_length")

    def _read_image_urls(self) -> list[str]:
        urls = self._fields.get(IMAGE_URLS)
        if urls is None:
            return []
        message = "image_urls must be an array of URLs."
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise InvalidRequest(message, param=IMAGE_URLS, code="invalid_type")
        if not all(urls):
            raise InvalidRequest(message, param=IMAGE_URLS)
        return urls

    def _count_images(self) -> int:
        images = self._fields.get(IMAGES)
        if images is None:
            images = []
        if not isinstance(images, list):
            message = "images must be an array of {image_url} or {file_id} objects."
            raise InvalidRequest(message, param=IMAGES, code="invalid_type")
        if images and self._image_urls:
            raise InvalidRequest("Send images or image_urls, not both.", param=IMAGE_URLS)
        for position, image in enumerate(images):
            self._check_reference(image, f"{IMAGES}[{position}]")
        return len(images) + len(self._image_urls)

    def _check_reference(self, value: object, param: str) -> None:
        named = [key for key in REFERENCES if isinstance(value, dict) and value.get(key) is not None]
        if not isinstance(value, dict) or len(named) != 1 or not isinstance(value[named[0]], str):
            typed = isinstance(value, dict) and all(isinstance(value[name], str) for name in named)
            message = f"{param} must be an object with exactly one of image_url, file_id."
            raise InvalidRequest(message, param=param, code=None if typed else "invalid_type")


async def read_json(
    chunks: AsyncIterator[bytes], limits: BodyLimits, *, fingerprint: bool = False
) -> JsonBody | AlikeBody:
    """Read a JSON body to its end; InvalidRequest with code `invalid_json` if it is not a strict JSON object.

    Raises what `chunks` raises. Whatever is raised, nothing stays behind.
    """
    data, short = b"", limits.short
    async for chunk in chunks:
        data = data + chunk if data else bytes(chunk)
        if len(data) > short:
            reading = _Reading(limits, fingerprint=fingerprint)
            await reading.take(data)
            del data, chunk  # or they would stay until all has come
            return await reading.rest(chunks)
    return read_short(data, limits, fingerprint=fingerprint)


def read_short(
    data: bytes, limits: BodyLimits, *, fingerprint: bool, like: Alike | None = None
) -> JsonBody | AlikeBody:
    """Read a short body that is here, and probably is like another one; raises as `read_json`."""
    digest = hashlib.sha256(data).hexdigest() if fingerprint else None
    if like is not None and (body := like.another(data, limits, digest)) is not None:
        return body
    return find_alike(data, limits, _in_memory, digest) or _in_memory(data, limits, digest)


def _in_memory(data: bytes, limits: BodyLimits, fingerprint: str | None = None) -> JsonBody:
    spool, scanner = Spool(limits.json_in_memory), Scanner(limits)
    spool.write(data)
    scanner.feed(data)
    return JsonBody(spool, read_object(scanner), scanner, fingerprint=fingerprint)


class _Reading:
    """A body that is kept and scanned as it comes. Whatever it raises, nothing stays behind."""

    def __init__(self, limits: BodyLimits, *, fingerprint: bool) -> None:
        self._spool, self._scanner = Spool(limits.json_in_memory), Scanner(limits)
        self._digest = hashlib.sha256() if fingerprint else None

    async def take(self, chunk: bytes) -> None:
        """Take the next piece."""
        try:
            self._spool.write(chunk)
            self._scanner.feed(chunk)
            if self._digest is not None:
                self._digest.update(chunk)
            self._spool.keep_beside(self._scanner.size)
            await self._spool.drain()
        except BaseException:
            await self._spool.aclose()
            raise

    async def rest(self, chunks: AsyncIterator[bytes]) -> JsonBody:
        """Take all that is left, and return the body."""
        scanner, digest = self._scanner, self._digest
        try:
            async for chunk in chunks:
                await self.take(chunk)
            if len(scanner.text) <= _PARSED_INLINE:
                members = read_object(scanner)
            else:
                members = await asyncio.to_thread(read_object, scanner)
            return JsonBody(self._spool, members, scanner, fingerprint=digest.hexdigest() if digest else None)
        except BaseException:
            await self._spool.aclose()
            raise

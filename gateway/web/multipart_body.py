"""A multipart/form-data body: read as it streams in, rendered again with some fields changed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Final

from gateway.ports import Inputs, Rendered
from gateway.spool import Spool
from gateway.web.fingerprint import FormFingerprint
from gateway.web.form_fields import OVERLAYS
from gateway.web.inputs import form_inputs
from gateway.web.limits import BodyLimits
from gateway.web.multipart_parts import MAX_BOUNDARY, Part, PartReader, invalid_multipart

MEDIA_TYPE = "multipart/form-data"

Piece = bytes | tuple[int, int]
"""Bytes, or a range of the spool."""


class MultipartBody:
    """Implements `ports.Body`. Parts keep their order, names, file names and content types."""

    def __init__(self, spool: Spool, parts: list[Part], *, fingerprint: str | None = None) -> None:
        self._spool = spool
        self.fingerprint = fingerprint
        self._parts = parts
        self._fields = {part.name: part.text() for part in parts if not part.is_file}

    encoding: Final = "multipart"
    likeness = None
    """A form is like no other."""

    @property
    def fields(self) -> Mapping[str, object]:
        """The text of every form field; the last one where an unknown field was repeated."""
        return self._fields

    @property
    def images(self) -> int:
        """How many input images were uploaded."""
        return sum(part.is_image for part in self._parts)

    @property
    def mask(self) -> bool:
        """Whether a mask, or a markup in place of one, was uploaded."""
        return any(part.name in OVERLAYS for part in self._parts)

    def render(self, changes: Mapping[str, str | int | None]) -> Rendered:
        """Return the form with fields replaced where they stood, added at the end, or left out."""
        boundary = f"image-gateway-{secrets.token_hex(16)}"
        pieces: list[Piece] = []
        open_changes = dict(changes)
        for part in self._parts:
            if part.is_file:
                pieces += [
                    _head(boundary, part.name, part.filename, part.content_type),
                    (part.start, part.end),
                    b"\r\n",
                ]
            elif part.name not in changes:
                content = bytes(part.value or b"")
                pieces += [_head(boundary, part.name, None, part.content_type), content, b"\r\n"]
            else:
                pieces += _field(boundary, part.name, open_changes.pop(part.name, None))
        for name, value in open_changes.items():
            pieces += _field(boundary, name, value)
        pieces.append(f"--{boundary}--\r\n".encode())
        length = sum(len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces)
        return Rendered(f"{MEDIA_TYPE}; boundary={boundary}", length, lambda: self._chunks(pieces))

    async def inputs(self) -> Inputs:
        """Return the images that were uploaded; InvalidRequest if one of them is none."""
        return await form_inputs(self._spool, self._parts)

    async def aclose(self) -> None:
        """Free memory and the temporary file."""
        await self._spool.aclose()

    async def _chunks(self, pieces: list[Piece]) -> AsyncIterator[bytes]:
        small = bytearray()
        for piece in pieces:
            if isinstance(piece, bytes):
                small += piece
                continue
            yield bytes(small)
            small.clear()
            async for chunk in self._spool.read(*piece):
                yield chunk
        yield bytes(small)


def _field(boundary: str, name: str, value: str | int | None) -> list[Piece]:
    if value is None:
        return []
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return [_head(boundary, name, None, None), text.encode(), b"\r\n"]


def _head(boundary: str, name: str, filename: str | None, content_type: str | None) -> bytes:
    lines = [f"--{boundary}", f'Content-Disposition: form-data; name="{_quoted(name)}"']
    if filename is not None:
        lines[1] += f'; filename="{_quoted(filename)}"'
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _quoted(text: str) -> str:
    """Escape for a quoted-string (RFC 9110, 5.6.4); control characters were refused when the part was read."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


async def read_multipart(
    boundary: bytes, chunks: AsyncIterator[bytes], limits: BodyLimits, *, fingerprint: bool = False
) -> MultipartBody:
    """Read a form to its end; InvalidRequest with code `invalid_multipart` if it is malformed or breaks off.

    Raises what `chunks` raises. Whatever is raised, nothing stays behind.
    """
    if not boundary or len(boundary) > MAX_BOUNDARY:
        raise invalid_multipart("the Content-Type header names no usable boundary")
    spool = Spool(limits.files_in_memory)
    try:
        prints = FormFingerprint() if fingerprint else None
        reader = PartReader(boundary, spool, limits, prints)
        async for chunk in chunks:
            reader.feed(chunk)
            await spool.drain()
        return MultipartBody(spool, reader.finish(), fingerprint=prints.hexdigest() if prints else None)
    except BaseException:
        await spool.aclose()
        raise

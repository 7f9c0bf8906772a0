"""Task answer: the images of finished work as an answer of OpenAI's, written while it is read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus

from gateway.base64_stream import encoded, encoded_length
from gateway.domain.settlement import Reading
from gateway.ports import Headers
from gateway.ports.provider import UpstreamFailure
from gateway.providers.collected import MISSING
from gateway.providers.task_images import Image

Piece = bytes | Image


class TaskAnswer:
    """Implements `ports.Answer`. With `broken` it has no body: reading it raises that failure.

    `fields` stand beside the images; `missing` is how many images there are too few.
    """

    status = HTTPStatus.OK
    event_stream = False

    def __init__(
        self,
        images: Sequence[Image],
        fields: Mapping[str, object],
        reading: Reading,
        *,
        upstream_request_id: str | None = None,
        rate_limits: Mapping[str, str] | None = None,
        missing: int = 0,
        broken: UpstreamFailure | None = None,
    ) -> None:
        self._images = images
        self._pieces = _written(images, fields)
        # Headers are asked for after the body was read and freed, too.
        self.content_length = sum(_length(piece) for piece in self._pieces)
        self._reading = reading
        self.upstream_request_id = upstream_request_id
        self.rate_limits = rate_limits or {}
        self._missing = missing
        self._broken = broken

    @property
    def headers(self) -> Headers:
        """Type and length, and how many images are missing."""
        own = [("content-type", "application/json"), ("content-length", str(self.content_length))]
        return [*own, (MISSING, str(self._missing))] if self._missing else own

    def at_once(self) -> None:
        """Have it read by chunks."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body; raises the failure if there is none."""
        if self._broken is not None:
            raise self._broken
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            async for chunk in encoded(piece.spool.read(0, piece.spool.size)):
                yield chunk

    def reading(self) -> Reading:
        """Return what the provider said of the work; what it cost is known though its images may not be here."""
        return self._reading

    async def aclose(self) -> None:
        """Free memory and temporary files; harmless when repeated."""
        for image in self._images:
            await image.aclose()


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else encoded_length(piece.spool.size)


def _written(images: Sequence[Image], fields: Mapping[str, object]) -> list[Piece]:
    pieces: list[Piece] = [json.dumps(dict(fields), separators=(",", ":"))[:-1].encode() + b',"data":[']
    for number, image in enumerate(images):
        pieces += [b',{"b64_json":"' if number else b'{"b64_json":"', image, b'"}']
    return [*pieces, b"]}"]

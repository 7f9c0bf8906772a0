"""Batch lines: what is written into a file of requests, a line each, and how long it has become."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.domain.errors import Unavailable
from gateway.domain.job import Operation
from gateway.domain.profile import ImageForm, Parameter, Profile, Source
from gateway.domain.settlement import Outcome
from gateway.ports import Rendered
from gateway.ports.provider import Call, ProviderServices, UpstreamFailure
from gateway.ports.storage import StorageUnavailable
from gateway.providers.profiled_body import changed_fields, refuse_misread
from gateway.providers.upstream_json import upstream_json
from gateway.providers.upstream_values import refuse_spooled
from gateway.spool import Spool

IN_MEMORY: Final = 1024 * 1024
_IMAGES = frozenset({"image", "image[]", "images", "image_urls", "mask", "markup"})
_NUMBERS = frozenset({"n", "output_compression", "partial_images"})
_NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)


class Full(Exception):
    """The file has no room for another line."""


@dataclass(slots=True)
class LineFile:
    """A file of lines that grows. A line that could not be written to its end is left out of what is read."""

    endpoint: str
    most_requests: int
    most_bytes: int
    length: int = 0
    lines: int = 0
    _spool: Spool = field(default_factory=lambda: Spool(IN_MEMORY))
    _ranges: list[tuple[int, int]] = field(default_factory=list)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def add(self, custom_id: str, body: Rendered) -> None:
        """Write one line; Full if it does not fit, UpstreamFailure (not sent) if a disk fails it."""
        line = {"custom_id": custom_id, "method": "POST", "url": self.endpoint}
        head, tail = json.dumps(line, separators=(",", ":"))[:-1].encode() + b',"body":', b"}\n"
        async with self._writing:
            if self.lines >= self.most_requests or self.length + len(head) + body.length + len(tail) > self.most_bytes:
                raise Full
            start = self._spool.size
            try:
                await self._write(head)
                async for chunk in body.chunks():
                    await self._write(chunk.replace(b"\n", b" ").replace(b"\r", b" "))  # in JSON no string holds any
                await self._write(tail)
            except Unavailable as error:
                raise UpstreamFailure(Outcome.NOT_SENT, "no_room", "the gateway's disk has no room") from error
            except StorageUnavailable as error:
                raise UpstreamFailure(Outcome.NOT_SENT, "no_room", "the gateway's storage has lost an image") from error
            self._ranges.append((start, self._spool.size))
            self.length += self._spool.size - start
            self.lines += 1

    async def _write(self, chunk: bytes) -> None:
        self._spool.write(chunk)
        await self._spool.drain()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield all lines; may be called again."""
        for start, end in self._ranges:
            async for chunk in self._spool.read(start, end):
                yield chunk

    async def aclose(self) -> None:
        """Free memory and file."""
        await self._spool.aclose()


async def line_body(call: Call, services: ProviderServices, profile: Profile) -> Rendered:
    """Return the JSON that a line carries; `aclose` it once it was written. UpstreamFailure if there is no such form.

    It is what the profile makes of a call of its own, with the model even where a path names it otherwise: lines have
    no path. JSON of the client's goes as it is, with these changes. A form becomes the JSON form of an edit, its images
    as data URLs.
    """
    refuse_misread(profile, call)
    if profile.parameters:
        return await upstream_json(call, profile.parameters, services)
    changes = changed_fields(replace(profile, send_model=True), call)
    fields, renamed = call.body.fields, profile.rename
    as_it_is = call.job.operation is not Operation.EDIT or ("images" in fields and not _IMAGES & renamed.keys())
    if call.body.encoding == "json" and as_it_is:
        return call.body.render(changes)
    if "markup" in fields:
        raise UpstreamFailure(Outcome.NOT_SENT, "unsupported", "a batch takes no markup")
    meant_by = {other: name for name, other in renamed.items()}
    parameters = [
        Parameter(name, Source.CONSTANT, constant=_meant(meant_by.get(name, name), value))
        for name, value in {**fields, **changes}.items()
        if value is not None and name not in _IMAGES
    ]
    for name, source in (("images", Source.IMAGES), ("mask", Source.MASK)):
        parameters.append(Parameter(renamed.get(name, name), source, form=ImageForm.DATA_URL, wrap="image_url"))
    return await upstream_json(call, parameters, services)


def _meant(name: str, value: object) -> object:
    """Return what a form's text says in JSON."""
    refuse_spooled(name, value)
    if name in _NUMBERS and isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    return value == "true" if name == "stream" and isinstance(value, str) else value

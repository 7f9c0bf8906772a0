"""Short JSON bodies that are alike: the same text around another prompt. What one of them is found to be, all are.

A JSON string in the place of another leaves the rest of a document what it is. So a body is read with a marker in the
place of its prompt, and of the next with the same text around it the prompt alone is looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from itertools import count
from types import NoneType
from typing import Literal, Protocol

from gateway.domain.errors import GatewayError
from gateway.domain.random_names import random_hex
from gateway.domain.weighted_cache import WeightedCache
from gateway.ports import Body, Inputs, Rendered, nothing_to_free
from gateway.web.form_fields import IMAGE_URLS
from gateway.web.json_scan import is_plain, sound_inside
from gateway.web.limits import BodyLimits

CONTENT_TYPE = "application/json"
PROMPT = "prompt"

_MARKER = f"prompt-{random_hex()}"
_BEFORE_PROMPT = re.compile(rb'"prompt"[ \t\n\r]*:[ \t\n\r]*"')
_RENDERINGS = 16
"""That are remembered of bodies that are alike, for different routes."""
_LONGEST = 1024
"""Characters that changes may be written with to be remembered."""
_TOLD_APART = frozenset({str, int, NoneType})
"""Of these, values that are equal are written alike."""
_WEIGHT = 4 * 1024
"""Bytes, about, that are remembered of bodies that are alike besides their text."""
_serial = count()

_decoded = json.JSONDecoder().decode


class Specimen(Body, Protocol):
    """A body with a marker for its prompt."""

    def written(self, changes: Mapping[str, object]) -> str:
        """Return it with fields replaced, added or left out."""


class Alike:
    """What bodies are that differ in their prompt alone, by a number of their own."""

    def __init__(self, specimen: Specimen, limits: BodyLimits, before: bytes, after: bytes) -> None:
        self.number = next(_serial)
        self._before, self._after = before, after
        self._start, self._rest = len(before), len(after)
        self.again = False  # most of what is made up of other things than a prompt never comes again
        self.specimen = specimen
        self.fields = specimen.fields
        self.images = specimen.images
        self.mask = specimen.mask
        self.limits = limits
        self._around: dict[Hashable, tuple[bytes, bytes]] = {}

    def another(self, data: bytes, limits: BodyLimits, fingerprint: str | None) -> AlikeBody | None:
        """Return a body that is like this one, with a prompt that has no escapes; None for any other."""
        start, end = self._start, len(data) - self._rest
        if limits is not self.limits or start > end or data[:start] != self._before or data[end:] != self._after:
            return None
        written = data[start:end]
        if not is_plain(written):
            return None
        try:
            prompt = written.decode()
        except UnicodeDecodeError:
            return None
        self.again = True
        return AlikeBody(self, data, prompt, written, fingerprint)

    def around(self, changes: Mapping[str, object]) -> tuple[bytes, bytes]:
        """Return what stands before the prompt and after it, once fields are changed, but not that one."""
        # 1, 1.0 and True are equal, and are not written alike
        key = tuple(changes.items()) if _TOLD_APART.issuperset(map(type, changes.values())) else repr(changes)
        known = self._around.get(key)
        if known is None:
            known = self._written(changes)
            if len(self._around) >= _RENDERINGS:
                self._around.clear()
            if len(repr(changes)) <= _LONGEST:
                self._around[key] = known
        return known

    def _written(self, changes: Mapping[str, object]) -> tuple[bytes, bytes]:
        before, _, after = self.specimen.written(changes).partition(_MARKER)
        return before.encode(), after.encode()


class AlikeBody:
    """Implements `ports.Body` by a body that it is like, and a prompt of its own: as text, and as it was written."""

    encoding: Literal["json"] = "json"
    __slots__ = ("_data", "_written", "alike", "fields", "fingerprint", "images", "likeness", "mask")

    def __init__(self, alike: Alike, data: bytes, prompt: str, written: bytes, fingerprint: str | None) -> None:
        self.likeness = alike.number if alike.again else None
        self.fields: Mapping[str, object] = {**alike.fields, PROMPT: prompt}
        self.images = alike.images
        self.mask = alike.mask
        self.fingerprint = fingerprint
        self.alike = alike
        self._data = data
        self._written = written

    def render(self, changes: Mapping[str, object]) -> Rendered:
        """Return the object with fields replaced, added or left out; without any change, the client's own bytes."""
        if not changes and IMAGE_URLS not in self.fields:
            data = self._data
        elif PROMPT in changes:
            data = self.alike.specimen.written(changes).encode()
        else:
            before, after = self.alike.around(changes)
            data = before + self._written + after
        return Rendered(CONTENT_TYPE, len(data), lambda: _one(data), nothing_to_free, data)

    async def inputs(self) -> Inputs:
        """Return the images it names; InvalidRequest if one of them is none."""
        return await self.alike.specimen.inputs()

    async def aclose(self) -> None:
        """Nothing but memory is held."""


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


_known = WeightedCache(2 * 1024 * 1024)
"""By what stands before the prompt and after it, and the limits that it was read under; bytes, about."""


def find_alike(
    data: bytes, limits: BodyLimits, read: Callable[[bytes, BodyLimits], Specimen], fingerprint: str | None
) -> AlikeBody | None:
    """Return a short body by those that are like it; None for one that has to be read as a whole, or refused.

    `read` reads the first of them and raises GatewayError where it is no body.
    """
    found = _BEFORE_PROMPT.search(data)
    if found is None:
        return None
    start = found.end()
    written = sound_inside(data, start)
    before, after = data[:start], data[start + len(written) :]
    if not after.startswith(b'"'):
        return None
    try:
        prompt = written.decode()
    except UnicodeDecodeError:
        return None
    if "\\" in prompt:
        prompt = _decoded(f'"{prompt}"')
    alike = _known.find((before, after, id(limits)))
    if isinstance(alike, Alike) and alike.limits is limits:
        alike.again = True
    else:
        alike = _first(before, after, limits, read)
    return None if alike is None else AlikeBody(alike, data, prompt, written, fingerprint)


def _first(
    before: bytes, after: bytes, limits: BodyLimits, read: Callable[[bytes, BodyLimits], Specimen]
) -> Alike | None:
    try:
        specimen = read(before + _MARKER.encode() + after, limits)
    except GatewayError:
        return None
    if specimen.fields.get(PROMPT) != _MARKER:
        return None  # what was found stands somewhere else
    alike = Alike(specimen, limits, before, after)
    _known.keep((before, after, id(limits)), alike, len(before) + len(after) + _WEIGHT)
    return alike

"""Upstream JSON: the body that a profile's parameters describe, with images streamed into it as they are sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.base64_stream import encoded, encoded_length
from gateway.domain.profile import ImageForm, Parameter, Source
from gateway.ports import InputImage, Rendered
from gateway.ports.provider import Call, ProviderServices
from gateway.providers.input_images import InputImages, content_of
from gateway.providers.upstream_values import IMAGE_SOURCES, Asked

CONTENT_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Stands in a document for a string of base64, whose bytes are read only while it is sent."""

    prefix: str
    length: int
    content: Callable[[], AsyncIterator[bytes]]


_Piece = bytes | _Encoded


async def upstream_json(
    call: Call, parameters: Sequence[Parameter], services: ProviderServices, *, callback: str | None = None
) -> Rendered:
    """Return the JSON body that the parameters describe; `aclose` it once it was sent.

    `callback` is the URL that the provider may call. UpstreamFailure (not sent, `unsupported`) says in words for the
    caller what of the job this provider has no way to be told; an image that must be fetched and cannot be is such too.
    """
    asked, images = Asked(call, callback), InputImages(call, services)
    document: dict[str, object] = {}
    try:
        for parameter in parameters:
            if not asked.sends(parameter):
                continue
            if parameter.source in IMAGE_SOURCES:
                value = await _images(parameter, images)
            else:
                value = asked.value(parameter)
            if value is not None:
                _put(document, parameter.name, value)
    except BaseException:
        await images.aclose()
        raise
    pieces = _merged(_written(document))
    length = sum(len(piece) if isinstance(piece, bytes) else _length(piece) for piece in pieces)
    return Rendered(CONTENT_TYPE, length, lambda: _chunks(pieces), images.aclose)


async def _images(parameter: Parameter, images: InputImages) -> object:
    """Return what a parameter tells of images: a list, or the one that it names; None if there is none."""
    inputs = await images.every()
    if parameter.source is Source.IMAGES:
        return [await _told(image, parameter, images) for image in inputs.images] or None
    if parameter.source is Source.MASK:
        image = await images.mask()
    else:
        image = inputs.images[parameter.number] if parameter.number < len(inputs.images) else None
    return None if image is None else await _told(image, parameter, images)


async def _told(image: InputImage, parameter: Parameter, images: InputImages) -> object:
    """Return an image in the form and the object that the parameter asks for."""
    value: object
    far = image.url is not None and image.content is None
    if parameter.form is ImageForm.URL or (parameter.form is ImageForm.DATA_URL and far):
        value = await images.url(image)
    else:
        here = await images.here(image)
        prefix = f"data:{here.media_type};base64," if parameter.form is ImageForm.DATA_URL else ""
        value = _Encoded(prefix, here.length, content_of(here))
    if not parameter.wrap:
        return value
    wrapped = dict(parameter.beside)
    _put(wrapped, parameter.wrap, value)
    return wrapped


def _put(document: dict[str, object], path: str, value: object) -> None:
    """Set a value in nested objects, which are made as need be."""
    *outer, last = path.split(".")
    for name in outer:
        inner = document.get(name)
        within: dict[str, object] = dict(inner) if isinstance(inner, Mapping) else {}
        document[name] = within
        document = within
    document[last] = value


def _written(value: object) -> list[_Piece]:
    """Write JSON, leaving out what is to be encoded while it is sent."""
    if isinstance(value, _Encoded):
        return [f'"{value.prefix}'.encode(), value, b'"']
    if isinstance(value, Mapping):
        members = [[json.dumps(name).encode() + b":", *_written(member)] for name, member in value.items()]
        return _between(b"{", members, b"}")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _between(b"[", [_written(item) for item in value], b"]")
    return [json.dumps(value).encode()]


def _between(opening: bytes, items: Sequence[Sequence[_Piece]], closing: bytes) -> list[_Piece]:
    pieces: list[_Piece] = [opening]
    for number, item in enumerate(items):
        pieces += [b",", *item] if number else item
    return [*pieces, closing]


def _merged(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Join bytes that stand beside each other."""
    merged: list[_Piece] = []
    for piece in pieces:
        last = merged[-1] if merged else None
        if isinstance(piece, bytes) and isinstance(last, bytes):
            merged[-1] = last + piece
        else:
            merged.append(piece)
    return merged


def _length(piece: _Encoded) -> int:
    return encoded_length(piece.length)


async def _chunks(pieces: Sequence[_Piece]) -> AsyncIterator[bytes]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        async for chunk in encoded(piece.content()):
            yield chunk

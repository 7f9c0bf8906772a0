"""Upstream form: a multipart body out of any request, for providers that take images as uploads alone."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from gateway.domain.profile import Parameter, Source
from gateway.ports import InputImage, Rendered
from gateway.ports.provider import Call, ProviderServices
from gateway.providers.input_images import InputImages, content_of
from gateway.providers.upstream_values import IMAGE_SOURCES, Asked, refuse_spooled

Names = Mapping[str, str]
"""What the parts `image`, `mask` and `markup` are called, where it is something else."""

_Piece = bytes | tuple[Callable[[], AsyncIterator[bytes]], int]
"""Bytes, or what yields them, and how many."""


async def upstream_form(call: Call, parameters: Sequence[Parameter], services: ProviderServices) -> Rendered:
    """Return the form that the parameters describe, images as uploads; `aclose` it once it was sent.

    UpstreamFailure (not sent, `unsupported`) as `upstream_json` has it. Images named by URL are fetched.
    """
    asked, images = Asked(call), InputImages(call, services)
    fields: list[tuple[str, object]] = []
    files: list[tuple[str, InputImage]] = []
    try:
        for parameter in parameters:
            if not asked.sends(parameter):
                continue
            if parameter.source in IMAGE_SOURCES:
                files += [(parameter.name, await images.here(image)) for image in await _chosen(parameter, images)]
            elif (value := asked.value(parameter)) is not None:
                fields.append((parameter.name, value))
        return _rendered(fields, files, images)
    except BaseException:
        await images.aclose()
        raise


async def form_of_fields(
    call: Call, fields: Mapping[str, object], names: Names, services: ProviderServices
) -> Rendered:
    """Return a form of these fields and of all images that came with the request; `aclose` it once it was sent."""
    images = InputImages(call, services)
    try:
        every = await images.every()
        image = names.get("image", "image[]" if len(every.images) > 1 else "image")
        files = [(image, await images.here(each)) for each in every.images]
        for name, overlay in (("mask", every.mask), ("markup", every.markup)):
            if overlay is not None:
                files.append((names.get(name, name), await images.here(overlay)))
        for name, value in fields.items():
            refuse_spooled(name, value)
        return _rendered([(name, value) for name, value in fields.items() if value is not None], files, images)
    except BaseException:
        await images.aclose()
        raise


async def _chosen(parameter: Parameter, images: InputImages) -> Sequence[InputImage]:
    inputs = await images.every()
    if parameter.source is Source.IMAGES:
        return inputs.images
    if parameter.source is Source.MASK:
        mask = await images.mask()
        return () if mask is None else (mask,)
    return inputs.images[parameter.number : parameter.number + 1]


def _rendered(
    fields: Sequence[tuple[str, object]], files: Sequence[tuple[str, InputImage]], images: InputImages
) -> Rendered:
    boundary = f"image-gateway-{secrets.token_hex(16)}"
    pieces: list[_Piece] = []
    for name, value in fields:
        pieces += [_head(boundary, name), _text(value), b"\r\n"]
    for number, (name, image) in enumerate(files):
        filename = f"image-{number}.{image.media_type.partition('/')[2].partition('+')[0]}"
        pieces += [_head(boundary, name, filename, image.media_type), (content_of(image), image.length), b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    length = sum(len(piece) if isinstance(piece, bytes) else piece[1] for piece in pieces)
    return Rendered(f"multipart/form-data; boundary={boundary}", length, lambda: _chunks(pieces), images.aclose)


def _head(boundary: str, name: str, filename: str | None = None, media_type: str | None = None) -> bytes:
    lines = [f"--{boundary}", f'Content-Disposition: form-data; name="{_quoted(name)}"']
    if filename is not None:
        lines[1] += f'; filename="{filename}"'
        lines.append(f"Content-Type: {media_type}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _quoted(text: str) -> str:
    """Write a name as browsers do (WHATWG, multipart/form-data): what could end it is percent-encoded."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _text(value: object) -> bytes:
    """Write a value as the text of a field."""
    return (value if isinstance(value, str) else json.dumps(value)).encode()


async def _chunks(pieces: Sequence[_Piece]) -> AsyncIterator[bytes]:
    small = bytearray()
    for piece in pieces:
        if isinstance(piece, bytes):
            small += piece
            continue
        yield bytes(small)
        small.clear()
        async for chunk in piece[0]():
            yield chunk
    yield bytes(small)

"""Gemini body: a job as `generateContent` takes it, with images encoded while they are sent.

Wire: `google-genai` 3.4.0 (`types.GenerateContentConfig`, `ImageConfig`). It takes an aspect ratio and an image size,
no pixels, no quality, no mask; images inline. URLs of others are not fetched by it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Final

from gateway.base64_stream import encoded, encoded_length
from gateway.domain.job import Size
from gateway.domain.tiers import Tiers
from gateway.ports import InputImage, Rendered
from gateway.ports.provider import Call, ProviderServices
from gateway.providers.input_images import InputImages, content_of
from gateway.providers.unsupported import unsupported

MAX_REQUEST: Final = 20 * 1024 * 1024
"""Bytes of a whole request, base64 included (the vendor's documented limit for inline data)."""
RATIOS: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
"""What every image model takes; newer ones take more, which their `capabilities.sizes` name."""

_INPUTS: Final = frozenset({"image/png", "image/jpeg", "image/webp"})

Piece = bytes | InputImage


async def gemini_body(call: Call, services: ProviderServices) -> Rendered:
    """Return the body for a job; `aclose` it once it was sent. UpstreamFailure (not sent) if it cannot be told so."""
    images = InputImages(call, services)
    try:
        pieces = await _pieces(call, images)
        length = sum(len(piece) if isinstance(piece, bytes) else encoded_length(piece.length) for piece in pieces)
        if length > MAX_REQUEST:
            most, mega = MAX_REQUEST // 2**20, -(-length // 2**20)
            raise unsupported(
                f"this route takes at most {most} MB in one request, and prompt and images together, encoded, are "
                f"{mega} MB; send smaller images"
            )
    except BaseException:
        await images.aclose()
        raise
    return Rendered("application/json", length, lambda: _chunks(pieces), images.aclose)


async def _pieces(call: Call, images: InputImages) -> list[Piece]:
    inputs = await images.every()
    if inputs.mask is not None or inputs.markup is not None:
        raise unsupported("this route takes no mask")
    prompt = {**call.body.fields, **call.changes}.get("prompt")
    pieces: list[Piece] = [b'{"contents":[{"role":"user","parts":[' + _dumped({"text": prompt})]
    for image in inputs.images:
        here = await images.here(image)
        if here.media_type not in _INPUTS:
            raise unsupported(f"this route takes no input images of type {here.media_type}; send PNG, JPEG or WebP")
        content_of(here)
        head = _dumped({"mimeType": here.media_type})[:-1]
        pieces += [b',{"inlineData":' + head + b',"data":"', here, b'"}}']
    settings = {"responseModalities": ["IMAGE"]} | ({"imageConfig": shape} if (shape := _shape(call)) else {})
    return [*pieces, b']}],"generationConfig":' + _dumped(settings) + b"}"]


def _shape(call: Call) -> dict[str, str]:
    """The ratio and the resolution of the job's size; each left out where it is the provider's choice."""
    size = Size.parse(call.job.size)
    tiers = call.route.model.capabilities.sizes.tiers or Tiers(RATIOS, (("", 2**20),))
    if size is None:
        return {}
    ratio = tiers.ratio_of(size)
    if ratio is None:
        raise unsupported(f"this route takes no size {size}; its ratios are {', '.join(tiers.ratios)}")
    shape = {} if call.job.any_ratio else {"aspectRatio": ratio}
    # A model of one resolution knows no word for it.
    return shape | ({"imageSize": tiers.resolution_of(size)} if len(tiers.resolutions) > 1 else {})


def _dumped(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


async def _chunks(pieces: Sequence[Piece]) -> AsyncIterator[bytes]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        async for chunk in encoded(content_of(piece)()):
            yield chunk

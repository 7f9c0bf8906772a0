"""Input images as a provider takes them: fetched from their URL, or decoded, and looked at."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from PIL import Image

from gateway.sandbox.arrivals import ReceivedFile

MAX_BYTES = 50 * 1024 * 1024
_FORMATS = ("PNG", "JPEG", "WEBP")
_SECONDS = 20
_OK = 200


class Unusable(Exception):
    """An input image that cannot be used. `code` is a word for why, `field` where it was named."""

    def __init__(self, field: str, code: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.code = code


@dataclass(frozen=True, slots=True)
class Source:
    """An input image: width and height in pixels, and what the request list shows of it."""

    width: int
    height: int
    file: ReceivedFile


async def load(field: str, said: str, *, base64_too: bool = False) -> Source:
    """Fetch an http(s) URL, or decode a data URL (or, with `base64_too`, base64 alone); raises Unusable."""
    if said.startswith(("http://", "https://")):
        content, media_type = await _fetch(field, said)
    elif said.startswith("data:"):
        head, _, data = said.partition(",")
        content, media_type = _decode(field, data), head.removeprefix("data:").removesuffix(";base64")
    elif base64_too:
        content, media_type = _decode(field, said), None
    else:
        raise Unusable(field, "file_download_error", f"'{field}' is not a URL.")
    return await asyncio.to_thread(_look_at, field, content, media_type)


def shown(said: object) -> object:
    """Return what the request list shows of a value: long texts that carry images are named by their length."""
    if isinstance(said, str) and (said.startswith("data:") or len(said) > MAX_BYTES // 1024):
        return f"{said[:32].partition(',')[0]},({len(said)} characters)"
    if isinstance(said, list):
        return [shown(item) for item in said]
    if isinstance(said, Mapping):
        return {name: shown(value) for name, value in said.items()}
    return said


async def _fetch(field: str, url: str) -> tuple[bytes, str | None]:
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, max_redirects=3) as response:
            if response.status != _OK:
                raise Unusable(field, "file_download_error", f"Failed to download '{field}': HTTP {response.status}.")
            content = b""
            async for chunk in response.content.iter_chunked(1 << 16):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise Unusable(field, "file_too_large", f"'{field}' is larger than 50 MB.")
            return content, response.headers.get("content-type")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise Unusable(
            field, "file_download_error", f"Failed to download '{field}': {type(error).__name__}."
        ) from error


def _decode(field: str, data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise Unusable(field, "image_load_error", f"'{field}' is not valid base64.") from None


def _look_at(field: str, content: bytes, media_type: str | None) -> Source:
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Unusable(field, "image_load_error", f"'{field}' is not an image that can be read.") from None
    digest = hashlib.sha256(content).hexdigest()
    return Source(width, height, ReceivedFile(field, None, media_type, len(content), digest))

"""Reading a request's body: by its content type, as JSON or as a form."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping

from python_multipart.multipart import parse_options_header

from gateway.domain.errors import UnsupportedMediaType
from gateway.ports import Body
from gateway.web import json_alike, json_body, multipart_body
from gateway.web.limits import BodyLimits

JSON = json_alike.CONTENT_TYPE
FORM = multipart_body.MEDIA_TYPE


_KEPT = BodyLimits()
"""What a body that was taken in once keeps to."""


async def read_body(
    headers: Mapping[str, str],
    chunks: AsyncIterator[bytes],
    *,
    accepted: Collection[str],
    limits: BodyLimits,
    fingerprint: bool = False,
) -> Body:
    """Return the body; UnsupportedMediaType before a byte is read if its type is not among those accepted.

    With `fingerprint` the body's fingerprint is taken while it streams in. Raises what reading JSON, a form and the
    stream may raise; nothing stays behind then.
    """
    encoding = headers.get("content-encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType(
            f"Content-Encoding {encoding.strip().lower()[:40]!r} is not read here; send the body uncompressed.",
            param="Content-Encoding",
        )
    content_type = headers.get("content-type", "")
    if content_type == JSON and JSON in accepted:
        return await json_body.read_json(chunks, limits, fingerprint=fingerprint)
    named, options = _media_type(content_type)
    if named not in accepted:
        found = repr(named[:80]) if named else "missing"
        message = f"Content-Type is {found}; this endpoint reads {' or '.join(accepted)}."
        raise UnsupportedMediaType(message, param="Content-Type")
    return await _read(named, options, chunks, limits, fingerprint=fingerprint)


async def read_kept(content_type: str, chunks: AsyncIterator[bytes]) -> Body:
    """Read a body again that was read and rendered here before; raises what `chunks` raises."""
    named, options = _media_type(content_type)
    return await _read(named, options, chunks, _KEPT)


def _media_type(text: str) -> tuple[str, Mapping[bytes, bytes]]:
    """Return the media type in lower case, and its parameters."""
    media_type, options = parse_options_header(text)
    return media_type.decode("latin-1").lower(), options


async def _read(
    named: str,
    options: Mapping[bytes, bytes],
    chunks: AsyncIterator[bytes],
    limits: BodyLimits,
    *,
    fingerprint: bool = False,
) -> Body:
    if named == FORM:
        return await multipart_body.read_multipart(
            options.get(b"boundary", b""), chunks, limits, fingerprint=fingerprint
        )
    if options.get(b"charset", b"utf-8").decode("latin-1").lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("JSON is read as UTF-8 alone.", param="Content-Type")
    return await json_body.read_json(chunks, limits, fingerprint=fingerprint)

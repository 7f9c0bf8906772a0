"""Reading a request's body: by its content type, as JSON or as a form."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping

from python_multipart.multipart import parse_options_header
from starlette.types import Receive

from gateway.domain.errors import UnsupportedMediaType
from gateway.ports import Body
from gateway.web import json_body, multipart_body
from gateway.web.limits import BodyLimits
from gateway.web.request_stream import body_chunks

JSON = json_body.CONTENT_TYPE
FORM = multipart_body.MEDIA_TYPE


_KEPT = BodyLimits()
"""What a body that was taken in once keeps to."""


async def read_body(
    headers: Mapping[str, str],
    receive: Receive,
    *,
    accepted: Collection[str],
    content_length: int | None,
    limits: BodyLimits,
    fingerprint: bool = False,
) -> Body:
    """Return the body; UnsupportedMediaType before a byte is read if its type is not among those accepted.

    With `fingerprint` the body's fingerprint is taken while it streams in. Raises what reading JSON, a form and the
    stream may raise; nothing stays behind then.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType(
            f"Content-Encoding {encoding[:40]!r} is not read here; send the body uncompressed.",
            param="Content-Encoding",
        )
    media_type, options = parse_options_header(headers.get("content-type", ""))
    named = media_type.decode("latin-1").lower()
    if named not in accepted:
        found = repr(named[:80]) if named else "missing"
        message = f"Content-Type is {found}; this endpoint reads {' or '.join(accepted)}."
        raise UnsupportedMediaType(message, param="Content-Type")
    chunks = body_chunks(receive, content_length, limits)
    return await _read(named, options, chunks, limits, fingerprint=fingerprint)


async def read_kept(content_type: str, chunks: AsyncIterator[bytes]) -> Body:
    """Read a body again that was read and rendered here before; raises what `chunks` raises."""
    media_type, options = parse_options_header(content_type)
    return await _read(media_type.decode("latin-1"), options, chunks, _KEPT)


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
    charset = options.get(b"charset", b"utf-8").decode("latin-1").lower()
    if charset not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("JSON is read as UTF-8 alone.", param="Content-Type")
    return await json_body.read_json(chunks, limits, fingerprint=fingerprint)

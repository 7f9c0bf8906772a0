"""Reading a request's body: by its content type, as JSON or as a form."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping

from python_multipart.multipart import parse_options_header

from gateway.domain.errors import ClientGone, UnsupportedMediaType
from gateway.ports import Body
from gateway.web import json_alike, json_body, multipart_body
from gateway.web.context import RequestContext
from gateway.web.limits import BodyLimits
from gateway.web.request_stream import body_chunks

JSON = json_alike.CONTENT_TYPE
FORM = multipart_body.MEDIA_TYPE

_KEY, _RETRIES = "idempotency-key", "x-stainless-retry-count"
"""Headers by which a client says that it may repeat its request; without one no fingerprint is taken."""
_KEPT = BodyLimits()
"""What a body that was taken in once keeps to."""


async def read_sent(context: RequestContext, accepted: Collection[str], limits: BodyLimits) -> Body:
    """Return the body of a request, and watch its client from then on: it has sent all that is expected.

    A short one that came with its head is not waited for. Raises ClientGone if nobody is there any more, and what
    `read_body` and the stream may raise.
    """
    context.expect_body(limits.total)
    headers = context.headers
    fingerprint = _KEY in headers or _RETRIES in headers
    plain = headers.get("content-type") == JSON and JSON in accepted and "content-encoding" not in headers
    body: Body
    if plain and context.at_hand(limits.short):
        like = context.like
        body = json_body.read_short(context.take(), limits, fingerprint=fingerprint, like=like)
        if isinstance(body, json_alike.AlikeBody) and body.alike is not like:
            context.like = body.alike
    else:
        chunks = body_chunks(context, limits)
        body = await read_body(headers, chunks, accepted=accepted, limits=limits, fingerprint=fingerprint)
    if context.disconnected:  # while its last bytes went to disk; from here to its hold nothing may be waited for
        await body.aclose()
        raise ClientGone("The client hung up right behind its request; nothing was sent.")
    context.watch()
    return body


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
    named, options = _media_type(headers.get("content-type", ""))
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

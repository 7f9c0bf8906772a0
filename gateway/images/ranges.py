"""Ranges: an image sent whole, in part, or not at all to who has it already (RFC 9110, 13 and 14)."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus

from gateway.domain.links import digest_of
from gateway.ports import Headers, Outbound, Truncated
from gateway.ports.storage import Blob, StorageUnavailable

log = logging.getLogger(__name__)

_SAFE = (
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox"),
)
"""What keeps a browser from taking an image for something else, or from running what stands in it."""
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII | re.IGNORECASE)


def image_answer(name: str, blob: Blob, media_type: str, headers: Mapping[str, str], max_age: int) -> Outbound:
    """Return an image as `if-none-match`, `if-range` and `range` ask for it; several ranges are answered by the whole.

    Its tag is the hash of its content, which never changes under its name. `max_age` is seconds.
    """
    tag = f'"{digest_of(name)}"'
    common = [("etag", tag), ("accept-ranges", "bytes"), ("cache-control", f"private, max-age={max_age}, immutable")]
    if _names(headers.get("if-none-match", ""), tag):
        return Outbound(HTTPStatus.NOT_MODIFIED, [*common, *_SAFE], _body(blob, 0, 0))
    found = None
    if headers.get("if-range", tag).strip() == tag:
        found = part_of(headers.get("range", ""), blob.length)
    status, start, end = HTTPStatus.OK, 0, blob.length
    if found is not None:
        status, (start, end) = HTTPStatus.PARTIAL_CONTENT, found
        if start >= end:
            unsatisfied: Headers = [("content-range", f"bytes */{blob.length}"), ("content-length", "0")]
            return Outbound(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, [*unsatisfied, *common], _body(blob, 0, 0))
        common.append(("content-range", f"bytes {start}-{end - 1}/{blob.length}"))
    own = [("content-type", media_type), ("content-length", str(end - start))]
    return Outbound(status, [*own, *common, *_SAFE], _body(blob, start, end))


def part_of(text: str, length: int) -> tuple[int, int] | None:
    """Return the one range that a `Range` header asks for, its end not included; None for the whole.

    A range that leads beyond the end is cut there; one that begins there is empty.
    """
    match = _RANGE.fullmatch("".join(text.split()))
    if match is None or match[0].endswith("=-"):
        return None
    if not match[1]:
        return max(length - int(match[2]), 0), length
    start, last = int(match[1]), int(match[2]) if match[2] else length - 1
    if match[2] and last < start:
        return None
    return (start, min(last + 1, length)) if start < length else (length, length)


def _names(text: str, tag: str) -> bool:
    """Tell whether an `If-None-Match` header names a tag, weak or not."""
    return text.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in text.split(","))


async def _body(blob: Blob, start: int, end: int) -> AsyncIterator[bytes]:
    try:
        async for chunk in blob.chunks(start, end):
            yield chunk
    except StorageUnavailable as error:
        log.warning("an image cannot be read on: %s", error)
        raise Truncated from error

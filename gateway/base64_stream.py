"""Base64 in pieces: images as text in JSON and back, of which no more than a piece is ever in memory."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator

_WHOLE = re.compile(rb"(?:[^\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+")
"""The text of a JSON string up to an escape that is not all there."""
_LONGEST_ESCAPE = len("\\u0000")
_WHITE = b" \t\r\n"
_GROUP = 4
"""Characters of base64 that make whole bytes."""
_BYTES = 3
"""Bytes that a group stands for."""


async def unescaped(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the text of a JSON string without its quotes, cut anywhere; ValueError if an escape is broken."""
    text = b""
    async for chunk in chunks:
        text += chunk
        whole = _WHOLE.match(text)
        cut = whole.end() if whole and len(text) - whole.end() < _LONGEST_ESCAPE else len(text)
        if cut:
            yield _plain(text[:cut])
        text = text[cut:]
    if text:
        yield _plain(text)


async def decoded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what base64 stands for, out of a JSON string without its quotes that is cut anywhere; ValueError if none.

    Escapes, line breaks and missing padding are what some encoders do.
    """
    async for piece in from_base64(unescaped(chunks)):
        yield piece


async def from_base64(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what base64 stands for, cut anywhere; ValueError if it is none. Line breaks are left out."""
    group, ended = b"", False
    async for text in chunks:
        group += text.translate(None, _WHITE)
        usable = len(group) // _GROUP * _GROUP
        if not usable:
            continue
        if ended:
            raise ValueError("something follows the padding")
        yield base64.b64decode(group[:usable], validate=True)
        ended = group[usable - 1 : usable] == b"="
        group = group[usable:]
    if ended and group:
        raise ValueError("something follows the padding")
    yield base64.b64decode(group + b"=" * (-len(group) % _GROUP), validate=True)


async def encoded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the base64 of bytes that are cut anywhere."""
    rest = b""
    async for chunk in chunks:
        data = rest + chunk
        whole = len(data) // _BYTES * _BYTES
        rest = data[whole:]
        if whole:
            yield base64.b64encode(data[:whole])
    if rest:
        yield base64.b64encode(rest)


def encoded_length(length: int) -> int:
    """Return how many characters `length` bytes take."""
    return -(-length // _BYTES) * _GROUP


def _plain(text: bytes) -> bytes:
    if b"\\" in text:
        text = json.loads(b'"' + text + b'"').encode("utf-8")
    return text

"""Text decoding: what an error says, compressed though nobody asked for that, or written in no proper UTF-8."""

from __future__ import annotations

import json
import zlib

from gateway.providers.decompression import EITHER, PACKINGS


def decoded_text(body: bytes, encoding: str, *, limit: int) -> bytes:
    """Return the text of a body, `limit` bytes at most, with what cannot be decoded replaced.

    `encoding` is its `content-encoding`; what is not in it is left as it came.
    """
    if encoding.strip().lower() in PACKINGS:
        try:
            body = zlib.decompressobj(EITHER).decompress(body, limit)
        except zlib.error:
            return body
    return body if body.isascii() else body.decode(json.detect_encoding(body), "replace").encode()

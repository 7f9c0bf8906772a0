"""A fingerprint of a body that is not read, only sent on: the same for a form with another boundary."""

from __future__ import annotations

import hashlib

from python_multipart.multipart import parse_options_header


class RawFingerprint:
    """SHA-256 over the bytes as they come, a form's boundary left out: libraries make another for each repeat."""

    def __init__(self, content_type: str) -> None:
        named, options = parse_options_header(content_type)
        self._boundary = options.get(b"boundary", b"") if named.lower().startswith(b"multipart/") else b""
        self._half = b""
        self._digest = hashlib.sha256()

    def update(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes, cut anywhere."""
        if not self._boundary:
            self._digest.update(chunk)
            return
        text = (self._half + chunk).replace(self._boundary, b"")
        end = max(len(text) - len(self._boundary) + 1, 0)  # from there on a boundary may have begun
        self._digest.update(text[:end])
        self._half = text[end:]

    def hexdigest(self) -> str:
        """Return 64 hex digits that stand for all of it."""
        whole = self._digest.copy()
        whole.update(self._half)
        return whole.hexdigest()

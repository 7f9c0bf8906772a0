"""Fingerprints of bodies, taken while they stream in: the same for another boundary, another for any other change."""

from __future__ import annotations

import hashlib

from python_multipart.multipart import parse_options_header


class FormFingerprint:
    """SHA-256 over the parts of a form in order; each counts with its name, file name, content type and content."""

    def __init__(self) -> None:
        self._parts = hashlib.sha256()
        self._content = hashlib.sha256()

    def begin(self, name: str, filename: str | None, content_type: str | None) -> None:
        """Take note of a part's head."""
        for word in (name, filename, content_type):
            self._parts.update(b"-" if word is None else b"%d:" % len(word.encode()))
            self._parts.update(b"" if word is None else word.encode())
        self._content = hashlib.sha256()

    def update(self, content: bytes | memoryview) -> None:
        """Take some bytes of the part's content."""
        self._content.update(content)

    def end(self) -> None:
        """End the part: its content counts by its own digest, which is always 32 bytes, so that no two forms meet."""
        self._parts.update(self._content.digest())

    def hexdigest(self) -> str:
        """Return 64 hex digits that stand for all parts so far."""
        return self._parts.hexdigest()


class RawFingerprint:
    """SHA-256 over the bytes of a body that is not read, only sent on; without a form's boundary.

    Libraries make another boundary for each repeat.
    """

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

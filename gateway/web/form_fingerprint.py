"""A fingerprint of a form, taken while it streams in: the same for another boundary, another for any other change."""

from __future__ import annotations

import hashlib


class FormFingerprint:
    """SHA-256 over the parts in order; each counts with its name, file name, content type and content."""

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

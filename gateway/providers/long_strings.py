"""Long strings: JSON that goes by is kept with a marker in place of each long string, and where that string lies."""

from __future__ import annotations

import json
import secrets
from typing import Final

from gateway.providers.elide import closing_quote
from gateway.providers.reading import MOST_KEPT

LONGEST: Final = 1024
"""Bytes of a string, as written, that are still kept."""


class LongStrings:
    """Feed it a JSON document in chunks, cut anywhere. It checks nothing before `document` is asked for."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._held = bytearray()
        self._places: list[tuple[int, int]] = []
        self._prefix = f"long-{secrets.token_hex(8)}-"
        self._offset = 0
        self._start = 0
        self._inside = False
        self._long = False
        self._escaped = False
        self._too_long = False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the document."""
        at = 0
        while at < len(chunk) and not self._too_long:
            at = self._within(chunk, at) if self._inside else self._between(chunk, at)
            self._too_long = len(self._kept) > MOST_KEPT
        self._offset += len(chunk)

    def _between(self, chunk: bytes, at: int) -> int:
        quote = chunk.find(b'"', at)
        end = len(chunk) if quote < 0 else quote + 1
        self._kept += chunk[at:end]
        if quote >= 0:
            self._inside, self._start = True, self._offset + end
        return end

    def _within(self, chunk: bytes, at: int) -> int:
        quote, self._escaped = closing_quote(chunk, at, len(chunk), escaped=self._escaped)
        end = len(chunk) if quote < 0 else quote
        self._long = self._long or len(self._held) + end - at > LONGEST
        if not self._long:
            self._held += chunk[at:end]
        if quote < 0:
            return end
        if self._long:
            self._held = bytearray(f"{self._prefix}{len(self._places)}".encode())
            self._places.append((self._start, self._offset + quote))
        self._kept += self._held + b'"'
        self._held = bytearray()
        self._inside = self._long = self._escaped = False
        return end + 1

    def document(self) -> object:
        """Return the document, markers in place of long strings; None if it is too long without them, or no JSON."""
        if self._too_long or self._inside:
            return None
        try:
            return json.loads(self._kept)
        except (ValueError, RecursionError):
            return None

    def place(self, text: str) -> tuple[int, int] | None:
        """Return where in the document the text of a long string begins and ends; None if this is no marker."""
        number = text.removeprefix(self._prefix)
        return self._places[int(number)] if number != text else None

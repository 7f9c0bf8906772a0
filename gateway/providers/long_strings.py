"""Long strings: JSON that goes by is kept with a marker in place of each long string, and where that string lies."""

from __future__ import annotations

import json
import secrets

from gateway.providers.elide import Elider
from gateway.providers.reading import MOST_KEPT


class LongStrings(Elider):
    """An elider that keeps its copy, and where each string lies that it left out."""

    def __init__(self) -> None:
        super().__init__()
        self._copy = bytearray()
        self._places: list[tuple[int, int]] = []
        self._prefix = f"long-{secrets.token_hex(8)}-"
        self._offset = 0
        self._start: int | None = None
        self._end = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the document, cut anywhere, and return what they add to the copy."""
        added = b""
        if len(self._copy) <= MOST_KEPT:
            added = super().feed(chunk)
            self._copy += added
        self._offset += len(chunk)
        return added

    def _hold(self, chunk: bytes, at: int, stop: int) -> None:
        if self._start is None:
            self._start = self._offset + at
        self._end = self._offset + stop
        super()._hold(chunk, at, stop)

    def _close(self, out: list[bytes]) -> None:
        super()._close(out)
        self._start = None

    def _marker(self) -> bytes:
        assert self._start is not None
        self._places.append((self._start, self._end))
        return f"{self._prefix}{len(self._places) - 1}".encode()

    def document(self) -> object:
        """Return the document, markers in place of long strings; None if it is too long without them, or no JSON."""
        if len(self._copy) > MOST_KEPT or self._inside:
            return None
        try:
            return json.loads(self._copy)
        except (ValueError, RecursionError):
            return None

    def place(self, text: str) -> tuple[int, int] | None:
        """Return where in the document the text of a long string begins and ends; None if this is no marker."""
        number = text.removeprefix(self._prefix)
        return self._places[int(number)] if number != text else None

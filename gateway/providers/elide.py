"""Elide: let JSON go by and keep a copy of it without its long strings, so that an image is never parsed or copied."""

from __future__ import annotations

import re
from functools import lru_cache

LONGEST = 1024
"""Bytes of a string, as written, that are still kept."""

ELIDED = b"(elided)"
"""What stands in the copy for the content of a longer string; not empty, so that it differs from an empty string."""

_BACKSLASH = ord("\\")


@lru_cache(16)
def _kept(longest: int) -> re.Pattern[bytes]:
    """Return a pattern for all up to the next string that cannot be kept as it stands there."""
    # No possessive group: Python before 3.11.5 takes too much by one.
    return re.compile(rb'(?:[^"]*"[^"\\]{0,%d}")*[^"]*' % longest)


class Elider:
    """Reads JSON in chunks cut anywhere, and returns the same JSON with long strings replaced by `ELIDED`.

    With `lines`, the text is lines that hold JSON (server-sent events): a newline ends any string left open, since
    JSON never holds a raw newline inside one. Between calls it keeps at most `longest` bytes. It checks nothing: what
    was not JSON comes out as something else that is not JSON.
    """

    def __init__(self, *, longest: int = LONGEST, lines: bool = False) -> None:
        self._longest = longest
        self._kept = _kept(longest)
        self._lines = lines
        self._inside = False
        self._long = False
        self._escaped = False
        self._held = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """Return what of the copy is settled by this chunk; a string comes out once it has ended."""
        if self._long and b'"' not in chunk and chunk[-1:] != b"\\" and not (self._lines and b"\n" in chunk):
            self._escaped = self._escaped and not chunk
            return b""  # in the midst of a long string, as nearly all of an image is
        out: list[bytes] = []
        if self._lines:
            self._scan_lines(chunk, out)
        else:
            self._scan(chunk, 0, len(chunk), out)
        return b"".join(out)

    def _scan_lines(self, chunk: bytes, out: list[bytes]) -> None:
        at = 0
        while at < len(chunk):
            newline = chunk.find(b"\n", at)
            stop = len(chunk) if newline < 0 else newline
            self._scan(chunk, at, stop, out)
            if newline >= 0:
                if self._inside:
                    self._close(out)
                out.append(b"\n")
            at = stop + 1

    def _scan(self, chunk: bytes, at: int, end: int, out: list[bytes]) -> None:
        while at < end:
            if not self._inside:
                kept = self._kept.match(chunk, at, end)
                stop = at if kept is None else kept.end()
                self._inside = stop < end  # at a string that is long, cut, or has escapes
                stop += self._inside
                out.append(chunk[at:stop])
                at = stop
                continue
            quote, self._escaped = closing_quote(chunk, at, end, escaped=self._escaped)
            stop = end if quote < 0 else quote
            self._hold(chunk, at, stop)
            if quote >= 0:
                self._close(out)
                out.append(b'"')
            at = stop + 1

    def _hold(self, chunk: bytes, at: int, stop: int) -> None:
        if self._long:
            return
        if len(self._held) + stop - at > self._longest:
            self._long = True
            self._held.clear()
        else:
            self._held += chunk[at:stop]

    def _close(self, out: list[bytes]) -> None:
        out.append(self._marker() if self._long else bytes(self._held))
        self._held.clear()
        self._inside = self._long = self._escaped = False

    def _marker(self) -> bytes:
        return ELIDED


def closing_quote(chunk: bytes, at: int, end: int, *, escaped: bool) -> tuple[int, bool]:
    """Find the quote that ends the string open at `at`, whose first byte may be escaped.

    Returns its place, -1 if it is not before `end`, and whether the byte at `end` is escaped then.
    """
    at += escaped
    while True:
        quote = chunk.find(b'"', at, end)
        odd = _backslashes_before(chunk, at, end if quote < 0 else quote) % 2 == 1
        if quote < 0:
            return -1, odd
        if not odd:
            return quote, False
        at = quote + 1


def _backslashes_before(chunk: bytes, start: int, end: int) -> int:
    """Count the backslashes in a row that end at `end`, no further back than `start`."""
    at = end
    while at > start and chunk[at - 1] == _BACKSLASH:
        at -= 1
    return end - at if end > start else 0

"""Stream end: the `[DONE]` that some providers' streams end with, taken off as it goes by.

SDKs stop reading there, and do without it: what follows would be lost. Whether an error must is known only at the end.
"""

from __future__ import annotations

import re
from typing import Final

_MARK: Final = b"data:[DONE]"
_LONGEST: Final = 24
"""Bytes of it as it is written, with a space and line ends."""
_WITH_ITS_END: Final = re.compile(rb"(?<=[\r\n])data: ?\[DONE\](?:\r\n|\n|\r(?!\n|\Z)){2}")


class StreamEnd:
    """Holds back what may be the mark, or its beginning, until it is known to be something else."""

    def __init__(self) -> None:
        self._held = b""
        self._at_line = True

    def without(self, chunk: bytes) -> bytes:
        """Take the next bytes, and return what may go on by now."""
        if self._held:
            chunk, self._held, self._at_line = self._held + chunk, b"", True
        if b"[DONE]" in chunk:
            chunk = self._cleared(chunk)
        self._at_line = chunk.endswith((b"\n", b"\r")) if chunk else self._at_line
        tail = chunk[-_LONGEST:]
        text = tail.rstrip(b"\r\n")
        start = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        line = text[start:].replace(b" ", b"", 1)
        if not line or not (_MARK.startswith(line) if len(text) == len(tail) else line == _MARK):
            return chunk
        self._held = tail[start:]
        return chunk[: -len(self._held)]

    def _cleared(self, chunk: bytes) -> bytes:
        """Return the bytes without any mark whose empty line is in: more may follow it, be it a comment."""
        before = b"\n" if self._at_line else b""
        cleared, marks = _WITH_ITS_END.subn(b"", before + chunk)
        return cleared[len(before) :] if marks else chunk

    def left(self) -> bytes:
        """Return what goes on at the stream's end: what was held back and is not the mark."""
        return b"" if self._held.rstrip(b"\r\n").replace(b" ", b"", 1) == _MARK else self._held

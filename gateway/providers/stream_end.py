"""Stream end: the `[DONE]` that some providers' streams end with, taken off as it goes by.

SDKs stop reading there, and do without it: what follows would be lost. Whether an error must is known only at the end.
"""

from __future__ import annotations

import re
from typing import Final

_MARK: Final = b"data:[DONE]"
_LONGEST: Final = 24
"""Bytes of it as it is written, with a space, blanks behind it, which readers pass over, and line ends."""
_LINE: Final = re.compile(rb"data: ?\[DONE\][ \t]{0,8}[\r\n]*")
_WITH_ITS_END: Final = re.compile(rb"(?<=[\r\n])data: ?\[DONE\][ \t]{0,8}(?:\r\n|\n|\r(?!\n|\Z)){2}")


class StreamEnd:
    """Holds back what may be the mark, or its beginning, until it is known to be something else."""

    def __init__(self) -> None:
        self._held = b""
        self._at_line = True

    def without(self, chunk: bytes, *, last: bool = False) -> bytes:
        """Take the next bytes, and return what may go on by now; with `last` the mark is in, and all before it may."""
        if self._held:
            chunk, self._held, self._at_line = self._held + chunk, b"", True
        if b"[DONE]" in chunk:
            chunk = self._cleared(chunk, last=last)
        self._at_line = chunk.endswith((b"\n", b"\r")) if chunk else self._at_line
        tail = chunk[-_LONGEST:]
        text = tail.rstrip(b"\r\n")
        start = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        line = text[start:].replace(b" ", b"", 1)
        begun = line and len(text) == len(tail) and _MARK.startswith(line)
        if not begun and _LINE.fullmatch(tail, start) is None:
            return chunk
        self._held = tail[start:]
        return chunk[: -len(self._held)]

    def _cleared(self, chunk: bytes, *, last: bool) -> bytes:
        """Return the bytes without any mark whose empty line is in: more may follow it, be it a comment."""
        before = b"\n" if self._at_line else b""
        text = before + chunk
        if last:
            text = text[: max((mark.end() for mark in _WITH_ITS_END.finditer(text)), default=len(text))]
        cleared, marks = _WITH_ITS_END.subn(b"", text)
        return cleared[len(before) :] if marks else chunk

    def left(self) -> bytes:
        """Return what goes on at the stream's end: what was held back and is not the mark."""
        return b"" if _LINE.fullmatch(self._held) else self._held

"""Stream end: the `[DONE]` that some providers' streams end with, taken off as it goes by.

SDKs stop reading there, and do without it. Whether an error must follow is known only once all is read.
"""

from __future__ import annotations

from typing import Final

_MARK: Final = b"data:[DONE]"
_LONGEST: Final = 24
"""Bytes of it as it is written, with a space and line ends."""


class StreamEnd:
    """Holds back what may be the mark, or its beginning, until it is known to be something else."""

    def __init__(self) -> None:
        self._held = b""

    def without(self, chunk: bytes) -> bytes:
        """Take the next bytes, and return what may go on by now."""
        if self._held:
            chunk, self._held = self._held + chunk, b""
        tail = chunk[-_LONGEST:]
        text = tail.rstrip(b"\r\n")
        start = text.rfind(b"\n") + 1
        line = text[start:].replace(b" ", b"", 1)
        if not line or not (_MARK.startswith(line) if len(text) == len(tail) else line == _MARK):
            return chunk
        self._held = tail[start:]
        return chunk[: -len(self._held)]

    def left(self) -> bytes:
        """Return what goes on at the stream's end: what was held back and is not the mark."""
        return b"" if self._held.rstrip(b"\r\n").replace(b" ", b"", 1) == _MARK else self._held

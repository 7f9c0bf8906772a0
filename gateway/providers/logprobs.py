"""Logprobs: JSON that goes by is kept without its long strings, and without what each word might have been instead.

A text model lists up to twenty alternatives a token (`logprobs`, `top_logprobs`): thousands of bytes a word, which say
nothing of cost.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.providers.elide import Elider

_NAMES: Final = (b'"logprobs"', b'"top_logprobs"')
_END: Final = b'logprobs"'
_OPEN: Final = (b"[", b"{")
_CLOSED: Final = (b"]", b"}")
_TOKEN: Final = re.compile(rb'"[^"\\\n]*(?:\\.[^"\\\n]*)*"?|[\[\]{}\n]')


class WithoutLogprobs(Elider):
    """An elider that also empties the lists of these names, however deep they lie."""

    def __init__(self, *, lines: bool = False) -> None:
        super().__init__(lines=lines)
        self._depth = 0
        self._named = False

    def feed(self, chunk: bytes) -> bytes:
        """Return what of the copy is settled by this chunk; a string comes out once it has ended."""
        text = (b'"' if self._inside else b"") + super().feed(chunk)
        if self._inside:
            text = text[:-1]  # its opening quote, which waits for the rest
        if self._depth or self._named or _END in text:
            return self._without(text)
        return text

    def _without(self, text: bytes) -> bytes:
        out, at = [], 0
        for token in _TOKEN.finditer(text):
            mark = token[0]
            if mark == b"\n":
                if self._lines and self._depth:  # whatever is open there ends with its line, as strings do
                    self._depth, at = 0, token.start()
                continue
            if self._depth:
                self._depth += (mark in _OPEN) - (mark in _CLOSED)
                at = token.start() if not self._depth else at
            elif self._named and mark == b"[":
                out.append(text[at : token.end()])
                self._depth = 1
            self._named = mark in _NAMES
        if not self._depth:
            out.append(text[at:])
        return b"".join(out)

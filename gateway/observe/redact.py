"""Keeps secrets, images and endless texts out of log lines."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Final

MASK = "***"
MAX_CHARS = 4_000
"""The longest string in a log line, in characters; enough for the end of a traceback."""

_WORDS: Final = 1024
WORD_CHARS: Final = 48
"""Of short strings, names of routes and the like, so many are remembered: nearly all of them come again and again."""
_MIN_SECRET = 6
_SECRET = re.compile(
    r"""
      \bBearer(?:\s|\\[tnr]|%20)+[^\s"',;]+                         # a credential with its scheme
    | \b(?:x-)?(?:api[-_]?key|authorization)["']?\s*[:=]\s*["']?(?:(?:Basic|Key|Token)\s+)?[^\s"',;}&]+
    | (?<![A-Za-z0-9])(?:igw|sk)[_-][A-Za-z0-9_-]{4,}               # a key by its prefix, ours or a provider's
    | (?<![A-Za-z0-9])whsec_[A-Za-z0-9+/_-]{4,}={0,2}               # what callbacks are signed with
    """,
    re.VERBOSE | re.IGNORECASE,
)
_IMAGE = re.compile(r"(?:data:image/[\w.+-]+;base64,)?[A-Za-z0-9+/_-]{256,}={0,2}|data:image/[^\s\"']+")


class Redactor:
    """Masks what looks like a credential, the `secrets` given word for word, and image data."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._words: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these too from now on."""
        self._secrets |= {secret for secret in secrets if len(secret) >= _MIN_SECRET}
        # Longest first, so that no secret is left over from a shorter one inside it.
        words = sorted(self._secrets, key=len, reverse=True)
        self._words = re.compile("|".join(map(re.escape, words))) if words else None
        self._known = lru_cache(_WORDS)(self._masked)
        self.quoted_word = lru_cache(_WORDS)(self._quoted)

    def text(self, text: str) -> str:
        """Return the text, masked and at most `MAX_CHARS` long; of a longer one the beginning and the end."""
        return self._known(text) if len(text) <= WORD_CHARS else self._masked(text)

    def quoted(self, text: str) -> str:
        """Return the text as `text` does, as a JSON string in which all beyond ASCII is escaped."""
        return self.quoted_word(text) if len(text) <= WORD_CHARS else self._quoted(text)

    def _quoted(self, text: str) -> str:
        return encode_basestring_ascii(self._masked(text))

    def _masked(self, text: str) -> str:
        if self._words is not None:
            text = self._words.sub(MASK, text)
        text = _SECRET.sub(MASK, text)
        if len(text) > _MIN_SECRET:
            text = _IMAGE.sub("[image]", text)
        if len(text) > MAX_CHARS:
            half = MAX_CHARS // 2
            text = f"{text[:half]} … {text[-half:]}"
        return text

    def value(self, value: object) -> object:
        """Return a JSON value with every string in it masked; anything that JSON lacks becomes its masked text."""
        if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
            return value
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        return self.text(str(value))

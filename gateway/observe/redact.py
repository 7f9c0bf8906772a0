"""Keeps secrets, images and endless texts out of log lines."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

MASK = "***"
MAX_CHARS = 4_000
"""The longest string in a log line, in characters; enough for the end of a traceback."""

_MIN_SECRET = 6
_SECRET = re.compile(
    r"""
      \bBearer(?:\s|\\[tnr]|%20)+[^\s"',;]+                         # a credential with its scheme
    | \b(?:x-)?(?:api[-_]?key|authorization)["']?\s*[:=]\s*["']?(?:(?:Basic|Key|Token)\s+)?[^\s"',;}&]+
    | (?<![A-Za-z0-9])(?:igw|sk)[_-][A-Za-z0-9_-]{4,}               # a key by its prefix, ours or a provider's
    """,
    re.VERBOSE | re.IGNORECASE,
)
_IMAGE = re.compile(r"(?:data:image/[\w.+-]+;base64,)?[A-Za-z0-9+/_-]{256,}={0,2}|data:image/[^\s\"']+")


class Redactor:
    """Masks what looks like a credential, the `secrets` given word for word, and image data."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, so that no secret is left over from a shorter one inside it.
        words = sorted({secret for secret in secrets if len(secret) >= _MIN_SECRET}, key=len, reverse=True)
        self._words = re.compile("|".join(map(re.escape, words))) if words else None

    def text(self, text: str) -> str:
        """Return the text, masked and at most `MAX_CHARS` long; of a longer one the beginning and the end."""
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

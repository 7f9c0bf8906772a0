"""Values as JSON in which every string is masked; a line of a log has some thirty, so each takes few steps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Mapping
from typing import Final

from gateway.observe.redact import WORD_CHARS, Redactor

_encode = json.JSONEncoder(separators=(",", ":")).encode
_NAMES: Final = 1_000
"""Names of fields are words of the code; no more of them than this are kept, whatever is logged."""


class MaskedJson:
    """Writes JSON, all beyond ASCII escaped, as the redactor lets it be written."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._names = _Names()

    def name(self, name: str) -> str:
        """Return a word of the code as a JSON string, unmasked."""
        return self._names[name]

    def text(self, text: str) -> str:
        """Return a text as a masked JSON string."""
        return self._redactor.quoted(text)

    @property
    def word(self) -> Callable[[str], str]:
        """What returns a text as `text` does, for those that come again and again."""
        return self._redactor.quoted_word

    def value(self, value: object) -> str:
        """Return any value as masked JSON."""
        return _encode(self._redactor.value(value)) if value != {} else "{}"

    def members(self, fields: Mapping[object, object], without: Container[object]) -> list[str]:
        """Return each field as a member of an object, but for those named in `without`."""
        names, short = self._names, self._redactor.quoted_word
        members = []
        for name, value in fields.items():
            if name in without:
                continue
            kind = type(value)
            if kind is str:
                written = short(value) if len(value) <= WORD_CHARS else self.text(value)  # type: ignore[arg-type]  # it is one
            elif kind is int:
                written = f"{value}"
            elif kind is bool:
                written = "true" if value else "false"
            elif value is None:
                written = "null"
            elif kind is float and -math.inf < value < math.inf:  # type: ignore[operator]  # it is a number
                written = f"{value!r}"
            elif kind is dict and not value:
                written = "{}"
            else:
                written = _encode(self._redactor.value(value))
            members.append(f"{names[name]}:{written}")
        return members


class _Names(dict[object, str]):
    """Names as JSON strings, made once."""

    def __missing__(self, name: object) -> str:
        quoted = _encode(str(name))
        if len(self) < _NAMES:
            self[name] = quoted
        return quoted

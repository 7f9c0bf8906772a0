"""Log lines for people: what the JSON lines say, in less room."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import lru_cache

from gateway.observe.redact import Redactor


class TextFormatter(logging.Formatter):
    """One line a record: time (UTC), level, logger, event, then `name=value` of every field that is not empty.

    Control characters are escaped, so that nothing a client sends makes a line of its own; a traceback, too, is one
    field.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        words = [timestamp(record.created), record.levelname.lower(), record.name, self._shown(record.getMessage())]
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            kept = ((name, value) for name, value in fields.items() if value not in (None, "", {}, False))
            words += [f"{name}={self._shown(value)}" for name, value in kept]
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            words.append(f"exception={self._shown(record.exc_text)}")
        return " ".join(words)

    def _shown(self, value: object) -> str:
        text = str(self._redactor.value(value))
        return text if text.isprintable() and text.isascii() else ascii(text)


def timestamp(seconds: float) -> str:
    """Return Unix seconds as RFC 3339 has them, in UTC, to the millisecond."""
    microseconds = round(seconds * 1_000_000)
    return f"{_second(microseconds // 1_000_000)}.{str(1_000 + microseconds // 1_000 % 1_000)[1:]}Z"


@lru_cache(2)
def _second(whole: int) -> str:
    """Return a second; many lines fall into one."""
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")

"""Fields: what an answer's headers say of where its body ends, and of how long its connection is kept."""

from __future__ import annotations

import re
from math import inf
from typing import NamedTuple

Fields = list[tuple[bytes, bytes]]

_MARGIN = 1.0
"""Seconds before the server hangs up, by its own word, from which on nothing is begun any more."""
_TIMEOUT = re.compile(rb"(?:^|[,\s])timeout=(\d{1,6})(?!\d)", re.IGNORECASE)


class Framing(NamedTuple):
    """`length` of the body in bytes, None if not said; `coding` of its transfer, empty if none.

    `idle` is how many seconds the connection may be idle and be used again.
    """

    length: int | None
    coding: bytes
    idle: float


def framing_of(fields: Fields) -> Framing:
    """Read it; a server that says nothing of idle connections keeps them for ever."""
    length, coding, idle = None, b"", inf
    for name, value in fields:
        lowered = name.lower()
        if lowered == b"content-length":
            length = int(value)
        elif lowered == b"transfer-encoding":
            coding = b"%s,%s" % (coding, value) if coding else value
        elif lowered == b"keep-alive" and (told := _TIMEOUT.search(value)) is not None:
            idle = int(told[1]) - _MARGIN
    return Framing(length, coding, idle)

"""Fields: an answer's headers, and what they say of where its body ends and of how long its connection is kept."""

from __future__ import annotations

import re
from math import inf
from typing import NamedTuple

Fields = list[tuple[str, str]]
"""Names in lower case, each byte a character (latin-1)."""

MAX_HEADER_FIELDS = 200

_MARGIN = 1.0
"""Seconds before the server hangs up, by its own word, from which on nothing is begun any more."""
_TIMEOUT = re.compile(r"(?:^|[,\s])timeout=([0-9]{1,6})(?![0-9])", re.IGNORECASE)

_MOST_PLAIN = 4096
"""Bytes of a head that is read here."""
_STATUS = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) (?! )[ -~]+(?<! )")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): (?! )([ -~]+)(?<! )")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_BODYLESS = (204, 304)
_TELLING = frozenset(
    {"content-length", "keep-alive", "connection", "proxy-connection", "transfer-encoding", "trailer", "upgrade"}
)
_ALONE = frozenset({"content-length"})
"""What most heads have of these."""
_NAMES_KEPT = 1024
_LINES_KEPT = 1024
_LONGEST_KEPT = 256
"""Bytes of a line that is remembered."""


class _Lowered(dict[str, str]):
    """Names in lower case by how they are written: servers say the same few again and again."""

    def __missing__(self, name: str) -> str:
        lowered = name.lower()
        if len(self) < _NAMES_KEPT:
            self[name] = lowered
        return lowered


lowered = _Lowered()


class _Statuses(dict[bytes, int | None]):
    """What a plain first line says, by how it is written; None for any other."""

    def __missing__(self, line: bytes) -> int | None:
        found = _STATUS.fullmatch(line)
        status = None if found is None else int(found[1])
        if len(self) < _NAMES_KEPT and len(line) <= _LONGEST_KEPT:
            self[line] = status
        return status


_NOT_PLAIN = ("", "")


class _Lines(dict[bytes, tuple[str, str]]):
    """What a plain line says, by how it is written: servers say most of them again and again. Others have no name."""

    def __missing__(self, line: bytes) -> tuple[str, str]:
        found = _FIELD.fullmatch(line)
        field = _NOT_PLAIN if found is None else (lowered[found[1].decode("ascii")], found[2].decode("ascii"))
        if len(line) <= _LONGEST_KEPT:
            if len(self) >= _LINES_KEPT:
                self.clear()  # of those said once alone; the others soon come again
            self[line] = field
        return field


_statuses = _Statuses()
_lines = _Lines()


class Framing(NamedTuple):
    """`length` of the body in bytes, None if not said; `coding` of its transfer, empty if none.

    `idle` is how many seconds the connection may be idle and be used again.
    """

    length: int | None
    coding: str
    idle: float


def framing_of(fields: Fields) -> Framing:
    """Read it; a server that says nothing of idle connections keeps them for ever."""
    length, coding, idle = None, "", inf
    for name, value in fields:
        if name == "content-length":
            length = int(value)
        elif name == "transfer-encoding":
            coding = f"{coding},{value}" if coding else value
        elif name == "keep-alive":
            idle = min(idle, _idle(value))
    return Framing(length, coding, idle)


def _idle(value: str) -> float:
    told = _TIMEOUT.search(value)
    return inf if told is None else int(told[1]) - _MARGIN


def by_name(fields: Fields) -> dict[str, str]:
    """Return the value of each header; those of one that is there several times together (RFC 9110, 5.3)."""
    named: dict[str, str] = {}
    for name, value in fields:
        named[name] = f"{named[name]}, {value}" if name in named else value
    return named


def plain_head(data: bytes) -> tuple[int, Fields, int, float, int, dict[str, str]] | None:
    """Return what a whole head says that leaves nothing to doubt, and None for any other: the parser is to judge it.

    It is the status, the headers, the body's length, the seconds that the connection may be idle, how many bytes the
    head has, and the headers `by_name`. Its body has a length and no coding, and the connection goes on after it.
    """
    end = data.find(b"\r\n\r\n", 0, _MOST_PLAIN)
    first, *lines = data[: max(end, 0)].split(b"\r\n")
    status = _statuses[first]
    if status is None or status in _BODYLESS:
        return None
    fields = [*map(_lines.__getitem__, lines)]
    named, count = dict(fields), len(fields)
    telling, idle = _TELLING.intersection(named), inf
    if len(named) < count:
        if sum(name in _TELLING for name, _ in fields) > len(telling):
            return None
        named = by_name(fields)
    if telling != _ALONE:
        for name in telling - _ALONE:
            if name == "keep-alive":
                idle = _idle(named[name])
            elif name != "connection" or named[name].lower() != "keep-alive":
                return None
    length = named.get("content-length", "")
    if "" in named or count > MAX_HEADER_FIELDS or not _LENGTH.fullmatch(length):
        return None
    return status, fields, int(length), idle, end + len(b"\r\n\r\n"), named

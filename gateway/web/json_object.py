"""Strict JSON: one object, no key twice, finite numbers; and where in the text each of its members stands."""

from __future__ import annotations

import json
import math
import re
from functools import partial
from typing import Any, NamedTuple

from gateway.domain.errors import InvalidRequest
from gateway.web.json_scan import Scanner, invalid_json

_BLANK = re.compile(r"[ \t\n\r]*")
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_NEXT = re.compile(r"[ \t\n\r]*([,}])[ \t\n\r]*")
_FLAT = re.compile(r'("[^"]*")[ \t\n\r]*:[ \t\n\r]*("[^"]*"|[^",}\s]+)')
"""A member of an object that is sound and has neither nested values nor escapes."""


class Member(NamedTuple):
    """A top-level member: its name, its decoded value, and both as they were written."""

    name: str
    value: object
    written_name: str
    written_value: str


def read_object(scanner: Scanner) -> list[Member]:
    """Return the members of the object that the scanner read, in order; InvalidRequest if it is not strict JSON."""
    text = scanner.finish()
    return (None if scanner.long_strings else _flat(text)) or _Reader(scanner, text).read()


def _flat(text: str) -> list[Member] | None:
    """Return the members of an object without nested values and escapes; None for all else, and what is wrong."""
    if "\\" in text or "[" in text or text.count("{") != 1:
        return None
    try:
        value = _PLAIN.decode(text)
    except ValueError:
        return None
    written = _FLAT.findall(text)
    if not isinstance(value, dict) or len(value) != len(written):  # a key that occurs twice
        return None
    return [Member(name, each, *texts) for (name, each), texts in zip(value.items(), written, strict=True)]


class _Reader:
    def __init__(self, scanner: Scanner, text: str) -> None:
        self._scanner = scanner
        self._text = text
        self._pairs = partial(_distinct, scanner.marker_prefix)  # of no instance, which would be garbage to look for
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._pairs, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )

    def read(self) -> list[Member]:
        position = self._blank(0)
        if position == len(self._text):
            raise invalid_json("it is empty", "Send an object such as {}.")
        if self._text[position] != "{":
            raise invalid_json("it is not an object", 'Send {"name": value, …} at the top.')
        members: list[Member] = []
        position = self._blank(position + 1)
        if self._text.startswith("}", position):
            return self._end(position + 1, members)
        while True:
            member, position = self._member(position)
            members.append(member)
            following = _NEXT.match(self._text, position)
            if following is None:
                raise self._missing(self._blank(position), "a comma or the closing brace")
            position = following.end()
            if following[1] == "}":
                return self._end(position, members)

    def _member(self, position: int) -> tuple[Member, int]:
        if not self._text.startswith('"', position):
            raise self._missing(position, "a name in double quotes")
        name, after_name = self._decode(position)
        colon = _COLON.match(self._text, after_name)
        if colon is None:
            raise self._missing(self._blank(after_name), "a colon")
        value_start = colon.end()
        value, end = self._decode(value_start)
        return Member(str(name), value, self._text[position:after_name], self._text[value_start:end]), end

    def _decode(self, position: int) -> tuple[Any, int]:
        try:
            return self._decoder.raw_decode(self._text, position)
        except json.JSONDecodeError as error:
            problem = f"{error.msg.lower()} at byte {self._byte(error.pos)}"
            raise invalid_json(problem, "Check the quotes, commas and brackets before it.") from error

    def _end(self, position: int, members: list[Member]) -> list[Member]:
        rest = self._blank(position)
        if rest != len(self._text):
            raise invalid_json(f"something follows the object at byte {self._byte(rest)}", "Send one object alone.")
        self._pairs([(member.name, member.value) for member in members])
        return members

    def _blank(self, position: int) -> int:
        found = _BLANK.match(self._text, position)
        return found.end() if found else position

    def _missing(self, position: int, what: str) -> InvalidRequest:
        where = f"at byte {self._byte(position)}" if position < len(self._text) else "where it ends"
        return invalid_json(f"{what} is missing {where}", "Check the quotes, commas and brackets before it.")

    def _byte(self, position: int) -> int:
        return self._scanner.place(len(self._text[:position].encode()))


def _distinct(marker_prefix: str, pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise invalid_json(f"the key {name[:100]!r} occurs twice", "Send it once.", param=name[:100])
        found[name] = value
    if any(name.startswith(marker_prefix) for name in found):
        raise invalid_json("a key is longer than any key may be", "Shorten it.")
    return found


def _no_constant(name: str) -> object:
    raise invalid_json(f"{name} is not a JSON number", "Send a finite number or null.")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise invalid_json(f"the number {digits[:40]} is too large", "Send a finite number.")
    return number


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError as error:  # more digits than Python converts
        raise invalid_json(f"the number {digits[:40]}… is too large", "Send a number of reasonable length.") from error


_PLAIN = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)

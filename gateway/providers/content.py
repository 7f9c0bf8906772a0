"""Content: what lies where in a JSON answer that is kept as it goes by, so that its images can be sent on by range."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from gateway.providers.elide import ELIDED, Elider, closing_quote
from gateway.providers.reading import MOST_KEPT, is_image

_STRUCTURE = re.compile(rb'["{}\[\],]')
_LONGEST_NAME = 64
_TOP, _LIST, _ELEMENT = 1, 2, 3
"""Depths: inside the document, inside a list in it, inside an object in that list."""


class Element(NamedTuple):
    """Where an object of the list `data` lies, in bytes from the document's start.

    `inline` is where its member `b64_json` begins, and where the text of that string begins and ends; `link` where the
    text of its member `url` does. `own` is where that whole member lies, whatever it says, with the comma beside it.
    """

    start: int
    end: int
    inline: tuple[int, int, int] | None = None
    link: tuple[int, int] | None = None
    own: tuple[int, int] | None = None


class Finder:
    """Finds the objects in the top-level list `data` of a JSON object that is read in chunks, cut anywhere.

    It checks nothing: what it found means something only where the document turns out to be JSON. A list or member that
    is named twice counts as it was written last, as it does for parsers.
    """

    def __init__(self) -> None:
        self.found: list[Element] = []
        self._offset = 0
        self._depth = 0
        self._inside = False
        self._start = 0
        self._inline: tuple[int, int, int] | None = None
        self._link: tuple[int, int] | None = None
        self._own: tuple[int, int] | None = None
        self._comma: int | None = None
        self._member: tuple[bytes, int] | None = None
        self._quote = 0
        self._string = False
        self._escaped = False
        self._name = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the document."""
        at = 0
        while at < len(chunk):
            at = self._string_end(chunk, at) if self._string else self._structure(chunk, at)
        self._offset += len(chunk)

    def _string_end(self, chunk: bytes, at: int) -> int:
        """Go to the end of the open string, or of the chunk."""
        quote, self._escaped = closing_quote(chunk, at, len(chunk), escaped=self._escaped)
        end = len(chunk) if quote < 0 else quote
        if self._depth <= _ELEMENT and len(self._name) < _LONGEST_NAME:
            self._name += chunk[at : min(end, at + _LONGEST_NAME)]
        self._string = quote < 0
        if quote >= 0 and self._inside and self._depth == _ELEMENT:
            self._end_member(self._offset + quote)
        return end + 1

    def _end_member(self, place: int) -> None:
        """Take note of a string in an element: the first one is a member's name, the next one its value."""
        if self._member is None:
            self._member = bytes(self._name), self._quote
            return
        name, start = self._member
        if _says(name, "b64_json"):
            self._inline = start, self._quote + 1, place
        elif _says(name, "url"):
            self._link = self._quote + 1, place

    def _structure(self, chunk: bytes, at: int) -> int:
        match = _STRUCTURE.search(chunk, at)
        if match is None:
            return len(chunk)
        mark, place = match[0], self._offset + match.start()
        if mark == b'"':
            self._string, self._quote = True, place
            self._name.clear()
        elif mark == b",":
            if self._depth == _ELEMENT:
                self._leave_member(None, place + 1)
                self._comma = place
        elif mark in b"{[":
            self._open(mark, place)
        else:
            self._close(mark, place)
        return match.end()

    def _leave_member(self, comma: int | None, end: int) -> None:
        """Take note of where a member of an element ends; the last one begins with the comma before it."""
        if self._member is not None and self._inside and _says(self._member[0], "url"):
            self._own = self._member[1] if comma is None else comma, end
        self._member = None

    def _open(self, mark: bytes, place: int) -> None:
        self._depth += 1
        if self._depth == _LIST and mark == b"[" and _says(bytes(self._name), "data"):
            self._inside = True
            self.found.clear()
        elif self._depth == _ELEMENT and mark == b"{":
            self._start, self._inline, self._link, self._member = place, None, None, None
            self._own = self._comma = None

    def _close(self, mark: bytes, place: int) -> None:
        if self._inside and self._depth == _ELEMENT and mark == b"}":
            self._leave_member(self._comma, place)
            self.found.append(Element(self._start, place + 1, self._inline, self._link, self._own))
        self._depth -= 1
        if self._depth == _TOP:
            self._inside = False


def _says(name: bytes, word: str) -> bool:
    """Tell whether the text of a JSON string is this word, however it is written."""
    try:
        return bool(json.loads(b'"' + name + b'"') == word)
    except ValueError:
        return False


class Content:
    """A JSON answer as it goes by: its fields without long strings, and where its images lie."""

    def __init__(self) -> None:
        self._elider = Elider()
        self._finder = Finder()
        self._kept = bytearray()
        self._too_long = False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._finder.feed(chunk)
        if not self._too_long:
            self._kept += self._elider.feed(chunk)
            self._too_long = len(self._kept) > MOST_KEPT

    def document(self) -> Mapping[str, object] | None:
        """Return the top-level fields, those whose text was too long left out; None if it was no JSON object."""
        if self._too_long:
            return None
        try:
            document = json.loads(self._kept)
        except (ValueError, RecursionError):
            return None
        if not isinstance(document, dict):
            return None
        return {name: value for name, value in document.items() if value != ELIDED.decode()}

    def exact(self) -> object:
        """Return the document with its decimals as they are written; None for what is no document."""
        try:
            return None if self._too_long else json.loads(self._kept, parse_float=Decimal)
        except (ValueError, RecursionError, ArithmeticError):
            return None

    def elements(self) -> list[tuple[Element, Mapping[str, object]]]:
        """Return each object of the list `data`: where it lies, and its members without long strings."""
        data = (self.document() or {}).get("data")
        items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
        return list(zip(self._finder.found, items, strict=False))

    def images(self) -> list[Element]:
        """Return where each element lies that is an image, inline or by link; nothing for what is no document."""
        return [place for place, item in self.elements() if is_image(item)]

"""Event content: where images lie in a stream of server-sent events that is kept as it goes by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.providers.content import Content, Element

_DATA: Final = b"data:"
_NAME: Final = b"event:"
_HEAD: Final = 64
"""Bytes of a line that tell what it is, and the name of an event."""
_OPENED: Final = b'{"data":['
_CLOSED: Final = b"]}"
"""An event's data, put between the two, reads like a document of one image."""


class EventContent:
    """Finds the whole inline images among the events of a stream read in chunks, cut anywhere; no partial ones.

    Of an event, what is not its data is read as blanks, so that each byte keeps its place.
    """

    def __init__(self) -> None:
        self._offset = 0
        self._start = 0
        self._name = b""
        self._event: Content | None = None
        self._head = b""
        self._data = False
        self._return = False
        self._found: list[Element] = []

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; lines may end in each of the three ways."""
        at, newline, back = 0, chunk.find(b"\n"), chunk.find(b"\r")
        while at < len(chunk):
            newline = chunk.find(b"\n", at) if 0 <= newline < at else newline
            back = chunk.find(b"\r", at) if 0 <= back < at else back
            stop = min(place if place >= 0 else len(chunk) for place in (newline, back))
            half, self._return = self._return and stop == newline == at, stop == back
            if stop > at:
                self._take(chunk[at:stop], self._offset + stop)
            if stop < len(chunk):
                self._blank(1)
                if not half:  # of a line end whose other half has ended the line
                    self._end_line()
            at = stop + 1
        self._offset += len(chunk)

    def _take(self, text: bytes, end: int) -> None:
        """Take some of a line, which lies before `end`."""
        if self._data and self._event is not None:
            self._event.feed(text)
            return
        known = len(self._head)
        self._head += text[: _HEAD - known]
        rest = text[max(len(_DATA) - known, 0) :]
        self._data = known < len(_DATA) and self._head.startswith(_DATA)
        self._blank(len(text) - len(rest) if self._data else len(text))
        if self._data:
            self._begin(end - len(rest)).feed(rest)

    def _begin(self, place: int) -> Content:
        """Return the event whose data go on at a place."""
        if self._event is None:
            self._start = place - len(_OPENED)
            self._event = Content()
            self._event.feed(_OPENED)
        return self._event

    def _blank(self, length: int) -> None:
        if self._event is not None:
            self._event.feed(b" " * length)

    def _end_line(self) -> None:
        head, self._head, self._data = self._head, b"", False
        if not head:
            self._end_event()
        elif head.startswith(_NAME):
            self._name = head.removeprefix(_NAME).strip()

    def _end_event(self) -> None:
        event, name = self._event, self._name.decode("utf-8", "replace")
        self._event, self._name = None, b""
        if event is None:
            return
        event.feed(_CLOSED)
        for place, item in event.elements():
            kind = item.get("type")
            whole = (kind if isinstance(kind, str) else name).endswith(".completed")
            if whole and place.inline is not None:  # a link within an event passes as it comes
                self._found.append(_moved(place, self._start))

    def images(self) -> list[Element]:
        """Return where each whole image lies, in bytes from the stream's start; all bytes are in."""
        self._end_event()
        return self._found

    def document(self) -> Mapping[str, object] | None:
        """None: a stream is no document."""
        return None


def _moved(place: Element, by: int) -> Element:
    inline = None if place.inline is None else (place.inline[0] + by, place.inline[1] + by, place.inline[2] + by)
    return Element(place.start + by, place.end + by, inline)

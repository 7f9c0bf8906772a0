"""Event content: where images lie in a stream of server-sent events that is kept as it goes by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.providers.content import Content, Element

_DATA: Final = b"data:"
_OPENED: Final = b'{"data":['
_CLOSED: Final = b"]}"
"""An event's data, put between the two, reads like a document of one image."""


class EventContent:
    """Finds the whole images among the events of a stream that is read in chunks, cut anywhere; no partial ones."""

    def __init__(self) -> None:
        self._offset = 0
        self._start = 0
        self._head = b""
        self._event: Content | None = None
        self._other = False
        self._found: list[Element] = []

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        at = 0
        while at < len(chunk):
            newline = chunk.find(b"\n", at)
            stop = len(chunk) if newline < 0 else newline
            self._take(chunk[at:stop], self._offset + stop)
            if newline >= 0:
                self._end_line()
            at = stop + 1
        self._offset += len(chunk)

    def _take(self, text: bytes, end: int) -> None:
        """Take some of a line, which lies before `end`."""
        if self._event is not None:
            self._event.feed(text)
        elif not self._other:
            self._head += text
            if len(self._head) >= len(_DATA):
                self._begin(end)

    def _begin(self, end: int) -> None:
        self._other = not self._head.startswith(_DATA)
        if not self._other:
            rest = self._head[len(_DATA) :]
            self._start = end - len(rest) - len(_OPENED)
            self._event = Content()
            self._event.feed(_OPENED + rest)

    def _end_line(self) -> None:
        event, self._event, self._other, self._head = self._event, None, False, b""
        if event is None:
            return
        event.feed(_CLOSED)
        for place, item in event.elements():
            if str(item.get("type", "")).endswith(".completed"):
                self._found.append(_moved(place, self._start))

    def images(self) -> list[Element]:
        """Return where each whole image lies, in bytes from the stream's start."""
        return self._found

    def document(self) -> Mapping[str, object] | None:
        """None: a stream is no document."""
        return None


def _moved(place: Element, by: int) -> Element:
    inline = None if place.inline is None else (place.inline[0] + by, place.inline[1] + by, place.inline[2] + by)
    return Element(place.start + by, place.end + by, inline)

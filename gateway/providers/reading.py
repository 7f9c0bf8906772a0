"""Reading: pick usage, sizes, errors and the number of images out of an answer as it goes by.

Two forms of answer, one interface: a JSON document (OpenAI's `ImagesResponse`) and server-sent events (`data:` lines,
`*.partial_image` and `*.completed`, sometimes `[DONE]`). Only an elided copy is kept, at most `MOST_KEPT` bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from json.scanner import make_scanner
from typing import Protocol

from gateway.domain.job import AUTO
from gateway.domain.settlement import UNREAD, Reading
from gateway.providers.elide import Elider
from gateway.providers.outcome import error_code
from gateway.providers.usage import read_usage

MOST_KEPT = 64 * 1024
"""Bytes of the elided copy of a document, or of one event; what is longer is not read, and the reading says so."""

WHOLE = 16 * 1024
"""Bytes of a document that is parsed as it is: leaving long strings out pays only where there are such."""

_LONGEST_WORD = 64
_RESOLVED = ("size", "quality", "output_format")
_NOTHING = Reading()
_DONE = b"[DONE]"
_EVENT_END = b"\n\n"
_SPACE = " \t\n\r"
_scan = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # typeshed names the wrong class


class Reader(Protocol):
    """Sees an answer go by."""

    @property
    def lacks(self) -> bytes:
        """What the last event came without, of the empty line that ends it: clients would pass it over."""

    @property
    def over(self) -> bool:
        """Whether a stream said that it has ended once all images that were asked for were there."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""

    def end(self, *, framed: bool) -> None:
        """Take note that the body ended; `framed` if its length or its last chunk proves that it is whole."""

    def reading(self) -> Reading:
        """Return what was picked out so far."""


class DocumentReader:
    """Reads one JSON document; knows nothing before its end."""

    most_kept = MOST_KEPT
    lacks = b""
    over = False

    def __init__(self) -> None:
        self._whole: bytes | None = b""
        self._elider: Elider | None = None
        self._kept: bytearray | bytes = b""
        self._too_long = False
        self._reading = _NOTHING

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        if self._whole is not None:
            chunk = self._whole + chunk if self._whole else chunk
            self._whole = chunk if len(chunk) <= WHOLE else None
            if self._whole is not None:
                return
        self._elide(chunk)

    def _elide(self, chunk: bytes) -> None:
        if self._too_long:
            return
        if self._elider is None:
            self._elider, self._kept = Elider(), bytearray()
        self._kept += self._elider.feed(chunk)
        if len(self._kept) > self.most_kept:
            self._too_long = True
            self._kept = b""

    def end(self, *, framed: bool) -> None:
        """Parse the copy; a document that parses is whole, even one whose end only a closed connection marked."""
        document = _parse(self._whole) if self._whole else None
        if document is None:  # what stands in a long string is no matter, so it may be no UTF-8
            self._elide(self._whole or b"")
            document = _parse(bytes(self._kept))
        self._whole, self._kept = None, b""
        if self._too_long:
            self._reading = Reading(usage_problem=UNREAD, complete=framed)
        elif document is not None:
            self._reading = self.interpret(document)

    def read(self, body: bytes) -> Reading:
        """Return what a document says that is here whole."""
        document = _parse(body)
        if document is not None:
            return self.interpret(document)
        self.feed(body)
        self.end(framed=True)
        return self._reading

    def interpret(self, document: Mapping[str, object]) -> Reading:
        """Return what a whole document says."""
        data, images = document.get("data"), 0
        if isinstance(data, list):
            for item in data:
                images += is_image(item)
        error = document.get("error")
        return _facts(document, images, complete=True, error=None if error is None else error_code(error))

    def reading(self) -> Reading:
        """Return what the document says; nothing before `end`, and nothing if it was no JSON object."""
        return self._reading


@dataclass(slots=True)
class _Event:
    name: str = ""
    data: bytes = b""


class EventReader:
    """Reads server-sent events; knows of each event once its empty line is in.

    `images` is how many were asked for: after the last of them nothing has to follow. 0 if nobody can tell by that.
    """

    most_kept = MOST_KEPT

    def __init__(self, images: int = 0) -> None:
        self._asked_for = images
        self._elider = Elider(lines=True)
        self._line = b""
        self._event = _Event()
        self._too_long = False
        self._concluded = False
        self._done = False
        self.lacks = b""
        self.over = False
        self._reading = Reading()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        if self._too_long:
            return
        lines = (self._line + self._elider.feed(chunk)).splitlines(keepends=True)
        # The last line may go on; a carriage return at the very end may be half of a line break.
        self._line = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            if not self._fits(line):
                return
            self._take(line.rstrip(b"\r\n"))
        self._fits(self._line)

    def _fits(self, line: bytes) -> bool:
        """Tell whether an event is still short enough with a line, or what is there of it: however it was cut."""
        if len(line) + len(self._event.data) > self.most_kept:
            self._too_long = True
            self._line, self._event = b"", _Event()
        return not self._too_long

    def end(self, *, framed: bool) -> None:
        """Take the last event, should its empty line be missing; complete if an event says that nothing follows."""
        within = self._line
        if within:
            self._take(within.rstrip(b"\r\n"))
        unended = self._event.data.strip() not in (b"", _DONE)
        self.lacks = b"" if not unended else _EVENT_END if within else b"\n"  # one more may be taken for an event
        before = self._reading.images
        self._take(b"")
        self._line = b""
        last = not unended or self._reading.images > before  # whose JSON is whole is not cut
        every = last and 0 < self._asked_for <= self._reading.images
        whole = (framed or self._done or every) and (self._concluded or self._too_long)
        self._reading = replace(self._reading, complete=whole)

    def reading(self) -> Reading:
        """Return what the events said so far; usage is their sum, or absent if one of them has none."""
        if self._too_long:
            return replace(self._reading, usage=None, usage_problem=UNREAD)
        return self._reading

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._event.name = value.decode("utf-8", "replace")
        elif name == b"data":
            self._event.data += (b"\n" if self._event.data else b"") + value
        elif not line:
            event, self._event = self._event, _Event()
            self._dispatch(event)

    def _dispatch(self, event: _Event) -> None:
        if event.data.strip() == _DONE:
            self._done = True
            self.over = self.over or 0 < self._asked_for <= self._reading.images
            self._reading = replace(self._reading, complete=self._concluded)  # however its connection ends
            return
        document = _parse(event.data) if event.data else None
        if document is None:
            return
        kind = document.get("type")
        kind = kind if isinstance(kind, str) else event.name
        self.interpret(document, kind, event.name)

    def interpret(self, document: Mapping[str, object], kind: str, name: str) -> None:
        """Take what one event says: its type, and what its `event:` line named."""
        if error := document.get("error"):
            self.conclude(replace(self._reading, error=error_code(error)))
        elif "error" in (kind, name):
            # SDKs take one that is not nested for an event like others: what tells them must follow yet.
            self._concluded = False
            self.note(replace(self._reading, error=error_code(document)))
        elif kind.endswith(".completed") and is_image(document):
            self._concluded = True
            self._add(_facts(document, 1))

    def conclude(self, reading: Reading) -> None:
        """Take note that nothing has to follow, and what is known by then."""
        self._concluded = True
        self._reading = reading

    def note(self, reading: Reading) -> None:
        """Take note of what is known so far."""
        self._reading = reading

    def _add(self, event: Reading) -> None:
        before = self._reading
        problem = before.usage_problem or event.usage_problem
        usage = None
        if problem is None and event.usage is not None:
            usage = event.usage if before.usage is None else before.usage + event.usage
        self._reading = replace(event, images=before.images + 1, usage=usage, usage_problem=problem, error=before.error)


def _facts(document: Mapping[str, object], images: int, *, complete: bool = False, error: str | None = None) -> Reading:
    usage = read_usage(document.get("usage"), images=images)
    found, problem = (None, usage) if isinstance(usage, str) else (usage, None)
    size, quality, output_format = words(document)
    return Reading(found, problem, size, quality, output_format, images, error, complete)


def is_image(item: object) -> bool:
    """Tell whether an element of an answer's `data` is an image, inline or by link."""
    if not isinstance(item, dict):
        return False
    inline, link = item.get("b64_json"), item.get("url")
    return (isinstance(inline, str) and inline != "") or (isinstance(link, str) and link != "")


def words(document: Mapping[str, object], names: tuple[str, ...] = _RESOLVED) -> list[str | None]:
    """Return fields that were resolved to something, by default size, quality and format; `auto` says nothing."""
    return [
        value if isinstance(value, str) and 0 < len(value) <= _LONGEST_WORD and value != AUTO else None
        for value in map(document.get, names)
    ]


def _parse(text: bytes) -> dict[str, object] | None:
    try:
        if text[:1] == b"{" and text[1:2] != b"\0":  # UTF-8, so nothing need be found out about it
            written = text.decode("utf-8", "surrogatepass")
            document, end = _scan(written, 0)
            if end != len(written) and written[end:].strip(_SPACE):
                return None
        else:
            document = json.loads(text)
    except (ValueError, RecursionError, StopIteration):
        return None
    return document if isinstance(document, dict) else None

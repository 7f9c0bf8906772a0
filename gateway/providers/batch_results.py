"""Batch results: files of lines kept on disk as they come, and the answer that lies in each line.

A line holds a whole answer with its images, so no line is parsed: it is scanned as it goes by, long strings skipped,
and what is kept of it is where its `response.body` lies and a copy without long strings.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from gateway.domain.errors import Unavailable
from gateway.domain.settlement import Reading
from gateway.ports import Headers
from gateway.ports.provider import UpstreamFailure
from gateway.providers.elide import Elider, closing_quote
from gateway.providers.outcome import of_garbage
from gateway.providers.reading import DocumentReader
from gateway.spool import Spool

IN_MEMORY: Final = 1024 * 1024
AT_ONCE: Final = 8
"""Answers of one batch that are read at a time."""
MOST_KEPT: Final = 256 * 1024
"""Bytes of a line without its long strings; one that is longer is taken for no line."""
_LONGEST_KEY = 64
_MARKS = re.compile(rb'["{}\[\]:\n]')
_DEEP = 3
"""Levels at which an answer lies: the line, its response, its body."""


@dataclass(frozen=True, slots=True)
class ResultLine:
    """One line of results: what it says without long strings, and where the body of its response lies, if anywhere."""

    document: Mapping[str, Any]
    start: int = 0
    end: int = 0

    @property
    def done(self) -> bool:
        """Whether the request was answered by a success."""
        response = self.document.get("response")
        status = response.get("status_code") if isinstance(response, dict) else None
        return isinstance(status, int) and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


class LineScan:
    """Reads lines of JSON in chunks cut anywhere; `feed` returns those that ended. Places count from `offset` on."""

    def __init__(self, offset: int = 0) -> None:
        self._at = offset
        self.garbled = False
        """Whether one was neither empty nor an object with the name of a request."""
        self._begin()

    def _begin(self) -> None:
        self._elider, self._copy, self._too_long = Elider(), bytearray(), False
        self._depth, self._start, self._end = 0, 0, 0
        self._keys = ["", ""]
        self._string = bytearray()
        self._inside = self._escaped = False

    def feed(self, chunk: bytes) -> list[ResultLine]:
        """Take the next bytes, and return the lines that they end."""
        lines: list[ResultLine] = []
        at = kept = 0
        end = _end_of_line(chunk, 0)
        while at < len(chunk):
            if end < at:
                end = _end_of_line(chunk, at)
            if self._inside:
                quote, self._escaped = closing_quote(chunk, at, end, escaped=self._escaped)
                stop = end if quote < 0 else quote
                self._string += chunk[at : min(stop, at + _LONGEST_KEY)]
                # A line break within a string ends it: that was no JSON, and the next line is to be found.
                self._inside = quote < 0 and end == len(chunk)
                at = stop + (quote >= 0)
                continue
            found = _MARKS.search(chunk, at)
            if found is None:
                break
            at = found.end()
            if found[0] == b"\n":
                self._keep(chunk[kept:at])
                kept = at
                lines += self.end()
            else:
                self._mark(found[0], self._at + found.start())
        self._keep(chunk[kept:])
        self._at += len(chunk)
        return lines

    def _mark(self, mark: bytes, place: int) -> None:
        if mark == b'"':
            self._inside = True
            self._string.clear()
        elif mark == b":":
            if 0 < self._depth < _DEEP:
                self._keys[self._depth - 1] = bytes(self._string[:_LONGEST_KEY]).decode("utf-8", "replace")
        elif mark in b"{[":
            self._depth += 1
            if self._depth == _DEEP and self._keys == ["response", "body"] and not self._start:
                self._start = place
        else:
            self._depth -= 1
            if self._depth == _DEEP - 1 and self._start and not self._end:
                self._end = place + 1

    def _keep(self, piece: bytes) -> None:
        copy = self._elider.feed(piece)
        if not self._too_long:
            self._copy += copy
            self._too_long = len(self._copy) > MOST_KEPT

    def end(self) -> list[ResultLine]:
        """Return the line that ends here: also the last one, should its line break be missing."""
        copy, start, end, whole = bytes(self._copy), self._start, self._end, not self._too_long
        self._begin()
        if not copy.strip():
            return []
        try:
            document = json.loads(copy) if whole else None
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, dict) and isinstance(document.get("custom_id"), str):
            return [ResultLine(document, start, end)]
        self.garbled = True
        return []


def _end_of_line(chunk: bytes, at: int) -> int:
    newline = chunk.find(b"\n", at)
    return len(chunk) if newline < 0 else newline


class Results:
    """What a batch brought, on disk until nobody reads it any more."""

    def __init__(self) -> None:
        self._lines: dict[str, ResultLine] = {}
        self._spools: dict[str, Spool] = {}
        """Where each line lies: in the file that had it first."""
        self.lacking = False
        """Whether a file of them could not be had: what is not here may be there."""
        self._readers = asyncio.Semaphore(AT_ONCE)
        self._borrowed = 1

    async def take(self, chunks: AsyncIterator[bytes]) -> None:
        """Keep a file of results; raises what reading it raises, and Unavailable if the disk has no room.

        A file that breaks off, or has a line that is none, is kept as far as it can be read, and raises
        UpstreamFailure. Its lines are here once it was read; one that has none that is new is not kept.
        """
        spool, scan, broken = Spool(IN_MEMORY), LineScan(), None
        lines: list[ResultLine] = []
        try:
            async for chunk in chunks:
                lines += scan.feed(chunk)
                spool.write(chunk)
                await spool.drain()
            lines += scan.end()
        except UpstreamFailure as failure:
            broken = failure
        except BaseException:
            await spool.aclose()
            raise
        if not self._keep(lines, spool):
            await spool.aclose()
        if broken is not None or scan.garbled:
            raise broken or of_garbage("a file of results holds what is no result")

    def _keep(self, lines: list[ResultLine], spool: Spool) -> bool:
        """Take lines that lie in a spool, and tell whether any was not here yet."""
        named = {line.document["custom_id"]: line for line in reversed(lines)}
        new = named.keys() - self._lines.keys()
        self._lines |= {name: named[name] for name in new}
        self._spools |= dict.fromkeys(new, spool)
        return bool(new)

    def holds(self, requests: int, done: int) -> bool:
        """Tell whether lines are here of every one of the batch's requests, or of as many that were `done`."""
        return len(self._lines) >= requests > 0 or sum(line.done for line in self._lines.values()) >= done

    def line(self, custom_id: str) -> ResultLine | None:
        """Return what came of a request; None if nothing is said of it."""
        return self._lines.get(custom_id)

    async def answer(self, line: ResultLine) -> LineAnswer:
        """Return the answer in a line, once few enough others are being read."""
        self._borrowed += 1
        await self._readers.acquire()
        return LineAnswer(self, line)

    def read(self, line: ResultLine) -> AsyncIterator[bytes]:
        """Yield the body of a line's response."""
        return self._spools[line.document["custom_id"]].read(line.start, line.end)

    async def text(self, line: ResultLine, most: int) -> bytes:
        """Return the body of a line's response, cut at so many bytes."""
        spool = self._spools[line.document["custom_id"]]
        return b"".join([chunk async for chunk in spool.read(line.start, min(line.end, line.start + most))])

    async def returned(self, *, read: bool = True) -> None:
        """Take note that an answer, or whoever made this, needs it no more."""
        if read:
            self._readers.release()
        self._borrowed -= 1
        if not self._borrowed:
            for spool in set(self._spools.values()):
                await spool.aclose()


class LineAnswer:
    """Implements `ports.Answer` over a line of results."""

    status = HTTPStatus.OK
    event_stream = False

    def __init__(self, results: Results, line: ResultLine) -> None:
        self._results: Results | None = results
        self._line = line
        self._reader = DocumentReader()
        self._body = self._read(results)

    @property
    def headers(self) -> Headers:
        """Type and length."""
        return [("content-type", "application/json"), ("content-length", str(self.content_length))]

    @property
    def content_length(self) -> int:
        """Length of the body in bytes."""
        return self._line.end - self._line.start

    @property
    def upstream_request_id(self) -> str | None:
        """The provider's own id of the request within its batch."""
        said = self._line.document["response"].get("request_id")
        return said if isinstance(said, str) and said.isascii() and said.isprintable() and len(said) <= 128 else None  # noqa: PLR2004 - as for any answer

    @property
    def rate_limits(self) -> Mapping[str, str]:
        """None: a batch has limits of its own."""
        return {}

    def at_once(self) -> None:
        """Have it read by chunks."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body; asked again, what is left of it."""
        return self._body

    async def _read(self, results: Results) -> AsyncIterator[bytes]:
        try:
            async for chunk in results.read(self._line):
                self._reader.feed(chunk)
                yield chunk
        except OSError as error:
            raise Unavailable("The gateway's disk does not answer.") from error
        self._reader.end(framed=True)

    def reading(self) -> Reading:
        """Return what was picked out so far."""
        return self._reader.reading()

    async def aclose(self) -> None:
        """Let the next be read; harmless when repeated."""
        results, self._results = self._results, None
        if results is not None:
            await results.returned()

"""Received: what has come of one answer: its head, where its body ends, and the pieces of it that nobody has taken yet.

A plain head is read by one pattern, and a body of known length is not looked at; all else is parsed by llhttp.
"""

from __future__ import annotations

from collections import deque
from math import inf

import httptools
import httpx

from gateway.http1.fields import MAX_HEADER_FIELDS, Fields, by_name, framing_of, lowered, plain_head

MAX_HEADER_BYTES = 64 * 1024
"""Of a head, and of what comes between two pieces of a body: sizes and extensions of chunks, trailers."""
_MAX_HEADER_FIELD = 16 * 1024
_FIELD_OVERHEAD = len(": \r\n")
_FIRST_FINAL_STATUS = 200


class Received:
    """One answer after another: each begins with `begin`, takes bytes by `_feed`, and ends as `_ended` says.

    `_asked` tells whether anything of the request is written, `_surplus` that there was more than an answer. Bytes that
    are no HTTP/1.1, or beyond the limits, raise `httpx.RemoteProtocolError`.
    """

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = None
        self._chunks: deque[bytes] = deque()
        self._pieces: list[bytes] = []
        self._ended, self._surplus, self._asked = True, False, False
        self.idle = inf
        self.status = 0
        self.fields: Fields = []
        self.named: dict[str, str] = {}
        """The headers by name."""

    def begin(self, method: str) -> None:
        """Expect the answer to a request of this method, which is about to be written."""
        self._parser = None  # few answers need one, and each a new one
        self._bodyless = method == "HEAD"
        self.in_head, self._ended, self._framed, self._asked = True, False, True, False
        self._left = 0
        self._chunks.clear()
        self._keep = False

    def _feed(self, data: bytes) -> None:
        """Take what the server sends; a body of known length is passed on as it comes."""
        if not self.in_head and self._left:
            self._take(data)
            return
        head = plain_head(data) if self._parser is None and not self._bodyless else None
        if head is None:
            self._parse(data)
            return
        self.status, self.fields, self._left, self.idle, size, self.named = head
        self.in_head, self._keep = False, True
        if len(data) > size or not self._left:
            self._take(data[size:])

    def whole(self, limit: int) -> bytes | None:
        """Return the body if all of it is here in one piece, `limit` bytes at most; None if it is to be read."""
        chunks = self._chunks
        return chunks.popleft() if self._ended and len(chunks) == 1 and len(chunks[0]) <= limit else None

    def _take(self, data: bytes) -> None:
        left = self._left - len(data)
        if left < 0:
            self._surplus = True
            data, left = data[:left], 0
        if data:
            self._chunks.append(data)
        self._left, self._ended = left, not left

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
            self._head_received = self._fields_received = self._beside = 0
            self.fields = []
            self._pieces.clear()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._ended:
                too_large = isinstance(error.__context__, _TooLargeError)
                told = "the answer's headers are too large" if too_large else str(error)
                raise httpx.RemoteProtocolError(told) from None
            self._surplus = True
        if self.in_head:
            self._head_received += len(data)
            if self._head_received > MAX_HEADER_BYTES:
                raise httpx.RemoteProtocolError("the answer's headers are too large")
            return
        pieces = self._pieces
        if pieces:  # a read may bring many small chunks
            self._chunks.append(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            pieces.clear()
            self._beside = 0
        elif not self._ended:
            self._beside += len(data)
            if self._beside > MAX_HEADER_BYTES:
                raise httpx.RemoteProtocolError("there is too much beside the answer's body")

    def on_message_begin(self) -> None:
        """Refuse a second answer."""
        if self._ended:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, within limits; trailers count, and are thrown away."""
        self._fields_received += len(name) + len(value) + _FIELD_OVERHEAD
        if self._fields_received > MAX_HEADER_BYTES or max(len(name), len(value)) > _MAX_HEADER_FIELD:
            raise _TooLargeError
        if self.in_head:
            self.fields.append((lowered[name.decode("latin-1")], value.decode("latin-1")))
            if len(self.fields) > MAX_HEADER_FIELDS:
                raise _TooLargeError

    def on_headers_complete(self) -> None:
        """Learn from the headers where the body ends."""
        parser = self._parser
        if self._ended or parser is None:
            return
        self.status = parser.get_status_code()
        if self.status < _FIRST_FINAL_STATUS:
            return
        if parser.get_http_version() not in ("1.1", "1.0"):
            raise httptools.HttpParserError("not HTTP/1.1")
        self.named = by_name(self.fields)
        length, coding, self.idle = framing_of(self.fields)
        self.in_head = False
        self._keep = parser.should_keep_alive()
        if self._bodyless:
            self._keep = False  # the parser takes what follows for a body
            self._ended = True
        elif coding:
            self._framed = coding.strip().lower().endswith("chunked")
        elif length is not None:
            self._left = length
        else:
            self._framed = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if self._ended:
            return
        if self._left:
            self._left -= len(body)
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """End the answer, unless it was an interim one."""
        if self.in_head:
            self.fields = []
        else:
            self._ended = True


class _TooLargeError(Exception):
    """The head of an answer is beyond the limits."""

"""The head of a request as the parser read it, and how the same one is recognised when it comes again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

import httptools

from gateway.domain.record import record
from gateway.ports.envelope import ClientHeaders

Fields = Sequence[tuple[bytes, bytes]]

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
_CONTINUE = re.compile(r"(?:^|,)[ \t]*100-continue[ \t]*(?:,|$)", re.IGNORECASE)
_DIGITS = 10
_LONGEST = 4096
"""Bytes of a head that is remembered: each connection keeps one."""


@record(frozen=True, slots=True)
class Head:
    """A head that was judged and found to be in order. Names are lower case."""

    method: str
    version: str
    path: str
    """As the router reads it, decoded."""
    raw_path: bytes
    query: bytes
    headers: ClientHeaders
    """By name; those of a repeated header are joined, as RFC 9110 (5.3) says. Nobody may change it."""
    length: int | None
    """Of the body in bytes, if the client named it."""
    keep_alive: bool
    asks_first: bool
    """Whether the client waits for word before it sends the body."""

    def with_length(self, length: int, digits: bytes) -> Head:
        """Return the same head of a body of another length."""
        headers = ClientHeaders(self.headers)
        headers["content-length"] = digits.decode()
        headers.envelope = self.headers.envelope  # in which the length of the body has no say
        told = self.method, self.version, self.path, self.raw_path, self.query
        return Head(*told, headers, length, self.keep_alive, self.asks_first)


def read_head(method: bytes, version: str, target: bytes, fields: Fields, *, keep_alive: bool) -> Head:
    """Return the head of these parts; httptools.HttpParserInvalidURLError if the target is none."""
    url = httptools.parse_url(target)
    raw_path = url.path or b"/"  # a URL may name its host alone
    path = raw_path.decode("ascii")
    headers = ClientHeaders()
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    length = headers.get("content-length")
    return Head(
        method.decode("ascii"),
        version,
        unquote(path) if "%" in path else path,
        raw_path,
        url.query or b"",
        headers,
        None if length is None else int(length),
        keep_alive and version != "1.0",
        version != "1.0" and "expect" in headers and _CONTINUE.search(headers["expect"]) is not None,
    )


class Again:
    """A head whose bytes are known, so that the same bytes with another length need not be parsed.

    Clients that keep their connection send the same head with each request, but for the length of the body.
    """

    def __init__(self, head: Head, before: bytes, after: bytes) -> None:
        self._head = head
        self._before = before
        self._after = after
        self._length = b"%d" % (head.length or 0)
        self._start, self._rest = len(before), len(after)
        self._end = self._start + len(self._length)
        self._furthest = self._start + _DIGITS + self._rest
        """Where what follows the length has ended, however long it is."""

    @classmethod
    def of(cls, head: Head, data: bytes) -> Again | None:
        """Return it for what one piece of data held from its first byte to its last, body included.

        None where that is not so, or where the head says more than how long the body is: that the connection ends with
        it, or that the client waits for word.
        """
        first = b"%s %s" % (head.method.encode(), head.raw_path)
        end = data.find(b"\r\n\r\n") + 4
        if not (head.keep_alive and data.startswith(first)) or head.asks_first:
            return None
        if end > _LONGEST or len(data) - end != head.length:
            return None
        named = _LENGTH.search(data, 0, end)
        return cls(head, data[: named.start(1)], data[named.end(1) : end]) if named else None

    def match(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head and body of data that are one whole request with this head, None for anything else."""
        head = self._head
        start, end = self._start, self._end
        if data[:start] != self._before:  # which takes half the time of `startswith`
            return None
        if data[end : end + self._rest] != self._after:
            end = data.find(self._after, start, self._furthest)
        body = data[end + self._rest :]
        length = len(body)
        digits = self._length if length == head.length else b"%d" % length
        if end < 0 or not length or data[start:end] != digits:
            return None
        return (head if length == head.length else head.with_length(length, digits)), body

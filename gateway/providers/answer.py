"""Answer: a 2xx answer on its way, passed through as it comes and read in passing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from math import inf

import httpx

from gateway.domain.settlement import Outcome, Reading
from gateway.http1.message import Incoming
from gateway.ports import Headers
from gateway.ports.provider import UpstreamFailure
from gateway.providers.outcome import LIMIT_HEADERS, of_garbage, of_transport
from gateway.providers.reading import DocumentReader, EventReader, Reader

MAX_BODY = 256 * 1024 * 1024
"""Bytes; ten of the largest images in base64 are below it."""

MAX_WAIT = 1800.0
"""Seconds spent waiting for the provider over a whole body; the pause between two bytes is bounded by its timeout."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)

_PASSED_HEADERS = frozenset(
    {"content-type", "content-length", "openai-processing-ms", "openai-version", "retry-after", "retry-after-ms"}
)
_OWN_HEADERS = frozenset({"x-ratelimit-limit-images", "x-ratelimit-remaining-images", "x-ratelimit-reset-images"})
"""What the gateway says of the caller's own quota; a provider's, of the whole account, would contradict it."""


class StreamedAnswer:
    """Implements `ports.Answer` over a response whose body is JSON or server-sent events.

    Iterating over `chunks()` may stop and go on later with another `chunks()`.
    """

    def __init__(
        self,
        response: Incoming,
        *,
        event_stream: bool,
        max_body: int = MAX_BODY,
        max_wait: float = MAX_WAIT,
        reader: Reader | None = None,
    ) -> None:
        self._response = response
        self._reader: Reader = reader or (EventReader() if event_stream else DocumentReader())
        self._event_stream = event_stream
        self._status = response.status_code
        self._said = said = response.said
        self._headers = _passed(said)
        self._content_length = _content_length(said)
        self._framed = self._content_length is not None or _value(said, "transfer-encoding") is not None
        self._ended = False
        self._room = max_body
        self._patience = max_wait

    @property
    def status(self) -> int:
        """The provider's status code."""
        return self._status

    @property
    def headers(self) -> Headers:
        """What may be passed to the client, names in lower case."""
        return self._headers

    @property
    def content_length(self) -> int | None:
        """Length of the body in bytes, if the provider named it."""
        return self._content_length

    @property
    def event_stream(self) -> bool:
        """Whether the body is server-sent events."""
        return self._event_stream

    @property
    def rate_limits(self) -> Mapping[str, str]:
        """What the provider said of the account's limits, names in lower case."""
        return {name: value for name, value in self._said if name.startswith(LIMIT_HEADERS)}

    @property
    def upstream_request_id(self) -> str | None:
        """The provider's own id of the request, if it named a plain one."""
        named = _value(self._said, "x-request-id") or ""
        return named if _PLAIN_ID.fullmatch(named) else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raise UpstreamFailure (unknown outcome) if it breaks off or does not end."""
        while not self._ended:
            chunk = await self._next()
            if chunk is None:
                self._ended = True
                self._reader.end(framed=self._framed)
                return
            self._reader.feed(chunk)
            yield chunk

    async def _next(self) -> bytes | None:
        clock = asyncio.get_running_loop()
        began = clock.time()
        try:
            chunk = await self._response.read() or None
        except httpx.TransportError as error:
            raise of_transport(error) from error
        self._patience -= clock.time() - began
        self._room -= 0 if chunk is None else len(chunk)
        if self._room < 0 or self._patience < 0:
            await self.aclose()
            reason = "too_large" if self._room < 0 else "timeout"
            raise UpstreamFailure(Outcome.UNKNOWN, reason, "the answer does not end")
        return chunk

    def reading(self) -> Reading:
        """Return what was picked out so far."""
        return self._reader.reading()

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        await self._response.aclose()


def open_answer(
    response: Incoming,
    *,
    document: Callable[[], Reader] = DocumentReader,
    events: Callable[[], Reader] = EventReader,
) -> StreamedAnswer:
    """Wrap a 2xx answer; raises UpstreamFailure (garbage) if it is compressed, or neither JSON nor an event stream.

    `document` and `events` make what reads either form.
    """
    said = response.said
    encoding = (_value(said, "content-encoding") or "").strip().lower()
    if encoding not in ("", "identity"):
        raise of_garbage(f"the answer is encoded as {encoding[:40]!r}", response.status_code)
    kind = (_value(said, "content-type") or "").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return StreamedAnswer(response, event_stream=True, reader=events())
    if kind in ("", "application/json") or kind.endswith("+json"):
        return StreamedAnswer(response, event_stream=False, reader=document())
    raise of_garbage(f"the answer is of type {kind[:40]!r}", response.status_code)


async def read_limited(response: Incoming, *, limit: int, seconds: float) -> bytes:
    """Read a body up to `limit` bytes and for at most `seconds`; one that breaks off is cut there."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in response:
                body += chunk
                if len(body) >= limit:
                    break
    except (TimeoutError, httpx.TransportError):
        return bytes(body[:limit])  # the status is what decides, and it is known
    return bytes(body[:limit])


async def read_body(response: Incoming, *, limit: int, seconds: float = inf) -> AsyncIterator[bytes]:
    """Yield the body of an answer that is not an answer to a job; UpstreamFailure if it breaks off or is too large.

    `seconds` may be spent waiting for the provider, all in all.
    """
    clock = asyncio.get_running_loop()
    room, patience = limit, seconds
    while True:
        began = clock.time()
        try:
            chunk = await response.read()
        except httpx.TransportError as error:
            raise of_transport(error) from error
        if not chunk:
            return
        room -= len(chunk)
        patience -= clock.time() - began
        if room < 0 or patience < 0:
            raise of_garbage("the body does not end", response.status_code)
        yield chunk


def passed_headers(response: Incoming) -> Headers:
    """Return the headers that a client may see, names in lower case: a list of what is allowed, not of what is not."""
    return _passed(response.said)


def _passed(said: Sequence[tuple[str, str]]) -> Headers:
    return [
        (name, value)
        for name, value in said
        if name in _PASSED_HEADERS or (name.startswith("x-ratelimit-") and name not in _OWN_HEADERS)
    ]


def _value(said: Sequence[tuple[str, str]], wanted: str) -> str | None:
    """Return the value of a header; those of one that is there several times together (RFC 9110, 5.3)."""
    values = [value for name, value in said if name == wanted]
    return ", ".join(values) if values else None


_LENGTH_DIGITS = 18


def _content_length(said: Sequence[tuple[str, str]]) -> int | None:
    value = _value(said, "content-length") or ""
    return int(value) if value.isascii() and value.isdigit() and len(value) <= _LENGTH_DIGITS else None

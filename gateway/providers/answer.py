"""Answer: a 2xx answer on its way, passed through as it comes and read in passing."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from itertools import compress
from math import inf
from typing import NamedTuple

import httpx

from gateway.domain.settlement import Outcome, Reading
from gateway.http1.message import Incoming
from gateway.ports import Headers
from gateway.ports.provider import UpstreamFailure
from gateway.ports.whole import WholeAnswer
from gateway.providers.decompression import unpacked
from gateway.providers.masking import Mask
from gateway.providers.outcome import LIMIT_HEADERS, of_garbage, of_transport
from gateway.providers.reading import WHOLE, DocumentReader, EventReader, Reader
from gateway.providers.stream_end import StreamEnd

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


class _Concern(NamedTuple):
    """Which headers, by their places, a client may see, and which tell of the account's limits, if any do."""

    passed: tuple[bool, ...]
    limits: tuple[bool, ...] | None


_MOST_FORMS = 256
_concerns: dict[tuple[str, ...], _Concern] = {}
"""By the names of an answer's headers."""


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
        named = response.named
        self.event_stream = event_stream
        self.status = response.status_code
        self.headers, self.rate_limits = _concerning(response)
        self.upstream_request_id = id_of(response)
        self.content_length = _content_length(named.get("content-length"))
        self._framed = self.content_length is not None or "transfer-encoding" in named
        self._end = StreamEnd() if event_stream else None
        self._over = False
        if event_stream:  # what goes on may be shorter, or longer by an error
            self.headers = [header for header in self.headers if header[0] != "content-length"]
            self.content_length = None
        self._ended = False
        self._room = max_body
        self._patience = max_wait

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raise UpstreamFailure (unknown outcome) if it breaks off or does not end."""
        while not self._ended:
            began, failure = time.monotonic(), None
            try:
                chunk = await self._response.read()
            except httpx.TransportError as error:
                chunk, failure = b"", of_transport(error)
            self._patience -= time.monotonic() - began
            self._room -= len(chunk)
            if self._room < 0 or self._patience < 0:
                await self.aclose()
                reason = "too_large" if self._room < 0 else "timeout"
                chunk, failure = b"", UpstreamFailure(Outcome.UNKNOWN, reason, "the answer does not end")
            if not chunk:
                if left := self._conclude(failure):
                    yield left
                return
            self._reader.feed(chunk)
            if self._end is None or (chunk := self._passed(chunk, self._end)):
                yield chunk

    def _passed(self, chunk: bytes, end: StreamEnd) -> bytes:
        """Return what of a stream goes on: nothing behind a `[DONE]` that all images came before."""
        if self._over:
            return b""
        self._over = self._reader.over
        return end.without(chunk, last=self._over)

    def _conclude(self, failure: UpstreamFailure | None) -> bytes:
        """Take note of the body's end, and return what goes on there: what was held back, what the last event lacks.

        Raises the failure that it ended by, unless the body is whole by what it says; a length that was told is heard.
        """
        self._ended = True
        if failure is not None and self.content_length is not None:
            raise failure
        self._reader.end(framed=self._framed and failure is None)
        complete = self.reading().complete
        if failure is not None and not complete:
            raise failure
        if self._end is None or self._over:
            return b""
        return self._end.left() + self._reader.lacks if complete else self._end.left()

    def at_once(self) -> None:
        """Have it read by chunks."""

    def reading(self) -> Reading:
        """Return what was picked out so far."""
        return self._reader.reading()

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        await self._response.aclose()


def open_answer(
    response: Incoming,
    mask: Mask,
    *,
    document: Callable[[], DocumentReader] = DocumentReader,
    events: Callable[[], Reader] = EventReader,
) -> StreamedAnswer | WholeAnswer:
    """Wrap a 2xx answer; raises UpstreamFailure (garbage) if it is neither JSON nor an event stream, or encoded oddly.

    `mask` hides the account's secret; `document` and `events` make what reads either form.
    """
    if "content-encoding" in response.named:
        response = unpacked(response)
    response = mask.over(response)
    kind = _kind(response.named.get("content-type", ""))
    if kind == "text/event-stream":
        return StreamedAnswer(response, event_stream=True, reader=events())
    if kind in ("", "application/json") or kind.endswith("+json"):
        body = response.whole(WHOLE)
        if body is None:
            return StreamedAnswer(response, event_stream=False, reader=document())
        reading = document().read(body)
        headers, limits = _concerning(response)
        status, own_id = response.status_code, id_of(response)
        return WholeAnswer(status, headers, body, reading, limits, own_id)
    raise of_garbage(f"the answer is of type {kind[:40]!r}", response.status_code)


@lru_cache(256)
def _kind(content_type: str) -> str:
    kinds = content_type.partition(";")[0].lower().split(",")  # of several headers; some servers say it twice
    return ",".join(dict.fromkeys(kind.strip() for kind in kinds))


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
    return _concerning(response)[0]


def _concerning(response: Incoming) -> tuple[Headers, dict[str, str]]:
    """Return the headers that a client may see, and what is said of the account's limits."""
    said, named = response.said, response.named
    names = tuple(named) if len(named) == len(said) else tuple([name for name, _ in said])
    passed, limits = _concerns.get(names) or _concern_of(names)
    return [*compress(said, passed)], {} if limits is None else dict(compress(said, limits))


def _concern_of(names: tuple[str, ...]) -> _Concern:
    passed = tuple(
        name in _PASSED_HEADERS or (name.startswith("x-ratelimit-") and name not in _OWN_HEADERS) for name in names
    )
    limits = tuple(name.startswith(LIMIT_HEADERS) for name in names)
    if len(_concerns) >= _MOST_FORMS:
        _concerns.clear()
    made = _concerns[names] = _Concern(passed, limits if any(limits) else None)
    return made


def id_of(response: Incoming) -> str | None:
    """Return the provider's own id of the request, if it is a plain word."""
    return plain_id(response.named.get("x-request-id"))


def plain_id(said: object) -> str | None:
    """Return what a provider calls a request or its work, if it is a plain word."""
    return said if isinstance(said, str) and _PLAIN_ID.fullmatch(said) else None


_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)


def _content_length(value: str | None) -> int | None:
    return int(value) if value is not None and _LENGTH.fullmatch(value) else None

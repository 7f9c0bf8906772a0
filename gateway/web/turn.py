"""One request and its answer on a connection: HTTP/1.1 in both directions, as far as the parser leaves it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping

from gateway.domain.errors import ClientGone
from gateway.domain.random_names import random_hex
from gateway.ports import Headers
from gateway.web.channel import Channel
from gateway.web.head import Head

_HIGH_WATER = 64 * 1024
"""Bytes of a body that nobody has read yet, from which on no more is taken from the client."""
_BODILESS = frozenset({204, 304})
_LINES = re.compile(r"(?:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*")


class Turn:
    """What one request and its answer have come to. Whatever is sent to a client that is gone is lost without a word.

    `body` is all of the request's body, where it came with its head. `received` is `time.monotonic()` at entry. A
    client's own request id is not trusted; this one is made here.
    """

    __slots__ = (
        *("_bodiless", "_changed", "_channel", "_chunked", "_claims_as_read", "_data", "_spared", "_unsent"),
        *("answer_ended", "answer_started", "asked_first", "body_ended", "body_read", "claim", "claimed"),
        *("disconnected", "head", "headers", "keep_alive", "length", "received", "request_id", "task", "_watched"),
    )

    task: asyncio.Task[None]
    """In which it is served, from its turn on."""

    def __init__(self, channel: Channel, head: Head, body: bytes | None = None) -> None:
        self._channel = channel
        self.head = head
        self.headers: Mapping[str, str] = head.headers
        self.keep_alive = head.keep_alive
        self.asked_first = head.asks_first
        self.request_id = f"req_{random_hex()}"
        self.received = time.monotonic()
        self._data: bytes | bytearray = body or b""
        self.body_ended = body is not None
        """Whether all of the request's body has come, or its client is gone."""
        self.body_read = False
        """Whether the request's body was taken to its end."""
        self.claim: Callable[[Turn, int], None] | None = None
        """Asked for room for so many more bytes of the body before they are kept; raises where there is none."""
        self.claimed = 0
        """Bytes of it for which there is room."""
        self.length: int | None = None
        """Of the answer's body in bytes, if its headers name it and it has one."""
        self.answer_started = self.answer_ended = self.disconnected = False
        self._unsent: int | None = 0
        self._bodiless = self._chunked = self._claims_as_read = self._watched = False
        self._changed: asyncio.Event | None = None
        self._spared: Callable[[], None] | None = None

    def feed(self, data: bytes) -> None:
        """Take a piece of the body from the connection; a single one is kept as it is."""
        if not self._data:
            self._data = data
        else:
            if isinstance(self._data, bytes):
                self._data = bytearray(self._data)  # which grows without being copied each time
            self._data += data
        if len(self._data) > _HIGH_WATER:
            self._channel.pause_reading()
        self._wake()

    def end_body(self) -> None:
        """Take note that the body is whole."""
        self.body_ended = True
        self._wake()

    def lose(self) -> None:
        """Take note that the client is gone; ends what is done for it, where it is watched."""
        if self.answer_ended:
            return
        self.disconnected = self.body_ended = True
        self._wake()
        if self._spared is not None:
            self._spared()
        elif self._watched:
            self.task.cancel()

    def watch(self) -> None:
        """From now on, cancel the task of this request once its client is gone: it has sent all that is expected."""
        self._watched, self._spared = True, None
        if self._channel.reading_paused:
            self._channel.resume_reading()
        if self.disconnected:
            self.task.cancel()

    def spare(self, left: Callable[[], None]) -> asyncio.Task[None]:
        """Call `left` once the client is gone, in place of cancelling its task, until it is watched again; the task."""
        self._spared = left
        return self.task

    def unwatch(self) -> None:
        """Let its task go on without its client."""
        self._watched, self._spared = False, None

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    async def _change(self) -> None:
        """Wait until something came, or ended."""
        self._channel.resume_reading()
        if self._changed is None:
            self._changed = asyncio.Event()
        self._changed.clear()
        await self._changed.wait()

    async def read(self) -> bytes:
        """Return what has come of the body, waiting for some; b"" at its end. ClientGone if the client has left."""
        if self.asked_first and not self.disconnected:
            self.asked_first = False
            self._channel.write_now(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self._data or self.body_ended):
            await self._change()
        return self.take()

    def at_hand(self, most: int) -> bool:
        """Tell whether a body of a length that was named has come to its end, with no more bytes than this."""
        length = self.head.length
        return self.body_ended and length is not None and length <= most and not self.asked_first

    def take(self) -> bytes:
        """Return what has come of the body. ClientGone if the client has left."""
        if self.disconnected:
            raise ClientGone("The client hung up before its request was complete.")
        data, self._data, self.body_read = self._data, b"", self.body_ended
        if self._channel.reading_paused:
            self._channel.resume_reading()
        if self._claims_as_read and data and self.claim is not None and not self.answer_started:
            self.claim(self, len(data))
        return data if isinstance(data, bytes) else bytes(data)

    def begin(self, status: int, headers: Headers) -> None:
        """Send the status line and headers, whose names are lower case, without waiting for a client that is behind.

        RuntimeError for a header that would break the head.
        """
        text = "".join([f"{name}: {value}\r\n" for name, value in headers])
        if text.count("\n") != len(headers) or not _LINES.fullmatch(text):
            raise RuntimeError("A header of the answer has control characters.")
        length, closing = None, False
        for name, value in headers:
            if name == "content-length":
                length = int(value)
            elif name == "connection":
                closing = closing or value == "close"
        self.send_head(status, text.encode("latin-1", "replace"), length, closing=closing)

    def send_head(
        self, status: int, lines: bytes, length: int | None, *, closing: bool = False, whole: bytes | None = None
    ) -> None:
        """Send the status line and the lines of headers, known to be sound, without waiting for a client behind.

        `length` and `closing` tell what the lines say: how long the body is, and that the connection ends with it.
        `whole` is the body where it is at hand: it goes with them, and ends the answer, if it is as long as they say.
        """
        self.answer_started = True
        if self.disconnected:
            return
        self.asked_first, channel = False, self._channel
        preambles, said = channel.preambles, b"\r\n"
        preamble = preambles.of(status, channel.state.default_headers)
        if closing or preambles.closing:
            self.keep_alive = False
        elif not self.keep_alive:
            said = b"connection: close\r\n\r\n"
        has_body = self.head.method != "HEAD" and status not in _BODILESS
        self._bodiless = not has_body
        if length is not None:
            self._unsent = length
            self.length = None if status in _BODILESS else length  # of a 304 it is that of another answer
            if has_body and whole is not None and len(whole) == length:
                channel.write_now(b"".join((preamble, lines, said, whole)))
                self._end()
                return
        elif has_body:
            if self.head.version == "1.0":  # which knows no chunks: the connection's end is the body's
                self._unsent = None
                channel.reset_on_close(yes=True)
            else:
                self._chunked, said = True, b"transfer-encoding: chunked\r\n" + said
        channel.transport.write(b"".join((preamble, lines, said)))

    def put(self, chunk: bytes, *, more: bool) -> None:
        """Send some of the body without waiting for a client that is behind; the whole of it is as long as was said."""
        if self.disconnected:
            self.answer_ended = not more
            return
        if not self._bodiless:
            self._put(chunk, more=more)
        if not more:
            self._end()

    def _end(self) -> None:
        self.answer_ended = True
        if self._unsent is None:
            self._channel.reset_on_close(yes=False)
        if not self.keep_alive:
            self._channel.transport.close()
        self._channel.answered()

    def _put(self, chunk: bytes, *, more: bool) -> None:
        transport = self._channel.transport
        if self._chunked:
            if chunk:
                transport.writelines((b"%x\r\n" % len(chunk), chunk, b"\r\n"))
            if not more:
                transport.write(b"0\r\n\r\n")
            return
        if self._unsent is not None:
            self._unsent -= len(chunk)
            if self._unsent < 0 or (self._unsent and not more):
                raise RuntimeError("The answer is not as long as it said.")
        if chunk:
            transport.write(chunk)

    @property
    def client_behind(self) -> bool:
        """Whether the client has yet to take much of an answer that goes on."""
        return self._channel.writing_paused and not self.answer_ended

    async def caught_up(self, seconds: float) -> None:
        """Wait until the client has taken nearly all; TimeoutError if that takes it longer than so many seconds."""
        async with asyncio.timeout(seconds):
            await self._channel.writable()

    @property
    def closing(self) -> bool:
        """Whether the connection is at its end, noticed or not."""
        return self._channel.transport.is_closing()

    async def client_gone(self) -> None:
        """Return once the connection is gone or the answer complete; what is left of the body is thrown away."""
        while not (self.disconnected or self.answer_ended):
            self._data = b""
            await self._change()

    async def body_gone(self) -> None:
        """Return once all of the body has come, and throw it away."""
        while not self.body_ended:
            self._data = b""
            await self._change()

    def left(self) -> bool:
        """Tell whether it was the client's leaving alone that its task was cancelled for, and take that back."""
        return self._watched and self.disconnected and self.task.uncancel() == 0

    def finish(self) -> None:
        """Let go of the connection; an answer that was left open breaks it off."""
        if not (self.answer_ended or self.disconnected):
            self._channel.transport.close()
        self._channel.state.tasks.discard(self.task)
        self._spared = None

"""Delivery: carry an answer to the client as it comes, holding back its last bytes until the money is settled."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.domain.errors import GatewayError
from gateway.failpoint import ARMED, reach
from gateway.ports import Headers
from gateway.ports.provider import Answer
from gateway.request.answer_head import end_to_end
from gateway.request.relay import Relay

EVENT_END = b"\n\n"
_ERROR_NAME = b"event: error\n"
"""In place of the name of an event without data that the error follows: every reader takes the last one."""
_TAIL = 256
"""Bytes of a stream in which its last event begins, if that has no data."""
SMALL = 64 * 1024
"""Bytes; a body up to this size is settled before its headers go out, so that they can tell the cost."""


class Delivery:
    """One answer on its way. `head(cost)` returns the gateway's headers; cost is nano-USD, None if not yet known.

    `record` is given every byte of the body as it comes.
    """

    __slots__ = (
        "_answer",
        "_chunks",
        "_event_stream",
        "_flows",
        "_head",
        "_headers",
        "_held",
        "_lines",
        "_prepared",
        "_received",
        "_record",
        "_relay",
        "_tail",
        "client_seconds",
        "upstream_seconds",
    )

    def __init__(
        self,
        answer: Answer,
        relay: Relay,
        head: Callable[[int | None], Headers],
        record: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> None:
        self._answer = answer
        self._relay = relay
        self._head = head
        self._record = record
        self._chunks: AsyncIterator[bytes] | None = None
        self._event_stream = answer.event_stream
        self._headers: Headers | None = None
        self._prepared: tuple[int | None, Headers] | None = None
        self._lines: tuple[Headers, tuple[bytes, int | None]] | None = None
        self._held: list[bytes] = []
        self._received = 0
        self._flows = False
        self._tail = EVENT_END
        self.upstream_seconds = 0.0
        self.client_seconds = 0.0

    @property
    def opened(self) -> bool:
        """Whether the status line is out."""
        return self._headers is not None

    def headers(self, cost: int | None) -> Headers:
        """Return the headers that went out, or that will once the cost is known."""
        if self._headers is not None:
            return self._headers
        if self._prepared is None or self._prepared[0] != cost:
            self._prepared = cost, [*self._answer.headers, *self._head(cost)]
        return self._prepared[1]

    def prepare(self, request_id: str, cost: int) -> None:
        """Write the head of a short answer that will have this cost (nano-USD), while the store is told of it."""
        if not self._flows:
            headers = self.headers(cost)
            self._lines = headers, end_to_end(headers, request_id)

    def at_hand(self) -> bool:
        """Take all of a body that is here already, where nobody records it; tells whether that is so."""
        if self._record is not None or self._chunks is not None:
            return False
        body = self._answer.at_once()
        if body is None:
            return False
        self._hold(body)
        return True

    async def pump(self, *, held_back: bool = False) -> bool:
        """Read the answer to its end, passing on all but its last bytes; raises UpstreamFailure if it breaks off.

        With `held_back` it is read only as long as nothing is passed on. Returns whether that is all of it; if not,
        go on by another call.
        """
        if self._chunks is None:
            if self._record is not None and (body := self._answer.at_once()) is not None:
                await self._record(body)
                self._hold(body)
                return True
            self._chunks = self._answer.chunks()
        while not (self._flows and held_back):
            if self._flows:
                self.open()
                await self._pass_on()
            if self._relay.behind:
                await self._room()
            began = time.monotonic()
            try:
                chunk = await anext(self._chunks, None)
            finally:
                self.upstream_seconds += time.monotonic() - began
            if chunk is None:
                reach("answer_read")
                return True
            reach("mid_answer")
            if self._record is not None:
                await self._record(chunk)
            self._take(chunk)
        return False

    def _hold(self, body: bytes) -> None:
        """Take all of a body at once."""
        if ARMED:
            reach("mid_answer")
        self._held.append(body)
        if ARMED:
            reach("answer_read")

    def _take(self, chunk: bytes) -> None:
        self._received += len(chunk)
        self._held.append(chunk)
        if self._event_stream:
            self._tail = (self._tail + chunk[-_TAIL:])[-_TAIL:]
        self._flows = self._event_stream or self._received > SMALL

    async def _room(self) -> None:
        """Wait until the client has caught up: what is read before only fills memory."""
        began = time.monotonic()
        await self._relay.room()
        self.client_seconds += time.monotonic() - began

    def open(self, cost: int | None = None) -> None:
        """Let the status line go out, unless it has."""
        if self._headers is None:
            self._headers = self.headers(cost)
            self._relay.open(self._answer.status, self._headers)

    async def _pass_on(self) -> None:
        length = self._answer.content_length
        last = self._held.pop() if length is not None and self._received >= length else None
        await self._write(self._held)
        self._held = [] if last is None else [last]

    async def _write(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            if self._relay.behind:
                await self._room()
            self._relay.put(chunk)

    async def finish(self, cost: int | None) -> None:
        """Give the client the rest; the money is settled, or the cost (None) known to somebody else only later."""
        if self.give(cost):
            return
        reach("before_last_byte")
        self.open(cost)
        await self._write(self._held)
        self._relay.close()
        reach("after_last_byte")

    def give(self, cost: int | None) -> bool:
        """Give the client a short answer as `finish` does, without waiting for anybody; False for any other."""
        if self._flows:
            return False
        if ARMED:
            reach("before_last_byte")
        self._headers = headers = self.headers(cost)
        if self._lines is not None and self._lines[0] is headers:
            self._relay.lines = self._lines[1]
        self._relay.give(self._answer.status, headers, self._held)
        if ARMED:
            reach("after_last_byte")
        return True

    def break_off(self, error: GatewayError) -> None:
        """Tell the client that the answer is not whole, in the way that is still open; waits for nobody."""
        if self._relay.closed:
            return
        begun = self._begun() if self._event_stream else None
        if not self.opened:
            self._relay.fail(error)
        elif begun is None:
            # Half an event cannot be unsaid: an error after it would read as part of it, so the connection breaks.
            self._relay.abort()
        else:
            for chunk in (*self._held, _ERROR_NAME if begun else b"", b"data: " + error.written() + EVENT_END):
                self._relay.put(chunk)
            self._relay.close()

    def _begun(self) -> bytes | None:
        """Return the whole lines of an event that has begun without data, if any has; None inside any other."""
        _, between, begun = self._tail.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rpartition(EVENT_END)
        torn = not between or not (b"\n" + begun).endswith(b"\n") or b"data" in begun
        return None if torn else begun

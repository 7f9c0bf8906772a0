"""Delivery: carry an answer to the client as it comes, holding back its last bytes until the money is settled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from gateway.domain.errors import GatewayError
from gateway.ports import Answer, Headers
from gateway.relay import Relay

EVENT_END = b"\n\n"
SMALL = 64 * 1024
"""Bytes; a body up to this size is settled before its headers go out, so that they can tell the cost."""


class Delivery:
    """One answer on its way. `head(cost)` returns the gateway's headers; cost is nano-USD, None if not yet known."""

    def __init__(self, answer: Answer, relay: Relay, head: Callable[[int | None], Headers]) -> None:
        self._answer = answer
        self._relay = relay
        self._head = head
        self._opened = False
        self._held: list[bytes] = []
        self._received = 0
        self._tail = EVENT_END
        self.upstream_seconds = 0.0
        self.client_seconds = 0.0

    async def pump(self) -> None:
        """Read the answer to its end, passing on all but its last bytes; raises UpstreamFailure if it breaks off."""
        chunks = self._answer.chunks()
        while True:
            began = time.monotonic()
            try:
                chunk = await anext(chunks, None)
            finally:
                self.upstream_seconds += time.monotonic() - began
            if chunk is None:
                return
            self._received += len(chunk)
            self._tail = (self._tail + chunk[-4:])[-4:]
            self._held.append(chunk)
            if self._opened or self._answer.event_stream or self._received > SMALL:
                self._open(None)
                await self._pass_on()

    def _open(self, cost: int | None) -> None:
        if not self._opened:
            self._opened = True
            self._relay.open(self._answer.status, [*self._answer.headers, *self._head(cost)])

    async def _pass_on(self) -> None:
        length = self._answer.content_length
        last = self._held.pop() if length is not None and self._received >= length else None
        await self._write(self._held)
        self._held = [] if last is None else [last]

    async def _write(self, chunks: list[bytes]) -> None:
        began = time.monotonic()
        for chunk in chunks:
            await self._relay.write(chunk)
        self.client_seconds += time.monotonic() - began

    async def finish(self, cost: int) -> None:
        """Give the client the rest; the money is settled."""
        self._open(cost)
        await self._write(self._held)
        self._relay.close()

    async def break_off(self, error: GatewayError) -> None:
        """Tell the client that the answer is not whole, in the way that is still open."""
        if not self._opened:
            self._relay.fail(error)
        elif self._answer.event_stream and self._between_events():
            await self._write([*self._held, b"data: " + json.dumps(error.body()).encode() + EVENT_END])
            self._relay.close()
        else:
            # Half an event cannot be unsaid: an error after it would read as part of it, so the connection breaks.
            self._relay.abort()

    def _between_events(self) -> bool:
        return self._tail.replace(b"\r\n", b"\n").endswith(EVENT_END)

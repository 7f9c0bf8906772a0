"""Task flight: a flight for whose answer no client waits; it is kept here to its end."""

from __future__ import annotations

import logging

from gateway.domain.errors import GatewayError, UpstreamError
from gateway.ports import Headers, Outbound
from gateway.request.flight import Flight
from gateway.request.keeping import Whole
from gateway.request.relay import Relay

log = logging.getLogger(__name__)


class Gathered(Relay):
    """A relay without a client: it never waits, and holds nothing until there is an answer, for tasks are many."""

    bytes_out = 0
    on_leave = None
    _gone = False
    _status = 0
    _headers: Headers = ()
    _body: bytearray | None = None
    _error: GatewayError | None = None

    def __init__(self) -> None:
        """Make nothing yet of what a relay to a client needs."""

    def open(self, status: int, headers: Headers) -> None:
        """Take the status line; the body follows."""
        self._status, self._headers, self._body = status, headers, bytearray()

    def fail(self, error: GatewayError) -> None:
        """Take an error in place of an answer, or of the rest of one."""
        self._error = _broken_off() if self._body is not None else error

    async def write(self, chunk: bytes) -> None:
        """Take some bytes of the body."""
        if self._body is not None:
            self._body += chunk

    def close(self) -> None:
        """Take note that the body is whole."""

    def abort(self) -> None:
        """Take note that it never will be."""
        self._error = _broken_off()

    async def until_taken(self) -> None:
        """Return at once: nobody takes it."""

    def outcome(self) -> Whole | GatewayError:
        """Return the answer, or the error in its place; the flight has ended."""
        if self._error is not None or self._body is None:
            return self._error or _broken_off()
        return Whole(self._status, self._headers, bytes(self._body))


def _broken_off() -> GatewayError:
    return UpstreamError("The provider's answer broke off. The work may have been billed.", should_retry=False)


async def flown(flight: Flight, gathered: Gathered) -> Whole | GatewayError:
    """Let a flight run to its end and return what its client would have got; ends with it if it is cancelled."""
    try:
        await flight.run()
    except Exception as error:  # noqa: BLE001 - it was logged where it arose, and what stands for it is gathered
        log.debug("a flight has failed: %r", error)
    return gathered.outcome()


async def whole(answer: Outbound) -> Whole:
    """Return an answer, read to its end."""
    return Whole(answer.status, answer.headers, b"".join([chunk async for chunk in answer.chunks]))

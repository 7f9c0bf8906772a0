"""Task flight: a flight for whose answer no client waits; it is kept here to its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.errors import GatewayError, UpstreamError
from gateway.domain.job import Operation
from gateway.domain.task import TaskOrder
from gateway.ports import Headers, Outbound
from gateway.request.answer_keeping import Whole
from gateway.request.flight import Flight
from gateway.request.relay import Relay


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """Implements `ports.RequestFacts`: a request that is taken up again. Its body lies in the storage."""

    request_id: str
    operation: Operation
    path_model: str | None
    headers: Mapping[str, str]
    received: float

    @classmethod
    def of(cls, order: TaskOrder) -> KeptRequest:
        """Take up what was ordered, now."""
        return cls(order.request_id, Operation(order.operation), order.path_model, order.headers, time.monotonic())


class Gathered(Relay):
    """A relay without a client: it never waits, and holds nothing until there is an answer, for tasks are many."""

    answered = client_gone = False
    bytes_out = 0
    on_leave = None
    _size = _passing = _status = 0
    _headers: Headers = ()
    _body: bytearray | None = None
    _error: GatewayError | None = None

    def __init__(self) -> None:
        """Make nothing yet of what a relay to a client needs."""

    def open(self, status: int, headers: Headers) -> None:
        """Take the status line; the body follows."""
        self._status, self._headers, self._body = status, headers, bytearray()

    def give(self, status: int, headers: Headers, body: Sequence[bytes]) -> None:
        """Take a whole answer."""
        self._status, self._headers, self._body = status, headers, bytearray().join(body)

    def fail(self, error: GatewayError) -> None:
        """Take an error in place of an answer, or of the rest of one."""
        self._error = _broken_off() if self._body is not None else error

    def put(self, chunk: bytes) -> None:
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

    @property
    def failed(self) -> bool:
        """Whether there is an error in place of an answer, or of the rest of one."""
        return self._error is not None

    def outcome(self) -> Whole | GatewayError:
        """Return the answer, or the error in its place; the flight has ended."""
        if self._error is not None or self._body is None:
            return self._error or _broken_off()
        return Whole(self._status, self._headers, bytes(self._body))


def _broken_off() -> GatewayError:
    return UpstreamError("The provider's answer broke off. The work may have been billed.", should_retry=False)


async def flown(flight: Flight, gathered: Gathered) -> Whole | GatewayError:
    """Let a flight run to its end and return what its client would have got; ends with it if it is cancelled.

    A flight that a fault of ours has cut short has told its client so, and logged it; one that has not raises it.
    """
    try:
        await flight.run()
    except Exception:
        if not gathered.failed:
            raise
    return gathered.outcome()


async def whole(answer: Outbound) -> Whole:
    """Return an answer, read to its end."""
    return Whole(answer.status, answer.headers, b"".join([chunk async for chunk in answer.chunks]))

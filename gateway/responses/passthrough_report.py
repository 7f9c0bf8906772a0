"""Passthrough report: collects the facts of one passed-through request and reports them once, when its answer ends."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from gateway.domain import money
from gateway.domain.errors import UpstreamError
from gateway.domain.job import Operation
from gateway.observe.event import NONE, Observer, RequestFinished, RequestStarted
from gateway.ports import Headers, Rendered, Truncated
from gateway.ports.responses import PassthroughAnswer
from gateway.responses.conversations import FAILED, Through

_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class PassthroughReport:
    """Filled in as the request goes along. `received` is when it came, by the monotonic clock."""

    def __init__(self, observer: Observer, request_id: str, received: float) -> None:
        self._observer = observer
        self._received = received
        self._elsewhere = 0.0
        self._overhead: float | None = None
        self._ended = False
        self.told = RequestFinished(request_id, str(Operation.PASSTHROUGH), 500, 0.0, 0.0)
        observer.emit(RequestStarted(str(Operation.PASSTHROUGH)))

    def know(self, **more: Any) -> None:
        """Add to what is told of it, by names of `RequestFinished`."""
        self.told = replace(self.told, **more)

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Stand around a wait for its client or the account."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._elsewhere += time.monotonic() - began

    def answered(self) -> None:
        """Take note that its answer's head is there: from here on all time is the account's or the client's."""
        self._overhead = self._so_far()

    def _so_far(self) -> float:
        return max(0.0, time.monotonic() - self._received - self._elsewhere)

    def headers(self) -> Headers:
        """Return the gateway's own headers for it, as far as it has come."""
        told = self.told
        if told.route == NONE:
            return []
        headers = [("X-Gateway-Route", told.route), ("X-Gateway-Attempts", str(told.attempts))]
        if told.estimate is not None:
            headers.append(("X-Gateway-Cost-Estimate", money.format_usd(told.estimate)))
            headers.append(("X-Gateway-Cost", money.format_usd(told.cost or 0)))
        return headers

    def end(self, status: int, code: str = "", *, gone: bool = False) -> None:
        """Report the request as finished; later calls are ignored."""
        if self._ended:
            return
        self._ended = True
        duration = time.monotonic() - self._received
        overhead = self._so_far() if self._overhead is None else self._overhead
        ended = replace(self.told, status=status, code=code, client_gone=gone, duration=duration, overhead=overhead)
        self._observer.emit(ended)


class ReportedAnswer(Through):
    """An answer as it comes; its course ends once it is read, or let go of.

    `leave` is called, once, if its client has lost it before its end and may ask again: of events nobody does.
    """

    def __init__(
        self,
        answer: PassthroughAnswer,
        body: Rendered | None,
        report: PassthroughReport,
        leave: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(answer, body)
        self._report = report
        self._leave = None if _header(answer, "content-type").startswith("text/event-stream") else leave
        self._status = answer.status
        self._code = "" if answer.status < FAILED else answer.refusal or f"status_{answer.status // 100}xx"
        self._length = _length_of(answer)
        self._sent = 0
        report.answered()

    async def __anext__(self) -> bytes:
        try:
            chunk = await super().__anext__()
        except StopAsyncIteration:
            self._length = self._sent
            raise
        except Truncated:
            await self._left()  # first: a retry comes as soon as the connection is cut
            self._end(UpstreamError.status, UpstreamError.default_code)
            raise
        self._sent += len(chunk)
        return chunk

    async def aclose(self) -> None:
        """Let go; whoever does so before the end has lost its client."""
        gone = self._sent != self._length
        try:
            await super().aclose()
            if gone:
                await self._left()
        finally:
            self._end(self._status, self._code, gone=gone)

    async def _left(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            await leave()

    def _end(self, status: int, code: str = "", *, gone: bool = False) -> None:
        self._report.know(bytes_out=self._sent)
        self._report.end(status, code, gone=gone)


def _length_of(answer: PassthroughAnswer) -> int | None:
    """Return how long its body is, for a body that has no bytes is never read; None if only its end will tell."""
    if answer.status in _BODILESS:
        return 0
    told = _header(answer, "content-length")
    return int(told) if told.isdecimal() else None


def _header(answer: PassthroughAnswer, wanted: str) -> str:
    return next((value for name, value in answer.headers if name.lower() == wanted), "")

"""A request's body as it arrives, with its size and pace watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from gateway.domain.errors import RequestTooLarge
from gateway.web.context import RequestContext
from gateway.web.errors import RequestTimeout
from gateway.web.limits import BodyLimits


async def body_chunks(context: RequestContext, limits: BodyLimits) -> AsyncIterator[bytes]:
    """Yield the body as it comes.

    RequestTooLarge before the first byte where the length says so, else at the limit; RequestTimeout if the client
    is too slow; ClientGone if it hung up.
    """
    context.check_length(limits.total)
    received, pace = 0, _Pace(limits)
    while True:
        try:
            async with asyncio.timeout_at(pace.patience):
                chunk, ended = await context.read(), context.body_ended
        except TimeoutError:
            chunk, ended = b"", False
        received += len(chunk)
        if received > limits.total:
            raise _too_large(limits)
        if chunk:
            yield chunk
        if ended:
            return
        pace.check(len(chunk))


class _Pace:
    """How fast a body comes; loop times. `patience` is until when there may be nothing."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._clock = asyncio.get_running_loop().time
        now = self._clock()
        self._end = now + limits.seconds
        self._window_bytes, self._window_end = 0, now + limits.slow_seconds

    @property
    def patience(self) -> float:
        return min(self._window_end, self._end)

    def check(self, size: int) -> None:
        """Count what came; RequestTimeout if it is too little, or takes too long all in all."""
        limits, now = self._limits, self._clock()
        self._window_bytes += size
        if now >= self._end:
            raise RequestTimeout(f"The request's body took longer than {limits.seconds:g} s.")
        if now >= self._window_end:
            if self._window_bytes < limits.slow_bytes:
                raise RequestTimeout(
                    f"The request's body came too slowly: {self._window_bytes} bytes in {limits.slow_seconds:g} s."
                )
            self._window_bytes, self._window_end = 0, now + limits.slow_seconds


def _too_large(limits: BodyLimits) -> RequestTooLarge:
    return RequestTooLarge(f"The request's body is larger than the {limits.total} bytes that are accepted.")

"""A request's body as it arrives, with its size and pace watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Message, Receive

from gateway.domain.errors import ClientGone, RequestTooLarge
from gateway.web.errors import RequestTimeout
from gateway.web.limits import BodyLimits


async def body_chunks(receive: Receive, content_length: int | None, limits: BodyLimits) -> AsyncIterator[bytes]:
    """Yield the body as it comes.

    RequestTooLarge before the first byte where the length says so, else at the limit; RequestTimeout if the client
    is too slow; ClientGone if it hung up.
    """
    if content_length is not None and content_length > limits.total:
        raise _too_large(limits)
    clock = asyncio.get_running_loop().time
    received, window_bytes, window_end = 0, 0, clock() + limits.slow_seconds
    while True:
        try:
            async with asyncio.timeout_at(window_end):
                message: Message = await receive()
        except TimeoutError:
            message = {"type": "http.request", "more_body": True}
        if message["type"] == "http.disconnect":
            raise ClientGone("The client hung up before its request was complete.")
        chunk = message.get("body", b"")
        received += len(chunk)
        window_bytes += len(chunk)
        if received > limits.total:
            raise _too_large(limits)
        if chunk:
            yield chunk
        if not message.get("more_body", False):
            return
        if clock() >= window_end:
            if window_bytes < limits.slow_bytes:
                raise RequestTimeout(
                    f"The request's body came too slowly: {window_bytes} bytes in {limits.slow_seconds:g} s."
                )
            window_bytes, window_end = 0, clock() + limits.slow_seconds


def _too_large(limits: BodyLimits) -> RequestTooLarge:
    return RequestTooLarge(f"The request's body is larger than the {limits.total} bytes that are accepted.")

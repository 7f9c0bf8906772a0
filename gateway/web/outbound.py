"""Sending an answer as it comes, to a client that may leave or stop reading at any moment."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from gateway.ports import Headers, Outbound, Truncated
from gateway.web.context import RequestContext

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
"""RFC 9110, 7.6.1."""
_OWN = frozenset({"date", "server"})
"""What the server itself says on this hop."""
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def end_to_end(headers: Headers, request_id: str) -> list[tuple[str, str]]:
    """Return the headers that concern the client: no hop-by-hop ones, none that `Connection` names, none malformed."""
    named = {
        token.strip().lower() for name, value in headers if name.lower() == "connection" for token in value.split(",")
    }
    dropped = _HOP_BY_HOP | _OWN | named
    kept = [
        (name.lower(), value)
        for name, value in headers
        if name.lower() not in dropped and _TOKEN.fullmatch(name) and not _UNSAFE.search(value)
    ]
    names = {name for name, _ in kept}
    defaults = (("x-request-id", request_id), ("cache-control", "no-store"))
    return [*kept, *((name, value) for name, value in defaults if name not in names)]


async def send_outbound(context: RequestContext, outbound: Outbound, stall_seconds: float) -> None:
    """Send an answer to its end, or until the client is gone or reads nothing for `stall_seconds`.

    However it ends, the chunk iterator is closed. A truncated answer breaks the connection off.
    """
    pump = asyncio.create_task(_pump(context, outbound, stall_seconds))
    watch = asyncio.create_task(context.client_gone())
    try:
        await asyncio.wait({pump, watch}, return_when=asyncio.FIRST_COMPLETED)
        if pump.done():
            watch.cancel()
            await _end(context, pump, stall_seconds)
    finally:
        await _stop(pump)
        await _stop(watch)
        await _close(outbound.chunks)


async def _pump(context: RequestContext, outbound: Outbound, stall_seconds: float) -> None:
    headers = end_to_end(outbound.headers, context.request_id)
    length = next((int(value) for name, value in headers if name == "content-length"), None)
    sent = 0
    await context.start(outbound.status, headers)
    async for chunk in outbound.chunks:
        if chunk:
            sent += len(chunk)
            async with asyncio.timeout(stall_seconds):
                await context.write(chunk, more=True)
    if length is not None and sent < length:
        raise Truncated
    async with asyncio.timeout(stall_seconds):
        await context.write(b"", more=False)


async def _end(context: RequestContext, pump: asyncio.Task[None], stall_seconds: float) -> None:
    try:
        await pump
    except Truncated:
        await context.break_off(stall_seconds)
    except TimeoutError:
        await context.abort()


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen where it mattered


async def _close(chunks: AsyncIterator[bytes]) -> None:
    aclose = getattr(chunks, "aclose", None)
    if aclose is not None:
        await aclose()

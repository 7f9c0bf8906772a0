"""Sending an answer as it comes, to a client that may leave or stop reading at any moment."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from functools import lru_cache

from gateway.domain.errors import ClientGone
from gateway.ports import Headers, Outbound, Truncated
from gateway.web.client_watch import ClientWatch
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
PACE = 16 * 1024
"""Bytes a second that a client takes at least, all in all."""
_DROPPED = _HOP_BY_HOP | _OWN
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def end_to_end(headers: Headers, request_id: str) -> list[tuple[str, str]]:
    """Return the headers that concern the client: no hop-by-hop ones, none that `Connection` names, none malformed."""
    connection = [value for name, value in headers if _name(name) == "connection"]
    dropped = _DROPPED.union(token.strip().lower() for value in connection for token in value.split(","))
    kept = [
        (known, value)
        for name, value in headers
        if (known := _name(name)) is not None and known not in dropped and not _UNSAFE.search(value)
    ]
    names = {name for name, _ in kept}
    defaults = (("x-request-id", request_id), ("cache-control", "no-store"))
    return [*kept, *((name, value) for name, value in defaults if name not in names)]


@lru_cache(512)
def _name(name: str) -> str | None:
    """Return a header's name in lower case; None if it is malformed."""
    return name.lower() if _TOKEN.fullmatch(name) else None


class _Stalled(Exception):
    """The client reads nothing, or too slowly."""


async def send_outbound(
    context: RequestContext, outbound: Outbound, stall_seconds: float, watch: ClientWatch | None = None
) -> None:
    """Send an answer to its end, or until the client is gone or too far behind with reading it.

    That is when the answer waits for it for `stall_seconds` at once, or on the whole for that and a second more for
    each `PACE` that was sent.
    However it ends, the chunk iterator is closed. `watch` is what has watched the client until now, if anything has.
    A truncated answer breaks the connection off.
    """
    watch = ClientWatch(context) if watch is None else watch
    watch.begin()
    try:
        await watch.until_gone(_pump(context, outbound, stall_seconds))
    except ClientGone:
        return
    except Truncated:
        await context.break_off(stall_seconds)
    except _Stalled:
        await context.abort()
    finally:
        watch.end()
        await _close(outbound.chunks)


async def _pump(context: RequestContext, outbound: Outbound, stall_seconds: float) -> None:
    headers = end_to_end(outbound.headers, context.request_id)
    length = next((int(value) for name, value in headers if name == "content-length"), None)
    sent, waited = 0, 0.0
    await context.start(outbound.status, headers)
    async for chunk in outbound.chunks:
        if chunk:
            patience, began = min(stall_seconds, stall_seconds + sent / PACE - waited), time.monotonic()
            sent += len(chunk)
            await _write(context, chunk, patience, more=sent != length)
            if context.client_behind:  # what is asked for before it has read this only fills memory
                await _write(context, b"", patience, more=True)
            waited += time.monotonic() - began
    if length is not None and sent < length:
        raise Truncated
    if not context.answer_ended:
        await _write(context, b"", stall_seconds, more=False)


async def _write(context: RequestContext, chunk: bytes, stall_seconds: float, *, more: bool) -> None:
    try:
        await context.write_within(stall_seconds, chunk, more=more)
    except TimeoutError as error:
        raise _Stalled from error


async def _close(chunks: AsyncIterator[bytes]) -> None:
    aclose = getattr(chunks, "aclose", None)
    if aclose is not None:
        await aclose()

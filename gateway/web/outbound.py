"""Sending an answer as it comes, to a client that may leave or stop reading at any moment."""

from __future__ import annotations

import re
import time

from gateway.domain.errors import ClientGone
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
PACE = 16 * 1024
"""Bytes a second that a client takes at least, all in all."""
_DROPPED = _HOP_BY_HOP | _OWN
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MOST_NAMES = 512
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class _Names(dict[str, str | None]):
    """Names of headers in lower case, None of those that are malformed; as many as come again and again."""

    def __missing__(self, name: str) -> str | None:
        if len(self) >= _MOST_NAMES:
            self.clear()
        self[name] = known = name.lower() if _TOKEN.fullmatch(name) else None
        return known


_names = _Names()


def end_to_end(headers: Headers, request_id: str) -> list[tuple[str, str]]:
    """Return the headers that concern the client: no hop-by-hop ones, none that `Connection` names, none malformed."""
    dropped, own_id, own_storage = _DROPPED, True, True
    for name, value in headers:
        if _names[name] == "connection":
            dropped = dropped.union(token.strip().lower() for token in value.split(","))
    kept = [(known, value) for name, value in headers if (known := _names[name]) is not None and known not in dropped]
    if _UNSAFE.search("".join([value for _, value in kept])):
        return end_to_end([(name, value) for name, value in headers if not _UNSAFE.search(value)], request_id)
    for name, _ in kept:
        if name == "x-request-id":
            own_id = False
        elif name == "cache-control":
            own_storage = False
    if own_id:
        kept.append(("x-request-id", request_id))
    if own_storage:
        kept.append(("cache-control", "no-store"))
    return kept


class _Stalled(Exception):
    """The client reads nothing, or too slowly."""


async def send_outbound(context: RequestContext, outbound: Outbound, stall_seconds: float) -> None:
    """Send an answer to its end, or until the client is gone or too far behind with reading it.

    That is when the answer waits for it for `stall_seconds` at once, or on the whole for that and a second more for
    each `PACE` that was sent.
    However it ends, the chunk iterator is closed. A truncated answer breaks the connection off.
    """
    try:
        if context.disconnected:
            raise ClientGone("The client hung up before its answer came.")
        context.watch()
        await _pump(context, outbound, stall_seconds)
    except Truncated:
        await context.break_off(stall_seconds)
    except _Stalled:
        await context.abort()
    finally:
        if outbound.whole is None or not context.answer_ended:
            aclose = getattr(outbound.chunks, "aclose", None)
            if aclose is not None:
                await aclose()


async def _pump(context: RequestContext, outbound: Outbound, stall_seconds: float) -> None:
    sent, waited = 0, 0.0
    if context.client_behind:  # with an earlier answer
        waited += await _catch_up(context, stall_seconds)
    headers = end_to_end(outbound.headers, context.request_id)
    context.begin(outbound.status, headers, checked=True, whole=outbound.whole)
    if context.answer_ended:
        return
    length = context.length
    async for chunk in outbound.chunks:
        if context.closing:
            raise ClientGone("The client hung up before its answer was complete.")
        if chunk:
            sent += len(chunk)
            context.put(chunk, more=sent != length)
            if context.client_behind:  # what is asked for before it has read this only fills memory
                waited += await _catch_up(context, min(stall_seconds, stall_seconds + sent / PACE - waited))
    if length is not None and sent < length:
        raise Truncated
    if not context.answer_ended:
        context.put(b"", more=False)


async def _catch_up(context: RequestContext, patience: float) -> float:
    """Wait until the client has read most of what it was sent; return the seconds that it took."""
    began = time.monotonic()
    try:
        await context.caught_up(patience)
    except TimeoutError as error:
        raise _Stalled from error
    return time.monotonic() - began

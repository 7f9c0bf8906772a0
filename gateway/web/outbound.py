"""Sending an answer as it comes, to a client that may leave or stop reading at any moment."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from gateway.domain.errors import ClientGone
from gateway.ports import Outbound, Truncated
from gateway.request.answer_head import end_to_end
from gateway.request.relay import Written
from gateway.web.context import RequestContext

PACE = 16 * 1024
"""Bytes a second that a client takes at least, all in all."""


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
        waited = 0.0
        if context.client_behind:  # with an earlier answer
            context.watch()
            waited = await _catch_up(context, stall_seconds)
        if isinstance(outbound, Written):
            lines, length = outbound.lines, outbound.length
        else:
            lines, length = end_to_end(outbound.headers, context.request_id)
        context.send_head(outbound.status, lines, length, whole=outbound.whole)
        if not context.answer_ended:
            context.watch()
            await _pump(context, outbound.chunks, stall_seconds, waited)
    except Truncated:
        await context.break_off(stall_seconds)
    except _Stalled:
        await context.abort()
    finally:
        if outbound.whole is None or not context.answer_ended:
            aclose = getattr(outbound.chunks, "aclose", None)
            if aclose is not None:
                await aclose()


async def _pump(context: RequestContext, chunks: AsyncIterator[bytes], stall_seconds: float, waited: float) -> None:
    sent, length = 0, context.length
    async for chunk in chunks:
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

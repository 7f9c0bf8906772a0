"""The responses endpoints, and all other paths, which may go through."""

from __future__ import annotations

from functools import partial

from starlette.exceptions import HTTPException

from gateway.domain.errors import InvalidRequest
from gateway.domain.job import Operation
from gateway.domain.passing import read_path
from gateway.front import Gateway
from gateway.ports import Body, Inbound, Rendered
from gateway.ports.responses import Passing
from gateway.spool import Spool
from gateway.web.body import JSON, read_body
from gateway.web.context import RequestContext
from gateway.web.limits import BodyLimits
from gateway.web.outbound import send_outbound
from gateway.web.request_stream import body_chunks

_REPEATABLE = frozenset({"idempotency-key", "x-stainless-retry-count"})
_PASSED = ("accept", "content-type", "range")
"""Request headers that go through; credentials, cookies and those of the hop never do."""


class ResponseEndpoints:
    """Handlers on one gateway. `stall_seconds` is how long a client may read nothing."""

    def __init__(self, gateway: Gateway, limits: BodyLimits, stall_seconds: float) -> None:
        self._gateway = gateway
        self._limits = limits
        self._stall_seconds = stall_seconds

    async def create(self, context: RequestContext) -> None:
        """Make a response."""

        async def read() -> Body:
            context.expect_body()
            body = await read_body(
                context.headers,
                body_chunks(context, self._limits),
                accepted=(JSON,),
                limits=self._limits,
                fingerprint=not _REPEATABLE.isdisjoint(context.headers),
            )
            context.watch()
            return body

        inbound = Inbound(
            request_id=context.request_id,
            operation=Operation.RESPOND,
            path_model=None,
            headers=context.headers,
            content_length=context.content_length,
            read_body=read,
            received=context.received,
            spare=context.spare,
        )
        await send_outbound(context, await self._gateway.handle(inbound), self._stall_seconds)

    async def one(self, context: RequestContext) -> None:
        """Show or delete a response."""
        await self._ask(context, "")

    async def cancel(self, context: RequestContext) -> None:
        """Cancel a response that goes on in the background."""
        await self._ask(context, "/cancel")

    async def input_items(self, context: RequestContext) -> None:
        """List what a response was made of."""
        await self._ask(context, "/input_items")

    async def _ask(self, context: RequestContext, part: str) -> None:
        response_id = context.path_params["id"]
        passing = Passing(
            method=context.scope["method"],
            path=f"/responses/{response_id}{part}",
            query=_query(context),
            request_id=context.request_id,
        )
        outbound = await self._gateway.response(context.headers, response_id, passing)
        await send_outbound(context, outbound, self._stall_seconds)

    async def passed(self, context: RequestContext) -> None:
        """Let a request for any other path go through, if policy does; one that never may is unknown, key or no key."""
        path = _raw_path(context)
        if read_path(path) is None:
            raise HTTPException(404)
        has_body = bool(context.content_length) or "transfer-encoding" in context.headers
        passing = Passing(
            method=context.scope["method"],
            path=path,
            query=_query(context),
            headers=[(name, context.headers[name]) for name in _PASSED if name in context.headers],
            body=partial(_spooled, context, self._limits) if has_body else None,
            request_id=context.request_id,
        )
        outbound = await self._gateway.passed(context.headers, passing, context.received)
        await send_outbound(context, outbound, self._stall_seconds)


async def _spooled(context: RequestContext, limits: BodyLimits) -> Rendered:
    """Read a body to its end, so that it can be sent again if a connection turns out to be dead."""
    context.expect_body()
    spool = Spool(limits.json_in_memory)
    try:
        async for chunk in body_chunks(context, limits):
            spool.write(chunk)
            await spool.drain()
    except BaseException:
        await spool.aclose()
        raise
    content_type = context.headers.get("content-type", "")
    return Rendered(content_type, spool.size, lambda: spool.read(0, spool.size), spool.aclose)


def _raw_path(context: RequestContext) -> str:
    """Return the path as it came, nothing decoded."""
    raw: bytes = context.scope.get("raw_path") or context.scope["path"].encode("utf-8", "surrogateescape")
    return raw.partition(b"?")[0].decode("latin-1")


def _query(context: RequestContext) -> str:
    text: str = context.scope["query_string"].decode("latin-1")
    if not text.isascii() or not text.isprintable() or any(mark in text for mark in ' "<>\\^`{|}#'):
        raise InvalidRequest("The query has characters that must be encoded.", param="query")
    return text

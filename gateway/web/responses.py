"""The responses endpoints, and all other paths, which may go through."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from starlette.exceptions import HTTPException

from gateway.domain.errors import InvalidRequest, NotFound
from gateway.domain.job import Operation
from gateway.domain.passing import read_path
from gateway.facade import Gateway
from gateway.ports import Inbound, Outbound, Rendered
from gateway.ports.responses import PassthroughRequest
from gateway.spool import Spool
from gateway.steps.accept import RETRY_COUNT
from gateway.web.body import JSON, read_sent
from gateway.web.context import RequestContext
from gateway.web.fingerprint import RawFingerprint
from gateway.web.limits import BodyLimits
from gateway.web.request_stream import body_chunks

_PASSED = ("accept", "content-type", "content-encoding", "range")
"""Request headers that go through; credentials, cookies and those of the hop never do."""
_REPEATED_BY = frozenset({"idempotency-key", RETRY_COUNT})
"""Headers by which a client says that it may repeat its request; without one no fingerprint is taken."""


class ResponseEndpoints:
    """Handlers on one gateway."""

    def __init__(self, gateway: Gateway, limits: BodyLimits) -> None:
        self._gateway = gateway
        self._limits = limits

    async def create(self, context: RequestContext) -> Outbound:
        """Make a response."""
        inbound = Inbound(
            request_id=context.request_id,
            operation=Operation.RESPOND,
            path_model=None,
            headers=context.headers,
            read_body=partial(read_sent, context, (JSON,), self._limits),
            received=context.received,
            spare=context.spare,
        )
        return await self._gateway.handle(inbound)

    async def not_served(self, context: RequestContext) -> Outbound:
        """Refuse what the vendor does for conversations besides: it costs what nobody here counts."""
        raise NotFound(f"{context.scope['path']} is not served here; conversations are made by POST /v1/responses.")

    async def one(self, context: RequestContext) -> Outbound:
        """Show or delete a response."""
        return await self._ask(context, "")

    async def cancel(self, context: RequestContext) -> Outbound:
        """Cancel a response that goes on in the background."""
        return await self._ask(context, "/cancel")

    async def input_items(self, context: RequestContext) -> Outbound:
        """List what a response was made of."""
        return await self._ask(context, "/input_items")

    async def _ask(self, context: RequestContext, part: str) -> Outbound:
        response_id = context.path_params["id"]
        passing = PassthroughRequest(
            method=context.scope["method"],
            path=f"/responses/{response_id}{part}",
            query=_query(context),
            request_id=context.request_id,
        )
        return await self._gateway.response(context.headers, response_id, passing)

    async def passed(self, context: RequestContext) -> Outbound:
        """Let a request for any other path go through, if policy does; one that never may is unknown, key or no key."""
        path = _raw_path(context)
        if read_path(path) is None:
            raise HTTPException(404)
        has_body = bool(context.content_length) or "transfer-encoding" in context.headers
        passing = PassthroughRequest(
            method=context.scope["method"],
            path=path,
            query=_query(context),
            headers=[(name, context.headers[name]) for name in _PASSED if name in context.headers],
            body=partial(_spooled, context, self._limits) if has_body else None,
            request_id=context.request_id,
            spare=partial(_spare, context),
        )
        return await self._gateway.passed(context.headers, passing, context.received)


async def _spooled(context: RequestContext, limits: BodyLimits) -> tuple[Rendered, str]:
    """Read a body to its end, so that it can be sent again if a connection turns out to be dead."""
    context.expect_body(limits.total)
    spool, content_type = Spool(limits.json_in_memory), context.headers.get("content-type", "")
    prints = None if _REPEATED_BY.isdisjoint(context.headers) else RawFingerprint(content_type)
    try:
        async for chunk in body_chunks(context, limits):
            spool.write(chunk)
            if prints is not None:
                prints.update(chunk)
            await spool.drain()
    except BaseException:
        await spool.aclose()
        raise
    rendered = Rendered(content_type, spool.size, lambda: spool.read(0, spool.size), spool.aclose)
    return rendered, "" if prints is None else prints.hexdigest()


def _spare(context: RequestContext, left: Callable[[], None]) -> None:
    if context.disconnected:
        left()
    else:
        _ = context.spare(left)


def _raw_path(context: RequestContext) -> str:
    """Return the path as it came, nothing decoded."""
    raw: bytes = context.scope.get("raw_path") or context.scope["path"].encode("utf-8", "surrogateescape")
    return raw.partition(b"?")[0].decode("latin-1")


def _query(context: RequestContext) -> str:
    text: str = context.scope["query_string"].decode("latin-1")
    if not text.isascii() or not text.isprintable() or any(mark in text for mark in ' "<>\\^`{|}#'):
        raise InvalidRequest("The query has characters that must be encoded.", param="query")
    return text

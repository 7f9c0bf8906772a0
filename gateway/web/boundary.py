"""The outermost layer of a plane: finds who answers a request; every error becomes an answer in the one shape."""

from __future__ import annotations

import asyncio
import logging

from starlette.exceptions import HTTPException
from starlette.routing import Route, Router
from starlette.types import Message

from gateway.domain.errors import ClientGone, GatewayError, InternalError, InvalidApiKey, Unavailable
from gateway.ports import Outbound
from gateway.web.context import Endpoint, Handler, RequestContext
from gateway.web.errors import answer_for, from_router
from gateway.web.outbound import send_outbound
from gateway.web.shedding import ALWAYS, Shedding
from gateway.web.wrong_keys import WrongKeys

log = logging.getLogger("gateway.web")

STALL_SECONDS = 120.0
_LINGER_SECONDS = 2.0
"""How long to read on after refusing a body: a client cut off while it sends may never see the answer."""
_SWALLOWED = 64 * 1024
"""Bytes; an unread body of this length or less is left to the server to skip, and the connection is kept."""


class ErrorBoundary:
    """Serves requests by handlers that raise GatewayError.

    `shedding` refuses load, `wrong_keys` too many wrong keys, where they are given. A path without placeholders is
    looked up, all others are tried in the router's order. A client that is behind with reading its answer for more than
    `stall_seconds` is cut off.
    """

    def __init__(
        self,
        router: Router,
        shedding: Shedding | None = None,
        wrong_keys: WrongKeys | None = None,
        *,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.router = router
        self._plain = _without_placeholders(router)
        self._shedding = shedding
        self._wrong_keys = wrong_keys
        self._stall_seconds = stall_seconds

    async def __call__(self, context: RequestContext) -> None:
        """Serve one request; raises nothing."""
        head = context.head
        shedding = None if head.path in ALWAYS else self._shedding
        try:
            if shedding is not None:
                shedding.enter(context)
            try:
                outbound = await self._plain.get((head.method, head.path), self._route)(context)
                if outbound is not None:
                    await send_outbound(context, outbound, self._stall_seconds)
            finally:
                if shedding is not None:
                    shedding.leave(context)
        except ClientGone:
            log.debug("request %s: the client hung up", context.request_id)
        except GatewayError as error:
            await _refuse(context, self._judged(context, error))
        except HTTPException as refusal:
            await _refuse(context, from_router(refusal, head.method, head.path))
        except asyncio.CancelledError:
            if not context.left():  # the server cancels only when its grace is over
                message = "The gateway is shutting down; please try again."
                await _refuse(context, Unavailable(message, code="shutting_down", retry_after=1))
        except Exception:
            log.exception("request %s failed", context.request_id)
            message = f"Something went wrong here. Request id: {context.request_id}."
            await _refuse(context, InternalError(message))
        finally:
            context.finish()

    async def _route(self, context: RequestContext) -> Outbound | None:
        """Find who answers among the paths with placeholders, or refuse the request."""
        try:
            await self.router(context.scope, _nothing, _nowhere)
            assert context.handler is not None
            return await context.handler(context)
        finally:
            context.forget_scope()

    def _judged(self, context: RequestContext, error: GatewayError) -> GatewayError:
        if self._wrong_keys is None or not isinstance(error, InvalidApiKey):
            return error
        return self._wrong_keys.judge(context, error)


def _without_placeholders(router: Router) -> dict[tuple[str, str], Handler]:
    """Return who answers a method and path; the first of several, as the router takes it."""
    found: dict[tuple[str, str], Handler] = {}
    for route in router.routes:
        assert isinstance(route, Route)
        if not route.param_convertors and isinstance(route.app, Endpoint):
            for method in route.methods or ():
                found.setdefault((method, route.path), route.app.handle)
    return found


async def _nothing() -> Message:
    """Stand for the way in of ASGI, which no endpoint here uses."""
    raise NotImplementedError


async def _nowhere(_: Message) -> None:
    """Stand for its way out."""
    raise NotImplementedError


async def _refuse(context: RequestContext, error: GatewayError) -> None:
    context.unwatch()
    if context.answer_started:
        await context.abort()
        return
    answer = answer_for(error, context.request_id)
    closing = _has_unread_body(context)
    headers = [*answer.headers, ("connection", "close")] if closing else list(answer.headers)
    await context.start(answer.status, headers)
    await context.write(answer.body, more=closing)
    if closing:
        await _linger(context)
        await context.write(b"", more=False)


def _has_unread_body(context: RequestContext) -> bool:
    if context.body_read or context.disconnected:
        return False
    length = context.content_length or 0
    if context.head.asks_first and length:
        return True  # nobody can tell whether the body still comes
    return "transfer-encoding" in context.headers or length > _SWALLOWED


async def _linger(context: RequestContext) -> None:
    """Throw away what the client still sends, for a while; one that waits for 100 Continue sends nothing."""
    if context.head.asks_first:
        return
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            await context.body_gone()
    except TimeoutError:
        log.debug("request %s: the client went on sending", context.request_id)

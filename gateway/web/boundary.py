"""The outermost layer of an application: every error becomes an answer in the one shape, with a request id."""

from __future__ import annotations

import asyncio
import logging

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.domain.errors import ClientGone, GatewayError, InternalError
from gateway.web.context import RequestContext
from gateway.web.errors import answer_for, from_router

log = logging.getLogger("gateway.web")

_LINGER_SECONDS = 2.0
"""How long to read on after refusing a body: a client cut off while it sends may never see the answer."""
_SWALLOWED = 64 * 1024
"""Bytes; an unread body of this length or less is left to the server to skip, and the connection is kept."""


class ErrorBoundary:
    """Wraps an ASGI application whose handlers raise GatewayError; makes the request's context."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; raises nothing."""
        if scope["type"] != "http":
            return
        context = RequestContext(scope, receive, send)
        scope["app"] = self  # makes the router raise what it refuses
        scope.setdefault("state", {})["context"] = context
        try:
            await self._app(scope, context.receive, context.send)
        except ClientGone:
            log.debug("request %s: the client hung up while it was sending", context.request_id)
        except GatewayError as error:
            await _refuse(context, error)
        except HTTPException as refusal:
            await _refuse(context, from_router(refusal, scope["method"], scope["path"]))
        except asyncio.CancelledError:
            await context.abort()  # the server cancels only when its grace is over; it would log a traceback for each
        except Exception:
            log.exception("request %s failed", context.request_id)
            message = f"Something went wrong here. Request id: {context.request_id}."
            await _refuse(context, InternalError(message))
        finally:
            del scope["state"]["context"]  # the server's request has the scope, and the context refers to that request


async def _refuse(context: RequestContext, error: GatewayError) -> None:
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
    if context.body_ended:
        return False
    length = context.content_length or 0
    if "expect" in context.headers and length:
        return True  # nobody can tell whether the body still comes
    return "transfer-encoding" in context.headers or length > _SWALLOWED


async def _linger(context: RequestContext) -> None:
    """Throw away what the client still sends, for a while; one that waits for 100 Continue sends nothing."""
    if "expect" in context.headers:
        return
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while not context.body_ended:
                await context.receive()
    except TimeoutError:
        log.debug("request %s: the client went on sending", context.request_id)

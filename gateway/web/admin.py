"""The admin plane: metrics, health, and views as JSON, behind a token where one is set."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from starlette.routing import Route, Router
from starlette.types import ASGIApp

from gateway.domain.errors import InvalidApiKey
from gateway.web.app import alive, not_ready
from gateway.web.boundary import ErrorBoundary
from gateway.web.context import Endpoint, RequestContext
from gateway.web.images import Handler

View = Callable[[Mapping[str, str]], Awaitable[object]]
"""Takes the query's parameters (the last of a repeated one), returns what is shown as JSON."""


def create_admin_app(
    metrics: Callable[[], Awaitable[tuple[bytes, str]]],
    token: str | None,
    health: Callable[[], Awaitable[list[str]]],
    views: Mapping[str, View],
    actions: Mapping[str, View] | None = None,
) -> ASGIApp:
    """Return the admin plane.

    `metrics` returns a body and its content type, `health` what stands in the way of serving (as `Gateway.ready`).
    Views answer GET at `/admin/NAME`, actions POST. With a token, everything but `/healthz` asks for it as a bearer.
    """

    async def show_metrics(context: RequestContext) -> None:
        body, content_type = await metrics()
        await context.answer(200, body, content_type)

    async def ready(context: RequestContext) -> None:
        reasons = await health()
        if reasons:
            raise not_ready(reasons)
        await context.answer_json({"status": "ready"})

    def route(path: str, handler: Handler, method: str = "GET") -> Route:
        return Route(path, Endpoint(_guarded(handler, token)), methods=[method])

    routes = [
        Route("/healthz", Endpoint(alive), methods=["GET"]),
        route("/readyz", ready),
        route("/metrics", show_metrics),
        *(route(f"/admin/{name}", _shown(view)) for name, view in views.items()),
        *(route(f"/admin/{name}", _shown(action), "POST") for name, action in (actions or {}).items()),
    ]
    return ErrorBoundary(Router(routes, redirect_slashes=False))


def _shown(view: View) -> Handler:
    async def show(context: RequestContext) -> None:
        query = context.scope["query_string"].decode("latin-1")
        await context.answer_json(await view(dict(parse_qsl(query, keep_blank_values=True))))

    return show


def _guarded(handler: Handler, token: str | None) -> Handler:
    async def check(context: RequestContext) -> None:
        scheme, _, given = context.headers.get("authorization", "").partition(" ")
        if token is not None and not (
            scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
        ):
            raise InvalidApiKey("The admin plane needs its token: Authorization: Bearer ….")
        await handler(context)

    return check

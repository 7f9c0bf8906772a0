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
from gateway.web.json_body import read_json
from gateway.web.limits import BodyLimits
from gateway.web.request_stream import body_chunks

View = Callable[[Mapping[str, str]], Awaitable[object]]
"""Takes the query's parameters (the last of a repeated one) and those of the path, returns what is shown as JSON."""
Question = Callable[[Mapping[str, object]], Awaitable[object]]
"""Takes the fields of a JSON object, returns what is shown as JSON."""

_LIMITS = BodyLimits(total=1_000_000)


def create_admin_app(
    metrics: Callable[[], Awaitable[tuple[bytes, str]]],
    token: str | None,
    health: Callable[[], Awaitable[list[str]]],
    views: Mapping[str, View],
    actions: Mapping[str, View] | None = None,
    *,
    questions: Mapping[str, Question] | None = None,
) -> ASGIApp:
    """Return the admin plane.

    `metrics` returns a body and its content type, `health` what stands in the way of serving (as `Gateway.ready`).
    Views answer GET at `/admin/NAME` (a name may hold `{placeholders}`), actions POST, and questions POST with a JSON
    object as the body. With a token, everything but `/healthz` asks for it as a bearer.
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
        *(route(f"/admin/{name}", _asked(question), "POST") for name, question in (questions or {}).items()),
    ]
    return ErrorBoundary(Router(routes, redirect_slashes=False))


def _shown(view: View) -> Handler:
    async def show(context: RequestContext) -> None:
        query = context.scope["query_string"].decode("latin-1")
        asked = dict(parse_qsl(query, keep_blank_values=True))
        await context.answer_json(await view({**asked, **context.path_params}))

    return show


def _asked(question: Question) -> Handler:
    async def ask(context: RequestContext) -> None:
        read = await read_json(body_chunks(context.receive, context.content_length, _LIMITS), _LIMITS)
        await read.aclose()
        await context.answer_json(await question(read.fields))

    return ask


def _guarded(handler: Handler, token: str | None) -> Handler:
    async def check(context: RequestContext) -> None:
        scheme, _, given = context.headers.get("authorization", "").partition(" ")
        if token is not None and not (
            scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
        ):
            raise InvalidApiKey("The admin plane needs its token: Authorization: Bearer ….")
        await handler(context)

    return check

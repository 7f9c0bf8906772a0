"""The admin plane: metrics, health, and views as JSON, behind a token where one is set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.routing import Route, Router

from gateway.domain.errors import InvalidRequest, ledger_unavailable
from gateway.domain.spelling import meant
from gateway.ports import LedgerUnavailable, Outbound
from gateway.web.admin_guard import AdminGuard
from gateway.web.app import alive, not_ready
from gateway.web.boundary import ErrorBoundary
from gateway.web.context import Endpoint, Handler, RequestContext, by_method
from gateway.web.json_body import read_json
from gateway.web.limits import BodyLimits
from gateway.web.openapi import endpoint
from gateway.web.openapi_admin import ADMIN, parameters_of
from gateway.web.request_stream import body_chunks
from gateway.web.wrong_keys import WrongKeys

View = Callable[[Mapping[str, str]], Awaitable[object]]
"""Takes the query's parameters (the last of a repeated one) and those of the path, returns what is shown as JSON."""
Question = Callable[[Mapping[str, object]], Awaitable[object]]
"""Takes the fields of a JSON object and what the path's placeholders stand for, returns what is shown as JSON."""

_LIMITS = BodyLimits(total=1_000_000)
_SHOWN = 100
"""Characters of a name in a message."""


@dataclass(frozen=True, slots=True)
class Page:
    """Something else that the admin plane answers, which judges by itself who may ask."""

    method: str
    path: str
    handler: Handler


def create_admin_app(
    metrics: Callable[[], Awaitable[tuple[bytes, str]]],
    token: str | None,
    health: Callable[[], Awaitable[list[str]]],
    views: Mapping[str, View],
    actions: Mapping[str, View] | None = None,
    *,
    questions: Mapping[str, Question] | None = None,
    pages: Sequence[Page] = (),
    wrong_keys: WrongKeys | None = None,
) -> ErrorBoundary:
    """Return the admin plane.

    `metrics` returns a body and its content type, `health` what stands in the way of serving (as `Gateway.ready`).
    Views answer GET at `/admin/NAME` (a name may hold `{placeholders}`), actions POST, both with the parameters that
    are described for their paths and no others; questions answer POST with a JSON object as the body, empty where there
    is none. With a token, everything but `/healthz` and `pages` asks for it as a bearer; without one nothing is
    answered that a web page asks under a name of its own, or to have something done.
    """
    guard = AdminGuard(token)

    async def show_metrics(context: RequestContext) -> None:
        body, content_type = await metrics()
        await context.answer(200, body, content_type)

    async def ready(context: RequestContext) -> None:
        reasons = await health()
        if reasons:
            raise not_ready(reasons)
        await context.answer_json({"status": "ready"})

    def route(path: str, handlers: Mapping[str, Handler]) -> Route:
        return Route(path, Endpoint(_guarded(by_method(handlers), guard)), methods=list(handlers))

    answers = {name: {"GET": _shown(view, "GET", f"/admin/{name}")} for name, view in views.items()}
    doing = {name: _shown(action, "POST", f"/admin/{name}") for name, action in (actions or {}).items()}
    doing |= {name: _asked(question) for name, question in (questions or {}).items()}
    for name, handler in doing.items():
        answers.setdefault(name, {})["POST"] = handler
    routes: list[Route] = [
        Route("/healthz", Endpoint(alive), methods=["GET"]),
        route("/readyz", {"GET": ready}),
        route("/metrics", {"GET": show_metrics}),
        route("/openapi.json", {"GET": endpoint(ADMIN, lambda: routes)}),
        *(route(f"/admin/{name}", handlers) for name, handlers in answers.items()),
        *(Route(page.path, Endpoint(page.handler), methods=[page.method]) for page in pages),
    ]
    router = Router(routes, redirect_slashes=False)
    return ErrorBoundary(router, wrong_keys=wrong_keys)


def _shown(view: View, method: str, path: str) -> Handler:
    known = parameters_of(method, path)

    async def show(context: RequestContext) -> None:
        query = context.scope["query_string"].decode("latin-1")
        asked = dict(parse_qsl(query, keep_blank_values=True))
        _check_known(asked, known)
        await context.answer_json(await view({**asked, **context.path_params}))

    return show


def _check_known(asked: Mapping[str, str], known: Sequence[str]) -> None:
    """Refuse a query with a parameter that the path's description does not name."""
    name = next((name for name in asked if name not in known), None)
    if name is not None:
        near = meant(name.lower(), known)
        hint = f" (did you mean {near}?)" if near else ""
        which = f"known are {', '.join(known)}" if known else "this path takes none"
        raise InvalidRequest(f"Unknown parameter {name[:_SHOWN]!a}{hint}; {which}.", param=name[:_SHOWN])


def _asked(question: Question) -> Handler:
    async def ask(context: RequestContext) -> None:
        has_body = context.content_length or "transfer-encoding" in context.headers
        fields = await read_object(context) if has_body else {}
        await context.answer_json(await question({**fields, **context.path_params}))

    return ask


def with_store(handler: Handler) -> Handler:
    """Return the handler, with 503 and `ledger_unavailable` where it needs a store that does not answer."""

    async def answer(context: RequestContext) -> Outbound | None:
        try:
            return await handler(context)
        except LedgerUnavailable as error:
            raise ledger_unavailable() from error

    return answer


async def read_object(context: RequestContext) -> Mapping[str, object]:
    """Return the JSON object that is a request's body, 1 MB at most; InvalidRequest if it is none."""
    read = await read_json(body_chunks(context, _LIMITS), _LIMITS)
    await read.aclose()
    return read.fields


def _guarded(handler: Handler, guard: AdminGuard) -> Handler:
    async def check(context: RequestContext) -> Outbound | None:
        guard.check(context)
        return await handler(context)

    return with_store(check)

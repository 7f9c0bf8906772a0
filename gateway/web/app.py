"""The data plane's routes."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.routing import Route, Router

from gateway.domain.errors import Unavailable
from gateway.facade import Gateway
from gateway.web.assets import AssetEndpoints
from gateway.web.boundary import STALL_SECONDS, ErrorBoundary
from gateway.web.context import Endpoint, Handler, RequestContext, by_method
from gateway.web.hints import HintEndpoint
from gateway.web.images import ImageEndpoints
from gateway.web.limits import BodyLimits
from gateway.web.openapi import endpoint
from gateway.web.openapi_data import DATA
from gateway.web.responses import ResponseEndpoints
from gateway.web.shedding import Shedding
from gateway.web.tasks import TaskEndpoints
from gateway.web.wrong_keys import WrongKeys

_DEPLOYMENTS = "/openai"
"""First part of the paths that clients of deployment-style accounts send; the model is named there too, mostly."""


def create_app(
    gateway: Gateway,
    limits: BodyLimits | None = None,
    *,
    stall_seconds: float = STALL_SECONDS,
    shedding: Shedding | None = None,
    wrong_keys: WrongKeys | None = None,
) -> ErrorBoundary:
    """Return the data plane, with what refuses load, and too many wrong keys, if that is given.

    A client that is behind with reading its answer for more than `stall_seconds` is cut off.
    """
    limits = limits or BodyLimits()
    images, talks = ImageEndpoints(gateway, limits), ResponseEndpoints(gateway, limits)
    records, tasks, assets = _Records(gateway), TaskEndpoints(gateway), AssetEndpoints(gateway)
    deployment = f"{_DEPLOYMENTS}/deployments/{{name}}"
    routes: list[Route] = [  # in the order of how often they are asked for: each is tried before the next
        _post("/v1/images/generations", images.generations),
        _post("/v1/images/edits", images.edits),
        _post(f"{deployment}/images/generations", images.generations),
        _post(f"{deployment}/images/edits", images.edits),
        _get("/healthz", alive),
        _get("/readyz", records.ready),
        _post("/v1/hints/{token}", HintEndpoint(gateway.hint)),
        _get("/openapi.json", endpoint(DATA, lambda: routes)),
    ]
    routes.append(_post(f"{deployment}/images/variations", images.variations))
    for prefix in ("/v1", "", f"{_DEPLOYMENTS}/v1", _DEPLOYMENTS):
        routes += [
            _post(f"{prefix}/images/generations", images.generations),
            _post(f"{prefix}/images/edits", images.edits),
            _post(f"{prefix}/images/variations", images.variations),
            _get(f"{prefix}/models", records.models),
            _get(f"{prefix}/models/{{id:path}}", records.model),
            _get(f"{prefix}/requests/{{id}}", records.request),
            _get(f"{prefix}/assets", assets.listing),
            _get_or_delete(f"{prefix}/assets/{{id}}", assets.one, assets.delete),
            _get(f"{prefix}/tasks", tasks.listing),
            _get(f"{prefix}/tasks/{{id}}", tasks.one),
            _post(f"{prefix}/tasks/{{id}}/cancel", tasks.cancel),
            _post(f"{prefix}/responses", talks.create),
            _post(f"{prefix}/responses/compact", talks.not_served),
            _post(f"{prefix}/responses/input_tokens", talks.not_served),
            _get_or_delete(f"{prefix}/responses/{{id}}", talks.one, talks.one),
            _post(f"{prefix}/responses/{{id}}/cancel", talks.cancel),
            _get(f"{prefix}/responses/{{id}}/input_items", talks.input_items),
        ]
    router = Router(routes, redirect_slashes=False, default=Endpoint(talks.passed))
    return ErrorBoundary(router, shedding, wrong_keys, stall_seconds=stall_seconds)


async def alive(context: RequestContext) -> None:
    """Tell that the process serves; nothing else is asked."""
    await context.answer_json({"status": "ok"})


def not_ready(reasons: list[str]) -> Unavailable:
    """Return the error that a readiness check answers with; `reasons` are shown."""
    message = f"Not ready: {'; '.join(reasons)}."
    return Unavailable(message, code="not_ready", retry_after=1, details={"reasons": reasons})


def _get(path: str, handler: Handler) -> Route:
    return Route(path, Endpoint(handler), methods=["GET"])


def _get_or_delete(path: str, get: Handler, delete: Handler) -> Route:
    return Route(path, Endpoint(by_method({"GET": get, "DELETE": delete})), methods=["GET", "DELETE"])


def _post(path: str, handler: Handler) -> Route:
    return Route(path, Endpoint(handler), methods=["POST"])


class _Records:
    """What can be read: models, requests, readiness."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def models(self, context: RequestContext) -> None:
        await context.answer_json({"object": "list", "data": await self._gateway.models(context.headers)})

    async def model(self, context: RequestContext) -> None:
        name = context.path_params["id"]
        if not name:  # a path that ends so is no model's
            raise HTTPException(404)
        await context.answer_json(await self._gateway.model(context.headers, name))

    async def request(self, context: RequestContext) -> None:
        await context.answer_json(await self._gateway.request_record(context.headers, context.path_params["id"]))

    async def ready(self, context: RequestContext) -> None:
        reasons = await self._gateway.ready()
        if reasons:
            raise not_ready(reasons)
        await context.answer_json({"status": "ready"})

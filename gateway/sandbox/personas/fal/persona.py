"""fal's queue: submit to a model's path, follow the URLs that came back, fetch the result and its billable units."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from gateway.sandbox.callbacks import Message, Patience
from gateway.sandbox.fault_catalog import Feature
from gateway.sandbox.invalid import Invalid
from gateway.sandbox.json_response import PlainJSON
from gateway.sandbox.personas.fal.catalog import APPLICATIONS, ENDPOINTS, Endpoint, Making
from gateway.sandbox.personas.fal.reading import Input, read_input
from gateway.sandbox.personas.fal.signing import Signer
from gateway.sandbox.pictures import Picture
from gateway.sandbox.results import arrival_of, origin
from gateway.sandbox.task_app import Refusal, TaskApp
from gateway.sandbox.work import Charge, Failure, State, Why, Work
from gateway.sandbox.world import Persona, World

_UNITS = "x-fal-billable-units"
_INVALID_STATUS, _CANCELLED_STATUS, _FAILED_STATUS = 422, 499, 500
_STATUSES = {"generation_timeout": 504, "downstream_service_error": 400, "content_policy_violation": _INVALID_STATUS}
"""Documented error types that come with another status than 500."""
_MASK = "mask_url"
_WORDS = {State.QUEUED: "IN_QUEUE", State.RUNNING: "IN_PROGRESS"}


@dataclass(frozen=True, slots=True)
class _Order:
    """What the price depends on."""

    endpoint: Endpoint
    wanted: Input | None

    def units(self, work: Work) -> int:
        """Billable units of the work; an input that was refused counts as one unit where it is billed at all."""
        if self.wanted is None:
            return 1
        seen = [(source.width, source.height) for source in work.sources if source.file.field != _MASK]
        making = Making(self.wanted.size, self.wanted.quality, len(work.pictures), seen)
        return self.endpoint.units(making)

    def charge(self, work: Work) -> Charge:
        units = self.units(work)
        return Charge(units * self.endpoint.unit_nano, {"units": units, "unit": self.endpoint.unit})


class _Fal(TaskApp):
    name = "fal"
    prefix = "/fal"
    patience = Patience(15, tuple(7.0 * 2**i for i in range(10)))
    link_seconds = 7 * 24 * 3600

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._signer = Signer()

    def routes(self) -> Sequence[BaseRoute]:
        found = "/{owner}/{alias}/requests/{task}"
        return (
            Route("/.well-known/jwks.json", self._keys, methods=["GET"]),
            Route("/v1/models/pricing", self._pricing, methods=["GET"]),
            Route(f"{found}/status", self._status, methods=["GET"]),
            Route(f"{found}/cancel", self._cancel, methods=["PUT"]),
            Route(found, self._result, methods=["GET"]),
            Route("/{model:path}", self._submit, methods=["POST"]),
        )

    def check_key(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme != "Key" or not self.world.options.accepts(key.strip()):
            raise self.refusal(401, "Authentication is required to access this application.")

    def refusal(self, status: int, message: str, *, code: str | int | None = None, kind: str | None = None) -> Refusal:
        word = code or kind
        return Refusal(status, {"detail": message}, {"x-fal-error-type": str(word)} if word else None)

    def read(self, request: Request, fields: dict[str, object]) -> Work:
        endpoint = ENDPOINTS[request.path_params["model"]]
        doomed: Failure | None = None
        wanted: Input | None = None
        try:
            wanted = read_input(endpoint, fields)
        except Invalid as invalid:
            doomed = Failure(Why.INPUT, str(invalid), invalid.kind, field=invalid.field)
        order = _Order(endpoint, wanted)
        arrival = arrival_of(request)
        work = Work(
            id=str(uuid.uuid4()),
            provider=self.name,
            model=endpoint.id,
            operation="edit" if endpoint.edits else "generate",
            prompt=wanted.prompt if wanted else "",
            quality=wanted.quality if wanted else "",
            size="x".join(str(edge) for edge in wanted.size) if wanted else "",
            pictures=_pictures(endpoint, wanted) if wanted else (),
            base=origin(request),
            arrival=arrival,
            price=order.charge,
            callback_url=request.query_params.get("fal_webhook"),
            facts={"order": order},
            doomed=doomed,
        )
        if wanted:
            work.extension = wanted.output_format
            work.load = partial(self.load_all, wanted.sources, arrival) if wanted.sources else None
        return work

    async def accepted(self, work: Work) -> tuple[int, object]:
        order = _order(work)
        base = f"{work.base}{self.prefix}/{order.endpoint.application}/requests/{work.id}"
        return 200, {
            "status": "IN_QUEUE",
            "request_id": work.id,
            "gateway_request_id": work.id,
            "response_url": base,
            "status_url": f"{base}/status",
            "cancel_url": f"{base}/cancel",
            "logs": None,
            "metrics": {},
            "queue_position": 0,
        }

    async def message(self, work: Work, state: State) -> Message:
        status, payload = await self._outcome(work)
        ok = status == 200  # noqa: PLR2004 - HTTP
        error = {} if ok else {"error": f"Invalid status code: {status}"}
        body = json.dumps(
            {
                "request_id": work.id,
                "gateway_request_id": work.id,
                "status": "OK" if state is State.DONE and ok else "ERROR",
                **error,
                "payload": payload,
            }
        ).encode()
        return Message(body, {"content-type": "application/json", **self._signer.headers(work.id, body)})

    async def forged(self, work: Work) -> Message:
        link = self.results.dead_link(work)
        payload = {"images": [{"url": link, "content_type": f"image/{work.extension}", "width": 1, "height": 1}]}
        claim = {"request_id": work.id, "gateway_request_id": work.id, "status": "OK", "payload": payload}
        body = json.dumps(claim).encode()
        headers = {"content-type": "application/json", **self._signer.forged(work.id, body)}
        return Message(body, headers, forged=True)

    async def _submit(self, request: Request) -> Response:
        model = request.path_params["model"]
        if model not in ENDPOINTS:
            self.check_key(request)
            raise self.refusal(404, f"Application '{model}' not found")
        return await self.submit(request, "edit" if ENDPOINTS[model].edits else "generate")

    async def _status(self, request: Request) -> Response:
        work = self._found(request)
        body: dict[str, object] = {"status": _WORDS.get(work.state, "COMPLETED"), "request_id": work.id}
        if work.state is State.QUEUED:
            body["queue_position"] = 0
        else:
            body["logs"] = []
        if work.over:
            body["metrics"] = {"inference_time": work.run_microseconds / 1_000_000}
        failure = work.failure or (
            Failure(Why.ERROR, "Request was cancelled", "client_cancelled") if work.over else None
        )
        if work.over and work.state is not State.DONE and failure:
            body |= {"error": failure.message, "error_type": _error_type(failure)}
        base = (await self.accepted(work))[1]
        assert isinstance(base, dict)
        urls = {name: base[name] for name in ("response_url", "status_url", "cancel_url")}
        odd = self.odd_status(work)
        return PlainJSON({**body, **urls, "status": odd or body["status"]}, 200 if work.over else 202)

    async def _result(self, request: Request) -> Response:
        work = self._found(request)
        if not work.over:
            raise self.refusal(400, "Request is still in progress")
        status, body = await self._outcome(work)
        order = _order(work)
        headers: dict[str, str] = {"x-fal-request-id": work.id}
        units = order.units(work) if work.nano_usd else 0
        told = self.told(work, units, 0)
        if told is not None and (work.nano_usd or work.state is State.DONE):
            headers[_UNITS] = str(told) if isinstance(told, int) else json.dumps(told)
        if work.failure:
            headers["x-fal-error-type"] = _error_type(work.failure)
        return PlainJSON(body, status, headers)

    async def _cancel(self, request: Request) -> Response:
        work = self._found(request)
        if not self.works.cancel(work):
            return PlainJSON({"status": "ALREADY_COMPLETED"}, 400)
        return PlainJSON({"status": "CANCELLATION_REQUESTED"}, 202)

    async def _keys(self, _: Request) -> Response:
        return PlainJSON(self._signer.jwks())

    async def _pricing(self, request: Request) -> Response:
        self.check_key(request)
        wanted = request.query_params.getlist("endpoint_id")
        prices = [
            {
                "endpoint_id": endpoint.id,
                "unit_price": endpoint.unit_nano / 1_000_000_000,
                "unit": endpoint.unit,
                "currency": "USD",
            }
            for endpoint in ENDPOINTS.values()
            if endpoint.id in wanted or not wanted
        ]
        return PlainJSON({"prices": prices, "next_cursor": None, "has_more": False})

    def _found(self, request: Request) -> Work:
        """Return the work of a URL; its path names owner and alias, and nothing else finds it."""
        application = f"{request.path_params['owner']}/{request.path_params['alias']}"
        work = self.asked_after(request, request.path_params["task"])
        if work is None or application not in APPLICATIONS or _order(work).endpoint.application != application:
            raise self.refusal(404, "Request not found")
        return work

    async def _outcome(self, work: Work) -> tuple[int, object]:
        """Return status and body of the result, as the model answered."""
        if work.state is State.CANCELLED:
            return _CANCELLED_STATUS, {"detail": "Request was cancelled"}
        if work.failure:
            failure = work.failure
            status = _STATUSES.get(failure.code, _FAILED_STATUS)
            if failure.why is Why.ERROR and status != _INVALID_STATUS:
                return status, {"detail": failure.message}
            where = "prompt" if failure.why is Why.MODERATION else failure.field
            wrong = {"loc": ["body", where], "msg": failure.message, "type": _error_type(failure), "input": None}
            return _INVALID_STATUS, {"detail": [wrong]}
        return 200, {
            "images": [await self._image(work, i, link) for i, link in enumerate(self.results.links(work))],
            "timings": {"inference": work.run_microseconds / 1_000_000},
            "seed": int(work.token[:8], 16),
            "has_nsfw_concepts": [False] * len(work.pictures),
            "prompt": work.prompt,
        }

    async def _image(self, work: Work, index: int, link: str) -> dict[str, object]:
        picture, content = work.pictures[index], await self.results.picture(work, index)
        wanted = _order(work).wanted
        inline = wanted is not None and wanted.inline
        said = f"image/{work.extension}"
        return {
            "url": f"data:{said};base64,{base64.b64encode(content).decode()}" if inline else link,
            "content_type": said,
            "file_name": link.rpartition("/")[2],
            "file_size": len(content),
            "width": picture.width,
            "height": picture.height,
        }


def _order(work: Work) -> _Order:
    order = work.facts["order"]
    assert isinstance(order, _Order)
    return order


def _pictures(endpoint: Endpoint, wanted: Input) -> tuple[Picture, ...]:
    return tuple(
        Picture(wanted.prompt, endpoint.id, *wanted.size, wanted.quality, wanted.output_format, index=i)
        for i in range(wanted.images)
    )


def _error_type(failure: Failure) -> str:
    if failure.why is Why.MODERATION:
        return "content_policy_violation"
    return failure.code or "internal_server_error"


def _build(world: World) -> ASGIApp:
    return _Fal(world).app()


FAL = Persona(_Fal.name, _Fal.prefix, _build, features=(Feature.WORK,))

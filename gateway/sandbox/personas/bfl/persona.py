"""Black Forest Labs' API: submit to a model's path, ask at the polling URL, and fetch the result within ten minutes."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from gateway.sandbox.callbacks import Message, Patience
from gateway.sandbox.fault_catalog import Feature
from gateway.sandbox.invalid import Invalid
from gateway.sandbox.json_response import PlainJSON
from gateway.sandbox.personas.bfl.catalog import MODELS, Model, input_mp, output_mp
from gateway.sandbox.personas.bfl.reading import Input, read_input
from gateway.sandbox.pictures import Picture
from gateway.sandbox.results import arrival_of, elsewhere, origin
from gateway.sandbox.sources import Unusable
from gateway.sandbox.task_app import Refusal, TaskApp
from gateway.sandbox.work import Charge, Failure, State, Why, Work
from gateway.sandbox.world import Persona, World

_NANO_PER_MILLICENT = 10_000
_MILLICENTS_PER_CREDIT = 1_000
"""A credit is a cent."""
_RETRY_AFTER = 5
_MASK = "mask"
_SISTER = "us1"
"""The region that work is done in: only there is it found."""


@dataclass(frozen=True, slots=True)
class _Order:
    """What the price depends on."""

    model: Model
    wanted: Input

    def sources(self, work: Work) -> list[tuple[int, int]]:
        """Sizes of the input images, the mask not among them."""
        return [(source.width, source.height) for source in work.sources if source.file.field != _MASK]

    def size(self, work: Work) -> tuple[int, int]:
        """Width and height of the result: of the input where a part of it is filled."""
        return self.sources(work)[0] if self.model.fills and work.sources else self.wanted.size

    def millicents(self, work: Work) -> int:
        return self.model.millicents(self.size(work), self.sources(work))

    def charge(self, work: Work) -> Charge:
        amount = self.millicents(work)
        usage = {"input_mp": input_mp(self.sources(work)), "output_mp": output_mp(self.size(work))}
        return Charge(amount * _NANO_PER_MILLICENT, usage)


class _BlackForestLabs(TaskApp):
    name = "bfl"
    prefix = "/bfl"
    api = "/v1"
    # How often they try again is not published.
    patience = Patience(10, (1, 2, 4))
    link_seconds = 600
    loads_first = True
    base64_too = True

    def routes(self) -> Sequence[BaseRoute]:
        return (
            Route("/get_result", self._global_result, methods=["GET"]),
            Route(f"/{_SISTER}/v1/get_result", self._sister_result, methods=["GET"]),
            Route("/credits", self._credits, methods=["GET"]),
            Route("/{model}", self._submit, methods=["POST"]),
        )

    def check_key(self, request: Request) -> None:
        key = request.headers.get("x-key")
        if not self.world.options.accepts(key):
            raise self.refusal(403, "Not authenticated" if not key else "Not authenticated - Invalid Authentication")

    def refusal(self, status: int, message: str, *, code: str | int | None = None, kind: str | None = None) -> Refusal:
        del code, kind
        return Refusal(status, {"detail": message})

    def throttled(self, retry_after: float | str | None) -> Refusal:
        refusal = super().throttled(retry_after)
        seconds = retry_after if isinstance(retry_after, int | float) else _RETRY_AFTER
        refusal.body = {
            "error": "rate_limit_exceeded",
            "message": "Too many concurrent requests",
            "retry_after": seconds,
        }
        return refusal

    def read(self, request: Request, fields: dict[str, object]) -> Work:
        model = MODELS[request.path_params["model"]]
        try:
            wanted = read_input(model, fields)
        except Invalid as invalid:
            raise _unprocessable(invalid.field, invalid.kind, str(invalid)) from None
        self._check_limit(model)
        order = _Order(model, wanted)
        arrival = arrival_of(request)
        width, height = wanted.size
        return Work(
            id=str(uuid.uuid4()),
            provider=self.name,
            model=model.id,
            operation="edit" if wanted.images else "generate",
            prompt=wanted.prompt,
            quality="",
            size=f"{width}x{height}",
            pictures=(Picture(wanted.prompt, model.id, width, height, "", wanted.output_format),),
            base=origin(request),
            arrival=arrival,
            price=order.charge,
            load=partial(self.load_all, wanted.images, arrival) if wanted.images else None,
            callback_url=wanted.webhook_url,
            extension=wanted.output_format,
            facts={"order": order, "secret": wanted.webhook_secret},
        )

    def unusable(self, unusable: Unusable) -> Refusal:
        return _unprocessable(unusable.field, "value_error", str(unusable))

    def looked_at(self, work: Work) -> None:
        size = width, height = _order(work).size(work)
        if size != _order(work).wanted.size:
            work.size = f"{width}x{height}"
            work.pictures = tuple(replace(p, width=width, height=height) for p in work.pictures)

    async def accepted(self, work: Work) -> tuple[int, object]:
        order = _order(work)
        told = {
            "cost": self.told(work, order.millicents(work) / _MILLICENTS_PER_CREDIT, 0.0),
            "input_mp": float(input_mp(order.sources(work))),
            "output_mp": float(output_mp(order.size(work))),
        }
        if work.callback_url:
            # With a webhook the API answers by another schema, without a polling URL.
            return 200, {"id": work.id, "status": "Pending", "webhook_url": work.callback_url, **told}
        sister = elsewhere(work.base, self.world.options.sister_host)
        return 200, {
            "id": work.id,
            "polling_url": f"{sister}{self.prefix}/{_SISTER}/v1/get_result?id={work.id}",
            **told,
        }

    def headers(self, work: Work) -> dict[str, str]:
        return self._limit_headers(work.model, self._limit(_order(work).model))

    async def message(self, work: Work, state: State) -> Message:
        body: dict[str, object] = {"id": work.id, "status": "Ready"}
        if state is State.DONE:
            body |= {"result": self._result(work), "timestamp": _iso(time.time())}
        else:
            message = work.failure.message if work.failure else "Cancelled"
            body |= {"status": "Error", "error": _status(work), "message": message}
        return _signed(body, work.facts["secret"])

    async def forged(self, work: Work) -> Message:
        sample = self.results.dead_link(work)
        claim: dict[str, object] = {"id": work.id, "status": "Ready", "timestamp": _iso(time.time())}
        return _signed({**claim, "result": {"sample": sample}}, secrets.token_hex(16), forged=True)

    async def _submit(self, request: Request) -> Response:
        if request.path_params["model"] not in MODELS:
            self.check_key(request)
            raise self.refusal(404, "Not Found")
        return await self.submit(request)

    async def _sister_result(self, request: Request) -> Response:
        return self._shown(request, self.asked_after(request, request.query_params.get("id", "")))

    async def _global_result(self, request: Request) -> Response:
        """Find what came without a polling URL; all else is found in its own region alone."""
        work = self.asked_after(request, request.query_params.get("id", ""))
        return self._shown(request, work if work and work.callback_url else None)

    def _shown(self, request: Request, work: Work | None) -> Response:
        if work is None:
            missing = {"id": request.query_params.get("id"), "status": "Task not found", "result": None}
            return PlainJSON({**missing, "progress": None, "details": None}, 404)
        status = self.odd_status(work) or _status(work)
        reasons = {"Moderation Reasons": ["Derivative Works Filter"]} if status.endswith("Moderated") else None
        details: object = reasons or ({"error": work.failure.message} if work.failure else None)
        result = self._result(work) if work.state is State.DONE else None
        progress = {State.QUEUED: None, State.RUNNING: 0.5}.get(work.state, 1.0)
        return PlainJSON({"id": work.id, "status": status, "result": result, "progress": progress, "details": details})

    def _result(self, work: Work) -> dict[str, object]:
        links = self.results.links(work)
        started, finished = work.started or work.created, work.finished or work.created
        return {
            "sample": links[0] if links else None,
            "seed": int(work.token[:8], 16),
            "prompt": work.prompt,
            "start_time": started,
            "end_time": finished,
            "duration": finished - started,
        }

    async def _credits(self, request: Request) -> Response:
        self.check_key(request)
        spent = sum(line.nano_usd for line in self.world.bill.lines(self.name))
        return PlainJSON({"credits": 100_000 - spent / (_NANO_PER_MILLICENT * _MILLICENTS_PER_CREDIT)})

    def _limit(self, model: Model) -> int:
        chosen = self.world.options.active_tasks
        return model.active if chosen is None else chosen

    def _active(self, model: str) -> int:
        """Count what is under way of a model; those with a limit of their own are counted apart."""
        return sum(MODELS[work.model].active == MODELS[model].active for work in self.works.active(self.name))

    def _check_limit(self, model: Model) -> None:
        limit = self._limit(model)
        if self._active(model.id) >= limit:
            refusal = self.throttled(_RETRY_AFTER)
            refusal.headers |= self._limit_headers(model.id, limit)
            raise refusal

    def _limit_headers(self, model: str, limit: int) -> dict[str, str]:
        return {
            "x-ratelimit-limit": str(limit),
            "x-ratelimit-remaining": str(max(0, limit - self._active(model))),
            "x-ratelimit-reset": str(int(time.time()) + _RETRY_AFTER),
        }


def _order(work: Work) -> _Order:
    order = work.facts["order"]
    assert isinstance(order, _Order)
    return order


def _status(work: Work) -> str:
    if work.state is State.DONE:
        return "Ready"
    if not work.over:
        return "Pending"
    failure = work.failure or Failure(Why.ERROR, "")
    if failure.why is Why.MODERATION:
        return "Request Moderated" if failure.field == "input" else "Content Moderated"
    return failure.code if failure.code in {"Failed", "Request Moderated", "Content Moderated"} else "Error"


def _signed(body: dict[str, object], secret: object, *, forged: bool = False) -> Message:
    """Return a webhook; signed if the request brought a secret."""
    content = json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    if isinstance(secret, str) and secret:
        headers["X-BFL-Signature"] = f"sha256={hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()}"
    return Message(content, headers, forged)


def _unprocessable(field: str, kind: str, message: str) -> Refusal:
    return Refusal(422, {"detail": [{"loc": ["body", field], "msg": message, "type": kind}]})


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _build(world: World) -> ASGIApp:
    return _BlackForestLabs(world).app()


BFL = Persona(_BlackForestLabs.name, _BlackForestLabs.prefix, _build, _BlackForestLabs.api, (Feature.WORK,))

"""Replicate's API: a prediction is created, followed by its own URLs, and told to a signed webhook."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from gateway.sandbox.bill import nano_usd
from gateway.sandbox.callbacks import Message, Patience
from gateway.sandbox.fault_catalog import Feature
from gateway.sandbox.invalid import Invalid
from gateway.sandbox.json_response import PlainJSON
from gateway.sandbox.personas.replicate.catalog import MODELS, VERSIONS, Model
from gateway.sandbox.personas.replicate.reading import Input, read_input
from gateway.sandbox.personas.replicate.signing import Signer
from gateway.sandbox.pictures import Picture
from gateway.sandbox.results import arrival_of, origin
from gateway.sandbox.task_app import Refusal, TaskApp
from gateway.sandbox.work import Charge, State, Why, Work
from gateway.sandbox.world import Persona, World

_WAIT = re.compile(r"wait(?:=([0-9]+))?", re.ASCII)
_MAX_WAIT = 60
_TITLES = {
    401: "Unauthenticated",
    402: "Insufficient credit",
    404: "Not found",
    422: "Input validation failed",
    429: "Too many requests",
}
_WORDS = {
    State.QUEUED: "starting",
    State.RUNNING: "processing",
    State.DONE: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "canceled",
}
_EVENTS = frozenset({"start", "output", "logs", "completed"})
_FLAGGED = "The input or output was flagged as sensitive. Please try again with different inputs. (E005)"


@dataclass(frozen=True, slots=True)
class _Order:
    """What the price depends on, and what the client wants to be told."""

    model: Model
    wanted: Input
    events: frozenset[str]

    @property
    def per_second(self) -> bool:
        return bool(self.model.pico_per_us)

    def charge(self, work: Work) -> Charge:
        if self.per_second:
            pico = work.run_microseconds * self.model.pico_per_us
            return Charge(nano_usd(pico), {"predict_time": work.run_microseconds / 1_000_000})
        each = self.model.tiers.get(self.wanted.resolution, self.model.nano)
        return Charge(each * len(work.pictures), {"image_count": len(work.pictures)})


class _Replicate(TaskApp):
    name = "replicate"
    prefix = "/replicate"
    api = "/v1"
    patience = Patience(10, (1, 2, 4, 8, 16, 32))
    link_seconds = 3600

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._signer = Signer()

    def routes(self) -> Sequence[BaseRoute]:
        return (
            Route("/models/{owner}/{name}/predictions", self._create, methods=["POST"]),
            Route("/predictions", self._create, methods=["POST"]),
            Route("/predictions/{prediction}", self._get, methods=["GET"]),
            Route("/predictions/{prediction}/cancel", self._cancel, methods=["POST"]),
            Route("/webhooks/default/secret", self._secret, methods=["GET"]),
            Route("/account", self._account, methods=["GET"]),
        )

    def check_key(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme not in {"Bearer", "Token"} or not self.world.options.accepts(key.strip()):
            raise self.refusal(401, "You did not pass a valid authentication token")

    def refusal(self, status: int, message: str, *, code: str | int | None = None, kind: str | None = None) -> Refusal:
        del code, kind
        title = _TITLES.get(status)
        return Refusal(status, {"detail": message, "status": status} | ({"title": title} if title else {}))

    def throttled(self, retry_after: float | str | None) -> Refusal:
        refusal = super().throttled(retry_after)
        seconds = refusal.headers.get("retry-after", "1")
        refusal.body = {
            "detail": f"Request was throttled. Your rate limit resets in ~{seconds}s.",
            "status": 429,
            "title": _TITLES[429],
        }
        return refusal

    def read(self, request: Request, fields: dict[str, object]) -> Work:
        model = self._model(request, fields)
        given = fields.get("input")
        if not isinstance(given, dict):
            raise self._invalid("input", "required", "input is required")
        try:
            wanted = read_input(model, given)
        except Invalid as invalid:
            raise self._invalid(f"input.{invalid.field}", invalid.kind, str(invalid)) from None
        order = _Order(model, wanted, self._events(fields))
        webhook = fields.get("webhook")
        if webhook is not None and not (isinstance(webhook, str) and webhook.startswith(("https://", "http://"))):
            raise self._invalid("webhook", "format", "Does not match format 'uri'")
        arrival = arrival_of(request)
        width, height = wanted.size
        return Work(
            id=secrets.token_hex(13),
            provider=self.name,
            model=model.id,
            operation="edit" if wanted.sources else "generate",
            prompt=wanted.prompt,
            quality="",
            size=f"{width}x{height}",
            pictures=tuple(
                Picture(wanted.prompt, model.id, width, height, "", wanted.output_format, index=i)
                for i in range(wanted.images)
            ),
            base=origin(request),
            arrival=arrival,
            price=order.charge,
            load=partial(self.load_all, wanted.sources, arrival) if wanted.sources else None,
            callback_url=webhook,
            extension=wanted.extension,
            input=given,
            facts={"order": order, "wait": _seconds_to_wait(request)},
        )

    async def accepted(self, work: Work) -> tuple[int, object]:
        wait = work.facts["wait"]
        assert isinstance(wait, int)
        if wait:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(work.ended.wait(), wait)
        state = work.state if wait else State.QUEUED
        return 202 if wait and not work.over else 201, self._shown(work, state)

    def wants(self, work: Work, state: State) -> bool:
        events = _order(work).events
        return work.callback_url is not None and ("start" if state is State.RUNNING else "completed") in events

    async def message(self, work: Work, state: State) -> Message:
        return self._message(work, self._shown(work, state))

    async def forged(self, work: Work) -> Message:
        link = self.results.dead_link(work)
        claim = {**self._shown(work, State.DONE), "output": link if _order(work).model.most == 1 else [link]}
        return self._message(work, claim, forged=True)

    def _message(self, work: Work, prediction: dict[str, object], *, forged: bool = False) -> Message:
        body = json.dumps(prediction).encode()
        message_id = f"msg_{work.id}_{prediction['status']}"
        signed = (self._signer.forged if forged else self._signer.headers)(message_id, body)
        return Message(body, {"content-type": "application/json", **signed}, forged)

    async def _create(self, request: Request) -> Response:
        return await self.submit(request)

    async def _get(self, request: Request) -> Response:
        work = self._found(request)
        body = self._shown(work, work.state)
        return PlainJSON({**body, "status": self.odd_status(work) or body["status"]})

    async def _cancel(self, request: Request) -> Response:
        work = self._found(request)
        # Time on hardware that was used until then is charged.
        self.works.cancel(work, billed=_order(work).per_second and work.started is not None)
        return PlainJSON(self._shown(work, work.state))

    async def _secret(self, request: Request) -> Response:
        self.check_key(request)
        return PlainJSON({"key": self._signer.secret})

    async def _account(self, request: Request) -> Response:
        self.check_key(request)
        return PlainJSON({"type": "organization", "username": "sandbox", "name": "Sandbox", "github_url": None})

    def _found(self, request: Request) -> Work:
        work = self.asked_after(request, request.path_params["prediction"])
        if work is None:
            raise self.refusal(404, "The requested resource could not be found.")
        return work

    def _model(self, request: Request, fields: dict[str, object]) -> Model:
        if "owner" in request.path_params:
            model = MODELS.get(f"{request.path_params['owner']}/{request.path_params['name']}")
        else:
            version = fields.get("version")
            if not isinstance(version, str):
                raise self._invalid("version", "required", "version is required")
            model = VERSIONS.get(version.rpartition(":")[2]) or MODELS.get(version)
        if model is None:
            raise self.refusal(404, "The requested resource could not be found.")
        return model

    def _events(self, fields: dict[str, object]) -> frozenset[str]:
        events = fields.get("webhook_events_filter")
        if events is None:
            return _EVENTS
        if not isinstance(events, list) or not set(map(str, events)) <= _EVENTS:
            raise self._invalid("webhook_events_filter", "enum", f"must be among: {', '.join(sorted(_EVENTS))}")
        return frozenset(map(str, events))

    def _invalid(self, field: str, kind: str, message: str) -> Refusal:
        refusal = self.refusal(422, f"- {field}: {message}\n")
        assert isinstance(refusal.body, dict)
        refusal.body["invalid_fields"] = [{"type": kind, "field": field, "description": message}]
        return refusal

    def _shown(self, work: Work, state: State) -> dict[str, object]:
        """Return a prediction as it is created, fetched and posted."""
        order = _order(work)
        base = f"{work.base}{self.prefix}{self.api}/predictions/{work.id}"
        done = state is State.DONE and work.over
        ended = work.over and state not in {State.QUEUED, State.RUNNING}
        removed = done and self.results.expired(work)
        links = self.results.links(work) if done and not removed else []
        output: object = None if not links else links[0] if order.model.most == 1 else links
        measured = {"predict_time": work.run_microseconds / 1_000_000} if ended and work.started else {}
        told = self.told(work, measured, {"predict_time": 0.0})
        return {
            "id": work.id,
            "model": work.model,
            "version": order.model.version,
            "input": dict(work.input),
            "logs": "",
            "output": output,
            "data_removed": removed,
            "error": self._error(work) if ended else None,
            "source": "api",
            "status": _WORDS[state],
            "created_at": _iso(work.created),
            "started_at": _iso(work.started) if state is not State.QUEUED else None,
            "completed_at": _iso(work.finished) if ended else None,
            "urls": {"get": base, "cancel": f"{base}/cancel", "web": f"https://replicate.com/p/{work.id}"},
            **({} if told is None or not ended else {"metrics": told}),
        }

    def _error(self, work: Work) -> str | None:
        failure = work.failure
        if failure is None:
            return None
        if failure.why is Why.MODERATION:
            return f"{_FLAGGED} ({work.id[:10]})"
        return f"{failure.message} ({failure.code})" if failure.code else failure.message


def _order(work: Work) -> _Order:
    order = work.facts["order"]
    assert isinstance(order, _Order)
    return order


def _seconds_to_wait(request: Request) -> int:
    """Return the seconds of `Prefer: wait`, at most a minute; 0 without it."""
    for preference in request.headers.get("prefer", "").split(","):
        if match := _WAIT.fullmatch(preference.strip()):
            return min(_MAX_WAIT, max(1, int(match[1] or _MAX_WAIT)))
    return 0


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _build(world: World) -> ASGIApp:
    return _Replicate(world).app()


REPLICATE = Persona(_Replicate.name, _Replicate.prefix, _build, _Replicate.api, (Feature.WORK,))

"""What all providers have in common that take work on and answer later: submitting, faults, links, calls back."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp

from gateway.sandbox.arrivals import Arrival
from gateway.sandbox.callbacks import Message, Patience
from gateway.sandbox.delivery import Delivery
from gateway.sandbox.faults import Fault, Subject
from gateway.sandbox.json_response import PlainJSON
from gateway.sandbox.results import Results, arrival_of
from gateway.sandbox.sources import Source, Unusable, load, shown
from gateway.sandbox.work import Failure, State, Why, Work
from gateway.sandbox.world import World

BLOCKED_WORD = "blocked-by-moderation"
"""A prompt that contains it is refused by the safety system."""
_FLAGGED = "The request was flagged by the safety system."
_UNANSWERED = frozenset({"garbage", "html"})


class Refusal(Exception):
    """An error answer in the provider's own shape."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


class TaskApp(ABC):
    """One provider. Subclasses say how requests are read, how work is shown, and in which words it is refused."""

    name: str
    prefix: str
    """The path under which the provider is mounted."""
    api = ""
    """Where, below that, its endpoints are; they answer without it too."""
    patience: Patience
    link_seconds: float
    loads_first = False
    """Whether input images are looked at before the request is answered."""
    base64_too = False

    def __init__(self, world: World) -> None:
        self.world = world
        self.works = world.works
        self.results = Results(world, self.name, self.prefix, self.link_seconds)

    def app(self) -> ASGIApp:
        """Return the provider's application, result links included."""
        routes = self.routes()
        versioned = [Mount(self.api, routes=routes)] if self.api else []
        return Starlette(
            routes=[self.results.route(), *versioned, *routes],
            exception_handlers={Refusal: _refused, HTTPException: self._unrouted},
        )

    @abstractmethod
    def routes(self) -> Sequence[BaseRoute]:
        """Return the provider's endpoints, as they are called below `api`."""

    @abstractmethod
    def check_key(self, request: Request) -> None:
        """Raise a Refusal unless the request carries the account's key."""

    @abstractmethod
    def read(self, request: Request, fields: dict[str, object]) -> Work:
        """Return the work that a body asks for; raises Refusal."""

    @abstractmethod
    def refusal(self, status: int, message: str, *, code: str | int | None = None, kind: str | None = None) -> Refusal:
        """Return an error of that status in the provider's shape; without a code, its usual one."""

    @abstractmethod
    async def accepted(self, work: Work) -> tuple[int, object]:
        """Return status and JSON of the answer to the request that began the work."""

    @abstractmethod
    async def message(self, work: Work, state: State) -> Message:
        """Return what the client is called back with as of that state; raises nothing."""

    @abstractmethod
    async def forged(self, work: Work) -> Message:
        """Return what somebody else would post who knows the address: a success that never was."""

    def throttled(self, retry_after: float | str | None) -> Refusal:
        """Return a 429 that says how long to wait, if anything."""
        refusal = self.refusal(429, "Rate limit exceeded. Please retry later.")
        if retry_after is not None:
            whole = retry_after if isinstance(retry_after, str) else str(int(-(-retry_after // 1)))
            refusal.headers["retry-after"] = whole
        return refusal

    def moderated(self, work: Work, failure: Failure) -> None:
        """Let work fail its safety check; a provider that checks before it begins raises a Refusal."""
        work.doomed = failure

    def unusable(self, unusable: Unusable) -> Refusal:
        """Return the error for an input image that cannot be used, where it is looked at before the answer."""
        return self.refusal(422, str(unusable))

    def looked_at(self, work: Work) -> None:
        """Take note of the input images, once they were looked at before the answer."""
        del work

    def wants(self, work: Work, state: State) -> bool:
        """Say whether the client is called back for that state."""
        return work.callback_url is not None and state is not State.RUNNING

    def headers(self, work: Work) -> dict[str, str]:
        """Return the headers of the answer that begins the work."""
        del work
        return {}

    async def submit(self, request: Request, operation: str = "generate") -> Response:
        """Take a request on: key, body, faults, work, answer, in this order."""
        arrival = arrival_of(request)
        fault = self.world.faults.take_on_arrival(self.name, operation)
        if fault:
            arrival.fault = fault.name
            return Delivery([b""], media_type="application/json", fault=fault)
        self.check_key(request)
        fields = await self._fields(request)
        arrival.fields = {name: shown(value) for name, value in fields.items()}
        work = self.read(request, fields)
        subject = Subject(work.operation, work.model, work.prompt, stream=False, work=True, fields=arrival.fields)
        fault = work.mishap = self.world.faults.take(self.name, subject)
        work.faults = self.world.faults.take_for_work(self.name, subject)
        arrival.fault = fault.name if fault else next((f.name for f in work.faults.values()), None)
        self._check_prompt(work, fault)
        if fault and (instead := self._instead_of_work(fault)):
            return instead
        slow = fault.parameters["seconds"] if fault and fault.name == "slow" else 0
        await asyncio.sleep(self.world.options.latency + slow)
        if fault is None or fault.billed or fault.name == "moderation":
            await self._begin(work)
        if fault and fault.name in _UNANSWERED:
            return _nonsense(fault)
        status, body = await self.accepted(work)
        encoded = json.dumps(body, separators=(",", ":")).encode()
        return Delivery(
            [encoded], media_type="application/json", status=status, headers=self.headers(work), fault=fault
        )

    def asked_after(self, request: Request, work_id: str) -> Work | None:
        """Return the work that a client asks after, None if there is none; raises what a fault wants raised."""
        self.check_key(request)
        work = self.works.find(self.name, work_id)
        if work is None:
            return None
        work.asked += 1
        fault = work.fault("poll_error")
        if fault and _still(fault, work):
            status = fault.parameters["status"]
            arrival_of(request).fault = fault.name
            raise self.refusal(status, "The status could not be read.")
        return work

    def odd_status(self, work: Work) -> str | None:
        """Return the word that a fault puts in the place of the status."""
        fault = work.fault("unknown_status")
        return str(fault.parameters["word"]) if fault and _still(fault, work) else None

    def told(self, work: Work, usage: object, nothing: object) -> object:
        """Return what the answer says was used: the truth, or what a fault wants said; None is no word of it."""
        match work.mishap.name if work.mishap else None:
            case "no_usage":
                return None
            case "zero_usage":
                return nothing
            case "garbage_usage" if work.mishap:
                return work.mishap.parameters["usage"]
            case _:
                return usage

    async def load_all(self, named: Sequence[tuple[str, str]], arrival: Arrival) -> list[Source]:
        """Fetch or decode input images, by field and what it said; raises Unusable."""
        sources: list[Source] = []
        for field, said in named:
            source = await load(field, said, base64_too=self.base64_too)
            arrival.files.append(source.file)
            sources.append(source)
        return sources

    def _check_prompt(self, work: Work, fault: Fault | None) -> None:
        if fault and fault.name == "moderation":
            self.moderated(
                work, Failure(Why.MODERATION, _FLAGGED, billed=fault.billed, field=fault.parameters["stage"])
            )
        elif BLOCKED_WORD in work.prompt and work.doomed is None:
            self.moderated(work, Failure(Why.MODERATION, _FLAGGED, field="input"))
        if fault and fault.name == "pad":
            work.pictures = tuple(replace(p, padding=fault.parameters["bytes"]) for p in work.pictures)

    def _instead_of_work(self, fault: Fault) -> Response | None:
        """Answer or raise what a fault puts in the place of the work; None if it strikes later."""
        wanted = fault.parameters
        match fault.name:
            case "rate_limit":
                raise self.throttled(wanted["retry_after"])
            case "int_error_code":
                raise self.refusal(wanted["status"], wanted["message"], code=wanted["status"], kind=wanted["type"])
            case "status" if wanted["bare"]:
                page = f"<html><head><title>{wanted['status']}</title></head><body>{wanted['message']}</body></html>"
                return Response(page, wanted["status"], dict(wanted["headers"]), media_type="text/html")
            case "status":
                refusal = self.refusal(wanted["status"], wanted["message"], code=wanted["code"])
                refusal.headers.update(wanted["headers"])
                raise refusal
            case _:
                return None

    async def _begin(self, work: Work) -> None:
        if work.callback_url:
            work.report = self._report
        early = work.callback_url is not None and work.fault("callback_early") is not None
        if work.load and (self.loads_first or early):
            await self._load_now(work)
        self.works.begin(work)
        if early:
            self.works.finish(work)
            message = await self.message(work, work.state)
            await self.world.callbacks.attempt(work, message, self.patience)
        elif work.callback_url and work.fault("callback_forged"):
            self.world.callbacks.post(work, partial(self.forged, work), Patience(self.patience.timeout))

    async def _load_now(self, work: Work) -> None:
        """Look at the input images before the request is answered."""
        assert work.load is not None
        try:
            work.sources = await work.load()
        except Unusable as unusable:
            if self.loads_first:
                raise self.unusable(unusable) from None
            work.doomed = Failure(Why.INPUT, str(unusable), unusable.code, field=unusable.field)
        work.load = None
        self.looked_at(work)

    def _report(self, work: Work) -> None:
        """Call the client back, as often and as late as the faults have it."""
        if not self.wants(work, work.state) or work.fault("callback_early") or work.fault("callback_missing"):
            return
        compose = partial(self.message, work, work.state)
        late = work.fault("callback_late")
        delay = self.world.options.callback_delay + (late.parameters["seconds"] if late else 0)
        for _ in range(2 if work.fault("callback_twice") else 1):
            self.world.callbacks.post(work, compose, self.patience, delay=delay)

    async def _fields(self, request: Request) -> dict[str, object]:
        content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise self.refusal(415, f"Unsupported content type: {content_type}")
        try:
            fields = json.loads(await request.body())
        except (ValueError, RecursionError):
            raise self.refusal(400, "The body is not JSON.") from None
        if not isinstance(fields, dict):
            raise self.refusal(400, "The body is not a JSON object.")
        return fields

    async def _unrouted(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return await _refused(request, self.refusal(error.status_code, error.detail))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return PlainJSON(error.body, error.status, error.headers)


def _still(fault: Fault, work: Work) -> bool:
    """Say whether a fault of the first so many times that work is asked after still strikes."""
    polls = fault.parameters["polls"]
    return polls is None or work.asked <= polls


def _nonsense(fault: Fault) -> Response:
    """A body that is no answer: broken JSON, or a page of some proxy in between."""
    html = fault.name == "html"
    return Delivery(
        [fault.parameters["body"].encode()],
        media_type="text/html" if html else "application/json",
        status=fault.parameters["status"] if html else 200,
    )

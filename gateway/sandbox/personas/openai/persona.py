"""OpenAI's Images API: key, body, validation, limits, faults, work, bill, answer, in this order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.sandbox.arrivals import Arrival
from gateway.sandbox.bill import BillLine, nano_usd
from gateway.sandbox.delivery import Delivery, nonsense
from gateway.sandbox.faults import Fault, Subject
from gateway.sandbox.json_response import PlainJSON
from gateway.sandbox.personas.openai import errors
from gateway.sandbox.personas.openai.answers import event_chunks, json_answer
from gateway.sandbox.personas.openai.catalog import MODELS, ImageModel
from gateway.sandbox.personas.openai.limits import ORGANIZATION, RateLimits
from gateway.sandbox.personas.openai.pricing import (
    PARTIAL_IMAGE_TOKENS,
    Tokens,
    input_image_tokens,
    output_tokens,
    text_tokens,
)
from gateway.sandbox.personas.openai.submission import Submission, read_edit, read_json
from gateway.sandbox.personas.openai.validation import EDIT, GENERATE, ImageJob, validate
from gateway.sandbox.world import World

PROVIDER = "openai"
BLOCKED_WORD = "blocked-by-moderation"
"""A prompt that contains it is refused by the safety system."""
PREFIX = "/openai/v1"


class OpenAIEndpoints:
    """The endpoints, over one account's limits; whoever speaks nearly the same changes what differs."""

    provider = PROVIDER

    def __init__(self, world: World) -> None:
        self._world = world
        self._limits = RateLimits(world.options)

    def app(self) -> ASGIApp:
        """Return the application."""
        return Starlette(
            routes=self.routes(),
            exception_handlers={errors.ApiError: self._refused, HTTPException: self._unrouted},
        )

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        return [
            Route("/images/generations", self.generations, methods=["POST"]),
            Route("/images/edits", self.edits, methods=["POST"]),
            Route("/images/variations", self.variations, methods=["POST"]),
            Route("/models", self.models, methods=["GET"]),
            Route("/models/{model}", self.model, methods=["GET"]),
        ]

    async def generations(self, request: Request) -> Response:
        """Make images."""
        return await self._images(request, GENERATE)

    async def edits(self, request: Request) -> Response:
        """Edit images."""
        return await self._images(request, EDIT)

    async def variations(self, request: Request) -> Response:
        """Refuse what was shut down."""
        self.check_key(request)
        raise errors.endpoint_retired(_path(request))

    async def models(self, request: Request) -> Response:
        """List the models that still answer."""
        self.check_key(request)
        live = [_model_object(model) for model in MODELS.values() if not model.retired]
        return PlainJSON({"object": "list", "data": live}, headers=self._headers(request))

    async def model(self, request: Request) -> Response:
        """Show one model."""
        self.check_key(request)
        name = request.path_params["model"]
        if name not in MODELS or MODELS[name].retired:
            raise errors.model_not_found(name)
        return PlainJSON(_model_object(MODELS[name]), headers=self._headers(request))

    async def _images(self, request: Request, operation: str) -> Response:
        arrival = _arrival(request)
        fault = self._world.faults.take_on_arrival(self.provider, operation)
        if fault:
            arrival.fault = fault.name
            return Delivery([b""], media_type="application/json", fault=fault)
        self.check_key(request)
        submission = await self.read(request, operation)
        arrival.fields, arrival.files = submission.fields, submission.files
        job = validate(submission, operation)
        total, each = tokens_of(job)
        self._limits.take(job.model.family, job.model.id, images=job.n, tokens=total.total)
        if BLOCKED_WORD in job.prompt:
            raise errors.moderation_blocked(arrival.request, "input", ["violence"])
        subject = Subject(operation, job.model.id, job.prompt, job.stream, fields=submission.fields)
        fault = self._world.faults.take(self.provider, subject)
        arrival.fault = fault.name if fault else None
        return await self._work(request, job, total, each, fault)

    async def read(self, request: Request, operation: str) -> Submission:
        """Read the body."""
        return await (read_edit(request) if operation == EDIT else read_json(request))

    async def _work(
        self, request: Request, job: ImageJob, total: Tokens, each: list[Tokens], fault: Fault | None
    ) -> Response:
        charge = partial(self._charge, request, job, total)
        if fault and (instead := self._instead_of_work(request, job.model, fault, charge)):
            return instead
        latency = self._world.options.latency
        if fault and fault.name == "slow":
            await asyncio.sleep(fault.parameters["seconds"])
        if not job.stream:
            await asyncio.sleep(latency)
        if fault is None or fault.billed:
            self._charge(request, job, total)
        headers = self._headers(request, job.model)
        if job.stream:
            chunks = await event_chunks(job, each, self._world.gallery, fault)
            pause = latency / max(1, len(chunks))
            # One chunk more, so that the body goes out chunked however many events there are.
            return Delivery([*chunks, b""], media_type="text/event-stream", headers=headers, pause=pause, fault=fault)
        body = await json_answer(job, total, self._world.gallery, fault)
        return Delivery([body], media_type="application/json", headers=headers, fault=fault)

    def _instead_of_work(
        self, request: Request, model: ImageModel, fault: Fault, charge: Callable[[], None]
    ) -> Response | None:
        """Answer or raise what a fault puts in the place of the work; None if it strikes later."""
        wanted = fault.parameters
        match fault.name:
            case "rate_limit":
                raise self._limits.refusal_by_fault(model.family, model.id, wanted["retry_after"])
            case "moderation":
                if fault.billed:
                    charge()
                raise errors.moderation_blocked(_arrival(request).request, wanted["stage"], wanted["categories"])
            case "garbage" | "html":
                if fault.billed:
                    charge()
                return nonsense(fault, self._headers(request, model))
            case "status" if wanted["bare"]:
                headers = {**self._headers(request, model), **wanted["headers"]}
                page = f"<html><head><title>{wanted['status']}</title></head><body>{wanted['message']}</body></html>"
                return Response(page, wanted["status"], headers, media_type="text/html")
            case "status":
                raise errors.ApiError(
                    wanted["status"],
                    wanted["message"],
                    kind=wanted["type"],
                    code=wanted["code"],
                    headers=wanted["headers"],
                )
            case _:
                return None

    def _charge(self, request: Request, job: ImageJob, total: Tokens) -> None:
        self._world.bill.charge(
            BillLine(
                provider=self.provider,
                request=_arrival(request).request,
                at=time.time(),
                model=job.model.id,
                operation=job.operation,
                n=job.n,
                images=job.n,
                size=job.size,
                quality=job.quality,
                usage=total.as_usage(details=True),
                nano_usd=nano_usd(total.pico_usd(job.model)),
            )
        )

    def check_key(self, request: Request) -> None:
        """Refuse a request without the account's key."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise errors.no_key()
        if not self._world.options.accepts(key.strip()):
            raise errors.wrong_key(key.strip())

    def json(self, request: Request, document: Mapping[str, object]) -> Response:
        """Return a JSON answer with the usual headers."""
        return PlainJSON(document, headers=self._headers(request))

    def _headers(self, request: Request, model: ImageModel | None = None) -> dict[str, str]:
        """Return the headers that every answer carries, and the limits where a model is known."""
        arrival = _arrival(request)
        return {
            "x-request-id": arrival.request,
            "openai-processing-ms": str(max(1, round((time.time() - arrival.at) * 1000))),
            "openai-version": "2020-10-01",
            "openai-organization": ORGANIZATION,
            "set-cookie": f"__cf_bm={arrival.request}; path=/; HttpOnly; Secure; SameSite=None",
            **(self._limits.headers(model.family) if model else {}),
        }

    async def _refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, errors.ApiError)
        return PlainJSON(error.body, error.status, {**self._headers(request), **error.headers})

    async def _unrouted(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        wrong = errors.wrong_method if error.status_code == 405 else errors.no_such_url  # noqa: PLR2004 - HTTP
        return await self._refused(request, wrong(request.method, _path(request)))


def _arrival(request: Request) -> Arrival:
    arrival: Arrival = request.state.arrival
    return arrival


def _path(request: Request) -> str:
    """Return the path as OpenAI's own host would see it."""
    return request.url.path.removeprefix("/openai")


def tokens_of(job: ImageJob) -> tuple[Tokens, list[Tokens]]:
    """Return the tokens of all images of a job, and of each of them."""
    each = [_tokens(job)] * job.n
    return Tokens(
        *(sum(kind) for kind in zip(*((t.text_in, t.image_in, t.image_out) for t in each), strict=True))
    ), each


def _tokens(job: ImageJob) -> Tokens:
    """Tokens of one image of the job: inputs are billed for each image anew, as if it were asked for alone."""
    made = output_tokens(job.model, job.width, job.height, job.quality)
    sizes = [(image.width, image.height) for image in job.images]
    return Tokens(
        text_in=text_tokens(job.prompt),
        image_in=input_image_tokens(job.model, sizes, job.input_fidelity),
        image_out=made + PARTIAL_IMAGE_TOKENS * job.partial_images,
    )


def _model_object(model: ImageModel) -> dict[str, object]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": "system",
        "shutdown_date": model.shutdown_date,
    }

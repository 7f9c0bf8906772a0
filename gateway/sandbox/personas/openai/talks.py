"""OpenAI's Responses API with the image tool: made at once, as events, or in the background."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.sandbox.arrivals import Arrival
from gateway.sandbox.bill import BillLine, nano_usd
from gateway.sandbox.delivery import Delivery
from gateway.sandbox.faults import Fault, Subject
from gateway.sandbox.json_response import PlainJSON
from gateway.sandbox.personas.openai import errors, fields
from gateway.sandbox.personas.openai.answers import picture
from gateway.sandbox.personas.openai.batches import OpenAIWithBatches
from gateway.sandbox.personas.openai.catalog import MODELS
from gateway.sandbox.personas.openai.persona import BLOCKED_WORD, tokens_of
from gateway.sandbox.personas.openai.pricing import Tokens
from gateway.sandbox.personas.openai.submission import InputImage, Submission, read_json
from gateway.sandbox.personas.openai.talk_work import (
    TEXT_MODELS,
    Events,
    Talk,
    calls_wanted,
    image_item,
    message_item,
)
from gateway.sandbox.personas.openai.validation import EDIT, GENERATE, MAX_PROMPT_CHARS, ImageJob, validate
from gateway.sandbox.world import World

RESPOND = "respond"
"""What faults and the bill call it."""
_DEFAULT_MODEL = "gpt-image-2"
_OF_THE_IMAGE = ("size", "quality", "background", "output_format", "output_compression", "moderation")
_UNKNOWN = frozenset({"zero_usage", "garbage_usage", "wrong_count", "pad"})
_UNFETCHED = (1024, 1024)


class OpenAIWithTalks(OpenAIWithBatches):
    """The endpoints of images and batches, and those of responses."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._talks: dict[str, Talk] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        world.forgetting.append(self._forget)

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        return [
            *super().routes(),
            Route("/responses", self.respond, methods=["POST"]),
            Route("/responses/{id}", self.response, methods=["GET", "DELETE"]),
            Route("/responses/{id}/cancel", self.cancel_response, methods=["POST"]),
            Route("/responses/{id}/input_items", self.input_items, methods=["GET"]),
        ]

    async def respond(self, request: Request) -> Response:
        """Make a response."""
        arrival: Arrival = request.state.arrival
        if fault := self._world.faults.take_on_arrival(self.provider, RESPOND):
            arrival.fault = fault.name
            return Delivery([b""], media_type="application/json", fault=fault)
        self.check_key(request)
        submission = await read_json(request)
        arrival.fields = submission.fields
        talk = self._understood(submission.fields, arrival.request)
        for job in talk.jobs:
            self._limits.take(job.model.family, job.model.id, images=1, tokens=1)
        if BLOCKED_WORD in talk.text:
            raise errors.moderation_blocked(arrival.request, "input", ["violence"])
        stream = fields.flag(submission.fields, "stream")
        name = talk.jobs[0].model.id if talk.jobs else talk.model.id
        subject = Subject(RESPOND, name, talk.text, stream, unknown=_UNKNOWN, fields=submission.fields)
        fault = self._world.faults.take(self.provider, subject)
        arrival.fault = fault.name if fault else None
        return await self._answer(request, talk, fault, stream=stream)

    async def _answer(self, request: Request, talk: Talk, fault: Fault | None, *, stream: bool) -> Response:
        headers = self._headers(request)
        if fault and fault.name in {"moderation", "html", "garbage"}:
            await self._finish(talk, fault)  # for what it charges
        model = talk.jobs[0].model if talk.jobs else MODELS[_DEFAULT_MODEL]
        if fault and (instead := self._instead_of_work(request, model, fault, lambda: None)):
            return instead
        if fault and fault.name == "slow":
            await asyncio.sleep(fault.parameters["seconds"])
        talk.spoiled = fault.name if fault else None
        self._talks[talk.id] = talk
        if talk.fields.get("background") and not stream:
            talk.status = "queued"
            self._running[talk.id] = asyncio.create_task(self._later(talk, fault))
            return self._delivered(talk, headers, fault)
        await asyncio.sleep(self._world.options.latency)
        chunks = await self._finish(talk, fault)
        if not stream:
            return self._delivered(talk, headers, fault)
        if fault and fault.name == "truncated_stream":
            chunks = chunks[:-1]
        return Delivery([*chunks, b""], media_type="text/event-stream", headers=headers, fault=fault)

    def _delivered(self, talk: Talk, headers: dict[str, str], fault: Fault | None) -> Response:
        body = bytes(PlainJSON(talk.document()).body)
        return Delivery([body], media_type="application/json", headers=headers, fault=fault)

    async def _later(self, talk: Talk, fault: Fault | None) -> None:
        seconds = self._world.options.work_seconds
        await asyncio.sleep(seconds / 3)
        talk.status = "in_progress"
        await asyncio.sleep(seconds * 2 / 3)
        await self._finish(talk, fault)

    async def _finish(self, talk: Talk, fault: Fault | None) -> list[bytes]:
        """Make all of it, charge it, and return its events."""
        events = Events()
        events.add("response.created", response=talk.document())
        events.add("response.in_progress", response=talk.document())
        for place, job in enumerate(talk.jobs):
            partials = [await self._drawn(job, place, f"(partial {n + 1})") for n in range(job.partial_images)]
            item = image_item(job, await self._drawn(job, place))
            talk.output.append(item)
            events.item(item, place, partials)
        message = message_item("Here you are." if talk.jobs else "Let us talk.")
        talk.output.append(message)
        events.item(message, len(talk.jobs), [])
        each = [tokens_of(replace(job, n=1))[0] for job in talk.jobs]
        talk.tokens = Tokens(
            sum(one.text_in for one in each), sum(one.image_in for one in each), sum(one.image_out for one in each)
        )
        talk.status = "completed"
        if fault and fault.name == "error_in_stream":
            talk.status, talk.output = "failed", []
            talk.error = {"code": fault.parameters["code"] or "server_error", "message": fault.parameters["message"]}
        if fault is None or fault.billed:
            self._charge_talk(talk)
        events.add(f"response.{talk.status}", response=talk.document())
        talk.events, talk.over = events.chunks, True
        return events.chunks

    async def _drawn(self, job: ImageJob, place: int, note: str = "") -> str:
        return await self._world.gallery.base64(picture(job, place, None, note))

    def _charge_talk(self, talk: Talk, *, whole: bool = True) -> None:
        used = talk.spent(whole=whole)
        self._line(talk.request, talk.model.id, "", used.as_usage(), used.pico_usd(talk.model))
        if talk.jobs and whole:
            job, tokens = talk.jobs[0], talk.tokens
            usage = tokens.as_usage(details=True)
            self._line(talk.request, job.model.id, job.size, usage, tokens.pico_usd(job.model), images=len(talk.jobs))

    def _line(
        self, request: str, model: str, size: str, usage: Mapping[str, object], pico: int, *, images: int = 0
    ) -> None:
        self._world.bill.charge(
            BillLine(
                provider=self.provider,
                request=request,
                at=time.time(),
                model=model,
                operation=RESPOND,
                n=images,
                images=images,
                size=size,
                quality="",
                usage=usage,
                nano_usd=nano_usd(pico),
            )
        )

    async def response(self, request: Request) -> Response:
        """Show a response, as events if asked for, or delete it."""
        talk = self._known(request)
        if request.method == "DELETE":
            del self._talks[talk.id]
            return self.json(request, {"id": talk.id, "object": "response", "deleted": True})
        if request.query_params.get("stream") == "true":
            after = int(request.query_params.get("starting_after", "-1"))
            chunks = talk.events[after + 1 :]
            return Delivery([*chunks, b""], media_type="text/event-stream", headers=self._headers(request))
        return self.json(request, talk.document())

    async def cancel_response(self, request: Request) -> Response:
        """Stop a response that goes on in the background; what it read by then is charged."""
        talk = self._known(request)
        if not talk.fields.get("background"):
            raise errors.ApiError(400, "Cannot cancel a synchronous response.")
        if not talk.over:
            self._running.pop(talk.id).cancel()
            talk.status, talk.over = "cancelled", True
            self._charge_talk(talk, whole=False)
        return self.json(request, talk.document())

    async def input_items(self, request: Request) -> Response:
        """List what a response was made of."""
        talk = self._known(request)
        content = [{"type": "input_text", "text": talk.text}]
        items = [{"id": "msg_1", "type": "message", "role": "user", "status": "completed", "content": content}]
        page = {"object": "list", "data": items, "first_id": "msg_1", "last_id": "msg_1", "has_more": False}
        return self.json(request, page)

    def _known(self, request: Request) -> Talk:
        self.check_key(request)
        name = request.path_params["id"]
        talk = self._talks.get(name)
        if talk is None:
            raise errors.ApiError(404, f"Response with id '{name}' not found.")
        return talk

    def _understood(self, given: Mapping[str, Any], request: str) -> Talk:
        name = fields.text(dict(given), "model") or ""
        if name in MODELS:
            raise errors.ApiError(400, f"The model '{name}' is not supported in this API.", param="model")
        if name not in TEXT_MODELS:
            raise errors.model_not_found(name)
        text, images = _read_input(given.get("input"))
        before = None
        if (previous := given.get("previous_response_id")) is not None:
            before = self._talks.get(previous)
            if before is None:
                message = f"Previous response with id '{previous}' not found."
                raise errors.ApiError(400, message, param="previous_response_id", code="previous_response_not_found")
        jobs = _jobs(given, text, [*_made_before(before), *images])
        return Talk(TEXT_MODELS[name], given, text, images, jobs, request, before)

    def _forget(self) -> None:
        for running in self._running.values():
            running.cancel()
        self._running.clear()
        self._talks.clear()


def _jobs(given: Mapping[str, Any], text: str, images: Sequence[InputImage]) -> list[ImageJob]:
    """Return the calls of the image tool."""
    tools = [tool for tool in given.get("tools") or [] if tool.get("type") == "image_generation"]
    if not tools:
        return []
    tool = tools[0]
    wanted = {name: tool[name] for name in _OF_THE_IMAGE if tool.get(name) is not None}
    model = tool.get("model") or _DEFAULT_MODEL
    partial = {"stream": True, "partial_images": fields.integer(tool, "partial_images", 0, 3) or 0}
    asked = {"model": model, "prompt": text[:MAX_PROMPT_CHARS] or "an image", **wanted}
    submission = Submission(asked | partial if given.get("stream") else asked, list(images[-16:]))
    operation = EDIT if images else GENERATE
    return [validate(submission, operation)] * calls_wanted(text, given.get("max_tool_calls"))


def _made_before(talk: Talk | None) -> list[InputImage]:
    """Return the images of what was said before; each further turn edits them."""
    return [] if talk is None else [InputImage(job.width, job.height, alpha=False, file=None) for job in talk.jobs]


def _read_input(value: object) -> tuple[str, list[InputImage]]:
    """Return the text and the images of a request's input."""
    if isinstance(value, str):
        return value, []
    texts, images = [], []
    for item in value if isinstance(value, list) else []:
        content = item.get("content")
        for part in content if isinstance(content, list) else [{"type": "input_text", "text": content or ""}]:
            if part.get("type") == "input_image":
                images.append(_image(part.get("image_url")))
            elif isinstance(part.get("text"), str):
                texts.append(part["text"])
    return "\n".join(texts), images


def _image(url: object) -> InputImage:
    head, _, data = url.partition(",") if isinstance(url, str) else ("", "", "")
    if not head.startswith("data:"):
        return InputImage(*_UNFETCHED, alpha=False, file=None)
    try:
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            return InputImage(*image.size, alpha=False, file=None)
    except (OSError, ValueError, binascii.Error):
        raise errors.user_error("Invalid image in input.", "input", "invalid_image_file") from None

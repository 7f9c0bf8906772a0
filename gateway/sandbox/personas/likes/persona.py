"""The endpoints of a provider that is nearly alike: key, body, checks, faults, work, bill, answer, in this order."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.sandbox.arrivals import ReceivedFile
from gateway.sandbox.bill import BillLine
from gateway.sandbox.delivery import Delivery, nonsense
from gateway.sandbox.faults import Fault, Subject
from gateway.sandbox.json_response import PlainJSON
from gateway.sandbox.personas.likes.like import EDIT, GENERATE, Job, Like, Made, Refused
from gateway.sandbox.personas.likes.wires import LIKES, MASKED
from gateway.sandbox.pictures import Picture
from gateway.sandbox.results import arrival_of
from gateway.sandbox.world import Persona, World

BLOCKED_WORD = "blocked-by-moderation"
"""A prompt that contains it is refused."""
WITHHELD_WORD = "withheld-by-moderation"
"""Where a 200 may be a refusal: of a prompt that contains it the image is made, charged for and withheld."""
_API = "/v1"
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)
_DATA_URL = re.compile(r"data:image/[a-z+]+;base64,")
_MOST = 10
_UNKNOWN = frozenset({"no_usage", "zero_usage", "garbage_usage", "pad"})
_MEDIA = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


class LikeEndpoints:
    """One provider's endpoints and the links to what it made."""

    def __init__(self, like: Like, world: World) -> None:
        self._like = like
        self._world = world
        self._made: dict[str, Picture] = {}

    def app(self) -> ASGIApp:
        """Return the application."""
        routes = [
            Route(f"{_API}{path}", partial(self._images, operation), methods=["POST"])
            for operation, path in self._like.paths.items()
        ]
        routes.append(Route(f"{_API}/images/{{id}}/content", self._content, methods=["GET"]))
        return Starlette(routes=routes, exception_handlers={Refused: self._refused})

    async def _content(self, request: Request) -> Response:
        picture = self._made.get(request.path_params["id"])
        if picture is None:
            raise Refused(404, "no such image")
        self._check_key(request)
        data = base64.b64decode(await self._world.gallery.base64(picture))
        return Response(data, media_type=_MEDIA[picture.output_format])

    async def _images(self, operation: str, request: Request) -> Response:
        arrival, done = arrival_of(request), EDIT if operation == MASKED else operation
        fault = self._world.faults.take_on_arrival(self._like.name, done)
        if fault:
            arrival.fault = fault.name
            return Delivery([b""], media_type="application/json", fault=fault)
        self._check_key(request)
        fields, arrival.files = await _read(request, form=self._like.form and operation != GENERATE)
        arrival.fields = fields
        job = self._job(operation, fields, arrival.files)
        if BLOCKED_WORD in job.prompt:
            raise self._blocked(job, ["violence"])
        subject = Subject(done, job.model, job.prompt, stream=False, unknown=_UNKNOWN, fields=fields)
        fault = self._world.faults.take(self._like.name, subject)
        arrival.fault = fault.name if fault else None
        return await self._work(request, job, fault)

    def _blocked(self, job: Job, reasons: Sequence[str]) -> Refused:
        return Refused(
            self._like.moderation_status,
            "The prompt was rejected by our content policy.",
            "content_policy_violation",
            reasons=list(reasons),
            flagged_input=job.prompt[:100],
        )

    def _check_key(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if self._like.key and (scheme != "Bearer" or not self._world.options.accepts(key)):
            raise Refused(401, "The key is not valid.", "invalid_api_key")

    def _job(self, operation: str, fields: dict[str, Any], files: Sequence[ReceivedFile]) -> Job:
        like = self._like
        known = like.fields[operation] | {name for name in fields if not like.strict}
        if unknown := sorted(name.removesuffix("[]") for name in fields if name.removesuffix("[]") not in known):
            raise Refused(422, f"Unknown parameter: {unknown[0]}", unknown[0])
        if not fields.get("prompt"):
            raise Refused(400, "prompt is required", "missing_parameter")
        edits = operation == GENERATE and files
        like.check(EDIT if edits else operation, fields)
        wanted = fields.get("response_format", like.response_formats[0])
        if wanted not in like.response_formats:
            raise Refused(422, f"response_format {wanted!r} is not supported", "response_format")
        n = int(fields.get("n", 1))
        if not 1 <= n <= _MOST:
            raise Refused(400, f"n must be from 1 to {_MOST}", "invalid_parameter")
        match = _SIZE.fullmatch(str(fields.get("size", "")))
        width, height = like.size(fields) or ((int(match[1]), int(match[2])) if match else (1024, 1024))
        return Job(
            operation=EDIT if edits or operation == MASKED else operation,
            model=str(fields.get("model", "default")),
            prompt=fields["prompt"],
            n=n,
            width=width,
            height=height,
            quality=str(fields.get("quality", "")),
            output_format=str(fields.get("output_format", like.output_format)),
            response_format=wanted,
        )

    async def _work(self, request: Request, job: Job, fault: Fault | None) -> Response:
        if fault and fault.name in {"status", "rate_limit"}:
            wanted = fault.parameters
            if fault.name == "status":
                raise Refused(wanted["status"], wanted["message"], wanted["code"])
            raise Refused(429, "Rate limited")
        if fault and fault.name == "slow":
            await asyncio.sleep(fault.parameters["seconds"])
        await asyncio.sleep(self._world.options.latency)
        withheld = self._like.withholds and WITHHELD_WORD in job.prompt
        count = job.n if fault is None or fault.name != "wrong_count" else max(job.n - 1, 0)
        made = await self._make(request, job, count, withheld=withheld)
        if fault is None or fault.billed:
            self._charge(request, made, count)
        if fault and fault.name == "moderation":
            raise self._blocked(job, fault.parameters["categories"])
        if fault and fault.name in {"garbage", "html"}:
            return nonsense(fault, {})
        body = json.dumps(self._like.answer(made)).encode()
        headers = {"x-request-id": arrival_of(request).request}
        return Delivery([body], media_type="application/json", headers=headers, fault=fault)

    async def _make(self, request: Request, job: Job, count: int, *, withheld: bool) -> Made:
        images, links = [], []
        for index in range(0 if withheld else count):
            picture = Picture(job.prompt, job.model, job.width, job.height, job.quality, job.output_format, index=index)
            name = secrets.token_hex(8)
            self._made[name] = picture
            images.append(await self._world.gallery.base64(picture))
            base = "" if self._like.name == "sglang" else f"{request.url.scheme}://{request.url.netloc}"
            links.append(f"{base}/likes/{self._like.name}{_API}/images/{name}/content")
        return Made(job, images, links, self._like.units(job) * count, withheld)

    def _charge(self, request: Request, made: Made, count: int) -> None:
        job = made.job
        self._world.bill.charge(
            BillLine(
                provider=self._like.name,
                request=arrival_of(request).request,
                at=time.time(),
                model=job.model,
                operation=job.operation,
                n=job.n,
                images=count,
                size=job.size,
                quality=job.quality,
                usage={},
                nano_usd=self._like.nano_usd(made),
            )
        )

    async def _refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        headers = {"x-request-id": arrival_of(request).request}
        if error.status in {429, 503}:
            headers["retry-after"] = "1"
        return PlainJSON(self._like.error(error), error.status, headers)


async def _read(request: Request, *, form: bool) -> tuple[dict[str, Any], list[ReceivedFile]]:
    """Read a body: its fields, image content left out, and the images that came with it."""
    files: list[ReceivedFile] = []
    if form:
        fields: dict[str, Any] = {}
        async with request.form() as parts:
            for name, value in parts.multi_items():
                if isinstance(value, UploadFile):
                    files.append(_file(name, await value.read(), value.filename, value.content_type))
                    fields[name] = "(file)"
                else:
                    fields[name] = value
        return fields, files
    try:
        document = json.loads(await request.body())
    except ValueError:
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(document, dict):
        raise Refused(400, "the body is no object")
    return {name: _without_images(name, value, files) for name, value in document.items()}, files


def _without_images(name: str, value: Any, files: list[ReceivedFile]) -> Any:
    """Return a JSON value with the content of data URLs left out, and note what it was."""
    if isinstance(value, list):
        return [_without_images(name, item, files) for item in value]
    if isinstance(value, dict):
        return {key: _without_images(name, item, files) for key, item in value.items()}
    if isinstance(value, str) and (head := _DATA_URL.match(value)):
        content = base64.b64decode(value[head.end() :], validate=True)
        files.append(_file(name, content, None, head[0].removeprefix("data:").removesuffix(";base64,")))
        return f"{head[0]}({len(content)} bytes)"
    return value


def _file(name: str, content: bytes, filename: str | None, content_type: str | None) -> ReceivedFile:
    return ReceivedFile(name, filename, content_type, len(content), hashlib.sha256(content).hexdigest())


def _persona(like: Like) -> Persona:
    build: Callable[[World], ASGIApp] = lambda world: LikeEndpoints(like, world).app()  # noqa: E731 - bound to `like`
    return Persona(like.name, f"/likes/{like.name}", build, _API)


LIKE_PERSONAS = tuple(_persona(like) for like in LIKES)

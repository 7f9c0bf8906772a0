"""EvoLink's API: create a task, ask after it, be called back without a signature."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from gateway.sandbox.callbacks import Message, Patience
from gateway.sandbox.fault_catalog import Feature
from gateway.sandbox.json_response import PlainJSON
from gateway.sandbox.personas.evolink import pricing, sizes
from gateway.sandbox.personas.openai.pricing import text_tokens
from gateway.sandbox.pictures import Picture
from gateway.sandbox.results import arrival_of, origin
from gateway.sandbox.task_app import Refusal, TaskApp
from gateway.sandbox.work import Charge, Failure, State, Why, Work
from gateway.sandbox.world import Persona, World

MAIN, BETA = "gpt-image-2", "gpt-image-2-beta"
_ID_PREFIX = "task-unified-"
_KNOWN = frozenset({"model", "prompt", "image_urls", "size", "resolution", "quality", "n", "callback_url"})
_MAX_PROMPT, _MAX_BETA_TOKENS, _MAX_IMAGES, _MAX_N, _MAX_URL = 32_000, 2_000, 16, 10, 2_048
_CAP = (2048, 2048)
"""What `auto` is reserved as."""
_UNSEEN = (1024, 1024)
"""What an input image is reserved as that was not fetched yet."""
_HALFWAY = 50
_BALANCE = 1_000
"""Credits of the account before it spends any."""
_WORDS = {State.QUEUED: "pending", State.RUNNING: "processing", State.DONE: "completed", State.FAILED: "failed"}
_CODES = {
    400: "invalid_parameters",
    401: "invalid_api_key",
    402: "insufficient_quota",
    403: "model_unavailable",
    404: "resource_not_found",
    413: "request_too_large",
    429: "rate_limited",
    500: "service_error",
    502: "upstream_error",
    503: "service_unavailable",
}
_FAILURES = {
    Why.MODERATION: "content_policy_violation",
    Why.INPUT: "image_processing_error",
    Why.ERROR: "unknown_error",
}


@dataclass(frozen=True, slots=True)
class _Order:
    """What the price depends on."""

    model: str
    prompt: str
    size: tuple[int, int]
    auto: bool
    tier: str
    quality: str
    inputs: int

    def reserved(self, images: int) -> pricing.Cost:
        if self.model == BETA:
            return pricing.by_tier(self.tier, images)
        size = _CAP if self.auto else self.size
        return pricing.by_tokens(self.prompt, [_UNSEEN] * self.inputs, size, self.quality, images)

    def cost(self, work: Work) -> pricing.Cost:
        if self.model == BETA:
            return pricing.by_tier(self.tier, len(work.pictures))
        seen = [(source.width, source.height) for source in work.sources]
        return pricing.by_tokens(self.prompt, seen, self.size, self.quality, len(work.pictures))

    def charge(self, work: Work) -> Charge:
        return self.cost(work).charge


class _EvoLink(TaskApp):
    name = "evolink"
    prefix = "/evolink"
    api = "/v1"
    patience = Patience(10, (1, 2, 4))
    link_seconds = 24 * 3600

    def routes(self) -> Sequence[BaseRoute]:
        return (
            Route("/images/generations", self.submit, methods=["POST"]),
            Route("/tasks/{task}", self._task, methods=["GET"]),
            Route("/credits", self._credits, methods=["GET"]),
        )

    def check_key(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self.world.options.accepts(key.strip()):
            raise self.refusal(401, "Invalid or expired API Key.")

    def refusal(
        self,
        status: int,
        message: str,
        *,
        code: str | int | None = None,
        kind: str | None = None,
        param: str | None = None,
    ) -> Refusal:
        error: dict[str, object] = {
            "code": code or _CODES.get(status, "unknown_error"),
            "message": message,
            "type": kind or ("invalid_request_error" if status == 400 else "api_error"),  # noqa: PLR2004 - HTTP
        }
        return Refusal(status, {"error": error | ({"param": param} if param else {})})

    def read(self, request: Request, fields: dict[str, object]) -> Work:
        model = fields.get("model")
        if model not in {MAIN, BETA}:
            raise self.refusal(403, f"The key has no access to model {model!r}.")
        for name in fields.keys() - _KNOWN:
            raise self._invalid(name, "is not a parameter of this model")
        prompt = self._prompt(fields, str(model))
        inputs = self._image_urls(fields)
        size, pixels, resolution = self._size(fields, prompt)
        n = self._n(fields, str(model))
        if model == BETA and "quality" in fields:
            raise self._invalid("quality", "is not a parameter of this model")
        quality = self._word(fields, "quality", ("low", "medium", "high"), "medium")
        tier = sizes.tier(size, resolution, pixels)
        order = _Order(str(model), prompt, pixels, size == "auto", tier, quality, len(inputs))
        arrival = arrival_of(request)
        return Work(
            id=f"{_ID_PREFIX}{int(time.time())}-{secrets.token_hex(4)}",
            provider=self.name,
            model=order.model,
            operation="edit" if inputs else "generate",
            prompt=prompt,
            quality=quality,
            size=f"{pixels[0]}x{pixels[1]}",
            pictures=tuple(Picture(prompt, order.model, *pixels, quality, index=i) for i in range(n)),
            base=origin(request),
            arrival=arrival,
            price=order.charge,
            load=partial(self.load_all, [("image_urls", url) for url in inputs], arrival) if inputs else None,
            callback_url=self._url(fields, "callback_url"),
            facts={"order": order, "reserved": order.reserved(n).credits},
        )

    def moderated(self, work: Work, failure: Failure) -> None:
        if failure.field == "input" and not failure.billed:
            raise self.refusal(400, failure.message, code="content_policy_violation")
        work.doomed = failure

    async def accepted(self, work: Work) -> tuple[int, object]:
        return 200, self._shown(work, State.QUEUED)

    async def message(self, work: Work, state: State) -> Message:
        return _posted(self._shown(work, state))

    async def forged(self, work: Work) -> Message:
        link = self.results.dead_link(work)
        claim = {**self._shown(work, State.DONE), "progress": 100, "results": [link]}
        return _posted(claim, forged=True)

    async def _task(self, request: Request) -> Response:
        self.check_key(request)
        task_id = request.path_params["task"]
        if not task_id.startswith(_ID_PREFIX):
            message = f"Invalid task ID format, must start with '{_ID_PREFIX}'"
            raise self.refusal(400, message, code="invalid_task_id", param="task_id")
        work = self.asked_after(request, task_id)
        if work is None:
            raise self.refusal(404, "Task not found.")
        shown = self._shown(work, work.state)
        return PlainJSON({**shown, "status": self.odd_status(work) or shown["status"]})

    async def _credits(self, request: Request) -> Response:
        self.check_key(request)
        spent = sum(line.nano_usd for line in self.world.bill.lines(self.name))
        used = round(spent * pricing.CREDITS_PER_USD / 1e9, 4)
        balance = {"remaining_credits": round(_BALANCE - used, 4), "used_credits": used}
        return PlainJSON({"success": True, "data": {"token": balance, "user": balance}})

    def _shown(self, work: Work, state: State) -> dict[str, object]:
        """Return a task as it is created, asked after and called back about."""
        progress = {State.QUEUED: 0, State.RUNNING: _HALFWAY, State.DONE: 100}.get(state, 0)
        info: dict[str, object] = {"can_cancel": not work.over}
        task: dict[str, object] = {
            "created": int(work.created),
            "id": work.id,
            "model": work.model,
            "object": "image.generation.task",
            "progress": progress,
            "status": _WORDS[state],
            "task_info": info,
            "type": "image",
        }
        if state is State.QUEUED:
            info["can_cancel"], info["estimated_time"] = True, max(1, round(self.world.options.work_seconds))
            task |= self._usage(work, work.facts["reserved"])
        if state is State.DONE and work.over:
            task["results"] = self.results.links(work)
            order = work.facts["order"]
            assert isinstance(order, _Order)
            task |= self._usage(work, order.cost(work).credits)
        if state is State.FAILED and work.failure:
            why = work.failure.why
            code = work.failure.code if why is Why.ERROR else ""
            task["error"] = {"code": code or _FAILURES[why], "message": work.failure.message}
        return task

    def _usage(self, work: Work, amount: object) -> dict[str, object]:
        rule = "per_image" if work.model == BETA else "per_token"
        usage = {"billing_rule": rule, "credits_reserved": amount, "user_group": "default"}
        told = self.told(work, usage, {**usage, "credits_reserved": 0})
        return {} if told is None else {"usage": told}

    def _invalid(self, param: str, what: str) -> Refusal:
        return self.refusal(400, f"Invalid parameter: '{param}' {what}.", param=param)

    def _prompt(self, fields: dict[str, object], model: str) -> str:
        prompt = fields.get("prompt")
        if not isinstance(prompt, str) or not prompt:
            raise self._invalid("prompt", "is required and a text")
        if len(prompt) > _MAX_PROMPT or (model == BETA and text_tokens(prompt) > _MAX_BETA_TOKENS):
            raise self._invalid("prompt", "is too long")
        return prompt

    def _image_urls(self, fields: dict[str, object]) -> list[str]:
        urls = fields.get("image_urls")
        if urls is None:
            return []
        if not isinstance(urls, list) or not 1 <= len(urls) <= _MAX_IMAGES:
            raise self._invalid("image_urls", f"is a list of 1 to {_MAX_IMAGES} URLs")
        if not all(isinstance(url, str) and url.startswith(("http://", "https://")) for url in urls):
            raise self._invalid("image_urls", "takes URLs that can be fetched, nothing else")
        return urls

    def _size(self, fields: dict[str, object], prompt: str) -> tuple[str, sizes.Size, str]:
        resolution = self._word(fields, "resolution", sizes.RESOLUTIONS, "1K")
        size = fields.get("size", "auto")
        if not isinstance(size, str):
            raise self._invalid("size", "is a text")
        if size == "auto":
            return size, sizes.auto_size(prompt), resolution
        pixels = sizes.ratio_size(size, resolution) if ":" in size else sizes.free_size(size)
        if pixels is None:
            raise self._invalid("size", "is 'auto', a ratio, or WxH within the limits")
        return size, pixels, resolution

    def _n(self, fields: dict[str, object], model: str) -> int:
        n = fields.get("n", 1)
        most = 1 if model == BETA else _MAX_N
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= most:
            raise self._invalid("n", f"is a whole number from 1 to {most}")
        return n

    def _word(self, fields: dict[str, object], name: str, allowed: Sequence[str], default: str) -> str:
        word = fields.get(name, default)
        if word not in allowed:
            raise self._invalid(name, f"is one of {', '.join(allowed)}")
        return str(word)

    def _url(self, fields: dict[str, object], name: str) -> str | None:
        url = fields.get(name)
        if url is None:
            return None
        if not isinstance(url, str) or len(url) > _MAX_URL or not url.startswith(("http://", "https://")):
            raise self._invalid(name, f"is a URL of at most {_MAX_URL} characters")
        return url


def _posted(task: dict[str, object], *, forged: bool = False) -> Message:
    return Message(json.dumps(task).encode(), {"content-type": "application/json"}, forged)


def _build(world: World) -> ASGIApp:
    return _EvoLink(world).app()


EVOLINK = Persona(_EvoLink.name, _EvoLink.prefix, _build, _EvoLink.api, (Feature.WORK,))

"""Google's Gemini API as far as it makes images: key, body, limits, faults, work, bill, answer, in this order.

What a prompt holds decides how an answer goes wrong: `blocked-by-moderation` and `block:REASON` block the prompt,
`finish:REASON` ends without an image, `thinks-first` shows a picture that was only thought, `as-data-uri` answers as
some resellers do, with the image in a text. All of these count tokens, which are charged.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from gateway.sandbox.arrivals import Arrival
from gateway.sandbox.bill import BillLine, nano_usd
from gateway.sandbox.delivery import Delivery
from gateway.sandbox.faults import Fault, Subject
from gateway.sandbox.json_response import PlainJSON
from gateway.sandbox.personas.gemini import errors
from gateway.sandbox.personas.gemini.catalog import MODELS, THOUGHT_TOKENS
from gateway.sandbox.personas.gemini.errors import ApiError
from gateway.sandbox.personas.gemini.reading import Job, read
from gateway.sandbox.pictures import Picture
from gateway.sandbox.world import Persona, World

PROVIDER = "gemini"
_PREFIX, _API = "/gemini", "/v1beta"
_BLOCKED = re.compile(r"block:([A-Z_]+)|(blocked-by-moderation)")
_FINISH = re.compile(r"finish:([A-Z_]+)")
_THINKS, _AS_TEXT = "thinks-first", "as-data-uri"
_WORDS_OUT = 24
"""Tokens of a few words in place of an image."""


class _Gemini:
    def __init__(self, world: World) -> None:
        self._world = world

    def app(self) -> ASGIApp:
        routes = [Route("/models/{model}:generateContent", self.generate, methods=["POST"])]
        return Starlette(
            routes=[Mount(_API, routes=routes), *routes],
            exception_handlers={ApiError: _refused, HTTPException: _unrouted},
        )

    async def generate(self, request: Request) -> Response:
        arrival = _arrival(request)
        fault = self._world.faults.take_on_arrival(PROVIDER, "generate")
        if fault:
            arrival.fault = fault.name
            return Delivery([b""], media_type="application/json", fault=fault)
        self._check_key(request)
        name = request.path_params["model"]
        if name not in MODELS:
            raise errors.no_model(name)
        job = await read(await request.body(), MODELS[name])
        arrival.files = job.files
        arrival.fields = {"prompt": job.prompt, "aspectRatio": job.ratio, "imageSize": job.resolution}
        subject = Subject(job.operation, name, job.prompt, stream=False, fields=arrival.fields)
        fault = self._world.faults.take(PROVIDER, subject)
        arrival.fault = fault.name if fault else None
        return await self._work(request, job, fault)

    def _check_key(self, request: Request) -> None:
        key = request.headers.get("x-goog-api-key") or request.query_params.get("key")
        if not key:
            raise errors.no_key()
        if not self._world.options.accepts(key):
            raise errors.wrong_key()

    async def _work(self, request: Request, job: Job, fault: Fault | None) -> Response:
        if fault is not None:
            _refuse(fault)
        await asyncio.sleep(self._world.options.latency + _extra(fault))
        if fault is not None and fault.name == "moderation":
            stage = fault.parameters["stage"]
            answer = _blocked(job, "SAFETY") if stage == "input" else _ended(job, "IMAGE_SAFETY")
            if not fault.billed:
                del answer["usageMetadata"]
        else:
            answer = await self._answer(job, fault)
        if fault is None or fault.billed:
            self._charge(request, job, answer["usageMetadata"])
        if fault is not None and fault.name in {"garbage", "html"}:
            html = fault.name == "html"
            media_type, status = ("text/html", fault.parameters["status"]) if html else ("application/json", 200)
            return Delivery([fault.parameters["body"].encode()], media_type=media_type, status=status)
        _spoil_usage(answer, fault)
        body = json.dumps(answer, separators=(",", ":")).encode()
        return Delivery([body], media_type="application/json; charset=UTF-8", fault=fault)

    async def _answer(self, job: Job, fault: Fault | None) -> dict[str, Any]:
        blocked, finish = _BLOCKED.search(job.prompt), _FINISH.search(job.prompt)
        if blocked:
            return _blocked(job, blocked[1] or "PROHIBITED_CONTENT")
        if finish:
            return _ended(job, finish[1])
        (width, height), thinks = job.size, _THINKS in job.prompt
        picture = Picture(
            prompt=job.prompt,
            model=job.model.id,
            width=width,
            height=height,
            quality=job.resolution,
            output_format=job.model.output_format,
            compression=90,
            padding=fault.parameters["bytes"] if fault is not None and fault.name == "pad" else 0,
        )
        data, mime = await self._world.gallery.base64(picture), f"image/{job.model.output_format}"
        parts: list[dict[str, Any]] = []
        if thinks:
            parts += [
                {"text": "First a sketch.", "thought": True},
                {"inlineData": {"mimeType": mime, "data": data[:4000]}, "thought": True},
            ]
        if _AS_TEXT in job.prompt:
            parts.append({"text": f"Here you are:\n![image](data:{mime};base64,{data})\nAnything else?"})
        else:
            parts += [{"text": "Here you are."}, {"inlineData": {"mimeType": mime, "data": data}}]
            parts[-1]["thoughtSignature"] = secrets.token_urlsafe(1500)
        if fault is not None and fault.name == "wrong_count":
            parts = [part for part in parts if "inlineData" not in part]
        usage = _usage(job, image_out=job.model.tokens[job.resolution], thoughts=THOUGHT_TOKENS if thinks else 0)
        return {
            "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": usage,
            "modelVersion": job.model.id,
            "responseId": secrets.token_urlsafe(16),
        }

    def _charge(self, request: Request, job: Job, usage: dict[str, Any]) -> None:
        """Charge what the answer counts."""
        model = job.model
        image_out = sum(row["tokenCount"] for row in usage.get("candidatesTokensDetails", ()) if _is_image(row))
        text_out = usage.get("candidatesTokenCount", 0) - image_out + usage.get("thoughtsTokenCount", 0)
        pico = usage["promptTokenCount"] * model.rate_in + image_out * model.rate_image + text_out * model.rate_text
        width, height = job.size
        self._world.bill.charge(
            BillLine(
                provider=PROVIDER,
                request=_arrival(request).request,
                at=time.time(),
                model=model.id,
                operation=job.operation,
                n=1,
                images=1 if image_out else 0,
                size=f"{width}x{height}",
                quality=job.resolution,
                usage=usage,
                nano_usd=nano_usd(pico),
            )
        )


def _blocked(job: Job, reason: str) -> dict[str, Any]:
    """The prompt was not let through: no candidates, and the prompt's tokens are counted."""
    rating = {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}
    return {
        "promptFeedback": {"blockReason": reason, "safetyRatings": [rating]},
        "usageMetadata": _usage(job),
        "modelVersion": job.model.id,
        "responseId": secrets.token_urlsafe(16),
    }


def _ended(job: Job, reason: str) -> dict[str, Any]:
    """The model stopped without an image."""
    candidate: dict[str, Any] = {"finishReason": reason, "index": 0}
    words = 0
    if reason.startswith("IMAGE_"):
        candidate["finishMessage"] = "Unable to show the generated image."
    else:
        words = _WORDS_OUT
        candidate["content"] = {"role": "model", "parts": [{"text": "I would rather talk about it."}]}
    return {
        "candidates": [candidate],
        "usageMetadata": _usage(job, words=words),
        "modelVersion": job.model.id,
        "responseId": secrets.token_urlsafe(16),
    }


def _usage(job: Job, *, image_out: int = 0, words: int = 0, thoughts: int = 0) -> dict[str, Any]:
    details = [{"modality": "TEXT", "tokenCount": job.text_in}]
    if job.image_in:
        details.append({"modality": "IMAGE", "tokenCount": job.image_in})
    prompt, candidates = job.text_in + job.image_in, image_out + words
    usage: dict[str, Any] = {
        "promptTokenCount": prompt,
        "totalTokenCount": prompt + candidates + thoughts,
        "promptTokensDetails": details,
    }
    if candidates:
        kind = "IMAGE" if image_out else "TEXT"
        usage |= {
            "candidatesTokenCount": candidates,
            "candidatesTokensDetails": [{"modality": kind, "tokenCount": candidates}],
        }
    return usage | ({"thoughtsTokenCount": thoughts} if thoughts else {})


def _is_image(row: dict[str, Any]) -> bool:
    return bool(row["modality"] == "IMAGE")


def _refuse(fault: Fault) -> None:
    """Raise what a fault puts in the place of the work."""
    wanted = fault.parameters
    if fault.name == "rate_limit":
        raise errors.rate_limited(wanted["retry_after"])
    if fault.name == "status":
        raise ApiError(wanted["status"], wanted["message"], word=wanted["code"])


def _extra(fault: Fault | None) -> float:
    return float(fault.parameters["seconds"]) if fault is not None and fault.name == "slow" else 0.0


def _spoil_usage(answer: dict[str, Any], fault: Fault | None) -> None:
    match fault.name if fault is not None else None:
        case "no_usage":
            answer.pop("usageMetadata", None)
        case "zero_usage":
            answer["usageMetadata"] = {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0}
        case "garbage_usage":
            answer["usageMetadata"] = {"promptTokenCount": -7, "candidatesTokenCount": "many"}
        case _:
            pass


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return PlainJSON(error.body, error.status)


async def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return await _refused(request, ApiError(error.status_code, f"No method {request.method} {request.url.path}."))


def _arrival(request: Request) -> Arrival:
    arrival: Arrival = request.state.arrival
    return arrival


def _build(world: World) -> ASGIApp:
    return _Gemini(world).app()


GEMINI = Persona(PROVIDER, _PREFIX, _build, _API)

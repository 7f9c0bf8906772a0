"""A provider that keeps a bill on disk: OpenAI's images endpoint with tiny pictures, priced by the published formula.

Run as a process of its own: `python -m tests.chaos.upstream PORT BILL SEED`. It bills what it made whether or not
anybody still listens, a JSON line a call, before the first byte of its answer; some calls it refuses, and some it bills
and then loses the answer of. The pictures are the only thing about it that is not true: one pixel each.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.sandbox.bill import nano_usd
from gateway.sandbox.personas.openai.catalog import MODELS
from gateway.sandbox.personas.openai.pricing import PARTIAL_IMAGE_TOKENS, Tokens, output_tokens, text_tokens

ACCOUNTS = {"sk-chaos-one": "one", "sk-chaos-two": "two"}
"""Keys, and whose they are."""

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
FATES = {
    "fine": 0.89,
    "no_usage": 0.02,
    "busy": 0.03,
    "broken": 0.03,
    "lost": 0.015,
    "half": 0.015,
}
"""How likely: answered; answered without usage; 429, 500 (unbilled); billed and hung up; billed and cut in half."""
WORK_SECONDS = 0.05
"""Mean; a call in a hundred takes twenty times as long."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a call asks for, and what it costs."""

    prompt: str
    size: str
    quality: str
    n: int
    stream: bool
    partial: int
    each: Tokens
    nano_usd: int

    @property
    def total(self) -> Tokens:
        """Tokens of all images."""
        return Tokens(self.each.text_in * self.n, 0, self.each.image_out * self.n)


def understood(fields: dict[str, Any]) -> Work:
    """Return the work that a body asks for."""
    model = MODELS[fields["model"]]
    width, height = map(int, fields["size"].split("x"))
    made = output_tokens(model, width, height, fields["quality"])
    n, partial = int(fields.get("n", 1)), int(fields.get("partial_images", 0))
    each = Tokens(text_tokens(fields["prompt"]), 0, made + PARTIAL_IMAGE_TOKENS * partial)
    cost = nano_usd(Tokens(each.text_in * n, 0, each.image_out * n).pico_usd(model))
    stream = bool(fields.get("stream"))
    return Work(fields["prompt"], fields["size"], fields["quality"], n, stream, partial, each, cost)


class Upstream:
    """The account: a seed for its moods and a file for its bill."""

    def __init__(self, bill: Path, seed: int) -> None:
        self._bill = os.open(bill, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._random = random.Random(seed)

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application()
        app.router.add_post("/v1/images/generations", self.generate)
        return app

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        account = ACCOUNTS.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if account is None:
            return _error(401, "invalid_api_key", "Incorrect API key provided.")
        began, work = time.time(), understood(await request.json())
        [fate] = self._random.choices(list(FATES), list(FATES.values()))
        if fate == "busy":
            return _error(429, "rate_limit_exceeded", "Rate limit reached.", {"retry-after-ms": "50"})
        if fate == "broken":
            return _error(500, "server_error", "The server had an error.")
        slow = 20 if self._random.random() < 0.01 else 1
        await asyncio.sleep(self._random.expovariate(1 / WORK_SECONDS) * slow)
        name = f"req_{uuid.uuid4().hex}"
        ids = {"account": account, "request": name, "client": request.headers["x-client-request-id"]}
        self._charge({**ids, "prompt": work.prompt, "began": began, "at": time.time(), "nano_usd": work.nano_usd})
        if fate == "lost":
            _hang_up(request)
            return web.Response()
        if work.stream:
            return await self._stream(request, name, work, cut=fate == "half")
        return await self._answer(request, name, work, fate)

    def _charge(self, line: dict[str, str | int | float]) -> None:
        os.write(self._bill, json.dumps(line).encode() + b"\n")

    async def _answer(self, request: web.Request, name: str, work: Work, fate: str) -> web.StreamResponse:
        usage = {} if fate == "no_usage" else {"usage": work.total.as_usage(details=True)}
        body = json.dumps({"created": int(time.time()), **_made(work), "data": [_picture()] * work.n, **usage}).encode()
        if fate != "half":
            return web.Response(body=body, content_type="application/json", headers={"x-request-id": name})
        headers = {"x-request-id": name, "content-type": "application/json", "content-length": str(len(body))}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        _hang_up(request)
        return response

    async def _stream(self, request: web.Request, name: str, work: Work, *, cut: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"x-request-id": name, "content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(work.n):
            for index in range(work.partial):
                event = {**_made(work), **_picture(), "partial_image_index": index}
                await response.write(_event("partial_image", event))
                await asyncio.sleep(WORK_SECONDS / 2)
            if cut:
                _hang_up(request)
                return response
            usage = work.each.as_usage(details=False)
            await response.write(_event("completed", {**_made(work), **_picture(), "usage": usage}))
        return response


def _made(work: Work) -> dict[str, Any]:
    return {"background": "opaque", "output_format": "png", "quality": work.quality, "size": work.size}


def _picture() -> dict[str, str]:
    return {"b64_json": PIXEL}


def _event(kind: str, content: dict[str, Any]) -> bytes:
    name = f"image_generation.{kind}"
    data = json.dumps({"type": name, "created_at": int(time.time()), **content})
    return f"event: {name}\ndata: {data}\n\n".encode()


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    error = {"message": message, "type": "server_error" if status >= 500 else "requests", "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def main() -> None:
    """Serve until killed."""
    port, bill, seed = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    web.run_app(Upstream(bill, seed).app(), host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main()

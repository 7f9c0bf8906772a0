"""A gateway that keeps what it was asked, and an application served on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from gateway.domain.errors import GatewayError, InvalidApiKey, NotFound, Retired
from gateway.ports import Body, Headers, Inbound, Outbound
from gateway.ports.responses import PassthroughRequest
from gateway.web.app import create_app
from gateway.web.boundary import ErrorBoundary
from gateway.web.limits import BodyLimits, HeadLimits
from gateway.web.server import listen, serve_app

IMAGES_ANSWER = json.dumps({"created": 1, "data": [{"b64_json": "aGk="}]}).encode()


@dataclass
class Seen:
    """One request as the gateway saw it: the body's facts, and the body as it would be sent on."""

    inbound: Inbound
    encoding: str
    fields: Mapping[str, object]
    images: int
    mask: bool
    content_type: str
    length: int
    rendered: bytes
    digest: str
    fingerprint: str | None


async def in_pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    """Yield the chunks."""
    for chunk in chunks:
        yield chunk


def answer_images() -> Outbound:
    """An answer with one image."""
    headers = [("content-type", "application/json"), ("content-length", str(len(IMAGES_ANSWER)))]
    return Outbound(200, headers, in_pieces(IMAGES_ANSWER))


@dataclass
class RecordingGateway:
    """Implements `front.Gateway` with nothing behind it."""

    answer: Callable[[], Outbound] = answer_images
    changes: Mapping[str, str | int | None] = field(default_factory=dict)
    keep_rendered: bool = True
    refuse: GatewayError | None = None
    crash: Exception | None = None
    reasons: list[str] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    failed: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, inbound: Inbound) -> Outbound:
        """Read the body, render it once, answer."""
        if self.refuse:
            raise self.refuse
        if self.crash:
            raise self.crash
        try:
            body = await inbound.read_body()
        except BaseException as error:
            self.failures.append(error)
            self.failed.set()
            raise
        try:
            self.seen.append(await self._see(inbound, body))
        finally:
            await body.aclose()
        return self.answer()

    async def _see(self, inbound: Inbound, body: Body) -> Seen:
        rendered = body.render(self.changes)
        digest, kept, length = hashlib.sha256(), bytearray(), 0
        async for chunk in rendered.chunks():
            digest.update(chunk)
            length += len(chunk)
            if self.keep_rendered:
                kept += chunk
        assert length == rendered.length
        return Seen(
            inbound,
            body.encoding,
            body.fields,
            body.images,
            body.mask,
            rendered.content_type,
            length,
            bytes(kept),
            digest.hexdigest(),
            body.fingerprint,
        )

    async def models(self, headers: Mapping[str, str]) -> list[dict[str, object]]:
        """Two models, for whoever has a key."""
        if "authorization" not in headers and "api-key" not in headers:
            raise InvalidApiKey("No API key was sent.")
        entry = {"object": "model", "created": 0, "owned_by": "test", "shutdown_date": None}
        return [{"id": name, **entry} for name in ("vendor/model-a", "job:hero_image")]

    async def model(self, headers: Mapping[str, str], name: str) -> dict[str, object]:
        """One of them."""
        for found in await self.models(headers):
            if found["id"] == name:
                return found
        raise NotFound(f"No model {name!r}.", param="model", code="model_not_found")

    async def request_record(self, headers: Mapping[str, str], request_id: str) -> dict[str, object]:
        """Every request is known to whoever has a key."""
        await self.models(headers)
        return {"id": request_id}

    def hint(self, token: str) -> Callable[[Mapping[str, str], bytes], bool] | None:  # noqa: ARG002 - nobody waits
        """Nobody waits for a provider's call."""
        return None

    async def task(self, headers: Mapping[str, str], task_id: str) -> tuple[dict[str, object], Headers]:
        """Every task is known to whoever has a key, and unfinished."""
        await self.models(headers)
        return {"id": task_id}, [("retry-after", "2")]

    async def tasks(self, headers: Mapping[str, str], query: Mapping[str, str]) -> dict[str, object]:
        """A list that tells what was asked for."""
        await self.models(headers)
        return {"object": "list", "data": [], "query": dict(query)}

    async def cancel_task(self, headers: Mapping[str, str], task_id: str) -> tuple[dict[str, object], Headers]:
        """A task that is cancelled."""
        await self.models(headers)
        return {"id": task_id, "status": "cancelled"}, []

    async def asset(self, headers: Mapping[str, str], name: str, query: Mapping[str, str]) -> Outbound:
        """An image for whoever has a link or a key; its content tells the name."""
        if "signature" not in query:
            await self.models(headers)
        body = f"image {name}".encode()
        return Outbound(200, [("content-type", "image/png"), ("content-length", str(len(body)))], in_pieces(body))

    async def assets(self, headers: Mapping[str, str], query: Mapping[str, str]) -> dict[str, object]:
        """No images, whatever is asked."""
        await self.models(headers)
        return {"object": "list", "data": [], "query": dict(query)}

    async def delete_asset(self, headers: Mapping[str, str], name: str) -> dict[str, object]:
        """As if it had been there."""
        await self.models(headers)
        return {"id": name, "deleted": True}

    async def response(self, headers: Mapping[str, str], response_id: str, passing: PassthroughRequest) -> Outbound:
        """Every response is known to whoever has a key; it tells what was asked of it."""
        await self.models(headers)
        body = f"{passing.method} {response_id}".encode()
        return Outbound(200, [("content-length", str(len(body)))], in_pieces(body))

    async def passed(self, headers: Mapping[str, str], passing: PassthroughRequest, received: float) -> Outbound:  # noqa: ARG002 - the contract's
        """Nothing goes through."""
        raise NotFound(f"Unknown path: {passing.method} {passing.path}. Check the base URL and the path for typos.")

    async def variations(self, headers: Mapping[str, str]) -> None:
        """Always retired, for whoever has a key."""
        await self.models(headers)
        raise Retired("Retired; call edits.", should_retry=False)

    async def ready(self) -> list[str]:
        """What the test says."""
        return self.reasons


@contextlib.asynccontextmanager
async def serving(app: ErrorBoundary, head_limits: HeadLimits | None = None, grace: float = 1) -> AsyncIterator[int]:
    """Serve an application in this loop; gives the port."""
    sock = listen("127.0.0.1", 0)
    shutdown = asyncio.Event()
    task = asyncio.create_task(serve_app(app, sock, shutdown=shutdown, grace=grace, head_limits=head_limits))
    try:
        yield sock.getsockname()[1]
    finally:
        shutdown.set()
        await task


@contextlib.asynccontextmanager
async def serving_gateway(
    gateway: RecordingGateway,
    limits: BodyLimits | None = None,
    *,
    stall_seconds: float = 30,
    head_limits: HeadLimits | None = None,
) -> AsyncIterator[int]:
    """Serve the data plane of a gateway; gives the port."""
    async with serving(create_app(gateway, limits, stall_seconds=stall_seconds), head_limits) as port:
        yield port

"""Links to what a simulated provider made: for anybody who has them, while they live."""

from __future__ import annotations

import base64
import secrets
import time
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.sandbox.arrivals import Arrival
from gateway.sandbox.work import Work
from gateway.sandbox.world import World

_MEDIA = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_GONE = "The link has expired."


class Results:
    """One provider's result links, under `{prefix}/delivery`; `seconds` is how long they live there."""

    def __init__(self, world: World, provider: str, prefix: str, seconds: float) -> None:
        self._world = world
        self._provider = provider
        self._prefix = prefix
        self._seconds = seconds if world.options.link_seconds is None else world.options.link_seconds

    def route(self) -> Route:
        """Return the endpoint that serves them."""
        return Route("/delivery/{work}/{file}", self._deliver, methods=["GET"])

    def links(self, work: Work) -> list[str]:
        """Return the URLs of what was made, as many as are shown."""
        count = len(work.pictures)
        if work.mishap and work.mishap.name == "wrong_count":
            wanted = work.mishap.parameters["images"]
            count = count - 1 if wanted is None else min(count, int(wanted))
        return [self._link(work, f"{work.token}_{index}") for index in range(count)]

    def dead_link(self, work: Work) -> str:
        """Return a URL that looks like a result and is none."""
        return self._link(work, f"{secrets.token_hex(8)}_0")

    def expired(self, work: Work) -> bool:
        """Say whether the links to what was made are dead."""
        return work.finished is not None and time.time() > work.finished + self._seconds

    async def picture(self, work: Work, index: int) -> bytes:
        """Return the file of one image."""
        return base64.b64decode(await self._world.gallery.base64(work.pictures[index]))

    def _link(self, work: Work, name: str) -> str:
        base = elsewhere(work.base, self._world.options.delivery_host)
        return f"{base}{self._prefix}/delivery/{work.id}/{name}.{work.extension}"

    async def _deliver(self, request: Request) -> Response:
        work = self._world.works.find(self._provider, request.path_params["work"])
        token, _, number = request.path_params["file"].partition(".")[0].partition("_")
        if work is None or work.finished is None or token != work.token or not number.isdecimal():
            return Response("Not Found", 404)
        if fault := work.fault("expired_link"):
            arrival_of(request).fault = fault.name
            return Response(_GONE, fault.parameters["status"])
        if self.expired(work) or int(number) >= len(work.pictures):
            return Response(_GONE, 404)
        content = await self.picture(work, int(number))
        return Response(content, media_type=_MEDIA[work.pictures[int(number)].output_format])


def arrival_of(request: Request) -> Arrival:
    """Return what the request list says of a request."""
    arrival: Arrival = request.state.arrival
    return arrival


def origin(request: Request) -> str:
    """Return scheme, host and port that the client came by."""
    return f"{request.url.scheme}://{request.url.netloc}"


def elsewhere(base: str, host: str) -> str:
    """Return the URL with another host name, and its own port; the same if no name is given."""
    if not host:
        return base
    parts = urlsplit(base)
    return parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}").geturl()

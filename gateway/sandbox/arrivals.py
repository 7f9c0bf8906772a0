"""What arrived: every request a simulated provider received, without image bytes and without keys."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.sandbox.connection import connection_of

_SECRET_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "x-key", "x-goog-api-key", "cookie"})
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """An image that came with a request; `bytes` is its length."""

    field: str
    filename: str | None
    content_type: str | None
    bytes: int
    sha256: str


@dataclass(slots=True)
class Arrival:
    """One request. `at` is Unix seconds; `client_stayed` and `seconds`, how long it took, are None until its end."""

    request: str
    provider: str
    at: float
    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    fields: Mapping[str, object] = field(default_factory=dict)
    files: list[ReceivedFile] = field(default_factory=list)
    fault: str | None = None
    status: int | None = None
    client_stayed: bool | None = None
    seconds: float | None = None


class Arrivals:
    """The newest requests, oldest first; at most `kept` of them."""

    def __init__(self, kept: int) -> None:
        self._all: deque[Arrival] = deque(maxlen=kept)

    def add(self, arrival: Arrival) -> None:
        """Remember a request as it begins; it is filled in while it runs."""
        self._all.append(arrival)

    def clear(self) -> None:
        """Forget all of them."""
        self._all.clear()

    def as_json(self) -> dict[str, object]:
        """Return the number of requests and what is known of each."""
        requests = [asdict(arrival) for arrival in self._all]
        return {"count": len(requests), "requests": requests}


def masked(name: str, value: str) -> str:
    """Return a header's value with all but the last four characters of a secret hidden."""
    if name not in _SECRET_HEADERS:
        return value
    scheme, space, secret = value.rpartition(" ")
    visible = secret[-_SHOWN:] if len(secret) > 2 * _SHOWN else ""
    return f"{scheme}{space}***{visible}"


def readable(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Decode ASGI headers in their order, secrets masked."""
    decoded = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    return [(name, masked(name, value)) for name, value in decoded]


class Recorder:
    """ASGI middleware that writes down every request to a provider and how it ended."""

    def __init__(self, app: ASGIApp, provider: str, arrivals: Arrivals) -> None:
        self._app = app
        self._provider = provider
        self._arrivals = arrivals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request with its `Arrival` in `scope["state"]["arrival"]`."""
        started = time.monotonic()
        arrival = Arrival(
            request=f"req_{uuid.uuid4().hex}",
            provider=self._provider,
            at=time.time(),
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            headers=readable(scope["headers"]),
        )
        self._arrivals.add(arrival)
        scope.setdefault("state", {})["arrival"] = arrival

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                arrival.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            connection = connection_of(scope)
            arrival.client_stayed = None if connection is None else not connection.client_left
            arrival.seconds = round(time.monotonic() - started, 6)

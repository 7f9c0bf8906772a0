"""A vendor that takes work on, scripted: what it answers to each request is what the test says."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from gateway.domain.addresses import Egress
from gateway.domain.job import Operation
from gateway.domain.profile import Parameter, Source
from gateway.domain.route import ProviderConfig, Secret
from gateway.domain.task_profile import Fault, PollTimes, TaskProfile, TaskState, UrlPurpose
from gateway.egress.fetcher import SafeFetcher
from gateway.egress.guard import Guard
from gateway.ports.provider import Call, Hints, Provider, ProviderServices, Submitted, UpstreamFailure
from gateway.providers.registry import open_provider
from tests import builders
from tests.providers.calls import SECRET, MemoryBody
from tests.providers.raw_server import Connection, RawServer, Request, Script, serving

Reply = tuple[str, bytes, str]
"""Status line, body, further headers (lines with CRLF)."""

FAST = PollTimes(first=0.01, every=0.02, after=5.0, then=0.05)
STATES = {
    "pending": TaskState.QUEUED,
    "processing": TaskState.RUNNING,
    "completed": TaskState.SUCCEEDED,
    "failed": TaskState.FAILED,
    "moderated": TaskState.MODERATED,
    "cancelled": TaskState.CANCELLED,
    "gone": TaskState.MISSING,
}
PROFILE = TaskProfile(
    generations="/create/{model}",
    edits=None,
    parameters=(Parameter("prompt", Source.PROMPT), Parameter("callback", Source.CALLBACK)),
    urls={UrlPurpose.STATUS: "/tasks/{id}", UrlPurpose.CANCEL: "/tasks/{id}/cancel"},
    states=STATES,
    progress="progress",
    error_code=("error.code",),
    error_message=("error.message",),
    faults={
        "content_policy": Fault.MODERATED,
        "bad_size": Fault.INVALID,
        "no_model": Fault.LASTING,
        "who_knows": Fault.UNKNOWN,
        "503": Fault.RETRYABLE,
    },
    images=("results[*]", "results[*].url", "output"),
    poll=FAST,
    patience=20.0,
)


def png(width: int = 1024, height: int = 768, *, padding: int = 0) -> bytes:
    """A file that begins as a picture of this size does; `padding` makes it long."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return b"\x89PNG\r\n\x1a\n" + chunk + bytes(padding)


def said(document: object, *, status: str = "200 OK", headers: str = "") -> Reply:
    """A JSON answer."""
    return status, json.dumps(document).encode(), headers


@dataclass
class Vendor:
    """What is answered to each method and path; the last of several answers is repeated, none is a 404.

    `created` is what creating work answers; a test may hang there (`hold`) or lose the answer (`lose`).
    """

    server: RawServer
    answers: dict[str, list[Reply]] = field(default_factory=dict)
    lose: bool = False
    on_request: Callable[[Request], None] | None = None
    told: Script | None = None
    """What to do instead of all this."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def says(self, request: str, *replies: Reply) -> None:
        """Answer a request such as `GET /v1/tasks/t1` in turn."""
        self.answers[request] = list(replies)

    def task(self, *documents: object) -> None:
        """Tell the state of the task `t1` in turn."""
        self.says("GET /v1/tasks/t1", *(said(document) for document in documents))

    def image(self, name: str, content: bytes | None = None, *, status: str = "200 OK") -> str:
        """Serve an image and return its URL."""
        self.says(f"GET /files/{name}", (status, png() if content is None else content, "Content-Type: image/png\r\n"))
        return f"{self.server.url}/files/{name}"

    def times(self, request: str) -> int:
        """How often a request came."""
        return sum(self._name(each) == request for each in self.server.requests)

    async def seen(self, request: str, times: int = 1) -> None:
        """Wait until a request has come so often."""
        while self.times(request) < times:
            self.arrived.clear()
            await self.arrived.wait()

    @property
    def created(self) -> list[Request]:
        """The requests that created work."""
        return [each for each in self.server.requests if each.line.startswith("POST /v1/create")]

    @staticmethod
    def _name(request: Request) -> str:
        method, path, _ = request.line.split(" ")
        return f"{method} {path.partition('?')[0]}"

    async def script(self, connection: Connection) -> None:
        """Answer one connection's requests."""
        if self.told is not None:
            await self.told(connection)
            return
        while True:
            request = await connection.request()
            self.arrived.set()
            if self.on_request is not None:
                self.on_request(request)
            if self.lose and request.line.startswith("POST"):
                connection.reset()
                return
            replies = self.answers.get(self._name(request), [("404 Not Found", b"{}", "")])
            status, body, headers = replies.pop(0) if len(replies) > 1 else replies[0]
            await connection.answer(body, status=status, headers=headers)


def task_config(url: str, profile: TaskProfile = PROFILE, **changes: object) -> ProviderConfig:
    """An account at the vendor."""
    return replace(
        ProviderConfig("acme", "task", f"{url}/v1", Secret(SECRET), timeout=5.0, profile=profile),
        **changes,  # type: ignore[arg-type]  # fields are checked by the dataclass
    )


@dataclass
class Kept:
    """Implements `ports.Submissions` in memory."""

    known: Mapping[int, Submitted] | None = None
    noted: dict[int, Submitted] = field(default_factory=dict)
    progress: list[int] = field(default_factory=list)

    async def note(self, number: int, submitted: Submitted) -> None:
        """Keep it."""
        self.noted[number] = submitted

    async def announce(self, number: int, submitted: Submitted) -> bool:
        """Keep it."""
        self.noted[number] = submitted
        return True

    def advanced(self, number: int, progress: int) -> None:
        """Keep it."""
        assert number in {**(self.known or {}), **self.noted}
        self.progress.append(progress)


@asynccontextmanager
async def vendor_of(
    profile: TaskProfile = PROFILE, hints: Hints | None = None
) -> AsyncIterator[tuple[Vendor, Provider]]:
    """A scripted vendor that takes work on as `t1`, and the gateway's provider for it with a real fetcher."""
    vendor = Vendor(RawServer())
    async with serving(vendor.script) as server:
        vendor.server = server
        vendor.says("POST /v1/create/m1", said({"id": "t1", "status": "pending"}))
        fetcher = SafeFetcher(Guard(Egress))
        provider = open_provider(task_config(server.url, profile), ProviderServices(fetcher, hints))
        try:
            yield vendor, provider
        finally:
            await provider.aclose()
            await fetcher.aclose()


def task_call(n: int = 1, operation: Operation = Operation.GENERATE, **changes: object) -> Call:
    """A call for some images."""
    plain = Call(
        request_id="req_1",
        route=builders.route("acme/m1", upstream_model="m1"),
        job=builders.job(n=n, operation=operation, size="1024x768"),
        body=MemoryBody({"prompt": "a cat", "model": "m"}),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields are checked by the dataclass


def done(*links: object, **others: object) -> dict[str, object]:
    """The state of work that has ended well."""
    return {"id": "t1", "status": "completed", "results": list(links), **others}


def failed(code: object, message: str = "it did not work", status: str = "failed") -> dict[str, object]:
    """The state of work that has failed."""
    return {"id": "t1", "status": status, "error": {"code": code, "message": message}}


def outcomes(failures: Sequence[UpstreamFailure]) -> list[str]:
    """Their outcomes and reasons."""
    return [f"{failure.outcome} {failure.reason}" for failure in failures]

"""An account whose batches are over at once: what is told of them, and what their files hold, is what a test says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.domain.batch import BatchLine, BatchTerms
from gateway.domain.profile import Profile
from gateway.ledger.batches import RedisBatches
from gateway.ledger.store import Store
from gateway.ports.provider import Call, ProviderServices
from gateway.providers.batch import BatchProvider
from tests import builders
from tests.providers.calls import MemoryBody, config
from tests.providers.raw_server import Connection, RawServer, serving
from tests.providers.task_vendor import Kept, png

TERMS = BatchTerms(poll=0.05)
MODEL = "gpt-image-2-2026-04-21"
DONE = {"status": "completed", "output_file_id": "file-out", "error_file_id": None}


def result(name: str, body: object, status: int = 200, error: object = None) -> dict[str, object]:
    """A line of results."""
    response = {"status_code": status, "request_id": f"own_{name}", "body": body}
    return {"id": f"line_{name}", "custom_id": name, "response": response, "error": error}


def line(request_id: str = "req_1") -> Call:
    """A call that goes by batch."""
    return Call(
        request_id=request_id,
        route=builders.route("acme/image", upstream_model=MODEL),
        job=builders.job(size="1024x1024", quality="low"),
        body=MemoryBody({"prompt": "a cat", "model": MODEL, "size": "1024x1024", "quality": "low"}),
        submissions=Kept(),
        batch=BatchLine(TERMS),
    )


@dataclass
class Vendor:
    """`looks` are what a look tells, the last of them ever after; a file that is not among `files` is not there.

    With `refusal` (a status line and a body) no batch is made. `instead` is what is sent, byte for byte, to the first
    requests for files; each closes its connection.
    """

    files: Mapping[str, Sequence[Mapping[str, object]]] = field(default_factory=dict)
    looks: Sequence[Mapping[str, object]] = (DONE,)
    refusal: tuple[str, Mapping[str, object]] | None = None
    looked: int = 0
    instead: list[bytes] = field(default_factory=list)

    async def serve(self, connection: Connection) -> None:
        """Answer what comes on a connection."""
        while True:
            method, target, _ = (await connection.request()).line.split(" ")
            path = target.removeprefix("/v1")
            if path == "/pictures/1":
                await connection.answer(png(1024, 1024), headers="Content-Type: image/png\r\n")
            elif path.endswith("/content") and self.instead:
                await connection.send(self.instead.pop(0))
                return
            elif path.endswith("/content"):
                await self._content(connection, path.split("/")[2])
            elif (method, path) == ("POST", "/batches") and self.refusal is not None:
                await connection.answer(json.dumps(self.refusal[1]).encode(), status=self.refusal[0])
            else:
                await connection.answer(json.dumps(self._told(method, path)).encode())

    def _told(self, method: str, path: str) -> dict[str, Any]:
        if not path.startswith("/batches"):
            return {"id": "file-in"}
        if method == "POST":
            return {"id": "batch_1", "status": "validating"}
        self.looked += 1
        return {"id": "batch_1", **self.looks[min(self.looked, len(self.looks)) - 1]}

    async def _content(self, connection: Connection, file: str) -> None:
        if file in self.files:
            text = "".join(json.dumps(each) + "\n" for each in self.files[file])
            await connection.answer(text.encode(), headers="Content-Type: application/octet-stream\r\n")
        else:
            await connection.answer(b'{"error": {"message": "No such file"}}', status="404 Not Found")


@asynccontextmanager
async def account(
    vendor: Vendor, store: Store, realm: str, profile: Profile | None = None, services: ProviderServices | None = None
) -> AsyncIterator[tuple[BatchProvider, RawServer]]:
    """The account's provider, and the server behind it."""
    async with serving(vendor.serve) as server:
        terms = replace(config(server.url), batch=TERMS, profile=profile or Profile())
        known = services or ProviderServices(batches=RedisBatches(store, realm))
        provider = BatchProvider(terms, known)
        try:
            yield provider, server
        finally:
            await provider.aclose()

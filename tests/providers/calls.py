"""Calls to make in tests: a route to a server, and a body in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Literal

from gateway.domain.job import Operation
from gateway.domain.route import ProviderConfig, Secret
from gateway.ports import Inputs, Rendered
from gateway.ports.provider import Answer, Call
from tests import builders

SECRET = "sk-provider-0123456789abcdef"


class MemoryBody:
    """A request body in memory; `render` puts the changes into the JSON, or beside it in multipart."""

    def __init__(
        self,
        fields: Mapping[str, object],
        *,
        encoding: Literal["json", "multipart"] = "json",
        extra: bytes = b"",
        given: Inputs | None = None,
    ) -> None:
        self.encoding: Literal["json", "multipart"] = encoding
        self.fields = fields
        self.images = 0
        self.mask = False
        self.fingerprint = None
        self.likeness = None
        self.given = given or Inputs()
        self._extra = extra

    def render(self, changes: Mapping[str, str | int | None]) -> Rendered:
        """Return the body with its changes."""
        fields = {**self.fields, **changes}
        data = json.dumps({name: value for name, value in fields.items() if value is not None}).encode() + self._extra
        kind = "application/json" if self.encoding == "json" else "multipart/form-data; boundary=b"

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(data), 65_536):
                yield data[at : at + 65_536]

        return Rendered(kind, len(data), chunks)

    async def inputs(self) -> Inputs:
        """Those of the test."""
        return self.given

    async def aclose(self) -> None:
        """Nothing to free."""


def config(url: str, **changes: object) -> ProviderConfig:
    """An account at a test server, with short timeouts."""
    plain = {"name": "acme", "kind": "openai", "base_url": f"{url}/v1", "api_key": Secret(SECRET), "timeout": 5.0}
    return ProviderConfig(**{**plain, **changes})  # type: ignore[arg-type]  # fields are checked by the dataclass


def call(body: MemoryBody | None = None, *, operation: Operation = Operation.GENERATE, stream: bool = False) -> Call:
    """A call to generate or edit one image."""
    return Call(
        request_id="req_1",
        route=builders.route("acme/gpt-image-2", upstream_model="upstream-name"),
        job=builders.job(operation=operation, stream=stream),
        body=body or MemoryBody({"prompt": "a cat", "model": "job:hero_image"}),
        changes={"quality": "low", "async": None},
    )


async def read_all(answer: Answer) -> bytes:
    """Read the whole body."""
    return b"".join([chunk async for chunk in answer.chunks()])

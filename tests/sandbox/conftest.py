"""A sandbox for each module, emptied for each test, and OpenAI clients that point at it."""

from __future__ import annotations

import base64
import io
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import ImagesResponse
from PIL import Image

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import DEFAULT_KEY, SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.sandbox.clients import Listener, listening


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with running_sandbox(SandboxOptions(latency=0, work_seconds=0.06, api_key=DEFAULT_KEY)) as sandbox:
        yield sandbox


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def sandbox(server: Sandbox) -> Sandbox:
    server.reset()
    return server


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[OpenAI]:
    with OpenAI(base_url=sandbox.openai_url, api_key=sandbox.api_key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
async def async_client(sandbox: Sandbox) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=sandbox.openai_url, api_key=sandbox.api_key, max_retries=0, timeout=20) as client:
        yield client


def raw(sandbox: Sandbox, body: dict[str, Any] | None = None, *, timeout: float = 10) -> bytes:
    """Send a request over a bare socket and return all that comes until the other side closes."""
    content = json.dumps({"model": "gpt-image-2", "prompt": "cat", "quality": "low", **(body or {})})
    request = (
        "POST /openai/v1/images/generations HTTP/1.1\r\nhost: sandbox\r\nconnection: close\r\n"
        f"authorization: Bearer {sandbox.api_key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n{content}"
    )
    parts = urlsplit(sandbox.url)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=timeout) as connection:
        connection.sendall(request.encode())
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def png(width: int, height: int, *, alpha: bool = False) -> bytes:
    """Return a plain PNG."""
    file = io.BytesIO()
    Image.new("RGBA" if alpha else "RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def decode(encoded: str | None) -> Image.Image:
    """Decode base64 to a picture whose pixels were read."""
    assert encoded is not None
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    image.load()
    return image


def pictures(answer: ImagesResponse) -> list[Image.Image]:
    """Decode every image of an answer."""
    return [decode(image.b64_json) for image in answer.data or []]


def only_line(sandbox: Sandbox) -> dict[str, Any]:
    """Return the one line that is on the bill."""
    [line] = sandbox.bill()["lines"]
    assert isinstance(line, dict)
    return line

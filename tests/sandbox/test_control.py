"""The control plane, and serving inside an event loop."""

from __future__ import annotations

import ast
import asyncio
import base64
import contextlib
import hashlib
import http.client
import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from openai import AsyncOpenAI, NotFoundError, OpenAI

import gateway.sandbox
from gateway.sandbox.arrivals import masked
from gateway.sandbox.client import Sandbox
from gateway.sandbox.fault_catalog import FAULTS
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox, serve_sandbox
from tests.sandbox.conftest import raw

uvloop = pytest.importorskip("uvloop")


def test_a_base_url_without_its_provider_is_told(sandbox: Sandbox) -> None:
    """The error names where providers are."""
    with OpenAI(base_url=f"{sandbox.url}/v1", api_key=sandbox.api_key) as client, pytest.raises(NotFoundError) as told:
        client.images.generate(model="gpt-image-2", prompt="a lighthouse")
    assert "/openai/v1" in str(told.value)


@pytest.mark.parametrize("path", ["/", "/sandbox"])
def test_it_explains_itself(sandbox: Sandbox, path: str) -> None:
    """Both start pages name the providers with their base URLs, the control endpoints and the faults."""
    about = sandbox._call("GET", path)
    named = {
        "openai": sandbox.openai_url,
        "evolink": sandbox.evolink_url,
        "fal": sandbox.fal_url,
        "replicate": sandbox.replicate_url,
        "bfl": sandbox.bfl_url,
    }
    assert about["providers"].items() >= named.items()
    assert about["faults"] == list(FAULTS)


def test_images_are_listed_with_their_hashes(sandbox: Sandbox, client: OpenAI) -> None:
    """Every image that was given out is told by prompt and hash, also one that was drawn before."""
    answer, again = (
        client.images.generate(model="gpt-image-2", prompt="a listed cat", quality="low", n=2) for _ in range(2)
    )
    assert answer.data is not None
    assert again.data == answer.data
    sent = [hashlib.sha256(base64.b64decode(item.b64_json or "")).hexdigest() for item in answer.data]
    listed = sandbox.images()
    assert [image["sha256"] for image in listed] == sent * 2
    assert {(image["prompt"], image["model"], image["partial"]) for image in listed} == {
        ("a listed cat", "gpt-image-2", False)
    }
    sandbox.reset()
    assert not sandbox.images()


def test_reset_empties_everything(sandbox: Sandbox, client: OpenAI) -> None:
    """Bill, requests and faults can be cleared."""
    client.images.generate(model="gpt-image-2", prompt="cat")
    sandbox.fault("status")
    sandbox.reset()
    assert sandbox.bill() == {"total_nano_usd": 0, "total_usd": "0", "lines": []}
    assert (sandbox.requests(), sandbox.faults()) == ([], [])


def test_requests_of_any_content_can_be_listed(sandbox: Sandbox) -> None:
    """A lone surrogate in a prompt does not break the request list."""
    connection = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=10)
    body = '{"model": "gpt-image-2", "prompt": "\\ud800 \\u0000 cat"}'
    headers = {"authorization": f"Bearer {sandbox.api_key}"}
    connection.request("POST", "/openai/v1/images/generations", body, headers)
    assert connection.getresponse().read().startswith(b'{"created"')
    connection.close()
    assert sandbox.requests()[0]["fields"]["prompt"] == "\ud800 \0 cat"


def test_a_body_that_is_not_json_is_refused(sandbox: Sandbox) -> None:
    """The control plane answers a broken fault with a 400 of its own."""
    connection = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=10)
    connection.request("POST", "/sandbox/faults", "{")
    response = connection.getresponse()
    assert response.status == 400
    assert json.loads(response.read()) == {"error": {"message": "the body is not JSON"}}
    connection.close()


def test_kept_requests_are_bounded() -> None:
    """Only the newest requests are kept, the bill keeps all."""
    with (
        running_sandbox(SandboxOptions(latency=0, kept_requests=2, api_key="sk-own")) as sandbox,
        OpenAI(base_url=sandbox.openai_url, api_key="sk-own", max_retries=0) as client,
    ):
        for i in range(3):
            client.images.generate(model="gpt-image-2", prompt=f"cat {i}")
        assert [request["fields"]["prompt"] for request in sandbox.requests()] == ["cat 1", "cat 2"]
        assert len(sandbox.bill()["lines"]) == 3


@pytest.mark.parametrize("header", ["authorization", "api-key", "x-api-key", "x-key", "x-goog-api-key", "cookie"])
def test_secrets_are_masked(header: str) -> None:
    """Long secrets show four characters, short ones none."""
    assert masked(header, "Bearer sk-0123456789") == "Bearer ***6789"
    assert masked(header, "short") == "***"
    assert masked("accept", "text/plain") == "text/plain"


@pytest.mark.parametrize("factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_serving_inside_an_event_loop(factory: type[asyncio.AbstractEventLoop] | None) -> None:
    """It serves beside other work in asyncio's loop and in uvloop's, resets included, and ends when cancelled."""

    async def main() -> None:
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve_sandbox(SandboxOptions(latency=0.01), ready=ready.set_result))
        sandbox = Sandbox(await ready)
        async with AsyncOpenAI(base_url=sandbox.openai_url, api_key=sandbox.api_key, max_retries=0) as client:
            answer = await client.images.generate(model="gpt-image-2", prompt="cat")
            assert len(answer.data or []) == 1
        await asyncio.to_thread(sandbox.fault, "reset")
        with pytest.raises(ConnectionResetError):
            await asyncio.to_thread(raw, sandbox)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def test_a_port_in_use_is_an_error_at_once() -> None:
    """Starting on a taken port raises OSError."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await serve_sandbox(port=taken.getsockname()[1])


def test_it_is_independent_of_the_gateway() -> None:
    """No module of the sandbox imports anything of the gateway but its version: the bill is a second opinion."""
    root = Path(gateway.sandbox.__file__).parent
    for module in root.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gateway"):
                names = [alias.name for alias in node.names]
                assert node.module.startswith("gateway.sandbox") or names == ["__version__"], module

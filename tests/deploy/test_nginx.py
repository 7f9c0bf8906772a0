"""nginx in front of a gateway, configured as docs/deployment.md says."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.server import running_sandbox
from tests.deploy.tools import tool
from tests.docs.blocks import DOCS, blocks
from tests.e2e.clients import CLIENTS, picture
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until
from tests.ports import free_port

STORED = CLIENTS.replace("    client_model: honour\n", "    client_model: honour\n    images: {store: links}\n")
EDITS, GENERATIONS = "/v1/images/edits", "/v1/images/generations"
ASKED = {"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}
JSON = {"content-type": "application/json"}
BOUNDARY = "boundary-of-a-test"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A simulated provider."""
    with running_sandbox() as running:
        yield running


@contextlib.contextmanager
def running_nginx(home: Path, server: str) -> Iterator[None]:
    """Run nginx with a server block, everything of its own below a directory."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {home / kind};\n" for kind in kinds)
    config = home / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {home / 'pid'}; error_log {home / 'error.log'};\n"
        f"events {{ worker_connections 64; }}\nhttp {{ access_log off;\n{paths}{server}}}\n"
    )
    process = subprocess.Popen([tool("nginx"), "-p", str(home), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that is reached through nginx; its port is that of nginx."""
    tool("nginx")
    port, behind = free_port(), free_port()
    (block,) = (block.text for block in blocks(DOCS / "deployment.md") if block.language == "nginx")
    server = block.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};").replace(
        "127.0.0.1:8080", f"127.0.0.1:{behind}"
    )
    options = ("--trusted-proxies", "127.0.0.1", "--max-wrong-keys", "2")
    with (
        running_gateway(tmp_path_factory.mktemp("gateway"), STORED, sandbox, *options, port=behind) as running,
        running_nginx(tmp_path_factory.mktemp("nginx"), server),
    ):
        running.port = port
        wait_until(lambda: _answers(running), what="nginx")
        yield running


def _answers(stack: Stack) -> bool:
    try:
        return fetch(f"http://127.0.0.1:{stack.port}/readyz").status == 200
    except OSError:
        return False


def form(size: int) -> bytes:
    """A form for an edit with a picture that is followed by so many bytes."""
    parts = {"prompt": b"x", "quality": b"low", "size": b"1024x1024"}
    text = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in parts.items()
    )
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'.encode()
    return text + head + picture() + bytes(size) + f"\r\n--{BOUNDARY}--\r\n".encode()


def test_an_upload_arrives(stack: Stack) -> None:
    """20 MB, of which nginx would take one."""
    assert stack.post(EDITS, data=form(20_000_000), headers=FORM).status == 200


def test_a_body_that_is_too_large_is_refused_by_the_gateway(stack: Stack) -> None:
    """In the one shape of errors, before any of it is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest("POST", EDITS)
        for name, value in {**FORM, "authorization": f"Bearer {stack.key()}", "content-length": "200000000"}.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (413, "request_too_large")


def test_a_link_leads_back_to_where_it_was_asked_for(stack: Stack) -> None:
    """Without an address of its own the gateway links to the host that the client named."""
    made = stack.post(GENERATIONS, {**ASKED, "response_format": "url"})
    (link,) = (image["url"] for image in made.json["data"])
    assert re.match(rf"http://127\.0\.0\.1:{stack.port}/", link)
    assert fetch(link).status == 200


def test_events_arrive_as_they_are_made(stack: Stack, sandbox: Sandbox) -> None:
    """A stream is passed on event by event."""
    asked = {**ASKED, "stream": True, "partial_images": 2}
    reply = stack.post(GENERATIONS, asked)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.body.count(b"event: ") == 3


def test_wrong_keys_are_counted_by_client(stack: Stack) -> None:
    """One client's noise is not another's, though both come through nginx."""

    def asked(client: str) -> int:
        headers = {**JSON, "authorization": "Bearer igw_no", "x-forwarded-for": client}
        url = f"http://127.0.0.1:{stack.port}{GENERATIONS}"
        return fetch(url, body=ASKED, headers=headers, method="POST").status

    # nginx's own client is this machine, a named proxy too, so that what it says is believed.
    assert [asked("192.0.2.1") for _ in range(4)] == [401, 401, 429, 429]
    assert asked("192.0.2.2") == 401

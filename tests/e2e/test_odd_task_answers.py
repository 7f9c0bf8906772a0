"""Tasks whose provider answers in a way that JSON, or the shape of an image, leaves open."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import booked, settled
from tests.e2e.clients import picture
from tests.e2e.stack import Stack, running_gateway, wait_until

POLICY = """
providers:
  main: {kind: openai, base_url: "%s/v1", api_key: "${SANDBOX_KEY}"}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  draft: {routes: [main], defaults: {size: 1024x1024, quality: low}, retry: {attempts: 1}}
projects:
  team: {job_types: [draft], budgets: [{window: total, limit: "100"}]}
"""
GENERATE = "/v1/images/generations"
IMAGE = base64.b64encode(picture()).decode()
USAGE = {
    "input_tokens": 3,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 3},
    "output_tokens": 196,
    "total_tokens": 199,
}
OF_AN_IMAGE = f'{{"created": 1, "data": [{{"b64_json": "{IMAGE}"%s}}], "usage": {json.dumps(USAGE)}}}'


class Vendor:
    """A provider that gives everybody the same answer."""

    answer = ""

    def __init__(self) -> None:
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                body = vendor.answer.encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    """A provider."""
    vendor = Vendor()
    serving = threading.Thread(target=vendor.server.serve_forever, daemon=True)
    serving.start()
    yield vendor
    vendor.server.shutdown()
    serving.join()
    vendor.server.server_close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox, vendor: Vendor) -> Iterator[Stack]:
    """A gateway in front of it."""
    home: Path = tmp_path_factory.mktemp("gateway")
    with running_gateway(home, POLICY % vendor.url, sandbox) as running:
        yield running


def done(stack: Stack) -> Any:
    """Make a task, and return it once it has ended, as it is shown and listed."""
    task = stack.post(GENERATE, {"prompt": "a lighthouse", "async": True}).json["id"]

    def look() -> Any:
        reply = stack.get(f"/v1/tasks/{task}")
        ended = reply.status != 200 or reply.json["status"] in ("completed", "failed")
        return reply if ended else None

    shown = wait_until(look, 60, "the end")
    assert shown.status == 200, shown.body
    listed = stack.get("/v1/tasks?limit=1")
    assert (listed.status, listed.json["data"][0]["id"]) == (200, task), listed.body
    return shown.json


@pytest.mark.parametrize("beside", ['"url": null', '"url": "https://elsewhere.example/1.png"', '"url": 5'])
def test_a_link_beside_the_image_gives_way_to_the_gateway_s_own(stack: Stack, vendor: Vendor, beside: str) -> None:
    """Whatever it says: an SDK's own model of an image has the member, empty, behind the image itself."""
    vendor.answer = OF_AN_IMAGE % f", {beside}"
    task = done(stack)
    [image] = task["data"]
    assert [image["url"]] == task["results"]
    assert image["url"].startswith(f"http://127.0.0.1:{stack.port}/v1/assets/")


def test_a_task_is_told_whose_image_stays_in_it_beside_an_empty_link(stack: Stack, vendor: Vendor) -> None:
    """What is no base64 cannot be kept for a link; it was paid for, and is told as it came."""
    vendor.answer = OF_AN_IMAGE.replace(IMAGE, "not base64!") % ', "url": null'
    task = done(stack)
    assert (task["status"], task["results"]) == ("completed", [])
    assert task["data"] == [{"b64_json": "not base64!", "url": None}]


@pytest.mark.parametrize("number", ["1e400", "-1e400", "Infinity", "NaN"])
def test_a_number_that_nobody_can_tell_costs_no_image(stack: Stack, vendor: Vendor, number: str) -> None:
    """It is told as null; the image was made and paid for."""
    before = booked(stack)
    vendor.answer = OF_AN_IMAGE % f', "seed": {number}'
    task = done(stack)
    assert (task["status"], len(task["results"])) == ("completed", 1), task
    assert task["data"][0]["seed"] is None
    settled(stack)
    spent = booked(stack) - before
    assert (spent.images, spent.unconfirmed) == (1, 0)

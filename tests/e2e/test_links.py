"""Clients that live by links: the answer names them, and behind each is the image, for whoever has the link."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.stack import Stack, fetch, running_gateway

POLICY = """
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
routes:
  many: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  single: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, capabilities: {n: 1}}
job_types:
  draft: {routes: [many], defaults: {size: 1024x1024, quality: low}}
  single: {routes: [single], defaults: {size: 1024x1024, quality: low}}
projects:
  team:
    job_types: [draft, single]
    default_job_type: draft
    compatibility: legacy
    budgets: [{window: total, limit: "1000"}]
  other:
    job_types: [draft]
    compatibility: legacy
    budgets: [{window: total, limit: "1000"}]
"""
GENERATE = "/v1/images/generations"
BODY = {"prompt": "a cat", "model": "gpt-image-2", "response_format": "url"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with two projects of old clients."""
    with running_gateway(tmp_path_factory.mktemp("links"), POLICY, sandbox) as running:
        yield running


def links(stack: Stack, n: int = 1, *, project: str = "team", **headers: str) -> list[str]:
    """Ask for images and return their links."""
    reply = stack.post(GENERATE, {**BODY, "n": n}, project=project, headers=headers)
    assert reply.status == 200, reply.body
    assert not any("b64_json" in item for item in reply.json["data"])
    return [item["url"] for item in reply.json["data"]]


def size(body: bytes) -> tuple[int, int]:
    """Decode an image, every pixel of it."""
    image = Image.open(io.BytesIO(body))
    image.load()
    return image.size


@pytest.mark.parametrize("job_type", ["draft", "single"])
def test_every_image_has_a_link(stack: Stack, sandbox: Sandbox, job_type: str) -> None:
    """Of one call or of several; no key is needed, and the money is as it is without links."""
    before = booked(stack)
    found = links(stack, 3, **{"X-Gateway-Job-Type": job_type})
    assert len(found) == 3
    for link in found:
        assert link.startswith(f"http://127.0.0.1:{stack.port}/v1/assets/img_")
        reply = fetch(link)
        assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
        assert size(reply.body) == (1024, 1024)
        assert hashlib.sha256(reply.body).hexdigest() in link
    settled(stack)
    spent = booked(stack) - before
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(sandbox), 3, 0)


def test_what_a_browser_is_told(stack: Stack) -> None:
    """Not to guess, not to share, not to run anything; HEAD tells the same without the image."""
    [link] = links(stack)
    got, head = fetch(link), fetch(link, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    for reply in (got, head):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"].startswith("private, max-age=")
        assert "sandbox" in reply.headers["content-security-policy"]
        assert int(reply.headers["content-length"]) == len(got.body)
        assert "set-cookie" not in reply.headers
    settled(stack)


def test_who_may_see_an_image(stack: Stack) -> None:
    """Whoever has the link as it was given out, or a key of the project; nobody else learns whether it is there."""
    [link] = links(stack)
    bare, _, query = link.partition("?")
    changed = f"{bare}?{query.replace('expires=', 'expires=9')}"
    path = bare.removeprefix(f"http://127.0.0.1:{stack.port}")
    refused: list[tuple[Any, int, str]] = [
        (fetch(changed), 403, "invalid_link"),
        (fetch(link[:-1]), 403, "invalid_link"),
        (fetch(bare), 401, "invalid_api_key"),
        (stack.get(path, project="other"), 404, "not_found"),
        (stack.get("/v1/assets/img_none"), 404, "not_found"),
        (stack.get("/v1/assets/..%2f..%2fpepper"), 404, "not_found"),
    ]
    for reply, status, code in refused:
        assert (reply.status, reply.error["code"]) == (status, code)
    own = stack.get(path)
    assert (own.status, own.body) == (200, fetch(link).body)
    settled(stack)


def test_a_repeat_has_the_same_links(stack: Stack, sandbox: Sandbox) -> None:
    """Under its key an answer is made once, and its links with it."""
    first = links(stack, 2, **{"Idempotency-Key": "links-once"})
    again = links(stack, 2, **{"Idempotency-Key": "links-once"})
    assert first == again
    assert len(sandbox.requests()) == 1
    settled(stack)


def test_a_link_leads_to_the_host_that_was_called(stack: Stack) -> None:
    """And one that could be no host is refused, so that it cannot lead elsewhere."""
    [link] = links(stack, Host="images.example.com:8443")
    assert link.startswith("http://images.example.com:8443/v1/assets/img_")
    refused = stack.post(GENERATE, BODY, headers={"Host": "evil.example/?x="})
    assert (refused.status, refused.json["error"]["param"]) == (400, "Host")
    settled(stack)


def test_images_without_a_wish_for_links_are_not_kept(stack: Stack) -> None:
    """Neither where content is asked for, nor in a stream."""
    folder = stack.data / "assets" / "images"
    before = sorted(file.name for file in folder.iterdir())
    reply = stack.post(GENERATE, {**BODY, "prompt": "a dog", "response_format": "b64_json"})
    assert reply.json["data"][0]["b64_json"]
    stream = stack.post(GENERATE, {**BODY, "prompt": "a cow", "stream": True})
    assert json.loads(stream.body.split(b"data: ")[1])["b64_json"]
    assert sorted(file.name for file in folder.iterdir()) == before
    assert folder.stat().st_mode & 0o777 == 0o700
    settled(stack)


def test_an_address_of_its_own(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> None:
    """Behind a proxy the gateway is told under which address its clients reach it."""
    directory = tmp_path_factory.mktemp("public")
    with running_gateway(directory, POLICY, sandbox, "--public-url", "https://images.example.com/gw/") as stack:
        [link] = links(stack)
        assert link.startswith("https://images.example.com/gw/v1/assets/img_")
        path = link.removeprefix("https://images.example.com/gw")
        assert size(fetch(f"http://127.0.0.1:{stack.port}{path}").body) == (1024, 1024)
        task = stack.post(GENERATE, BODY, headers={"prefer": "respond-async"})
        assert task.headers["location"] == f"/gw/v1/tasks/{task.json['id']}"  # on whatever host the client called

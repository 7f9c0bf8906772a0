"""Generate with a link, then edit by that link: the gateway reads its own images where they are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.stack import Reply, Stack, fetch, running_gateway
from tests.ports import free_port

POLICY = """
models:
  banana:
    capabilities:
      operations: [generate, edit]
      n: 1
      references: 14
      quality: [standard]
      output_formats: [png]
      sizes: {ratios: ["1:1", "3:2"], resolutions: {"512": 262144, 1K: 1048576}}
    output_tokens: {by_resolution: {"512": 747, 1K: 1120}, buckets: {"512": 262144}, text: 1000}
    input_image_tokens: {max_per_image: 1120}
    price:
      - from: 2026-01-01
        tokens_per_million: {text_in: "0.50", image_in: "0.50", image_out: "60", text_out: "3"}
providers:
  gemini: {kind: gemini, base_url: "${SANDBOX_URL}/gemini/v1beta", api_key: "${SANDBOX_KEY}"}
  evolink:
    preset: evolink
    base_url: "${SANDBOX_URL}/evolink/v1"
    api_key: "${SANDBOX_KEY}"
    task: {poll: {first: 50ms, every: 100ms, after: 20s, then: 500ms}}
routes:
  gemini: {provider: gemini, model: banana, upstream_model: gemini-3.1-flash-image}
  evolink: {provider: evolink, offer: evolink/gpt-image-2}
job_types:
  draft: {routes: [gemini]}
  far: {routes: [evolink], defaults: {quality: low}}
projects:
  team: {job_types: [draft, far], default_job_type: draft, budgets: [{window: total, limit: "100"}]}
  other: {job_types: [draft], budgets: [{window: total, limit: "100"}]}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that knows its own address; policy opens nothing inside."""
    port = free_port()
    options = ("--public-url", f"http://127.0.0.1:{port}")
    with running_gateway(tmp_path_factory.mktemp("own"), POLICY, sandbox, *options, port=port) as running:
        yield running


def made(stack: Stack, project: str = "team") -> str:
    """Make an image and return the link to it."""
    body = {"prompt": "a cat", "size": "512x512", "response_format": "url"}
    reply = stack.post("/v1/images/generations", body, project=project)
    assert reply.status == 200, reply.body
    return str(reply.json["data"][0]["url"])


def edited(stack: Stack, fields: dict[str, object], job_type: str = "draft") -> Reply:
    """Ask for an edit."""
    body = {"prompt": "make it blue", **fields}
    return stack.post("/v1/images/edits", body, headers={"X-Gateway-Job-Type": job_type})


@pytest.mark.parametrize("form", ["images", "image_urls"])
def test_a_link_is_edited_where_images_go_inline(stack: Stack, sandbox: Sandbox, form: str) -> None:
    """The provider is sent the very bytes that are behind the link, and the money is the bill."""
    link = made(stack)
    digest = link.partition("?")[0].rpartition("_")[2]
    before = booked(stack)
    bill = billed(sandbox)
    reply = edited(stack, {form: [{"image_url": link}] if form == "images" else [link]})
    assert reply.status == 200, reply.body
    [file] = sandbox.requests()[-1]["files"]
    stored = stack.get(link.partition(str(stack.port))[2])
    assert (file["content_type"], file["bytes"]) == ("image/png", len(stored.body))
    assert hashlib.sha256(stored.body).hexdigest() == digest
    settled(stack)
    assert (booked(stack) - before).route == billed(sandbox) - bill > 0


def test_a_link_is_edited_where_images_go_by_url(stack: Stack, sandbox: Sandbox) -> None:
    """A provider that takes URLs alone fetches the link itself, though it leads where no other URL may."""
    link = made(stack)
    reply = edited(stack, {"image_urls": [link], "size": "1024x1024"}, "far")
    assert reply.status == 200, reply.body
    assert reply.headers["x-gateway-route"] == "evolink"
    other = f"http://127.0.0.1:{stack.port}/healthz"
    assert edited(stack, {"image_urls": [other]}, "far").status == 400
    assert sandbox.requests()


def test_a_link_that_is_not_good_is_refused_in_the_same_words(stack: Stack, sandbox: Sandbox) -> None:
    """Another project's, one that was changed and one without a signature: 400 naming the field, nothing is sent."""
    link, foreign = made(stack), made(stack, "other")
    arrived = len(sandbox.requests())
    changed = link[:-1] + ("0" if link[-1] != "0" else "1")
    told = set()
    for bad in (foreign, changed, link.partition("?")[0]):
        reply = edited(stack, {"images": [{"image_url": bad}]})
        assert (reply.status, reply.error["param"]) == (400, "images[0].image_url"), reply.body
        told.add(reply.error["message"])
    assert len(told) == 1
    assert len(sandbox.requests()) == arrived


def test_an_image_that_was_deleted_is_refused(stack: Stack, sandbox: Sandbox) -> None:
    """Its link is good, but nothing is stored: 400, and nothing is sent."""
    link = made(stack)
    key = {"authorization": f"Bearer {stack.key()}"}
    assert fetch(link.partition("?")[0], method="DELETE", headers=key).status == 200
    arrived = len(sandbox.requests())
    reply = edited(stack, {"images": [{"image_url": link}]})
    assert reply.status == 400, reply.body
    assert "no link to an image of this project" in reply.error["message"]
    assert len(sandbox.requests()) == arrived

"""A client that streams, on a route that cannot: its images come as the vendor's own events."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.clients import decoded, picture
from tests.e2e.stack import Stack, running_gateway

POLICY = """
providers:
  plain: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", timeout: 20s}
routes:
  plain/gpt-image-2:
    {provider: plain, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, capabilities: {stream: false}}
  single/gpt-image-2:
    {provider: plain, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, capabilities: {n: 1}}
job_types:
  draft: {routes: [plain/gpt-image-2], defaults: {quality: low, size: 1024x1024}}
  single: {routes: [single/gpt-image-2], defaults: {quality: low, size: 1024x1024}}
projects:
  team:
    job_types: [draft, single]
    default_job_type: draft
    budgets: [{window: day, limit: "1000"}]
"""
GENERATE = "/v1/images/generations"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway whose provider does not stream."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), POLICY, sandbox) as running:
        yield running


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    """The vendor's own client."""
    with openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=0) as made:
        yield made


@pytest.mark.parametrize("job_type", ["draft", "single"])
def test_the_sdk_reads_one_event_for_each_image(
    stack: Stack, client: openai.OpenAI, sandbox: Sandbox, job_type: str
) -> None:
    """Three images in one call, or in three: three whole events, and the ledger books what is billed."""
    before = booked(stack)
    stream = client.images.generate(
        prompt="a cat", model="gpt-image-2", n=3, stream=True, partial_images=0,
        extra_headers={"X-Gateway-Job-Type": job_type},
    )  # fmt: skip
    events = list(stream)
    tokens = 0
    for event in events:
        assert isinstance(event, openai.types.ImageGenCompletedEvent)
        assert decoded(event.b64_json).size == (1024, 1024)
        assert (event.size, event.quality, event.output_format) == ("1024x1024", "low", "png")
        assert event.background
        assert event.created_at > 0
        assert event.usage.total_tokens == event.usage.input_tokens + event.usage.output_tokens
        tokens += event.usage.output_tokens
    assert (len(events), tokens) == (3, 3 * 196)
    arrived = sandbox.requests()
    assert len(arrived) == (1 if job_type == "draft" else 3)
    assert not any({"stream", "partial_images"} & request["fields"].keys() for request in arrived)
    settled(stack)
    spent = booked(stack) - before
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(sandbox), 3, 0)


def test_an_edit_has_events_of_its_own(stack: Stack, client: openai.OpenAI) -> None:
    """The names of an edit's events are others."""
    stream = client.images.edit(image=picture(256, 256), prompt="x", model="gpt-image-2", stream=True)
    [event] = list(stream)
    assert isinstance(event, openai.types.ImageEditCompletedEvent)
    assert event.type == "image_edit.completed"
    assert decoded(event.b64_json).size == (1024, 1024)
    settled(stack)


async def test_the_asynchronous_sdk_reads_it_too(stack: Stack) -> None:
    """The same events, by the other client."""
    async with openai.AsyncOpenAI(base_url=stack.url, api_key=stack.key(), max_retries=0) as client:
        stream = await client.images.generate(prompt="a cat", model="gpt-image-2", stream=True)
        events = [event async for event in stream]
    assert [event.type for event in events] == ["image_generation.completed"]
    settled(stack)


def test_the_wire(stack: Stack) -> None:
    """A stream without a length, of one event line and one data line, though the image is large."""
    stack.sandbox.fault("pad", bytes=3_000_000)
    reply = stack.post(GENERATE, {"prompt": "a cat", "stream": True})
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
    assert "content-length" not in reply.headers
    name, data, *rest = reply.body.split(b"\n")
    assert (name, rest) == (b"event: image_generation.completed", [b"", b""])
    told = json.loads(data.removeprefix(b"data: "))
    members = {"type", "b64_json", "created_at", "size", "quality", "background", "output_format", "usage"}
    assert told.keys() == members
    assert len(told["b64_json"]) > 4_000_000
    settled(stack)


@pytest.mark.parametrize(("fault", "status"), [("status", 502), ("moderation", 400), ("lost_response", 502)])
def test_a_failure_keeps_its_status(stack: Stack, sandbox: Sandbox, fault: str, status: int) -> None:
    """Nothing is told before the answer is whole, so no stream ends in the middle."""
    before = booked(stack)
    sandbox.fault(fault, times=3)
    reply = stack.post(GENERATE, {"prompt": "a cat", "stream": True})
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
    settled(stack)
    spent = booked(stack) - before
    assert spent.route >= billed(sandbox)
    assert bool(spent.unconfirmed) == bool(billed(sandbox))


def test_an_answer_without_images_is_an_error(stack: Stack, sandbox: Sandbox) -> None:
    """An empty stream would look like a success; what the answer says it cost is booked."""
    before = booked(stack)
    sandbox.fault("wrong_count", images=0)
    reply = stack.post(GENERATE, {"prompt": "a cat", "stream": True})
    assert reply.status == 502
    assert "no image" in reply.error["message"]
    settled(stack)
    assert (booked(stack) - before).route >= billed(sandbox) > 0


def test_images_that_are_missing_stand_in_a_header(stack: Stack, client: openai.OpenAI, sandbox: Sandbox) -> None:
    """Two events where three images were asked for, and the number that is missing."""
    sandbox.fault("moderation")
    reply = client.images.with_raw_response.generate(
        prompt="a cat", model="gpt-image-2", n=3, stream=True, extra_headers={"X-Gateway-Job-Type": "single"}
    )
    assert reply.headers["x-gateway-missing-images"] == "1"
    assert len(list(reply.parse())) == 2
    settled(stack)


def test_a_repeated_stream_is_the_same_events(stack: Stack, sandbox: Sandbox) -> None:
    """Under its key it is made once, and told again byte for byte."""
    body = {"prompt": "a cat", "stream": True, "n": 2}
    first = stack.post(GENERATE, body, headers={"Idempotency-Key": "events-once"})
    again = stack.post(GENERATE, body, headers={"Idempotency-Key": "events-once"})
    assert first.body == again.body
    assert again.headers["idempotent-replayed"] == "true"
    assert len(sandbox.requests()) == 1
    settled(stack)

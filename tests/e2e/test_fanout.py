"""A request for several images on a route that makes one at a time: fanned out, returned as one, paid to the cent."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from PIL import Image

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.clients import decoded, picture
from tests.e2e.stack import Reply, Stack, running_gateway
from tests.sandbox.clients import until

POLICY = """
providers:
  single: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", timeout: 60s}
  hasty: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", timeout: 4s}
routes:
  single/gpt-image-2:
    {provider: single, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, capabilities: {n: 1}}
  hasty/gpt-image-2:
    {provider: hasty, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, capabilities: {n: 1}}
  fours/gpt-image-2:
    {provider: single, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, capabilities: {n: 4}}
job_types:
  draft: {routes: [single/gpt-image-2], defaults: {quality: low, size: 1024x1024}}
  hasty: {routes: [hasty/gpt-image-2], defaults: {quality: low, size: 1024x1024}}
  fours: {routes: [fours/gpt-image-2], defaults: {quality: low, size: 1024x1024}}
projects:
  team:
    job_types: [draft, hasty, fours]
    default_job_type: draft
    budgets: [{window: day, limit: "1000"}]
    chargeback: {multiplier: "1.15"}
"""
GENERATE = "/v1/images/generations"
CALLS = ("upstream_duration_seconds_count", "upstream_errors_total")
WORST = 32_000_000
"""Nano-USD; far more than one low image may cost."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway whose provider makes few images a call."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), POLICY, sandbox) as running:
        yield running


def ask(stack: Stack, n: int, **options: str) -> Reply:
    """Ask for images."""
    return stack.post(
        GENERATE, {"prompt": "a cat", "n": n}, headers={k.replace("_", "-"): v for k, v in options.items()}
    )


def test_all_images_in_one_answer_at_the_price_of_the_bill(stack: Stack, sandbox: Sandbox) -> None:
    """Five images in five calls: one document that the client reads as ever, and the ledger books what is billed."""
    before = booked(stack)
    with openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=0) as client:
        answer = client.images.generate(prompt="a cat", model="gpt-image-2", n=5)
    assert answer.data is not None
    assert [decoded(item.b64_json).size for item in answer.data] == [(1024, 1024)] * 5
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.usage.output_tokens == 5 * 196
    assert (answer.size, answer.quality, answer.output_format) == ("1024x1024", "low", "png")
    settled(stack)
    assert [request["fields"]["n"] for request in sandbox.requests()] == [1] * 5
    spent = booked(stack) - before
    assert (spent.route, spent.images, spent.unconfirmed, spent.requests) == (billed(sandbox), 5, 0, 1)


def test_as_few_calls_as_the_route_needs(stack: Stack, sandbox: Sandbox) -> None:
    """Ten images on a route that makes four a call are three calls."""
    reply = ask(stack, 10, x_gateway_job_type="fours")
    assert (reply.status, len(reply.json["data"])) == (200, 10)
    assert "x-gateway-missing-images" not in reply.headers
    assert sorted(request["fields"]["n"] for request in sandbox.requests()) == [3, 3, 4]


def test_an_edit_sends_its_images_with_every_call(stack: Stack, sandbox: Sandbox) -> None:
    """Three edits of the same uploaded picture, from one form."""
    image = picture(256, 256)
    with openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=0) as client:
        answer = client.images.edit(image=image, prompt="x", model="gpt-image-2", n=3)
    assert len(answer.data or []) == 3
    arrived = sandbox.requests()
    assert [request["files"][0]["bytes"] for request in arrived] == [len(image)] * 3
    settled(stack)


@pytest.mark.parametrize("fault", [{"name": "rate_limit", "retry_after": 1}, {"name": "status", "status": 503}])
def test_what_was_refused_before_work_is_asked_for_again(stack: Stack, sandbox: Sandbox, fault: dict[str, Any]) -> None:
    """Two of five calls are refused once: they are repeated beside the others, all five images come and are paid."""
    before = booked(stack)
    sandbox.fault(times=2, **fault)
    reply = ask(stack, 5)
    assert (reply.status, len(reply.json["data"])) == (200, 5)
    assert "x-gateway-missing-images" not in reply.headers
    settled(stack)
    spent = booked(stack) - before
    assert (spent.route, spent.images, spent.unconfirmed, spent.requests) == (billed(sandbox), 5, 0, 1)
    assert len(sandbox.requests()) == 7


@pytest.mark.parametrize(
    "fault",
    [
        {"name": "rate_limit", "retry_after": 30, "times": 2},
        {"name": "status", "status": 500, "times": 2},
    ],
)
def test_what_was_refused_is_missing_and_costs_nothing(stack: Stack, sandbox: Sandbox, fault: dict[str, Any]) -> None:
    """Two of five calls are refused, and not to be repeated here: three images, a header that says so, three paid."""
    before = booked(stack)
    sandbox.fault(**fault)
    reply = ask(stack, 5)
    assert (reply.status, len(reply.json["data"])) == (200, 3)
    assert reply.headers["x-gateway-missing-images"] == "2"
    settled(stack)
    spent = booked(stack) - before
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(sandbox), 3, 0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"name": "rate_limit", "retry_after": 1, "times": 2}, "status_429"),
        ({"name": "status", "status": 500, "times": 2}, "status_5xx"),
        ({"name": "status", "status": 500, "times": 3}, "status_5xx"),
        ({"name": "lost_response", "times": 2}, "reset"),
        ({"name": "lost_response", "times": 3}, "reset"),
    ],
    ids=["made good", "left out", "all refused", "lost", "all lost"],
)
def test_each_call_that_failed_is_counted(stack: Stack, sandbox: Sandbox, fault: dict[str, Any], reason: str) -> None:
    """Whether the request came to something without it, with it done again, or not at all."""
    route = "single/gpt-image-2"
    before = stack.metric("upstream_errors_total", route=route)
    sandbox.fault(**fault)
    ask(stack, 3)
    settled(stack)
    until(lambda: stack.metric("upstream_errors_total", route=route) == before + fault["times"])
    assert stack.metric("upstream_errors_total", route=route, reason=reason) >= fault["times"]


@pytest.mark.parametrize("fault", ["lost_response", "half_body", "timeout", "garbage"])
def test_what_was_lost_is_missing_and_booked_at_its_worst(stack: Stack, sandbox: Sandbox, fault: str) -> None:
    """One of three answers is lost on the way: two images, and its share of the worst case is booked, unconfirmed."""
    before = booked(stack)
    sandbox.fault(fault)
    reply = ask(stack, 3, x_gateway_job_type="hasty" if fault == "timeout" else "draft")
    assert (reply.status, len(reply.json["data"])) == (200, 2)
    assert reply.headers["x-gateway-missing-images"] == "1"
    settled(stack)
    spent, bill = booked(stack) - before, sandbox.bill()
    assert len(bill["lines"]) == 3
    assert billed(sandbox) <= spent.route <= billed(sandbox) + WORST
    assert spent.unconfirmed > 0
    record = stack.record(reply.headers["x-request-id"])
    [attempt] = record["attempts"]
    answer = attempt["answer"]
    assert (answer["calls"], answer["unknown_images"], record["images"], record["unconfirmed"]) == (3, 1, 2, True)
    share = float(attempt["cost_estimate"]["route"]) / 3
    known = sum(line["nano_usd"] for line in bill["lines"][:2]) / 10**9
    assert float(record["cost"]["route"]) == pytest.approx(known + share)


def test_nothing_came_and_nothing_was_billed(stack: Stack, sandbox: Sandbox) -> None:
    """All calls are refused: the provider's refusal is the answer, and nothing is booked."""
    before = booked(stack)
    sandbox.fault("moderation", times=3)
    reply = ask(stack, 3)
    assert (reply.status, reply.error["code"]) == (400, "moderation_blocked")
    settled(stack)
    assert (booked(stack) - before).route == billed(sandbox) == 0


def test_nothing_came_and_one_call_may_have_been_billed(stack: Stack, sandbox: Sandbox) -> None:
    """Two calls are refused and one is lost: an error, and that one's share is booked, not everybody's."""
    before = booked(stack)
    sandbox.fault("status", times=2)
    sandbox.fault("lost_response")
    reply = ask(stack, 3)
    assert (reply.status, reply.headers["x-should-retry"]) == (502, "false")
    settled(stack)
    spent = booked(stack) - before
    worst = stack.record(reply.headers["x-request-id"])["cost_estimate"]["route"]
    assert spent.route == spent.unconfirmed
    assert spent.route == pytest.approx(float(worst) * 10**9 / 3)
    assert spent.route >= billed(sandbox) > 0


def test_one_image_was_withheld_and_all_else_refused(stack: Stack, sandbox: Sandbox) -> None:
    """The refusal is shown as it came, and one image of five is booked, not five."""
    before = booked(stack)
    sandbox.fault("moderation", stage="output")
    sandbox.fault("status", times=4)
    reply = ask(stack, 5)
    assert (reply.status, reply.error["code"]) == (400, "moderation_blocked")
    settled(stack)
    spent, record = booked(stack) - before, stack.record(reply.headers["x-request-id"])
    assert spent.route == spent.unconfirmed
    assert spent.route == pytest.approx(float(record["cost_estimate"]["route"]) * 10**9 / 5)
    assert record["attempts"][0]["answer"]["unknown_images"] == 1


def test_a_key_makes_the_whole_of_it_once(stack: Stack, sandbox: Sandbox) -> None:
    """Repeated under its key, with one image missing, it is the same answer and no more calls."""
    sandbox.fault("status")
    first = ask(stack, 3, idempotency_key="fan-out-once")
    again = ask(stack, 3, idempotency_key="fan-out-once")
    assert first.status == again.status == 200
    assert again.body == first.body
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-gateway-missing-images"] == first.headers["x-gateway-missing-images"] == "1"
    assert len(sandbox.requests()) == 3
    settled(stack)


def test_many_at_once_come_to_what_is_billed(stack: Stack, sandbox: Sandbox) -> None:
    """Twenty requests for one to ten images each, some calls of them refused: the ledger equals the bill."""
    before = booked(stack)
    sandbox.fault("rate_limit", times=7)
    counts = [1 + number % 10 for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda n: ask(stack, n), counts))
    settled(stack)
    images = sum(len(reply.json["data"]) for reply in replies if reply.status == 200)
    spent = booked(stack) - before
    assert (spent.route, spent.unconfirmed) == (billed(sandbox), 0)
    assert spent.images == images == sum(line["images"] for line in sandbox.bill()["lines"])


def test_large_answers_go_by_on_disk(stack: Stack, sandbox: Sandbox) -> None:
    """Three answers of several megabytes come out whole, every pixel of them."""
    sandbox.fault("pad", times=3, bytes=4_000_000)
    reply = ask(stack, 3)
    assert reply.status == 200
    for item in reply.json["data"]:
        image = base64.b64decode(item["b64_json"], validate=True)
        assert len(image) > 4_000_000
        Image.open(io.BytesIO(image)).load()
    assert json.loads(reply.body)["usage"]["output_tokens"] == 3 * 196
    settled(stack)


def test_each_call_counts_for_itself(stack: Stack, sandbox: Sandbox) -> None:
    """Of seven calls two fail: five counted as good, each with its own time, and two as failed."""
    before = {name: stack.metric(name) for name in CALLS}
    sandbox.fault(times=2, name="rate_limit", retry_after=1)
    assert len(ask(stack, 5).json["data"]) == 5
    settled(stack)
    assert len(sandbox.requests()) == 7
    until(lambda: stack.metric(CALLS[0]) >= before[CALLS[0]] + 5)
    assert [stack.metric(name) - before[name] for name in CALLS] == [5, 2]

"""Conversations that make images: the real SDK through a gateway, its money to the nano-dollar, and whose they are."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.e2e.accounting import Ask, billed, booked, crowd, nano, settled
from tests.e2e.clients import decoded, picture
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

POLICY = """
text_models:
  gpt-5.2:
    context: 400000
    max_tokens_per_image: 1536
    price: [{from: 2026-01-01, text_in: "1.75", text_in_cached: "0.175", text_out: "14"}]
  gpt-5-mini:
    context: 400000
    max_tokens_per_image: 1536
    price: [{from: 2026-01-01, text_in: "0.25", text_in_cached: "0.025", text_out: "2"}]
  gpt-5.6-sol:
    context: 1050000
    max_tokens_per_image: 1536
    price:
      - from: 2026-01-01
        text_in: "5"
        text_in_cached: "0.5"
        text_in_written: "6.25"
        text_out: "30"
        long_context: {above: 272000, text_in: "10", text_in_cached: "1", text_in_written: "12.5", text_out: "45"}
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", timeout: 20s}
  closed: {kind: openai, base_url: "http://127.0.0.1:9/v1", api_key: "${SANDBOX_KEY}"}
routes:
  main/gpt-image-2: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  main/flare: {provider: main, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare}
  closed/gpt-image-2: {provider: closed, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  draft: {routes: [main/gpt-image-2]}
  chat:
    routes: [main/gpt-image-2, main/flare]
    defaults: {quality: low, size: 1024x1024}
    allow: {quality: [low, medium]}
    responses: {provider: main, models: [gpt-5.2, gpt-5.6-sol], max_images: 3, max_output_tokens: 2000}
  hero:
    routes: [main/gpt-image-2]
    defaults: {quality: high, size: 1024x1024}
    degrade: [{budget_used: 50%%, set: {quality: low}}]
    responses: {provider: main, models: [gpt-5-mini], max_images: 1, max_output_tokens: 500}
  streamed:
    match: {stream: true}
    routes: [main/gpt-image-2]
    responses: {provider: main, models: [gpt-5.2], max_output_tokens: 500}
  talk:
    routes: [closed/gpt-image-2, main/gpt-image-2]
    responses: {provider: [closed, main], models: [gpt-5-mini], max_output_tokens: 500, text_only: true}
projects:
  team:
    job_types: [draft, chat, hero, talk]
    default_job_type: draft
    budgets: [{window: total, limit: "1000"}]
    chargeback: {multiplier: "1.15"}
  other: {job_types: [chat], budgets: [{window: total, limit: "1000"}]}
  few: {job_types: [chat], budgets: [{window: total, limit: "%(few)s"}]}
  slow: {job_types: [chat], quotas: [{images: 2, per: hour}]}
  both: {job_types: [streamed, chat], default_job_type: chat, budgets: [{window: total, limit: "1000"}]}
  exact: {job_types: [chat], client_model: honour, budgets: [{window: total, limit: "1000"}]}
  mute: {job_types: [draft], budgets: [{window: total, limit: "1000"}]}
"""
TOOL: dict[str, Any] = {"type": "image_generation"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that serves conversations."""
    policy = POLICY % {"few": "0.5"}
    with running_gateway(tmp_path_factory.mktemp("talks"), policy, sandbox) as running:
        yield running


_OPEN: list[openai.OpenAI] = []


@pytest.fixture(autouse=True)
def _closed_clients() -> Iterator[None]:
    yield
    while _OPEN:
        _OPEN.pop().close()


def client(stack: Stack, project: str = "team", job_type: str = "chat") -> openai.OpenAI:
    """The vendor's library, pointed at the gateway; closed after the test."""
    _OPEN.append(
        openai.OpenAI(
            base_url=stack.url,
            api_key=stack.key(project),
            max_retries=0,
            default_headers={"X-Gateway-Job-Type": job_type},
            timeout=60,
        )
    )
    return _OPEN[-1]


def ask(**more: Any) -> dict[str, Any]:
    """A request body for one image."""
    return {"model": "gpt-5.2", "input": "a lighthouse", "tools": [TOOL], **more}


def test_a_response_is_made_and_paid_for_both_models(stack: Stack) -> None:
    """The SDK gets image and text, policy's model and quality reach the tool, and the ledger has the bill's amount."""
    before = booked(stack).route
    made = client(stack).responses.create(**ask())
    images = [item for item in made.output if item.type == "image_generation_call"]
    assert decoded(images[0].result).size == (1024, 1024)
    assert made.output_text == "Here you are."
    settled(stack)
    sent = stack.sandbox.requests()[-1]["fields"]
    assert sent["tools"][0] == {**TOOL, "model": "gpt-image-2-2026-04-21", "quality": "low", "size": "1024x1024"}
    assert (sent["max_tool_calls"], sent["max_output_tokens"], sent["service_tier"]) == (3, 2000, "default")
    assert booked(stack).route - before == billed(stack.sandbox) > 0
    assert len(stack.sandbox.bill()["lines"]) == 2


def missing_or_more(model: Any) -> list[str]:
    """What the vendor's own model of an answer does not know; raises for what it lacks. `store` its API alone tells."""
    type(model).model_validate(model.model_dump(by_alias=True, exclude_unset=True), strict=True)
    found: list[str] = []
    for name, value in model:
        each = value if isinstance(value, list) else [value]
        found += [more for inner in each if isinstance(inner, openai.BaseModel) for more in missing_or_more(inner)]
        found += [name] if name in (model.model_extra or {}) and name != "store" else []
    return found


def test_answers_are_those_of_the_vendors_library(stack: Stack) -> None:
    """Whole or by events they hold every field that its models need, and none that they do not know."""
    assert missing_or_more(client(stack).responses.create(**ask())) == []
    assert missing_or_more(client(stack).responses.create(**ask(model="gpt-5.6-sol"))) == []
    with client(stack).responses.create(**ask(stream=True)) as stream:
        assert [more for event in stream for more in missing_or_more(event)] == []


@pytest.mark.parametrize("words", [40, 300_000])
def test_what_is_written_to_the_cache_and_a_long_context_are_paid_for(stack: Stack, words: int) -> None:
    """Booked is what the bill says, by prices of their own; the answer says which tokens they were."""
    before = booked(stack)
    made = client(stack).responses.create(**ask(model="gpt-5.6-sol", input="word " * words))
    assert made.usage is not None
    assert made.usage.input_tokens_details.cache_write_tokens > 0
    assert (made.usage.input_tokens > 272_000) == (words == 300_000)
    settled(stack)
    after = booked(stack) - before
    assert (after.route, after.unconfirmed) == (billed(stack.sandbox), 0)


def test_the_record_tells_of_both_models(stack: Stack) -> None:
    """`GET /v1/requests/{id}` names the text model, its tokens, the tool's tokens, and the cost of both."""
    reply = stack.post("/v1/responses", ask(), headers={"x-gateway-job-type": "chat"})
    assert reply.status == 200, reply.body
    record = stack.record(reply.headers["x-request-id"])
    assert record["operation"] == "respond"
    assert record["images"] == 1
    assert record["usage"]["image_out"] == 196
    answer = record["attempts"][0]["answer"]
    assert answer["text_model"] == "gpt-5.2"
    assert answer["text_tokens"]["out"] == reply.json["usage"]["output_tokens"]
    assert nano(record["cost"]["route"]) == billed(stack.sandbox)
    assert nano(record["cost_estimate"]["route"]) >= billed(stack.sandbox)


def test_a_stream_comes_event_by_event_and_is_settled_by_its_end(stack: Stack) -> None:
    """Partial images pass through untouched, and the usage of `response.completed` is what is booked."""
    before = booked(stack).route
    kinds: list[str] = []
    partial = ""
    with client(stack).responses.create(**ask(stream=True, tools=[{**TOOL, "partial_images": 2}])) as stream:
        for event in stream:
            kinds.append(event.type)
            if event.type == "response.image_generation_call.partial_image":
                partial = event.partial_image_b64
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.image_generation_call.partial_image") == 2
    decoded(partial)
    settled(stack)
    assert booked(stack).route - before == billed(stack.sandbox)


def test_background_is_answered_at_once_and_settled_when_it_is_done(tmp_path: Path) -> None:
    """The hold lasts while the work goes on, polling goes to the account, and the end is booked as billed."""
    policy = POLICY % {"few": "1"}
    with running_sandbox(SandboxOptions(work_seconds=3)) as slow, running_gateway(tmp_path, policy, slow) as stack:
        api = client(stack)
        made = api.responses.create(**ask(background=True))
        assert made.status == "queued"
        wait_until(lambda: stack.held() > 0, what="the hold, in a gauge that is read anew each second")
        done = wait_until(
            lambda: (found := api.responses.retrieve(made.id)).status == "completed" and found, what="its end"
        )
        assert any(item.type == "image_generation_call" for item in done.output)
        settled(stack)
        assert booked(stack).route == billed(slow) > 0
        wait_until(lambda: stack.metric("upstream_duration_seconds_count") == 1, what="the call's count")
        assert list(api.responses.input_items.list(made.id))


def test_a_cancelled_response_costs_what_the_provider_says(stack: Stack) -> None:
    """What was read by then is booked, nothing stays held, and deleting it makes it unknown."""
    before, api = booked(stack), client(stack)
    made = api.responses.create(**ask(background=True))
    assert api.responses.cancel(made.id).status == "cancelled"
    settled(stack)
    after = booked(stack) - before
    assert (after.route, after.images) == (billed(stack.sandbox), 0)
    api.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        api.responses.retrieve(made.id)


def test_a_dry_run_cancels_and_deletes_nothing(stack: Stack) -> None:
    """There is nothing to decide about either: both are refused, and the work goes on to its end."""
    api = client(stack)
    made = api.responses.create(**ask(background=True))
    for part, method in (("/cancel", "POST"), ("", "DELETE")):
        headers = {"authorization": f"Bearer {stack.key()}", "X-Gateway-Dry-Run": "true"}
        reply = fetch(f"{stack.url}/responses/{made.id}{part}", method=method, headers=headers)
        assert (reply.status, reply.error["param"]) == (400, "X-Gateway-Dry-Run")
    wait_until(lambda: api.responses.retrieve(made.id).status == "completed", what="its end")
    settled(stack)


def test_a_conversation_goes_on_at_its_account(stack: Stack) -> None:
    """A second turn edits what the first made; it holds by the whole window, and costs what the bill says."""
    before, api = booked(stack).route, client(stack)
    first = api.responses.create(**ask())
    second = api.responses.create(**ask(input="make it night", previous_response_id=first.id))
    assert second.previous_response_id == first.id
    settled(stack)
    assert booked(stack).route - before == billed(stack.sandbox)


def test_responses_of_another_project_are_unknown(stack: Stack) -> None:
    """Reading, cancelling, deleting, listing, streaming and going on from another's response are all 404."""
    made, stranger = client(stack).responses.create(**ask()), client(stack, "other")
    attempts = (
        lambda: stranger.responses.retrieve(made.id),
        lambda: stranger.responses.retrieve(made.id, stream=True),
        lambda: stranger.responses.cancel(made.id),
        lambda: stranger.responses.delete(made.id),
        lambda: list(stranger.responses.input_items.list(made.id)),
        lambda: stranger.responses.create(**ask(previous_response_id=made.id)),
        lambda: stranger.responses.create(**ask(prompt_cache_options={"comparison_response_id": made.id})),
        lambda: client(stack).responses.retrieve("resp_unknown"),
    )
    arrived = len(stack.sandbox.requests())
    for attempt in attempts:
        with pytest.raises(openai.NotFoundError) as refused:
            attempt()
        assert refused.value.code == "response_not_found"
    assert len(stack.sandbox.requests()) == arrived


REFUSED: tuple[tuple[dict[str, Any], int, str], ...] = (
    (ask(model="gpt-image-2"), 400, "belongs into the image tool"),
    ({"model": "gpt-image-2", "input": "a lighthouse"}, 400, "belongs into the image tool"),
    (ask(model="gpt-5-mini"), 403, "gpt-5.2"),
    (ask(model="gpt-9"), 400, "no price"),
    ({"model": "gpt-5.2", "input": "hello"}, 400, "only with the image tool"),
    (ask(tools=[TOOL, {"type": "web_search"}]), 400, "tools[1].type"),
    (ask(tools=[TOOL, TOOL]), 400, "once"),
    (ask(conversation="conv_1"), 400, "previous_response_id"),
    (ask(prompt={"id": "pmpt_1"}), 400, "instructions"),
    (ask(service_tier="priority"), 400, "service_tier"),
    (ask(input=[{"type": "item_reference", "id": "ig_1"}]), 400, "by its id"),
    (ask(input=[{"type": "image_generation_call", "id": "ig_1"}]), 400, "by its id"),
    (ask(input=[{"id": "msg_1"}, {"role": "user", "content": "x"}]), 400, "by its id"),
    (
        ask(input=[{"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]}]),
        400,
        "input[0].type",
    ),
    (ask(Service_Tier="priority"), 400, "must be spelt 'service_tier'"),
    (ask(tools=[{**TOOL, "Quality": "high"}]), 400, "must be spelt 'quality'"),
    (ask(tools=[{**TOOL, "quality": "high"}]), 400, "quality"),
    (ask(max_tool_calls=0), 400, "max_tool_calls"),
    ({"model": "gpt-5.2", "tools": [TOOL]}, 400, "input"),
    (ask(previous_response_id=7), 400, "previous_response_id"),
    (
        ask(input=[{"role": "user", "content": [{"type": "input_image", "image_url": "http://169.254.169.254/x"}]}]),
        400,
        "input[0].content[0].image_url cannot be fetched",
    ),
    (ask(tools=[TOOL | {"size": 7}]), 400, "tools[0].size must be a string"),
    (ask(input=[{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]), 400, "file_data"),
    (ask(prompt_cache_options={"comparison_response_id": 7}), 400, "prompt_cache_options.comparison_response_id"),
)


@pytest.mark.parametrize(("body", "status", "words"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_what_could_not_be_priced_is_refused(stack: Stack, body: dict[str, Any], status: int, words: str) -> None:
    """Each says what is wrong and what to do instead; nothing is sent and nothing held."""
    arrived = len(stack.sandbox.requests())
    reply = stack.post("/v1/responses", body, headers={"x-gateway-job-type": "chat"})
    assert reply.status == status, reply.body
    assert words in reply.error["message"]
    assert len(stack.sandbox.requests()) == arrived
    assert stack.held() == 0


def test_a_field_of_the_tool_is_named_where_it_stands(stack: Stack) -> None:
    """Also where it is a route that refuses its value."""
    function = {"type": "function", "name": "f", "parameters": {}}
    body = ask(tools=[function, {**TOOL, "size": "10x10"}])
    reply = stack.post("/v1/responses", body, headers={"x-gateway-job-type": "chat"})
    assert (reply.status, reply.error["param"]) == (400, "tools[1].size")
    body = ask(tools=[function, {**TOOL, "model": "gpt-image-0"}])
    reply = stack.post("/v1/responses", body, project="exact")
    assert (reply.status, reply.error["param"]) == (404, "tools[1].model")
    body = ask(tools=[{**TOOL, "model": "gpt-image-1"}])
    reply = stack.post("/v1/responses", body, project="exact")
    assert (reply.status, reply.error["param"]) == (403, "tools[0].model")
    assert stack.post("/v1/responses", ask(model="gpt-0"), project="exact").error["param"] == "model"


def test_more_images_than_a_quota_ever_allows_are_refused_by_their_bound(stack: Stack) -> None:
    """The bound is policy's, and the client may send a lower one."""
    refused = stack.post("/v1/responses", ask(), project="slow")
    assert (refused.status, refused.error["param"]) == (400, "max_tool_calls")
    assert refused.error["message"].startswith("max_tool_calls=3 can never pass images per hour")
    assert stack.post("/v1/responses", ask(max_tool_calls=2), project="slow").status == 200
    later = stack.post("/v1/responses", ask(max_tool_calls=2), project="slow")
    assert (later.status, "requested 2 (max_tool_calls)" in later.error["message"]) == (429, True)


def test_explain_says_that_a_dry_run_explains_conversations(stack: Stack) -> None:
    """It knows image requests alone."""
    url = f"http://127.0.0.1:{stack.admin_port}/admin/explain"
    told = fetch(url, body={"project": "other", "request": ask()}, method="POST").json
    assert "X-Gateway-Dry-Run" in told["denied"]["message"]


def test_a_match_by_stream_finds_conversations_too(stack: Stack) -> None:
    """As it does for images."""
    dry = {"x-gateway-dry-run": "true"}
    found = [stack.post("/v1/responses", ask(stream=stream), project="both", headers=dry) for stream in (True, False)]
    assert [reply.json["job_type"] for reply in found] == ["streamed", "chat"]


def test_a_project_without_conversations_is_told_so(stack: Stack) -> None:
    """403, with words; and without a header the one job type that serves conversations is found."""
    refused = stack.post("/v1/responses", ask(), project="mute")
    assert (refused.status, refused.error["code"]) == (403, "job_type_not_allowed")
    painter = stack.post("/v1/responses", {"model": "gpt-image-2", "input": "a lighthouse"}, project="mute")
    assert (painter.status, painter.error["param"]) == (400, "model")
    assert "POST /v1/images/generations" in painter.error["message"]
    wrong = stack.post("/v1/responses", ask(), headers={"x-gateway-job-type": "draft"})
    assert wrong.status == 403
    found = stack.post("/v1/responses", ask(), project="other")
    assert found.headers["x-gateway-job-type"] == "chat"


def test_text_alone_where_policy_allows_it(stack: Stack) -> None:
    """A conversation without the tool is served and paid; the account that is away gives way to the next."""
    before = booked(stack)
    made = client(stack, job_type="talk").responses.create(model="gpt-5-mini", input="hello")
    assert made.output_text == "Let us talk."
    settled(stack)
    after = booked(stack) - before
    assert (after.route, after.images) == (billed(stack.sandbox), 0)


def test_the_clients_own_maximum_is_for_the_whole_response(stack: Stack) -> None:
    """A picture that is not asked for does not count; what does not fit is told as one sum."""
    talk = client(stack, job_type="talk").responses
    made = talk.create(model="gpt-5-mini", input="hello", extra_headers={"X-Gateway-Max-Cost": "0.002"})
    assert made.output_text == "Let us talk."
    raw = client(stack, job_type="hero").responses.with_raw_response.create(
        **ask(model="gpt-5-mini"), extra_headers={"X-Gateway-Max-Cost": "0.15"}
    )
    assert raw.headers["X-Gateway-Degraded"] == "quality=low"
    assert stack.sandbox.requests()[-1]["fields"]["tools"][0]["quality"] == "low"
    with pytest.raises(openai.APIStatusError, match="The response may cost") as refused:
        client(stack).responses.create(**ask(), extra_headers={"X-Gateway-Max-Cost": "0.000001"})
    assert (refused.value.status_code, refused.value.code) == (402, "max_cost_exceeded")


@pytest.mark.parametrize("fault", ["lost_response", "half_body", "garbage"])
def test_an_unknown_outcome_is_booked_at_its_worst(stack: Stack, fault: str) -> None:
    """Where nobody knows what was billed the worst case stays, unconfirmed, and covers the bill."""
    before = booked(stack)
    stack.sandbox.fault(fault)
    reply = stack.post("/v1/responses", ask(), headers={"x-gateway-job-type": "chat"})
    assert reply.status in (502, 504)
    settled(stack)
    after = booked(stack) - before
    assert after.unconfirmed == after.route >= billed(stack.sandbox) > 0


def test_missing_usage_is_estimated_at_its_most(stack: Stack) -> None:
    """Without usage of either model the estimate is booked, marked, and no less than the bill."""
    before = booked(stack)
    stack.sandbox.fault("no_usage")
    reply = stack.post("/v1/responses", ask(), headers={"x-gateway-job-type": "chat"})
    assert reply.status == 200
    settled(stack)
    after = booked(stack) - before
    record = stack.record(reply.headers["x-request-id"])
    assert record["cost_source"] == "estimate"
    assert record["attempts"][0]["answer"]["estimated"] == "text, images"
    assert after.unconfirmed == 0
    assert after.route >= billed(stack.sandbox)


def test_a_stream_that_ends_in_an_error_is_settled_by_what_it_says(stack: Stack) -> None:
    """A failed response reaches the client as the provider said it, and its cost covers the bill."""
    before, failed = booked(stack), stack.metric("upstream_errors_total", reason="error_in_answer")
    stack.sandbox.fault("error_in_stream")
    with client(stack).responses.create(**ask(stream=True)) as stream:
        kinds = [event.type for event in stream]
    assert kinds[-1] == "response.failed"
    settled(stack)
    assert stack.metric("upstream_errors_total", reason="error_in_answer") == failed + 1
    assert (booked(stack) - before).route >= billed(stack.sandbox)


@pytest.mark.parametrize("fault", ["half_body", "truncated_stream"])
def test_a_stream_of_work_in_the_background_that_breaks_off_is_settled_by_its_response(
    stack: Stack, fault: str
) -> None:
    """The client is told that it broke off; the response is asked for by its id, and what it says is booked."""
    before, arrived = booked(stack), len(stack.sandbox.requests())
    calls = {name: stack.metric(name) for name in ("upstream_duration_seconds_count", "upstream_errors_total")}
    stack.sandbox.fault(fault)
    kinds: list[str] = []
    with (
        pytest.raises((openai.APIError, httpx.RemoteProtocolError)),
        client(stack).responses.create(**ask(stream=True, background=True)) as stream,
    ):
        kinds.extend(event.type for event in stream)
    assert (kinds[0], "response.completed" in kinds) == ("response.created", False)
    settled(stack)
    after = booked(stack) - before
    assert (after.route, after.unconfirmed) == (billed(stack.sandbox), 0)
    assert after.route > 0
    assert len(stack.sandbox.requests()) > arrived + 1
    assert [stack.metric(name) - before for name, before in calls.items()] == [0, 1], "it failed, and counts once"


async def test_a_budget_for_so_many_admits_so_many(stack: Stack) -> None:
    """Of a crowd at once no more are admitted than the worst cases that the budget holds, and it is never overspent."""
    body = ask(tools=[{**TOOL, "quality": "low", "size": "1024x1024"}], max_tool_calls=1, max_output_tokens=1000)
    dry = await asyncio.to_thread(
        stack.post, "/v1/responses", body, project="few", headers={"x-gateway-dry-run": "true"}
    )
    worst = nano(dry.json["candidates"][0]["cost_estimate"]["route"])
    stack.sandbox.fault("slow", seconds=2, times=40)
    replies = await crowd([Ask(body, "few", "/v1/responses")] * 40, [stack], at_once=40)
    admitted = sum(reply.status == 200 for reply in replies)
    assert {reply.status for reply in replies} <= {200, 402}
    assert 1 <= admitted <= nano("0.5") // worst
    await asyncio.to_thread(settled, stack)


def mixed(count: int, seed: int) -> list[Ask]:
    """Requests of every kind."""
    draw = random.Random(seed)
    asks = []
    url = f"data:image/png;base64,{base64.b64encode(picture(96, 64)).decode()}"
    for number in range(count):
        stream = draw.random() < 0.4
        tool = {**TOOL, "quality": draw.choice(["low", "medium"]), "size": draw.choice(["1024x1024", "1536x1024"])}
        if stream:
            tool["partial_images"] = draw.randrange(4)
        words = f"number {number} [{draw.randrange(4)} images]"
        content = [{"type": "input_text", "text": words}, {"type": "input_image", "image_url": url}]
        given: Any = words if draw.random() < 0.5 else [{"role": "user", "content": content}]
        body = ask(input=given, tools=[tool], stream=stream, background=not stream and draw.random() < 0.3)
        asks.append(Ask(body, draw.choice(["team", "other"]), "/v1/responses"))
    return asks


async def test_sixty_mixed_responses_cost_in_the_ledger_what_the_bill_says(tmp_path: Path, sandbox: Sandbox) -> None:
    """Streams, background, images in and several images out: ledger, bill and images agree; nothing stays held."""
    policy = POLICY.replace("default_job_type: draft", "default_job_type: chat") % {"few": "1"}
    with running_gateway(tmp_path, policy, sandbox) as stack:
        replies: list[Reply] = await crowd(mixed(60, seed=60), [stack], at_once=12)
        assert {reply.status for reply in replies} == {200}, [r.body[:300] for r in replies if r.status != 200][:3]
        await asyncio.to_thread(settled, stack)
        total = booked(stack)
        assert total.route == billed(sandbox)
        assert total.images == sum(line["images"] for line in sandbox.bill()["lines"])
        assert (total.requests, total.unconfirmed) == (60, 0)


def test_work_in_the_background_outlives_its_gateway(tmp_path: Path) -> None:
    """A gateway is killed while a response goes on; the next one follows it and books what the bill says."""
    policy = POLICY % {"few": "1"}
    with running_sandbox(SandboxOptions(work_seconds=4)) as slow:
        with running_gateway(tmp_path, policy, slow, "--lease", "3") as stack:
            made = stack.post("/v1/responses", ask(background=True), headers={"x-gateway-job-type": "chat"})
            assert made.json["status"] == "queued"
            stack.stop(signal.SIGKILL)
        with running_gateway(tmp_path, policy, slow, "--lease", "3") as again:
            wait_until(lambda: billed(slow) > 0 and booked(again).route == billed(slow), 60, "the bill's amount")
            settled(again)
            assert booked(again).unconfirmed == 0
            shown = again.get(f"/v1/responses/{made.json['id']}")
            assert shown.json["status"] == "completed"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_work_in_the_background_that_is_also_streamed_outlives_its_gateway(tmp_path: Path, how: signal.Signals) -> None:
    """Its events end with the gateway, which is killed or stops within a short grace; the next one follows it."""
    policy = POLICY % {"few": "1"}
    with running_sandbox() as slow:
        slow.fault("slow_body", seconds=120, pieces=200)
        with running_gateway(tmp_path, policy, slow, "--lease", "3", "--grace", "1") as stack:
            api = client(stack)
            with (
                contextlib.suppress(httpx.RemoteProtocolError),
                api.responses.create(**ask(stream=True, background=True)) as stream,
            ):
                made = next(event.response.id for event in stream if event.type == "response.created")
                stack.stop(how)
        with running_gateway(tmp_path, policy, slow, "--lease", "3") as again:
            wait_until(lambda: booked(again).route == billed(slow), 60, "the bill's amount")
            settled(again)
            after = booked(again)
            assert (after.route, after.unconfirmed, after.requests) == (billed(slow), 0, 1)
            assert again.get(f"/v1/responses/{made}").json["status"] == "completed"


def test_work_in_the_background_is_found_on_its_invoice(tmp_path: Path, sandbox: Sandbox) -> None:
    """By the provider's id of the request that began it, whoever settles it: nothing is left to be put right."""
    with running_gateway(tmp_path, POLICY % {"few": "1"}, sandbox) as stack:
        for background in (True, True, False):
            body = ask(background=background)
            assert stack.post("/v1/responses", body, headers={"x-gateway-job-type": "chat"}).status == 200
        settled(stack)
        lines = [f"{line['request']},{line['amount_usd']},{line['at']}\n" for line in sandbox.bill()["lines"]]
        (tmp_path / "bill.csv").write_text("request_id,cost_usd,timestamp\n" + "".join(lines))
        period = ["--since", "2h", "--until", f"{datetime.now(UTC) + timedelta(hours=1):%FT%T}", "--edge", "0s"]
        told = stack.command("reconcile", str(tmp_path / "bill.csv"), "--provider", "main", *period, "--format", "json")
        assert told.returncode == 0, told.stdout
        assert [(each["class"], each["count"]) for each in json.loads(told.stdout)["classes"]] == [("matched", 3)]

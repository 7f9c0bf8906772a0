"""Clients of retired models: what their libraries send works again where policy says so, and nowhere else.

The bodies are those of LangChain's `DallEAPIWrapper` (Python and JavaScript), LlamaIndex's image tool and Vercel's AI
SDK, sent with the real SDK. The sandbox refuses what the vendor does: `response_format`, `style`, words of old.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import nano, settled
from tests.e2e.clients import decoded, nothing_spent, picture
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until
from tests.e2e.test_tasks import ended

POLICY = """
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
  art: {kind: openai, preset: recraft, base_url: "${SANDBOX_URL}/likes/recraft/v1", api_key: "${SANDBOX_KEY}"}
  strict:
    kind: openai
    base_url: "${SANDBOX_URL}/openai/v1"
    api_key: "${SANDBOX_KEY}"
    refuse: {style: it would misread it, input_fidelity: it would misread it}
  lenient:
    kind: openai
    base_url: "${SANDBOX_URL}/openai/v1"
    api_key: "${SANDBOX_KEY}"
    refuse: {style: it would misread it}
    drop: [style]
text_models:
  gpt-5.2:
    context: 400000
    max_tokens_per_image: 1536
    price: [{from: 2026-01-01, text_in: "1.75", text_in_cached: "0.175", text_out: "14"}]
routes:
  two: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  flare: {provider: main, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare}
  sunburst: {provider: main, model: gpt-image-2.5-sunburst, upstream_model: gpt-image-2.5-sunburst}
  was: {provider: main, model: gpt-image-1}
  was_by_name: {provider: main, model: gpt-image-1, upstream_model: gpt-image-1}
  v41: {provider: art, model: recraft-v4.1}
  strict: {provider: strict, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  strict_was: {provider: strict, model: gpt-image-1}
  lenient: {provider: lenient, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  tried: {provider: main, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare, lane: testing}
job_types:
  art: {routes: [v41]}
  strict: {routes: [strict]}
  strict_replaced: {routes: [strict_was]}
  chat: {routes: [sunburst, two], responses: {provider: main, models: [gpt-5.2], max_output_tokens: 500}}
  later: {routes: [sunburst]}
  replaced: {routes: [was]}
  replaced_by_name: {routes: [was_by_name]}
  draft: {routes: [flare, two], defaults: {size: 1024x1024, quality: low}}
  lenient: {routes: [lenient]}
  either: {routes: [two, flare], defaults: {size: 1024x1024, quality: low}}
  shaded:
    routes: [two]
    defaults: {size: 1024x1024, quality: low}
    shadow: {route: tried, sample: 100%, budget: {window: total, limit: "1000"}}
  two_alone: {routes: [two], match: {model: gpt-image-2}, defaults: {size: 1024x1024, quality: low}}
projects:
  team:
    job_types: [draft, two_alone, later, art, strict, chat]
    default_job_type: draft
    client_model: honour
    compatibility: legacy
    budgets: [{window: total, limit: "1000"}]
  modern:
    job_types: [draft, later, chat, shaded]
    default_job_type: draft
    client_model: honour
    budgets: [{window: total, limit: "1000"}]
  prefers:
    job_types: [either, shaded]
    default_job_type: either
    client_model: prefer
    budgets: [{window: total, limit: "1000"}]
  careless:
    job_types: [draft, replaced, replaced_by_name, strict_replaced, strict, lenient]
    default_job_type: draft
    budgets: [{window: total, limit: "1000"}]
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with one project for clients of old, and others for those of today."""
    with running_gateway(tmp_path_factory.mktemp("legacy"), POLICY, sandbox) as running:
        yield running


@pytest.fixture
def connect(stack: Stack) -> Iterator[Callable[[str], OpenAI]]:
    """Make clients of a project."""
    made: list[OpenAI] = []

    def make(project: str) -> OpenAI:
        made.append(OpenAI(base_url=stack.url, api_key=stack.key(project), max_retries=0))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(connect: Callable[[str], OpenAI]) -> OpenAI:
    """The usual client, of old."""
    return connect("team")


def sent(stack: Stack) -> dict[str, Any]:
    """The fields of the last call to the provider, without the prompt."""
    fields = dict(stack.sandbox.requests()[-1]["fields"])
    fields.pop("prompt")
    return fields


LANGCHAIN: dict[str, Any] = {"model": "dall-e-2", "n": 1, "size": "1024x1024"}
LANGCHAIN_JS: dict[str, Any] = {
    "model": "dall-e-3",
    "n": 1,
    "size": "1792x1024",
    "response_format": "url",
    "style": "vivid",
    "quality": "standard",
    "user": "u-1",
}
LLAMAINDEX: dict[str, Any] = {
    "model": "dall-e-3",
    "n": 1,
    "size": "1024x1792",
    "response_format": "b64_json",
    "style": "natural",
    "quality": "hd",
}
VERCEL: dict[str, Any] = {"model": "job:draft", "n": 1, "response_format": "b64_json"}
UPSTREAM = "gpt-image-2-2026-04-21"


@pytest.mark.parametrize(
    ("body", "upstream"),
    [
        (LLAMAINDEX, {"model": UPSTREAM, "n": 1, "size": "1024x1536", "quality": "high"}),
        (
            {**LANGCHAIN, "size": "256x256", "response_format": "b64_json"},
            {"model": UPSTREAM, "n": 1, "size": "1024x1024", "quality": "low"},
        ),
        (
            {**LANGCHAIN_JS, "response_format": "b64_json"},
            {"model": UPSTREAM, "n": 1, "size": "1536x1024", "quality": "medium", "user": "u-1"},
        ),
        (
            {**LANGCHAIN_JS, "model": "gpt-image-2", "response_format": "b64_json"},
            {"model": UPSTREAM, "n": 1, "size": "1792x1024", "quality": "medium", "user": "u-1"},
        ),
        (VERCEL, {"model": "gpt-image-2.5-flare", "n": 1, "size": "1024x1024", "quality": "low"}),
    ],
    ids=["llamaindex", "langchain", "langchain-js", "langchain-js-new-model", "vercel"],
)
def test_what_libraries_send_works_again(
    client: OpenAI, stack: Stack, body: dict[str, Any], upstream: dict[str, Any]
) -> None:
    """The model is the replacement, words and sizes are those that exist, and nothing of old reaches the provider."""
    made = client.images.generate(prompt="a lighthouse", **body)
    assert sent(stack) == upstream
    [image] = made.data or []
    assert "x".join(map(str, decoded(image.b64_json).size)) == upstream["size"]


@pytest.mark.parametrize("body", [LANGCHAIN, LANGCHAIN_JS, {**LANGCHAIN, "model": "dall-e-3", "quality": "hd"}])
def test_links_are_answered_to_those_who_live_by_them(client: OpenAI, body: dict[str, Any]) -> None:
    """Asked for, or by a model that answered so unasked: every image has a link, and behind it is the image."""
    made = client.images.generate(prompt="a lighthouse", **body)
    links = [image.url for image in made.data or []]
    assert len(links) == 1
    assert links[0]
    reply = fetch(links[0])
    assert (reply.status, reply.body[:8]) == (200, b"\x89PNG\r\n\x1a\n")


def test_forms_of_old_work_too(client: OpenAI, stack: Stack) -> None:
    """An edit as a form, with the old model, size and form of answer."""
    made = client.images.edit(
        image=io.BytesIO(picture()),
        prompt="at night",
        model="dall-e-2",
        size="512x512",
        response_format="b64_json",
        n=1,
    )
    assert decoded((made.data or [])[0].b64_json).size == (1024, 1024)
    fields = sent(stack)
    assert (fields["model"], fields["size"], fields["quality"]) == (UPSTREAM, "1024x1024", "low")
    assert "response_format" not in fields


def test_a_deployments_name_in_the_path_is_a_model_too(stack: Stack) -> None:
    """Clients that name the model in the path alone are understood likewise."""
    path = "/openai/deployments/dall-e-3/images/generations?api-version=2024-02-01"
    body = {"prompt": "a cat", "n": 1, "size": "1792x1024", "style": "vivid", "response_format": "b64_json"}
    assert stack.post(path, body).status == 200
    assert (sent(stack)["model"], sent(stack)["size"]) == (UPSTREAM, "1536x1024")


def test_the_replacement_is_what_policy_and_records_see(client: OpenAI, stack: Stack) -> None:
    """Rules match it, `client_model` is about it, and the record names it."""
    raw = client.images.with_raw_response.generate(prompt="a cat", **{**LLAMAINDEX, "n": 2})
    assert raw.headers["x-gateway-job-type"] == "two_alone"
    assert raw.headers["x-gateway-route"] == "two"
    record = stack.record(raw.headers["x-request-id"])
    assert (record["request"]["client_model"], record["request"]["quality"]) == ("gpt-image-2", "high")
    header = {"X-Gateway-Job-Type": "draft"}
    raw = client.images.with_raw_response.generate(prompt="a cat", **LLAMAINDEX, extra_headers=header)
    assert raw.headers["x-gateway-route"] == "two"
    with nothing_spent(stack), pytest.raises(NotFoundError):
        client.images.generate(prompt="a cat", model="dall-e-9")


def test_the_client_is_told_that_its_model_was_replaced(client: OpenAI, connect: Callable[[str], OpenAI]) -> None:
    """By which one, and since when its own is gone; nobody is told of a model that it did not name."""
    raw = client.images.with_raw_response.generate(prompt="a cat", model="dall-e-3")
    assert raw.headers["x-gateway-replaced"] == "dall-e-3 -> gpt-image-2"
    assert raw.headers["sunset"] == "Tue, 12 May 2026 00:00:00 GMT"
    assert raw.headers["deprecation"].startswith("@")
    for model, project in (("gpt-image-2", "team"), ("dall-e-3", "careless")):
        raw = connect(project).images.with_raw_response.generate(prompt="a cat", model=model)
        assert not {"x-gateway-replaced", "sunset", "deprecation"} & set(raw.headers)


@pytest.mark.parametrize(
    ("project", "job_type", "model"),
    [
        ("team", "later", "gpt-image-1"),
        ("team", "draft", "gpt-image-2"),
        ("careless", "replaced", "gpt-image-1"),
        ("careless", "replaced_by_name", "gpt-image-1"),
        ("careless", "strict_replaced", "gpt-image-1"),
        ("modern", "later", "gpt-image-1"),
        ("team", "draft", "dall-e-2"),
        ("team", "strict", "gpt-image-2"),
    ],
)
def test_what_only_a_retired_model_took_is_left_out(
    connect: Callable[[str], OpenAI], stack: Stack, project: str, job_type: str, model: str
) -> None:
    """By clients of old anywhere, by all where policy's or the client's own model was replaced.

    Held and booked is what is sent, and a provider that would misread it is not passed over.
    """
    before = stack.sandbox.bill()["total_nano_usd"]
    asked: dict[str, Any] = {"model": model, "quality": "low", "size": "1024x1024", "input_fidelity": "high"}
    raw = connect(project).images.with_raw_response.edit(
        image=io.BytesIO(picture()), prompt="at night", extra_headers={"X-Gateway-Job-Type": job_type}, **asked
    )
    assert len(raw.parse().data or []) == 1
    assert "input_fidelity" not in sent(stack)
    settled(stack)
    record, billed = (
        stack.record(raw.headers["x-request-id"], project=project),
        stack.sandbox.bill()["total_nano_usd"] - before,
    )
    assert nano(record["cost"]["route"]) == billed <= nano(record["cost_estimate"]["route"])


OF_DALL_E: dict[str, Any] = {"prompt": "a cat", "model": "dall-e-3", "style": "vivid"}


@pytest.mark.parametrize("later", [False, True], ids=["at once", "as a task"])
def test_what_the_clients_retired_model_took_is_left_out_of_a_fallback_too(stack: Stack, later: bool) -> None:
    """The next route takes it no more than the one that failed, and what it would refuse is answered with an image."""
    headers = {"prefer": "respond-async"} if later else {}
    seen = len(stack.sandbox.requests())
    fault = stack.sandbox.fault("status", status=503, times=None, match={"model": UPSTREAM})
    try:
        reply = stack.post("/v1/images/generations", OF_DALL_E, project="prefers", headers=headers)
        if later:
            assert ended(stack, reply.json["id"], project="prefers")["status"] == "completed"
    finally:
        stack.sandbox.remove_fault(fault)
    assert reply.status == (202 if later else 200)
    upstream = [each["fields"] for each in stack.sandbox.requests()[seen:]]
    assert [fields["model"] for fields in upstream] == [UPSTREAM, "gpt-image-2.5-flare"]
    assert not any("style" in fields for fields in upstream)


@pytest.mark.parametrize("project", ["modern", "prefers"])
def test_what_the_clients_retired_model_took_is_left_out_of_a_shadow_too(stack: Stack, project: str) -> None:
    """The shadow is asked for what the request was served by, so the two answers can be compared."""
    seen, before = len(stack.sandbox.requests()), stack.metric("shadow_requests_total", result="ok")
    headers = {"x-gateway-job-type": "shaded"}
    assert stack.post("/v1/images/generations", OF_DALL_E, project=project, headers=headers).status == 200
    wait_until(lambda: len(stack.sandbox.requests()) == seen + 2, 60, "the shadow's call")
    settled(stack)
    assert [set(each["fields"]) for each in stack.sandbox.requests()[seen:]] == [
        {"model", "prompt", "size", "quality"}
    ] * 2
    wait_until(lambda: stack.metric("shadow_requests_total", result="ok") == before + 1, 60, "the shadow's end")


def test_what_the_model_in_service_refuses_is_its_clients_business(
    connect: Callable[[str], OpenAI], stack: Stack
) -> None:
    """A project of today hears the provider's refusal where policy names the model that serves."""
    with pytest.raises(BadRequestError) as caught:
        connect("careless").images.edit(
            image=io.BytesIO(picture()), prompt="at night", model="gpt-image-2", input_fidelity="high"
        )
    assert caught.value.param == "input_fidelity"


def test_what_would_be_misread_is_still_refused_where_it_would_be_sent(
    connect: Callable[[str], OpenAI], stack: Stack
) -> None:
    """A project of today sends fields of old on."""
    with nothing_spent(stack), pytest.raises(BadRequestError, match="it would misread it"):
        connect("careless").images.generate(
            prompt="a cat", style="vivid", extra_headers={"X-Gateway-Job-Type": "strict"}
        )


def test_what_the_provider_is_never_sent_is_not_refused(connect: Callable[[str], OpenAI], stack: Stack) -> None:
    """Its own `drop` leaves the field out, so there is nothing that it could misread."""
    connect("careless").images.generate(
        prompt="a cat", quality="low", style="vivid", extra_headers={"X-Gateway-Job-Type": "lenient"}
    )
    assert sent(stack) == {"model": UPSTREAM, "quality": "low"}


def test_a_field_that_a_living_model_takes_too_is_sent_to_it(client: OpenAI, stack: Stack) -> None:
    """A style is a vendor's own here: its preset lists it, so the picture would be another without it."""
    style: Any = "realistic_image"
    client.images.generate(
        prompt="a cat", model="recraft-v4.1", style=style, extra_headers={"X-Gateway-Job-Type": "art"}
    )
    assert sent(stack)["style"] == style


@pytest.mark.parametrize(
    ("project", "tool", "upstream"),
    [
        ("team", {"input_fidelity": "high", "quality": "low"}, {"quality": "low"}),
        ("modern", {"model": "gpt-image-1", "input_fidelity": "high", "quality": "low"}, {"quality": "low"}),
        ("team", {"model": "gpt-image-1", "input_fidelity": "high", "quality": "low"}, {"quality": "low"}),
        (
            "team",
            {"model": "dall-e-3", "quality": "hd", "size": "1792x1024", "style": "vivid"},
            {"model": UPSTREAM, "quality": "high", "size": "1536x1024"},
        ),
        ("team", {"quality": "hd", "size": "256x256"}, {"quality": "high", "size": "1024x1024"}),
        ("team", {"model": "dall-e-2"}, {"model": UPSTREAM, "quality": "medium", "size": "1024x1024"}),
        ("modern", {"quality": "low"}, {"quality": "low"}),
    ],
    ids=["field", "of today", "replaced", "dall-e-3", "words", "defaults", "nothing of old"],
)
def test_the_tool_of_a_conversation_is_understood_likewise(
    connect: Callable[[str], OpenAI], stack: Stack, project: str, tool: dict[str, Any], upstream: dict[str, Any]
) -> None:
    """Its model, its words and its fields."""
    tools: Any = [{"type": "image_generation", **tool}]
    chat = {"X-Gateway-Job-Type": "chat"}
    raw = connect(project).responses.with_raw_response.create(
        model="gpt-5.2", input="a lighthouse", tools=tools, extra_headers=chat
    )
    called = stack.sandbox.requests()[-1]["fields"]["tools"]
    assert called == [{"type": "image_generation", "model": "gpt-image-2.5-sunburst", **upstream}]
    replaced = f"{tool['model']} -> {called[0]['model'].removesuffix('-2026-04-21')}" if "model" in tool else None
    assert raw.headers.get("x-gateway-replaced") == replaced


def test_a_form_of_answer_that_never_was_is_refused(client: OpenAI, stack: Stack) -> None:
    """The error names the field and what is allowed, and nothing is spent."""
    wrong: Any = "binary"
    with nothing_spent(stack), pytest.raises(BadRequestError) as caught:
        client.images.generate(prompt="a cat", model="dall-e-3", response_format=wrong)
    assert caught.value.param == "response_format"


def test_without_the_policys_word_they_are_refused_as_before(connect: Callable[[str], OpenAI], stack: Stack) -> None:
    """A project of today refuses words of old, and passes fields of old on for the provider to refuse."""
    with nothing_spent(stack), pytest.raises(BadRequestError, match=r"'hd' is a word .* `compatibility: legacy`"):
        connect("modern").images.generate(prompt="a cat", **LLAMAINDEX)
    for field, value in [("style", "vivid"), ("quality", "hd")]:
        body: dict[str, Any] = {"prompt": "a cat", field: value}
        with pytest.raises(BadRequestError) as caught:
            connect("careless").images.generate(**body)
        assert caught.value.param == field


def test_a_dry_run_tells_what_is_meant(stack: Stack) -> None:
    """The decision shows the size, the quality and the model that would be asked for."""
    reply = stack.post(
        "/v1/images/generations", {"prompt": "a cat", **LANGCHAIN_JS}, headers={"x-gateway-dry-run": "true"}
    )
    [candidate] = json.loads(reply.body)["candidates"]
    assert (candidate["model"], candidate["size"], candidate["quality"]) == ("gpt-image-2", "1536x1024", "medium")

"""The unmodified `openai` SDK for Python, through the gateway."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import (
    APIStatusError,
    AsyncOpenAI,
    AuthenticationError,
    AzureOpenAI,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    OpenAI,
    PermissionDeniedError,
    RateLimitError,
)

from gateway.sandbox.client import Sandbox
from tests.e2e.clients import CLIENTS, decoded, logged, nothing_spent, picture
from tests.e2e.stack import Stack, running_gateway

LOW: Any = {"model": "gpt-image-2", "quality": "low", "size": "1024x1024"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with a project for every kind of refusal."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), CLIENTS, sandbox) as running:
        yield running


@pytest.fixture
def connect(stack: Stack) -> Iterator[Callable[..., OpenAI]]:
    """Make clients as their users do; SDK retries are left on."""
    made: list[OpenAI] = []

    def make(project: str = "team", **options: Any) -> OpenAI:
        client = OpenAI(**{"base_url": stack.url, "api_key": stack.key(project), **options})
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(connect: Callable[..., OpenAI]) -> OpenAI:
    """The usual client."""
    return connect()


@pytest.mark.parametrize(
    ("n", "size", "output_format"),
    [(1, "1024x1024", "png"), (4, "1536x1024", "jpeg"), (1, "1024x1536", "webp")],
)
def test_generate(client: OpenAI, stack: Stack, n: int, size: str, output_format: Any) -> None:
    """n images of the size and format that were asked for come back, with usage."""
    made = client.images.generate(
        prompt="a lighthouse", model="gpt-image-2", quality="low", n=n, size=size, output_format=output_format
    )
    assert made.data
    assert made.usage
    images = [decoded(image.b64_json) for image in made.data]
    assert len(images) == n
    assert {"x".join(map(str, image.size)) for image in images} == {size}
    assert {image.format for image in images} == {output_format.upper()}
    assert made.usage.output_tokens > 0
    assert stack.sandbox.bill()["lines"][0]["images"] == n


def test_every_image_of_one_request_differs(client: OpenAI) -> None:
    """n = 4 gives four pictures and not one of them four times."""
    made = client.images.generate(prompt="four of a kind", n=4, model="gpt-image-2", quality="low", size="1024x1024")
    assert len({image.b64_json for image in made.data or []}) == 4


async def test_async_client(stack: Stack) -> None:
    """The asynchronous client generates, edits and streams, several calls at once."""
    async with AsyncOpenAI(base_url=stack.url, api_key=stack.key()) as client:
        made, edited, stream = await asyncio.gather(
            client.images.generate(prompt="one", n=2, model="gpt-image-2", quality="low", size="1024x1024"),
            client.images.edit(image=io.BytesIO(picture()), prompt="two", model="gpt-image-2", quality="low"),
            client.images.generate(prompt="three", model="gpt-image-2", quality="low", stream=True, partial_images=1),
        )
        events = [event.type async for event in stream]
    assert len(made.data or []) == 2
    assert decoded((edited.data or [])[0].b64_json).format == "PNG"
    assert events == ["image_generation.partial_image", "image_generation.completed"]


@pytest.mark.parametrize("as_path", [True, False], ids=["path", "BytesIO"])
def test_edit_with_one_image(client: OpenAI, stack: Stack, tmp_path: Path, *, as_path: bool) -> None:
    """One image goes in by path or from memory, and arrives at the provider byte for byte."""
    content = picture(seed=17)
    path = tmp_path / "source.png"
    path.write_bytes(content)
    made = client.images.edit(
        image=path if as_path else io.BytesIO(content), prompt="at night", model="gpt-image-2", quality="low"
    )
    [file] = stack.sandbox.requests()[-1]["files"]
    assert decoded((made.data or [])[0].b64_json).format == "PNG"
    assert file["bytes"] == len(content)
    assert file["filename"] == ("source.png" if as_path else "upload")


def test_edit_with_several_images_and_a_mask(client: OpenAI, stack: Stack) -> None:
    """Three images of different formats and a mask arrive in their order, each as what it was."""
    images = [("a.png", picture(seed=1)), ("b.jpg", picture(kind="JPEG", seed=2)), ("c.webp", picture(kind="WEBP"))]
    mask = ("mask.png", picture(mode="RGBA"))
    made = client.images.edit(
        image=images, mask=mask, prompt="together", n=2, model="gpt-image-2", quality="low", size="1024x1024"
    )
    arrived = stack.sandbox.requests()[-1]
    assert [decoded(image.b64_json).size for image in made.data or []] == [(1024, 1024)] * 2
    assert [(file["filename"], file["bytes"]) for file in arrived["files"]] == [
        (name, len(content)) for name, content in [*images, mask]
    ]
    assert arrived["fields"]["n"] == 2
    assert arrived["fields"]["model"] == "gpt-image-2-2026-04-21"


@pytest.mark.parametrize("suffix", ["/v1", "/v1/", "", "/", "/openai/v1"])
def test_base_url_forms(connect: Callable[..., OpenAI], stack: Stack, suffix: str) -> None:
    """A base URL with or without /v1, with or without a slash at its end, works."""
    client = connect(base_url=f"http://127.0.0.1:{stack.port}{suffix}")
    assert client.images.generate(prompt="anywhere", **LOW).data
    assert client.models.retrieve("gpt-image-2").id == "gpt-image-2"


def test_azure_client(stack: Stack) -> None:
    """The Azure client generates and edits by its deployment paths, with its own header for the key."""
    with AzureOpenAI(
        azure_endpoint=f"http://127.0.0.1:{stack.port}", api_key=stack.key(), api_version="2025-04-01-preview"
    ) as client:
        made = client.images.generate(prompt="by deployment", model="gpt-image-2", quality="low")
        edited = client.images.edit(image=picture(), prompt="by deployment", model="gpt-image-2", quality="low")
        with pytest.raises(NotFoundError) as refused:
            client.images.generate(prompt="by deployment", model="no-such-deployment")
        assert client.models.retrieve("gpt-image-2").id in [model.id for model in client.models.list()]
    assert decoded((made.data or [])[0].b64_json).size
    assert decoded((edited.data or [])[0].b64_json).size
    assert refused.value.code == "model_not_found"
    assert [arrived["path"] for arrived in stack.sandbox.requests()] == [
        "/openai/v1/images/generations",
        "/openai/v1/images/edits",
    ]


@pytest.mark.parametrize("partial_images", [0, 3])
def test_stream_of_a_generation(client: OpenAI, partial_images: int) -> None:
    """Partial images come first and in order; the last event has the image and its usage."""
    with client.images.generate(prompt="slowly", stream=True, partial_images=partial_images, **LOW) as stream:
        events = list(stream)
    types = ["image_generation.partial_image"] * partial_images + ["image_generation.completed"]
    assert [event.type for event in events] == types
    assert [getattr(event, "partial_image_index", None) for event in events[:-1]] == list(range(partial_images))
    last = events[-1]
    assert last.type == "image_generation.completed"
    assert last.usage.output_tokens == 196 + 100 * partial_images
    assert all(decoded(event.b64_json).size == (1024, 1024) for event in events)


def test_stream_of_an_edit(client: OpenAI) -> None:
    """An edit streams its own kinds of events, usage in the last one."""
    with client.images.edit(
        image=[picture(), picture(seed=3)], prompt="slowly", stream=True, partial_images=2, **LOW
    ) as stream:
        events = list(stream)
    assert [event.type for event in events] == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert events[-1].type == "image_edit.completed"
    assert events[-1].usage.input_tokens > 0


@pytest.mark.parametrize("operation", ["generate", "edit"])
def test_events_arrive_before_the_provider_is_done(client: OpenAI, stack: Stack, operation: str) -> None:
    """The first event is in the client's hands while the provider is still sending the rest."""
    stack.sandbox.fault("slow_body", seconds=4, pieces=24)
    if operation == "generate":
        stream: Any = client.images.generate(prompt="drip", stream=True, partial_images=3, **LOW)
    else:
        stream = client.images.edit(image=picture(), prompt="drip", stream=True, partial_images=3, **LOW)
    with stream:
        first = next(iter(stream))
        assert first.type.endswith("partial_image")
        assert stack.sandbox.requests()[-1]["seconds"] is None
        assert [event.type.rpartition(".")[2] for event in stream] == ["partial_image"] * 2 + ["completed"]


def test_stream_that_fails_raises(client: OpenAI, stack: Stack) -> None:
    """An error inside a stream reaches the SDK's user as an exception, not as an early end."""
    stack.sandbox.fault("truncated_stream")
    with (
        pytest.raises(Exception, match="may have been done and billed"),
        client.images.generate(prompt="cut", stream=True, partial_images=2, **LOW) as stream,
    ):
        list(stream)


def test_bad_request(client: OpenAI, stack: Stack) -> None:
    """400 is a BadRequestError that names the field, asked once."""
    with nothing_spent(stack), pytest.raises(BadRequestError) as refused:
        client.images.generate(prompt="x", model="gpt-image-2", n=11)
    assert (refused.value.code, refused.value.param, refused.value.type) == (
        "invalid_value",
        "n",
        "invalid_request_error",
    )


def test_unsupported_by_every_route(client: OpenAI, stack: Stack) -> None:
    """400 names what no route can do."""
    with nothing_spent(stack), pytest.raises(BadRequestError) as refused:
        client.images.generate(prompt="x", model="gpt-image-2", size="16x16")
    assert (refused.value.code, refused.value.param) == ("unsupported_by_every_route", "size")


def test_moderation_is_passed_on(client: OpenAI, stack: Stack) -> None:
    """The provider's own 400 comes as it was, moderation details included, and costs nothing."""
    with pytest.raises(BadRequestError) as refused:
        client.images.generate(prompt="blocked-by-moderation", **LOW)
    body = refused.value.body
    assert refused.value.code == "moderation_blocked"
    assert isinstance(body, dict)
    assert body["moderation_details"]["categories"] == ["violence"]
    assert len(stack.sandbox.requests()) == 1
    request_id = refused.value.request_id
    assert request_id
    assert stack.record(request_id)["state"] == "void"


def test_wrong_key(connect: Callable[..., OpenAI], stack: Stack) -> None:
    """401 is an AuthenticationError with the code that users branch on."""
    with nothing_spent(stack), pytest.raises(AuthenticationError) as refused:
        connect(api_key="igw_wrong").images.generate(prompt="x", **LOW)
    assert refused.value.code == "invalid_api_key"


class _Counting:
    """Counts what the SDK sends, retries included."""

    def __init__(self) -> None:
        self.sent = 0

    def __call__(self, _request: object) -> None:
        self.sent += 1


def _count(client: OpenAI) -> _Counting:
    counting = _Counting()
    client._client.event_hooks = {"request": [counting], "response": []}
    return counting


@pytest.mark.parametrize("max_cost", [None, "0.0001"], ids=["budget", "max cost"])
def test_budget_spent(connect: Callable[..., OpenAI], stack: Stack, max_cost: str | None) -> None:
    """402 is a plain APIStatusError, not a RateLimitError, and the SDK asks exactly once."""
    client = connect("team" if max_cost else "poor")
    counting = _count(client)
    with nothing_spent(stack), pytest.raises(APIStatusError) as refused:
        client.images.generate(prompt="x", extra_headers={"X-Gateway-Max-Cost": max_cost} if max_cost else {}, **LOW)
    assert type(refused.value) is APIStatusError
    assert refused.value.status_code == 402
    assert refused.value.type == "insufficient_quota"
    assert refused.value.code == ("max_cost_exceeded" if max_cost else "project_spend_limit_exceeded")
    assert counting.sent == 1


@pytest.mark.parametrize(
    ("headers", "model", "code"),
    [
        ({"X-Gateway-Job-Type": "hero"}, "gpt-image-2", "job_type_not_allowed"),
        ({}, "job:hero", "job_type_not_allowed"),
        ({"X-Gateway-Lane": "testing"}, "gpt-image-2", "lane_not_allowed"),
        ({"X-Gateway-Job-Type": "only_main"}, "gpt-image-2.5-flare", "model_not_allowed"),
    ],
)
def test_forbidden(client: OpenAI, stack: Stack, headers: dict[str, str], model: str, code: str) -> None:
    """403 is a PermissionDeniedError that says what is not allowed."""
    counting = _count(client)
    with nothing_spent(stack), pytest.raises(PermissionDeniedError) as refused:
        client.images.generate(prompt="x", model=model, extra_headers=headers)
    assert (refused.value.code, refused.value.type) == (code, "permission_error")
    assert counting.sent == 1


@pytest.mark.parametrize("model", ["gpt-image-nope", "job:nope"])
def test_unknown_model(client: OpenAI, stack: Stack, model: str) -> None:
    """404 is a NotFoundError with code model_not_found, for models and job types alike."""
    with nothing_spent(stack), pytest.raises(NotFoundError) as refused:
        client.images.generate(prompt="x", model=model)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_variations_are_gone(client: OpenAI, stack: Stack) -> None:
    """410 says when variations were retired and what to call instead; it is not retried."""
    counting = _count(client)
    with (
        nothing_spent(stack),
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(APIStatusError, match=r"2026-05-12.*/v1/images/edits") as refused,
    ):
        client.images.create_variation(image=picture())
    assert refused.value.status_code == 410
    assert refused.value.code == "endpoint_retired"
    assert counting.sent == 1


def test_too_large(client: OpenAI, stack: Stack) -> None:
    """An image beyond 50 MB is a 413 before anything is held, asked once."""
    counting = _count(client)
    with nothing_spent(stack), pytest.raises(APIStatusError) as refused:
        client.images.edit(image=io.BytesIO(bytes(51 * 1024 * 1024)), prompt="x", **LOW)
    assert refused.value.status_code == 413
    assert (refused.value.code, refused.value.param) == ("request_too_large", "image")
    assert counting.sent == 1


def test_images_per_minute(connect: Callable[..., OpenAI], stack: Stack) -> None:
    """A project's quota is a RateLimitError whose retry-after the SDK can obey."""
    client = connect("throttled", max_retries=0)
    made = client.images.with_raw_response.generate(prompt="x", **LOW)
    assert made.headers["x-ratelimit-limit-images"] == "1"
    assert made.headers["x-ratelimit-remaining-images"] == "0"
    with nothing_spent(stack), pytest.raises(RateLimitError) as refused:
        client.images.generate(prompt="x", **LOW)
    assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "requests")
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    assert 0 < int(refused.value.response.headers["retry-after-ms"]) <= 60_000


def test_sdk_waits_and_retries_429(client: OpenAI, stack: Stack) -> None:
    """A provider's rate limit is a 429 with its retry-after; the SDK waits that long and then has its image."""
    stack.sandbox.fault("rate_limit", retry_after=2)
    made = client.images.generate(prompt="x", extra_headers={"X-Gateway-Job-Type": "only_main"}, **LOW)
    first, second = stack.sandbox.requests()
    assert made.data
    assert second["at"] - first["at"] >= 2
    assert len(stack.sandbox.bill()["lines"]) == 1


def test_refused_upstream_is_retried_by_the_sdk(client: OpenAI, stack: Stack) -> None:
    """A provider that fails without billing is a 502, which the SDK tries three times."""
    stack.sandbox.fault("status", status=500, times=None)
    with pytest.raises(InternalServerError) as refused:
        client.images.generate(prompt="x", extra_headers={"X-Gateway-Job-Type": "only_main"}, **LOW)
    assert (refused.value.status_code, refused.value.code) == (502, "upstream_error")
    assert len(stack.sandbox.requests()) == 3
    assert stack.held() == 0


@pytest.mark.parametrize(
    ("fault", "job_type", "answer"),
    [
        ("lost_response", "only_main", (502, "upstream_error")),
        ("half_body", "only_main", (502, "upstream_error")),
        ("garbage", "only_main", (502, "upstream_error")),
        ("timeout", "hasty", (504, "upstream_timeout")),
    ],
)
def test_unknown_outcome_is_not_retried(
    client: OpenAI, stack: Stack, fault: str, job_type: str, answer: tuple[int, str]
) -> None:
    """Once money may have been spent, the error says so and the SDK asks exactly once."""
    counting = _count(client)
    stack.sandbox.fault(fault)
    with pytest.raises(InternalServerError) as refused:
        client.images.generate(prompt="x", extra_headers={"X-Gateway-Job-Type": job_type}, **LOW)
    assert (refused.value.status_code, refused.value.code) == answer
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert counting.sent == 1
    assert len(stack.sandbox.requests()) == 1
    assert refused.value.request_id
    assert stack.record(refused.value.request_id)["unconfirmed"]


def test_models(client: OpenAI) -> None:
    """Models and job types are listed, and each can be asked for by name."""
    listed = {model.id for model in client.models.list()}
    assert {"gpt-image-2", "gpt-image-2.5-flare", "job:draft", "job:only_main"} <= listed
    assert "job:hero" not in listed
    assert client.models.retrieve("job:draft").id == "job:draft"
    with pytest.raises(NotFoundError) as refused:
        client.models.retrieve("job:hero")
    assert refused.value.code == "model_not_found"


def test_job_type_as_model(client: OpenAI, stack: Stack) -> None:
    """A job type stands where a model would, so that a client needs no header to choose one."""
    made = client.images.with_raw_response.generate(prompt="x", model="job:only_main", quality="low")
    assert made.headers["x-gateway-job-type"] == "only_main"
    assert stack.sandbox.requests()[-1]["fields"]["model"] == "gpt-image-2-2026-04-21"


def test_headers_and_request_id(client: OpenAI, stack: Stack) -> None:
    """Every answer tells what was decided and what it cost, and its request id finds the record."""
    raw = client.images.with_raw_response.generate(prompt="x", **LOW)
    made = raw.parse()
    record = stack.record(str(made._request_id))
    assert raw.headers["x-request-id"] == made._request_id == raw.request_id
    assert raw.headers["x-gateway-route"] == record["route"] == "main/gpt-image-2"
    assert raw.headers["x-gateway-job-type"] == record["job_type"] == "draft"
    assert raw.headers["x-gateway-attempts"] == "1"
    assert raw.headers["x-gateway-cost"] == record["cost"]["route"]
    assert raw.headers["x-gateway-cost-estimate"] == record["cost_estimate"]["route"]
    assert raw.headers["x-gateway-cost"] == stack.sandbox.bill()["total_usd"]
    assert float(raw.headers["x-gateway-budget-remaining"]) > 0


def test_streamed_response(client: OpenAI) -> None:
    """A body that the user reads piece by piece is whole."""
    with client.images.with_streaming_response.generate(prompt="x", n=3, **LOW) as answer:
        content = b"".join(answer.iter_bytes(10_000))
        length = answer.headers.get("content-length")
    assert length is None or len(content) == int(length)
    assert content.count(b'"b64_json"') == 3


def test_nothing_private_is_kept(connect: Callable[..., OpenAI], stack: Stack) -> None:
    """No prompt, key, user or image is found in the log or in what lies on disk, after success and after errors."""
    prompt, user = "canary-prompt-7f3a9c", "canary-user-51e0"
    upload = picture(300, 200, seed=211) + b"canary-image-" + bytes(range(256))
    client, poor = connect(), connect("poor")
    made = client.images.generate(prompt=prompt, user=user, **LOW)
    edited = client.images.edit(image=("canary-file-name.png", upload), prompt=prompt, user=user, **LOW)
    ids = [str(made._request_id), str(edited._request_id)]
    failures: list[Callable[[], object]] = [
        lambda: client.images.generate(prompt=f"{prompt} blocked-by-moderation", user=user, **LOW),
        lambda: client.images.generate(prompt=prompt, user=user, model="gpt-image-2", size="16x16"),
        lambda: poor.images.edit(image=upload, prompt=prompt, user=user, **LOW),
    ]
    for fail in failures:
        with pytest.raises(APIStatusError) as refused:
            fail()
        ids.append(str(refused.value.request_id))
    stack.sandbox.fault("garbage", body=f'{{"data": [{{"prompt": "{prompt}", "key": "{stack.sandbox.api_key}"}}]')
    with pytest.raises(InternalServerError) as broken:
        client.images.generate(prompt=prompt, user=user, **LOW)
    log = [logged(stack, request_id) for request_id in [*ids, str(broken.value.request_id)]][-1].encode()
    kept = [path.read_bytes() for path in stack.data.rglob("*") if path.is_file()]
    answered = str((made.data or [])[0].b64_json)
    for secret in (
        prompt, user, "canary-image-", "canary-file-name", stack.key(), stack.key("poor"), stack.sandbox.api_key,
        answered[1000:1100], base64.b64encode(upload).decode()[200:300],
    ):  # fmt: skip
        assert secret.encode() not in log
        assert not any(secret.encode() in content for content in kept)

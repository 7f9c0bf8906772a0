"""Providers that speak nearly the same, each in front of its persona: what arrives, what comes back, what it costs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from PIL import Image

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, billed, booked, crowd, settled
from tests.e2e.clients import picture
from tests.e2e.profile_policy import AZURE, LIKES, NAMES, policy
from tests.e2e.stack import Reply, Stack, running_gateway

GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
JPEG = ("xai", "together")
TAKE_UPLOADS = ("openrouter", "xai", "deepinfra", "recraft", "vllm-omni", "sglang", "stable-diffusion-cpp", *AZURE)
TAKE_MASKS = ("deepinfra", "recraft", "vllm-omni", "stable-diffusion-cpp", *AZURE)
URL = "https://images.example.com/cat.png"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with a route to each of them."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), policy(), sandbox) as running:
        yield running


def ask(stack: Stack, name: str, path: str = GENERATE, **fields: object) -> Reply:
    """Ask a provider for an image."""
    body = {"prompt": "a cat", "size": "1024x1024", **fields}
    reply = stack.post(path, body, headers={"x-gateway-job-type": name})
    settled(stack)
    return reply


def images(reply: Reply) -> list[bytes]:
    """The images of an answer, in OpenAI's shape and no other."""
    assert reply.status == 200, reply.body
    assert isinstance(reply.json["created"], int)
    assert set(reply.json) <= {"created", "data", "background", "output_format", "quality", "size", "usage"}
    assert all(set(item) <= {"b64_json", "revised_prompt"} for item in reply.json["data"])
    return [base64.b64decode(item["b64_json"], validate=True) for item in reply.json["data"]]


def last(sandbox: Sandbox) -> dict[str, Any]:
    """What arrived last by POST."""
    return [request for request in sandbox.requests() if request["method"] == "POST"][-1]


@pytest.mark.parametrize("name", [*LIKES, *AZURE])
def test_images_of_each_provider_cost_what_its_bill_says(stack: Stack, sandbox: Sandbox, name: str) -> None:
    """Two images come as plain base64 whatever the provider sends, and the ledger books the bill's figure."""
    before = booked(stack)
    reply = ask(stack, name, n=2)
    found = images(reply)
    for image in found:
        with Image.open(io.BytesIO(image)) as opened:
            assert opened.format == ("JPEG" if name in JPEG else "PNG")
            assert opened.size == (1024, 1024)
    assert reply.json["output_format"] == ("jpeg" if name in JPEG else "png")
    spent = booked(stack) - before
    assert (len(found), spent.images, spent.unconfirmed) == (2, 2, 0)
    assert spent.route == billed(sandbox) > 0


@pytest.mark.parametrize("name", ["xai", "openrouter", "recraft"])
def test_the_cost_is_what_the_provider_says_it_is(stack: Stack, name: str) -> None:
    """A reported cost counts instead of the price, to the nano-dollar, rounded up once."""
    cost = {"xai": "0.210000002", "openrouter": "0.123703701", "recraft": "0.105"}[name]
    record = stack.record(ask(stack, name, n=3).headers["x-request-id"])
    assert (record["cost_source"], record["cost"]["route"]) == ("reported", cost)


@pytest.mark.parametrize("name", TAKE_UPLOADS)
@pytest.mark.parametrize("encoding", ["form", "json"])
def test_an_upload_reaches_each_provider_as_it_was(stack: Stack, sandbox: Sandbox, name: str, encoding: str) -> None:
    """Whether it comes as a form or as a data URL, the provider gets the same bytes in the way it takes them."""
    image, before = picture(), booked(stack)
    if encoding == "form":
        asks = [
            Ask({"prompt": "a cat", "size": "1024x1024", "model": f"job:{name}"}, path=EDIT, files=[("image", image)])
        ]
        (reply,) = asyncio.run(crowd(asks, [stack], at_once=1))
        settled(stack)
    else:
        url = "data:image/png;base64," + base64.b64encode(image).decode()
        reply = ask(stack, name, EDIT, images=[{"image_url": url}])
    assert len(images(reply)) == 1
    assert [file["sha256"] for file in last(sandbox)["files"]] == [hashlib.sha256(image).hexdigest()]
    assert (booked(stack) - before).route == billed(sandbox) > 0


@pytest.mark.parametrize("name", TAKE_MASKS)
def test_a_mask_goes_where_each_provider_takes_it(stack: Stack, sandbox: Sandbox, name: str) -> None:
    """Under its own name for it, and at its own path."""
    files = [("image", picture(mode="RGBA")), ("mask", picture(mode="RGBA"))]
    asks = [Ask({"prompt": "a cat", "size": "1024x1024", "model": f"job:{name}"}, path=EDIT, files=files)]
    (reply,) = asyncio.run(crowd(asks, [stack], at_once=1))
    settled(stack)
    assert len(images(reply)) == 1
    arrived = last(sandbox)
    assert [file["field"].strip("[]") for file in arrived["files"]] == [
        "image",
        "mask_image" if name == "vllm-omni" else "mask",
    ]
    assert arrived["path"].endswith("/inpaint") == (name == "recraft")


@pytest.mark.parametrize("name", ["sglang", "xai", "openrouter", "together", "localai"])
def test_a_mask_that_would_be_ignored_is_refused(stack: Stack, sandbox: Sandbox, name: str) -> None:
    """A masked edit is not sent to who would change the whole picture; the caller is told why."""
    image = {"image_url": "data:image/png;base64," + base64.b64encode(picture()).decode()}
    reply = ask(stack, name, EDIT, images=[image], mask=image)
    assert (reply.status, reply.json["error"]["code"]) == (400, "unsupported_by_every_route")
    assert not sandbox.requests()


def test_images_by_url_go_on_as_they_are(stack: Stack, sandbox: Sandbox) -> None:
    """Who takes URLs gets the client's own; an upload has no address here, and the caller is told what would help."""
    for name in ("together", "openrouter", "xai"):
        assert len(images(ask(stack, name, EDIT, images=[{"image_url": URL}]))) == 1
        assert URL in str(last(sandbox)["fields"])
    data = "data:image/png;base64," + base64.b64encode(picture()).decode()
    refused = ask(stack, "together", EDIT, images=[{"image_url": data}])
    assert (refused.status, refused.json["error"]["code"]) == (400, "unsupported_by_every_route")
    assert "--public-url" in refused.json["error"]["message"]


def test_each_provider_gets_the_fields_that_it_knows(stack: Stack, sandbox: Sandbox) -> None:
    """Sizes become ratios, resolutions, or two numbers; own fields are passed on; nothing else goes along."""
    extra: dict[str, Any] = {"quality": "low", "seed": 7, "unheard_of": 1, "user": "u", "output_compression": 80}
    wanted: dict[str, dict[str, object]] = {
        "xai": {"aspect_ratio": "3:2", "resolution": "2k", "quality": "low", "response_format": "b64_json"},
        "together": {"width": 1536, "height": 1024, "seed": 7, "response_format": "base64"},
        "openrouter": {"size": "1536x1024", "quality": "low", "seed": 7, "output_compression": 80},
        "deepinfra": {"size": "1536x1024", "response_format": "b64_json"},
        "vllm-omni": {"size": "1536x1024", "response_format": "b64_json", "seed": 7},
        "stable-diffusion-cpp": {"size": "1536x1024", "output_compression": 80},
    }
    for name, fields in wanted.items():
        assert ask(stack, name, **{**extra, "size": "1536x1024"}).status == 200
        model = {} if name == "stable-diffusion-cpp" else {"model": f"{name}-canvas"}
        assert last(sandbox)["fields"] == {"prompt": "a cat", "n": 1, **model, **fields}


@pytest.mark.parametrize("name", AZURE)
def test_deployments_by_path_or_by_body(stack: Stack, sandbox: Sandbox, name: str) -> None:
    """The deployment stands in the path or in the body, never in both, and the key in a header of its own."""
    assert ask(stack, name).status == 200
    arrived = last(sandbox)
    by_path = name == "azure-deployments"
    assert ("/deployments/team-gpt-image-2-2026-04-21/" in arrived["path"]) == by_path
    assert ("api-version=2025-04-01-preview" in arrived["query"]) == by_path
    headers = dict(arrived["headers"])
    assert "authorization" not in headers
    assert headers["api-key"].startswith("***")


@pytest.mark.parametrize("name", ["sglang-links", "localai-links"])
def test_links_of_ones_own_servers_are_fetched_there(stack: Stack, sandbox: Sandbox, name: str) -> None:
    """Relative links, and those of the provider's own host, are fetched with its key and told as base64."""
    assert len(images(ask(stack, name, n=2))) == 2
    fetched = [request for request in sandbox.requests() if request["method"] == "GET"]
    assert [request["status"] for request in fetched] == [200, 200]
    assert last(sandbox)["fields"].get("response_format") is None


def test_a_stream_of_a_provider_that_does_not_stream(stack: Stack, sandbox: Sandbox) -> None:
    """A client that asked for events gets one for each image, of whoever makes them."""
    client = openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=0)
    events = list(client.images.generate(model="job:xai", prompt="a cat", n=2, stream=True))
    assert [event.type for event in events] == ["image_generation.completed"] * 2
    settled(stack)
    assert "stream" not in last(sandbox)["fields"]


def test_fewer_images_than_asked_for(stack: Stack, sandbox: Sandbox) -> None:
    """Where `n` is but a wish, those that came are passed on and paid for, and what is missing is said."""
    sandbox.fault("wrong_count", provider="openrouter")
    before = booked(stack)
    reply = ask(stack, "openrouter", n=3)
    assert (len(images(reply)), reply.headers["x-gateway-missing-images"]) == (2, "1")
    assert (booked(stack) - before).route == billed(sandbox) == 2 * 41_234_567


BLOCKED = "a cat blocked-by-moderation"
CATEGORIES = {"openrouter": ["violence"], "azure-v1": ["violence"], "azure-deployments": ["violence"]}


@pytest.mark.parametrize("name", ["openrouter", "xai", "recraft", "deepinfra", *AZURE])
def test_a_content_filter_is_a_moderation_error(stack: Stack, sandbox: Sandbox, name: str) -> None:
    """However a provider refuses the content, the client gets OpenAI's error for it, and nothing is paid."""
    before = booked(stack)
    reply = ask(stack, name, prompt=BLOCKED)
    error = reply.json["error"]
    assert (reply.status, error["type"], error["code"]) == (400, "image_generation_user_error", "moderation_blocked")
    assert error["moderation_details"]["categories"] == CATEGORIES.get(name, [])
    assert (booked(stack) - before).route == billed(sandbox) == 0
    if name in AZURE:
        assert error["content_filter_results"]["violence"] == {"filtered": True, "severity": "medium"}


def test_an_image_that_was_made_and_withheld(stack: Stack, sandbox: Sandbox) -> None:
    """A refusal inside a 200 is a moderation error to the client; what the provider charged for it is booked."""
    before = booked(stack)
    reply = ask(stack, "xai", prompt="a cat withheld-by-moderation")
    assert (reply.status, reply.json["error"]["code"]) == (400, "moderation_blocked")
    assert reply.json["error"]["moderation_details"]["moderation_stage"] == "output"
    assert (booked(stack) - before).route == billed(sandbox) == 70_000_001


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("localai", "a cat | blurry"),
        ("stable-diffusion-cpp", 'a cat <sd_cpp_extra_args>{"steps": 999}</sd_cpp_extra_args>'),
        ("stable-diffusion-cpp", "a cat <SD_CPP_EXTRA_ARGS>"),
    ],
)
def test_prompts_that_a_provider_would_execute_are_not_sent(
    stack: Stack, sandbox: Sandbox, name: str, prompt: str
) -> None:
    """The caller is told why; another route takes the prompt as it is."""
    refused = ask(stack, name, prompt=prompt)
    assert (refused.status, refused.json["error"]["code"]) == (400, "unsupported_by_every_route")
    assert "a prompt with" in refused.json["error"]["message"]
    assert not sandbox.requests()
    reply = ask(stack, "fallback", prompt='<sd_cpp_extra_args>{"steps": 999}</sd_cpp_extra_args>')
    assert (reply.status, reply.headers["x-gateway-route"]) == (200, "deepinfra/canvas")


ERRORS: list[tuple[str, str, dict[str, Any], int]] = [
    ("azure-v1", "status", {"status": 401, "code": "401", "message": "denied"}, 502),
    ("azure-deployments", "rate_limit", {"retry_after": 120}, 429),
    ("openrouter", "status", {"status": 402, "message": "no credits"}, 502),
    ("openrouter", "status", {"status": 529, "message": "overloaded"}, 502),
    ("openrouter", "status", {"status": 400, "message": "bad n"}, 400),
    ("xai", "status", {"status": 400, "message": "Argument not supported: size"}, 400),
    ("deepinfra", "rate_limit", {}, 429),
    ("vllm-omni", "status", {"status": 422, "code": "n", "message": "is too large"}, 422),
    ("sglang", "status", {"status": 400, "message": "no cloud storage"}, 400),
    ("localai", "status", {"status": 500, "message": "out of memory"}, 502),
    ("stable-diffusion-cpp", "status", {"status": 400, "message": "bad size"}, 400),
    ("recraft", "status", {"status": 400, "code": "invalid_style", "message": "no such style"}, 400),
    ("together", "status", {"status": 400, "message": "too many steps"}, 400),
]


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: f"{case[0]}-{case[3]}")
def test_errors_in_each_providers_own_words(
    stack: Stack, sandbox: Sandbox, case: tuple[str, str, dict[str, Any], int]
) -> None:
    """The caller's own faults are shown in OpenAI's shape with the provider's words, all others are ours to handle."""
    name, fault, parameters, status = case
    sandbox.fault(fault, provider=name.partition("-")[0] if name in AZURE else name, times=None, **parameters)
    before = booked(stack)
    reply = ask(stack, name)
    assert reply.status == status, reply.body
    assert set(reply.json["error"]) == {"message", "type", "param", "code"}
    if reply.status in (400, 422):
        assert str(parameters["message"]) in reply.json["error"]["message"]
    assert (booked(stack) - before).route == billed(sandbox) == 0
    sandbox.reset()
    stack.forget()


@pytest.mark.parametrize("name", ["xai", "vllm-omni"])
def test_an_answer_that_is_lost_may_have_been_billed(stack: Stack, sandbox: Sandbox, name: str) -> None:
    """A broken or unreadable answer is presumed spent and never sent again."""
    for fault in ("lost_response", "half_body", "garbage"):
        sandbox.fault(fault, provider=name)
        before = booked(stack)
        reply = ask(stack, name)
        assert (reply.status, reply.headers["x-should-retry"]) == (502, "false")
        spent = booked(stack) - before
        assert spent.route == spent.unconfirmed > 0
    assert sum(request["method"] == "POST" for request in sandbox.requests()) == 3
    stack.forget()


def test_two_hundred_mixed_requests_cost_what_the_bill_says(stack: Stack, sandbox: Sandbox) -> None:
    """Over all providers together, edits and several images among them, ledger and bill are the same to the nano."""
    names, before = [name for name in NAMES if name != "fallback"], booked(stack)
    asks = []
    for number in range(200):
        name = names[number % len(names)]
        body = {"prompt": f"cat {number}", "size": "1024x1024", "n": 1 + number % 3, "model": f"job:{name}"}
        edit = name in TAKE_UPLOADS and number % 4 == 0
        asks.append(Ask(body, path=EDIT, files=[("image", picture())]) if edit else Ask(body))
    replies = asyncio.run(crowd(asks, [stack], at_once=8))
    settled(stack)
    assert [reply.status for reply in replies] == [200] * 200
    spent = booked(stack) - before
    assert spent.images == sum(len(images(reply)) for reply in replies)
    assert (spent.route, spent.unconfirmed) == (billed(sandbox), 0)

"""Every error of the OpenAI persona: class, code, param and text, and that none of them is charged."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from openai import OpenAI

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.personas.openai.limits import duration, retry_headers
from gateway.sandbox.server import running_sandbox
from tests.sandbox.conftest import png

Case = tuple[dict[str, Any], str | None, str | None, str]

BAD: dict[str, Case] = {
    "no model": ({"model": None}, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
    "no prompt": ({"prompt": None}, "prompt", "missing_required_parameter", "Missing required parameter: 'prompt'."),
    "empty prompt": ({"prompt": ""}, "prompt", "empty_string", "empty string"),
    "long prompt": ({"prompt": "x" * 32001}, "prompt", "string_above_max_length", "maximum length 32000"),
    "response_format": (
        {"response_format": "b64_json"},
        "response_format",
        "unknown_parameter",
        "Unknown parameter: 'response_format'.",
    ),
    "style": ({"style": "vivid"}, "style", "unknown_parameter", "Unknown parameter: 'style'."),
    "n zero": ({"n": 0}, "n", "integer_below_min_value", "Expected a value >= 1, but got 0 instead."),
    "n eleven": ({"n": 11}, "n", "integer_above_max_value", "Expected a value <= 10, but got 11 instead."),
    "n text": ({"n": "3"}, "n", "invalid_type", "expected an integer, but got a string instead"),
    "n true": ({"n": True}, "n", "invalid_type", "but got a boolean instead"),
    "n decimal": ({"n": 1.5}, "n", "invalid_type", "but got a decimal instead"),
    "quality of 2.5": ({"quality": "max"}, "quality", "invalid_value", "'low', 'medium', 'high', and 'auto'"),
    "size word": ({"size": "big"}, "size", "invalid_value", "Invalid size 'big'."),
    "size multiple": ({"size": "1000x1000"}, "size", "invalid_value", "must both be divisible by 16"),
    "size small": (
        {"size": "1024x576"},
        "size",
        "invalid_value",
        "Invalid size '1024x576'. Requested resolution is below the current minimum pixel budget.",
    ),
    "size long": ({"size": "3856x2048"}, "size", "invalid_value", "3840"),
    "size thin": ({"size": "3840x1264"}, "size", "invalid_value", "3:1"),
    "size large": ({"size": "3840x3840"}, "size", "invalid_value", "maximum pixel budget"),
    "fixed size": ({"model": "gpt-image-1.5", "size": "2048x2048"}, "size", "invalid_value", "'1024x1536'"),
    "transparent": (
        {"background": "transparent"},
        "background",
        "invalid_value",
        "Transparent background is not supported for this model.",
    ),
    "transparent jpeg": (
        {"model": "gpt-image-2.5-flare", "background": "transparent", "output_format": "jpeg"},
        "background",
        "invalid_value",
        "JPEG",
    ),
    "format": ({"output_format": "gif"}, "output_format", "invalid_value", "'png', 'webp', and 'jpeg'"),
    "compression": ({"output_compression": 50}, "output_compression", "invalid_value", "PNG"),
    "partials": ({"partial_images": 2}, "partial_images", "invalid_value", "stream"),
    "four partials": ({"partial_images": 4}, "partial_images", "integer_above_max_value", "<= 3"),
    "stream text": ({"stream": "yes"}, "stream", "invalid_type", "expected a boolean"),
    "surrogate": ({"quality": "\ud800"}, "quality", "invalid_value", "\ud800"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_parameters(sandbox: Sandbox, name: str) -> None:
    """Each wrong parameter is a 400 with OpenAI's text, param and code."""
    change, param, code, text = BAD[name]
    wanted = {"model": "gpt-image-2", "prompt": "a cat", **change}
    body = json.dumps({key: value for key, value in wanted.items() if value is not None})
    status, answer = post(sandbox, "/images/generations", body.encode())
    assert status == 400
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    assert (answer["error"]["param"], answer["error"]["code"]) == (param, code)
    assert text in answer["error"]["message"]
    assert sandbox.bill()["total_nano_usd"] == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b'{"n": NaN}', b'{"n": 1e999}', b"\xff\xfe", b"[" * 100_000, b"9" * 5000],
)
def test_bodies_that_are_not_json(sandbox: Sandbox, body: bytes) -> None:
    """Whatever is not a JSON object gets OpenAI's text about it."""
    status, answer = post(sandbox, "/images/generations", body)
    assert status == 400
    assert answer["error"]["message"].startswith("We could not parse the JSON body of your request.")


def test_unknown_and_retired_models(client: OpenAI) -> None:
    """Both are 404 `model_not_found`; a retired one says that it was."""
    with pytest.raises(openai.NotFoundError, match="does not exist") as unknown:
        client.images.generate(model="gpt-image-99", prompt="cat")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError, match="has been deprecated") as retired:
        client.images.generate(model="dall-e-3", prompt="cat")
    assert retired.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("dall-e-3")


def test_wrong_and_missing_keys(sandbox: Sandbox) -> None:
    """A wrong key gets OpenAI's text without the key in it, no key gets the other text."""
    with (
        OpenAI(base_url=sandbox.openai_url, api_key="sk-not-the-right-one", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="Incorrect API key provided: sk-not-t") as wrong,
    ):
        client.images.generate(model="gpt-image-2", prompt="cat")
    assert wrong.value.code == "invalid_api_key"
    assert "sk-not-the-right-one" not in str(wrong.value)
    status, answer = post(sandbox, "/images/generations", b"{}", key=None)
    assert status == 401
    assert answer["error"]["message"].startswith("You didn't provide an API key.")


def test_moderation(sandbox: Sandbox, client: OpenAI) -> None:
    """The marked prompt is refused as OpenAI refuses, with details and its request id, uncharged."""
    with pytest.raises(openai.BadRequestError) as blocked:
        client.images.generate(model="gpt-image-2", prompt="blocked-by-moderation please")
    assert (blocked.value.code, blocked.value.type) == ("moderation_blocked", "image_generation_user_error")
    assert isinstance(blocked.value.body, dict)
    assert blocked.value.body["moderation_details"] == {"moderation_stage": "input", "categories": ["violence"]}
    assert blocked.value.request_id is not None
    assert blocked.value.request_id in blocked.value.message
    assert sandbox.bill()["lines"] == []


def test_retired_endpoint_and_unknown_urls(sandbox: Sandbox) -> None:
    """Variations, unknown paths and wrong methods answer in OpenAI's shape."""
    status, answer = post(sandbox, "/images/variations", b"")
    assert status == 404
    assert "no longer accepts requests" in answer["error"]["message"]
    status, answer = post(sandbox, "/images/dreams", b"{}")
    assert (status, answer["error"]["message"]) == (404, "Invalid URL (POST /v1/images/dreams)")
    status, answer = post(sandbox, "/models", b"{}")
    assert (status, answer["error"]["message"]) == (405, "Invalid method for URL (POST /v1/models)")


def test_content_types(sandbox: Sandbox) -> None:
    """A body of another kind, and a multipart body without boundary, are 400s that say so."""
    status, answer = post(sandbox, "/images/generations", b"x", content_type="text/plain")
    assert (status, answer["error"]["code"]) == (400, "unsupported_content_type")
    status, answer = post(sandbox, "/images/edits", b"x", content_type="text/plain")
    assert (status, answer["error"]["code"]) == (400, "unsupported_content_type")
    status, answer = post(sandbox, "/images/edits", b"x", content_type="multipart/form-data")
    assert status == 400
    assert "boundary" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"image": b"not an image"}, "invalid_image_file", "Invalid image file or mode for image 1"),
        ({"image": [png(64, 64)] * 17}, "array_above_max_length", "maximum length 16"),
        ({"mask": png(32, 32, alpha=True)}, "invalid_mask_image_format", "size does not match"),
        ({"mask": png(64, 64)}, "invalid_mask_image_format", "alpha"),
        ({"input_fidelity": "high"}, "invalid_input_fidelity_model", "does not support the 'input_fidelity'"),
        ({"model": "gpt-image-1-mini", "input_fidelity": "high"}, "invalid_value", "'low'"),
        ({"extra_body": {"style": "vivid"}}, "unknown_parameter", "'style'"),
        ({"extra_body": {"n": "two"}}, "invalid_type", "expected an integer"),
    ],
)
def test_bad_edits(sandbox: Sandbox, client: OpenAI, change: dict[str, Any], code: str, text: str) -> None:
    """Each wrong upload or edit parameter is a 400 with its code, uncharged."""
    wanted: dict[str, Any] = {"model": "gpt-image-2", "prompt": "cat", "image": png(64, 64), **change}
    with pytest.raises(openai.BadRequestError, match=text) as refused:
        client.images.edit(**wanted)
    assert refused.value.code == code
    assert sandbox.bill()["lines"] == []


def test_input_fidelity_of_older_models(client: OpenAI) -> None:
    """gpt-image-1.5 takes high fidelity and charges the tokens of it."""
    answer = client.images.edit(model="gpt-image-1.5", prompt="cat", image=png(64, 64), input_fidelity="high")
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 65 + 129 + 4160


def test_partial_images_of_the_tool(client: OpenAI) -> None:
    """Their range holds in a conversation too, whether or not it streams."""
    with pytest.raises(openai.BadRequestError, match="partial_images"):
        client.responses.create(model="gpt-5.2", input="x", tools=[{"type": "image_generation", "partial_images": 4}])


def test_images_per_minute() -> None:
    """The sixth image of a minute is refused with the real text and when to come back, and costs nothing."""
    options = SandboxOptions(latency=0, images_per_minute={"gpt-image": 5})
    with (
        running_sandbox(options) as sandbox,
        OpenAI(base_url=sandbox.openai_url, api_key=sandbox.api_key, max_retries=0) as client,
    ):
        raw = client.images.with_raw_response.generate(model="gpt-image-2", prompt="cat", n=5)
        assert raw.headers["x-ratelimit-limit-input-images"] == "5"
        assert raw.headers["x-ratelimit-remaining-input-images"] == "0"
        with pytest.raises(openai.RateLimitError, match=r"\(for limit gpt-image\)") as limited:
            client.images.generate(model="gpt-image-2.5-flare", prompt="cat")
        assert "on input-images per min: Limit 5, Used 5, Requested 1." in limited.value.message
        assert (limited.value.code, limited.value.type) == ("rate_limit_exceeded", "input-images")
        headers = limited.value.response.headers
        assert 0 < int(headers["retry-after"]) <= 12
        assert 0 < int(headers["retry-after-ms"]) <= 12_000
        client.images.generate(model="chatgpt-image-latest", prompt="another family has its own allowance")
        assert len(sandbox.bill()["lines"]) == 2


def test_one_limit_for_every_family() -> None:
    """A number alone limits each family, and a request for more than the limit can never pass."""
    with (
        running_sandbox(SandboxOptions(latency=0, images_per_minute=3)) as sandbox,
        OpenAI(base_url=sandbox.openai_url, api_key=sandbox.api_key, max_retries=0) as client,
    ):
        for model in ("gpt-image-2", "chatgpt-image-latest"):
            with pytest.raises(openai.RateLimitError, match="Limit 3, Used 0, Requested 4"):
                client.images.generate(model=model, prompt="cat", n=4)
            client.images.generate(model=model, prompt="cat", n=3)
        assert len(sandbox.bill()["lines"]) == 2


def test_durations_are_written_as_openai_does() -> None:
    """Milliseconds, seconds and minutes; retry-after is rounded up."""
    assert [duration(seconds) for seconds in (0.12, 12, 58.891, 62.5, 60)] == [
        "120ms",
        "12s",
        "58.891s",
        "1m2.5s",
        "1m0s",
    ]
    assert retry_headers(11.2) == {"retry-after": "12", "retry-after-ms": "11200"}
    assert retry_headers("Wed, 21 Oct 2026 07:28:00 GMT") == {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}


def post(
    sandbox: Sandbox, path: str, body: bytes, *, key: str | None = "sk-sandbox", content_type: str = "application/json"
) -> tuple[int, dict[str, Any]]:
    """Post bytes as they are and return status and JSON answer."""
    connection = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=10)
    headers = {"content-type": content_type, **({"authorization": f"Bearer {key}"} if key else {})}
    connection.request("POST", f"/openai/v1{path}", body, headers)
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    connection.close()
    return response.status, answer

"""The Gemini persona: answers, refusals and errors as the wire has them, and a bill of published token counts."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from PIL import Image

from gateway.sandbox.client import Sandbox

FLASH = "gemini-3.1-flash-image"
PUBLISHED = [
    ("gemini-2.5-flash-image", None, 38_700_000),
    (FLASH, "512", 44_820_000),
    (FLASH, "1K", 67_200_000),
    (FLASH, "2K", 100_800_000),
    (FLASH, "4K", 151_200_000),
    ("gemini-3.1-flash-lite-image", None, 33_600_000),
    ("gemini-3-pro-image", "1K", 134_400_000),
    ("gemini-3-pro-image", "2K", 134_400_000),
    ("gemini-3-pro-image", "4K", 240_000_000),
    ("gemini-nano-banana-2.1", None, 33_600_000),
]
"""Nano-USD of one image, by the price page."""


def ask(
    sandbox: Sandbox,
    *parts: Mapping[str, object],
    model: str = FLASH,
    config: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """One request."""
    body = {
        "contents": [{"role": "user", "parts": list(parts) or [{"text": "a cat"}]}],
        "generationConfig": {"responseModalities": ["IMAGE"], "imageConfig": config or {}},
    }
    url = f"{sandbox.gemini_url}/models/{model}:generateContent"
    key = {"x-goog-api-key": sandbox.api_key} if headers is None else headers
    return httpx.post(url, json=body, headers=key, timeout=60)


def drawn(size: tuple[int, int], kind: str = "PNG") -> dict[str, object]:
    """A part with an input image."""
    file = io.BytesIO()
    Image.new("RGB", size, (9, 99, 200)).save(file, kind)
    data = base64.b64encode(file.getvalue()).decode()
    return {"inlineData": {"mimeType": f"image/{kind.lower()}", "data": data}}


def images(answer: Any) -> list[tuple[str | None, tuple[int, int]]]:
    """Format and size of the images of an answer, thoughts left out."""
    parts = [part for part in answer["candidates"][0]["content"]["parts"] if not part.get("thought")]
    found = [part["inlineData"] for part in parts if "inlineData" in part]
    opened = [Image.open(io.BytesIO(base64.b64decode(each["data"]))) for each in found]
    return [(image.format, image.size) for image in opened]


@pytest.mark.parametrize(("model", "size", "nano"), PUBLISHED)
def test_an_image_costs_what_is_published(sandbox: Sandbox, model: str, size: str | None, nano: int) -> None:
    """The prompt's tokens apart."""
    answer = ask(sandbox, model=model, config={"imageSize": size} if size else {})
    assert answer.status_code == 200
    usage = answer.json()["usageMetadata"]
    [line] = sandbox.bill()["lines"]
    rates = {"gemini-2.5-flash-image": 300, FLASH: 500, "gemini-3.1-flash-lite-image": 250, "gemini-3-pro-image": 2000}
    assert line["nano_usd"] == nano + usage["promptTokenCount"] * rates.get(model, 1500)
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]


@pytest.mark.parametrize(
    ("config", "parts", "made"),
    [
        ({}, [], ("PNG", (1024, 1024))),
        ({"aspectRatio": "16:9"}, [], ("PNG", (1344, 768))),
        ({"aspectRatio": "2:3", "imageSize": "2K"}, [], ("PNG", (1664, 2496))),
        ({}, [{"text": "blue"}, drawn((300, 200))], ("PNG", (1248, 832))),
        ({}, [{"text": "blue"}, drawn((100, 180), "JPEG"), drawn((9, 9))], ("PNG", (768, 1344))),
    ],
)
def test_the_picture_has_the_ratio_asked_for_or_that_of_the_input(
    sandbox: Sandbox, config: dict[str, object], parts: list[dict[str, object]], made: tuple[str, tuple[int, int]]
) -> None:
    """One picture, and input images are counted."""
    answer = ask(sandbox, *parts, config=config).json()
    assert images(answer) == [made]
    counted = {row["modality"]: row["tokenCount"] for row in answer["usageMetadata"]["promptTokensDetails"]}
    assert counted.get("IMAGE", 0) == 1120 * sum("inlineData" in part for part in parts)


def test_the_pro_model_makes_jpeg(sandbox: Sandbox) -> None:
    """The format is the provider's choice."""
    assert images(ask(sandbox, model="gemini-3-pro-image").json()) == [("JPEG", (1024, 1024))]


def test_a_thought_comes_before_the_picture(sandbox: Sandbox) -> None:
    """It is marked, and counts as text."""
    answer = ask(sandbox, {"text": "thinks-first"}).json()
    assert sum(bool(part.get("thought")) for part in answer["candidates"][0]["content"]["parts"]) == 2
    assert len(images(answer)) == 1
    assert answer["usageMetadata"]["thoughtsTokenCount"] == 180


def test_some_answer_with_a_text(sandbox: Sandbox) -> None:
    """The image is a data URI in it."""
    [part] = ask(sandbox, {"text": "as-data-uri"}).json()["candidates"][0]["content"]["parts"]
    assert "data:image/png;base64,iVBOR" in part["text"]


@pytest.mark.parametrize("prompt", ["blocked-by-moderation", "block:OTHER", "finish:NO_IMAGE", "finish:IMAGE_SAFETY"])
def test_a_refusal_is_a_success_that_is_charged(sandbox: Sandbox, prompt: str) -> None:
    """By the tokens that it counts."""
    answer = ask(sandbox, {"text": prompt})
    document = answer.json()
    assert answer.status_code == 200
    assert ("promptFeedback" in document) == ("block" in prompt)
    words = document["usageMetadata"].get("candidatesTokenCount", 0)
    assert sandbox.bill()["total_nano_usd"] == document["usageMetadata"]["promptTokenCount"] * 500 + words * 3000


@pytest.mark.parametrize(
    ("model", "headers", "status", "word"),
    [
        (FLASH, {}, 403, "PERMISSION_DENIED"),
        (FLASH, {"x-goog-api-key": "other"}, 400, "INVALID_ARGUMENT"),
        ("imagen-4", None, 404, "NOT_FOUND"),
    ],
)
def test_who_asks_and_for_what_is_checked(
    sandbox: Sandbox, model: str, headers: dict[str, str] | None, status: int, word: str
) -> None:
    """A wrong key is a 400 with a reason."""
    answer = ask(sandbox, model=model, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (status, status, word)
    assert ("API_KEY_INVALID" in answer.text) == (status == 400)


BAD: list[tuple[tuple[dict[str, object], ...], dict[str, object], str]] = [
    ((), {"aspectRatio": "7:5"}, FLASH),
    ((), {"imageSize": "2k"}, FLASH),
    ((), {"imageSize": "1K"}, "gemini-2.5-flash-image"),
    ((), {"quality": "high"}, FLASH),
    (({"fileData": {"fileUri": "https://example.com/a.png"}},), {}, FLASH),
    (({"inlineData": {"mimeType": "image/gif", "data": "R0lGODlh"}},), {}, FLASH),
    (({"inlineData": {"mimeType": "image/png", "data": "AAAA"}},), {}, FLASH),
    (({"picture": "x"},), {}, FLASH),
    (tuple(drawn((8, 8)) for _ in range(15)), {}, FLASH),
]


@pytest.mark.parametrize(("parts", "config", "model"), BAD)
def test_what_the_api_does_not_know_is_refused(
    sandbox: Sandbox, parts: tuple[dict[str, object], ...], config: dict[str, object], model: str
) -> None:
    """Nothing is charged."""
    answer = ask(sandbox, *parts, config=config, model=model)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert sandbox.bill()["total_nano_usd"] == 0


def test_a_request_may_have_twenty_megabytes(sandbox: Sandbox) -> None:
    """More is refused."""
    answer = ask(sandbox, {"text": "x" * (20 * 1024 * 1024)})
    assert (answer.status_code, "20971520" in answer.text) == (400, True)


def test_when_to_come_again_stands_in_the_details(sandbox: Sandbox) -> None:
    """No header says it."""
    sandbox.fault("rate_limit", provider="gemini", retry_after=30)
    answer = ask(sandbox)
    assert (answer.status_code, answer.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert answer.json()["error"]["details"][-1]["retryDelay"] == "30s"
    assert "retry-after" not in answer.headers

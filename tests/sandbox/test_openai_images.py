"""The OpenAI persona as the official SDK sees it."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import io
import json
from base64 import b64encode
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from openai import AsyncOpenAI, OpenAI

from gateway.sandbox.client import Sandbox
from tests.sandbox.conftest import decode, only_line, pictures, png


def post_edit(sandbox: Sandbox, body: object) -> tuple[int, dict[str, Any]]:
    """Post a JSON edit, which the SDK has no method for."""
    connection = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=10)
    headers = {"authorization": f"Bearer {sandbox.api_key}", "content-type": "application/json"}
    connection.request("POST", "/openai/v1/images/edits", json.dumps(body), headers)
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    connection.close()
    return response.status, answer


def test_one_image(sandbox: Sandbox, client: OpenAI) -> None:
    """A plain request gets a decodable image of its size, resolved fields, usage, and one line on the bill."""
    answer = client.images.generate(model="gpt-image-2", prompt="a lighthouse", size="1024x1024", quality="high")
    [image] = pictures(answer)
    assert (image.format, image.size) == ("PNG", (1024, 1024))
    assert (answer.size, answer.quality, answer.background, answer.output_format) == (
        "1024x1024", "high", "opaque", "png",
    )  # fmt: skip
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (3, 7024, 7027)
    assert answer.usage.output_tokens_details is not None
    assert answer.usage.output_tokens_details.image_tokens == 7024
    line = only_line(sandbox)
    assert line["nano_usd"] == 7024 * 30_000 + 3 * 5_000
    assert line["amount_usd"] == "0.210735"
    assert (line["operation"], line["n"], line["images"]) == ("generate", 1, 1)


def test_four_images_differ_and_bill_inputs_four_times(sandbox: Sandbox, client: OpenAI) -> None:
    """With n=4 there are four different pictures, and text and output are both charged four times."""
    answer = client.images.generate(model="gpt-image-2", prompt="a lighthouse", size="1536x1024", quality="low", n=4)
    assert len({image.b64_json for image in answer.data or []}) == 4
    assert answer.usage is not None
    assert answer.usage.output_tokens == 4 * 158
    assert answer.usage.input_tokens == 4 * 3
    assert only_line(sandbox)["nano_usd"] == 4 * (158 * 30_000 + 3 * 5_000)


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("size", ["1024x1024", "1536x864", "2160x3840"])
def test_formats_and_sizes(client: OpenAI, output_format: Literal["png", "jpeg", "webp"], size: str) -> None:
    """Each format decodes to exactly the size asked for."""
    answer = client.images.generate(model="gpt-image-2", prompt="a cat", size=size, output_format=output_format)
    [image] = pictures(answer)
    assert (image.format, f"{image.width}x{image.height}") == (output_format.upper(), size)


@pytest.mark.parametrize("output_format", ["png", "webp"])
def test_transparent_background_has_alpha(client: OpenAI, output_format: Literal["png", "webp"]) -> None:
    """A transparent picture has clear pixels and ink."""
    answer = client.images.generate(
        model="gpt-image-2.5-flare", prompt="a cat", background="transparent", output_format=output_format
    )
    [image] = pictures(answer)
    assert image.mode == "RGBA"
    assert image.getchannel("A").getextrema() == (0, 255)
    assert answer.background == "transparent"


def test_same_request_same_picture(client: OpenAI) -> None:
    """Pictures depend on nothing but the request."""
    first, again = (client.images.generate(model="gpt-image-2", prompt="fox", size="1024x1024") for _ in range(2))
    other = client.images.generate(model="gpt-image-2", prompt="wolf", size="1024x1024")
    assert first.data == again.data != other.data


def test_auto_is_resolved(sandbox: Sandbox, client: OpenAI) -> None:
    """Left-out and `auto` values come back as what was made, the size by the prompt."""
    sizes = set()
    for i in range(12):
        answer = client.images.generate(model="gpt-image-2", prompt=f"prompt {i}", quality="auto", size="auto")
        assert answer.quality == "high"
        assert f"{pictures(answer)[0].width}x{pictures(answer)[0].height}" == answer.size
        sizes.add(answer.size)
    assert sizes == {"1024x1024", "1024x1536", "1536x1024"}


def test_edit_with_one_image(sandbox: Sandbox, client: OpenAI) -> None:
    """An octet-stream upload is read by content; its patches are charged at the rate of image input."""
    upload = png(1024, 1024)
    answer = client.images.edit(
        model="gpt-image-2", prompt="make it blue", image=io.BytesIO(upload), size="1024x1024", quality="low"
    )
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 1024
    line = only_line(sandbox)
    assert line["operation"] == "edit"
    assert line["nano_usd"] == 196 * 30_000 + 1024 * 8_000 + 3 * 5_000
    [request] = sandbox.requests()
    assert request["files"] == [
        {
            "field": "image",
            "filename": "upload",
            "content_type": "application/octet-stream",
            "bytes": len(upload),
            "sha256": hashlib.sha256(upload).hexdigest(),
        }
    ]


def test_edit_with_several_images_and_mask(sandbox: Sandbox, client: OpenAI) -> None:
    """Images are summed, the mask is free, and n=2 charges the inputs twice."""
    answer = client.images.edit(
        model="gpt-image-2",
        prompt="join",
        image=[("a.png", png(1024, 1024), "image/png"), ("b.png", png(512, 512), "image/png")],
        mask=("m.png", png(1024, 1024, alpha=True), "image/png"),
        n=2,
        size="1024x1024",
        quality="low",
    )
    assert len(pictures(answer)) == 2
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 2 * (1024 + 1024)
    assert [file["field"] for file in sandbox.requests()[0]["files"]] == ["image", "image", "mask"]
    assert sandbox.requests()[0]["fields"]["n"] == 2


def test_edit_in_json(sandbox: Sandbox) -> None:
    """Data URLs are decoded and not shown; https URLs and file ids are taken as 1024x1024, unfetched."""
    data_url = "data:image/png;base64," + b64encode(png(512, 256)).decode()
    references = [{"image_url": data_url}, {"image_url": "https://example.invalid/a.png"}, {"file_id": "file-1"}]
    body = {"model": "gpt-image-2", "prompt": "join", "images": references, "size": "1024x1024"}
    status, answer = post_edit(sandbox, body)
    assert status == 200
    assert answer["usage"]["input_tokens_details"]["image_tokens"] == 512 + 1024 + 1024
    assert decode(answer["data"][0]["b64_json"]).size == (1024, 1024)
    shown = sandbox.requests()[0]["fields"]["images"]
    assert shown[0]["image_url"].startswith("data:image/png;base64,(")
    assert shown[1:] == references[1:]


@pytest.mark.parametrize(
    ("images", "param"),
    [
        ([], "images"),
        ("x", "images"),
        ([1], "images[0]"),
        ([{"image_url": "ftp://x"}], "images[0]"),
        ([{"image_url": "data:image/png;base64,!"}], "images[0]"),
        ([{"image_url": "https://x", "file_id": "y"}], "images[0]"),
        ([{"file_id": f"file-{i}"} for i in range(17)], "images"),
    ],
)
def test_bad_references_are_refused(sandbox: Sandbox, images: object, param: str) -> None:
    """Each malformed `images` is a 400 that names where it is wrong, and is not charged."""
    status, answer = post_edit(sandbox, {"model": "gpt-image-2", "prompt": "join", "images": images})
    assert (status, answer["error"]["param"]) == (400, param)
    assert sandbox.bill()["lines"] == []


def test_stream_with_partials(sandbox: Sandbox, client: OpenAI) -> None:
    """Partial images come first, each costs 100 tokens, and `completed` carries the usage."""
    with client.images.generate(
        model="gpt-image-2", prompt="a cat", size="1024x1024", quality="low", stream=True, partial_images=2
    ) as stream:
        events = list(stream)
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert all(decode(event.b64_json).size == (1024, 1024) for event in events)
    last = events[-1]
    assert last.type == "image_generation.completed"
    assert last.usage.output_tokens == 196 + 200
    assert only_line(sandbox)["nano_usd"] == 396 * 30_000 + 2 * 5_000


def test_edit_stream_of_two_images(sandbox: Sandbox, client: OpenAI) -> None:
    """Edits use their own event names; with n=2 the usages of both `completed` events add up to the bill."""
    with client.images.edit(
        model="gpt-image-2.5-flare", prompt="a cat", image=png(64, 64), n=2, stream=True, partial_images=1
    ) as stream:
        events = list(stream)
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"] * 2
    usages = [event.usage.total_tokens for event in events if event.type == "image_edit.completed"]
    assert sum(usages) == only_line(sandbox)["usage"]["total_tokens"]


async def test_async_client(sandbox: Sandbox, async_client: AsyncOpenAI) -> None:
    """Requests at once are all served, and the bill is the sum of their usage."""
    answers = await asyncio.gather(
        *(async_client.images.generate(model="gpt-image-2", prompt=f"cat {i}", quality="low") for i in range(20))
    )
    usages = [answer.usage for answer in answers if answer.usage]
    amount = sum(usage.output_tokens * 30_000 + usage.input_tokens * 5_000 for usage in usages)
    bill = await asyncio.to_thread(sandbox.bill)
    assert bill["total_nano_usd"] == amount
    assert len(bill["lines"]) == 20


async def test_async_stream(async_client: AsyncOpenAI) -> None:
    """The async client reads a stream to its end."""
    stream = await async_client.images.generate(model="gpt-image-2", prompt="cat", stream=True)
    assert [event.type async for event in stream] == ["image_generation.completed"]


def test_models(client: OpenAI) -> None:
    """The list has live models with their shutdown dates and no retired ones."""
    models = {model.id: model for model in client.models.list()}
    assert models["gpt-image-1.5"].to_dict()["shutdown_date"] == "2026-12-01"
    assert models["gpt-image-2"].to_dict()["shutdown_date"] is None
    assert "gpt-image-1" not in models
    assert client.models.retrieve("gpt-image-2").id == "gpt-image-2"


def test_headers(sandbox: Sandbox, client: OpenAI) -> None:
    """Every answer carries the provider's headers, a cookie among them, and its id is the bill's."""
    raw = client.images.with_raw_response.generate(model="gpt-image-2", prompt="cat", n=3)
    assert raw.headers["x-request-id"] == only_line(sandbox)["request"]
    for name in ("openai-processing-ms", "openai-version", "openai-organization", "set-cookie"):
        assert raw.headers[name]
    for kind in ("requests", "tokens", "input-images"):
        assert int(raw.headers[f"x-ratelimit-remaining-{kind}"]) <= int(raw.headers[f"x-ratelimit-limit-{kind}"])
        assert raw.headers[f"x-ratelimit-reset-{kind}"].endswith("s")


def test_keys_are_masked_in_the_request_list(sandbox: Sandbox, client: OpenAI) -> None:
    """What arrived is listed with the key's last four characters only."""
    client.images.generate(model="gpt-image-2", prompt="cat")
    [request] = sandbox.requests()
    assert ["authorization", "Bearer ***dbox"] in request["headers"]
    assert sandbox.api_key not in json.dumps(request)
    assert (request["method"], request["path"], request["status"]) == ("POST", "/openai/v1/images/generations", 200)
    assert request["client_stayed"] is True

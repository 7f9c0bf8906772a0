"""Bodies as the real OpenAI SDK and other clients send them, over a real socket."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from gateway.domain.errors import BudgetExceeded, GatewayError, InvalidApiKey, RateLimited
from tests.web.forms import Item, read_form, write_form
from tests.web.recording import RecordingGateway, Seen

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2000
OCTETS = "application/octet-stream"


def parts(seen: Seen) -> list[Item]:
    """The form that was sent on."""
    return read_form(seen.content_type, seen.rendered)


def client_of(port: int) -> openai.AsyncOpenAI:
    """An SDK client of the gateway."""
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="igw_x", max_retries=0)


async def test_generate(port: int, gateway: RecordingGateway) -> None:
    """The JSON that the SDK sends arrives as fields, and is sent on as it came."""
    async with client_of(port) as client:
        images = await client.images.generate(prompt="Bär 🐻", model="job:hero", n=4, size="1024x1024")

    assert images.data
    assert images.data[0].b64_json == "aGk="
    (seen,) = gateway.seen
    assert seen.fields == {"prompt": "Bär 🐻", "model": "job:hero", "n": 4, "size": "1024x1024"}
    assert json.loads(seen.rendered) == seen.fields
    assert (seen.encoding, seen.images, seen.mask) == ("json", 0, False)


EDITS: dict[str, tuple[Any, list[Item]]] = {
    "bytes": (PNG, [Item("image", PNG, "upload", OCTETS)]),
    "a stream": (io.BytesIO(PNG), [Item("image", PNG, "upload", OCTETS)]),
    "a named file": (("Bär.png", PNG, "image/png"), [Item("image", PNG, "Bär.png", "image/png")]),
    "a list of one": ([PNG], [Item("image[]", PNG, "upload", OCTETS)]),
    "a list of three": ([PNG, b"2", PNG], [Item("image[]", data, "upload", OCTETS) for data in (PNG, b"2", PNG)]),
}


@pytest.mark.parametrize("case", EDITS)
async def test_edit(case: str, port: int, gateway: RecordingGateway) -> None:
    """Every form of images that the SDK takes is counted and sent on, byte for byte, with fields changed."""
    image, expected = EDITS[case]
    gateway.changes = {"model": "vendor-model"}
    async with client_of(port) as client:
        await client.images.edit(
            image=image, prompt="x", model="job:edit", mask=("m.png", b"m", "image/png"), stream=True
        )

    (seen,) = gateway.seen
    assert (seen.images, seen.mask, seen.fields["stream"], seen.fields["model"]) == (
        len(expected),
        True,
        "true",
        "job:edit",
    )
    sent = parts(seen)
    assert [item for item in sent if item.name.startswith("image")] == expected
    assert Item("mask", b"m", "m.png", "image/png") in sent
    assert Item("model", b"vendor-model") in sent
    assert len(sent) == len(expected) + 4


async def test_the_sync_client(port: int, gateway: RecordingGateway) -> None:
    """The synchronous SDK client works the same."""

    def call() -> None:
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="igw_x") as client:
            client.images.generate(prompt="x", model="m")
            client.images.edit(image=[io.BytesIO(PNG), PNG], prompt="x", model="m")

    await asyncio.to_thread(call)

    assert [seen.images for seen in gateway.seen] == [0, 2]


async def test_files_before_fields_without_a_length(port: int, gateway: RecordingGateway) -> None:
    """Files first, `n` and `quality` after them, chunked and without a Content-Length, as other clients send it."""
    items = [Item("image", PNG, "blob"), Item("image", PNG, "blob"), Item("n", b"2"), Item("quality", b"low")]

    async def chunks() -> AsyncIterator[bytes]:
        form = write_form(items)
        for start in range(0, len(form), 100_001):
            yield form[start : start + 100_001]

    async with httpx.AsyncClient() as client:
        headers = {"content-type": 'Multipart/Form-Data; boundary="b0undary"'}
        url = f"http://127.0.0.1:{port}/v1/images/edits"
        assert (await client.post(url, content=chunks(), headers=headers)).status_code == 200

    (seen,) = gateway.seen
    assert (seen.images, seen.fields) == (2, {"n": "2", "quality": "low"})
    assert parts(seen) == items


async def test_edits_in_json_carry_megabytes_of_data_urls(port: int, gateway: RecordingGateway) -> None:
    """Data URLs beyond what is kept in memory come out whole, with other fields changed."""
    url = "data:image/png;base64," + "QUJD" * 750_000
    body = {"images": [{"image_url": url}, {"file_id": "f"}], "mask": {"image_url": url}, "prompt": "x", "model": "a"}
    gateway.changes = {"model": "b"}
    async with client_of(port) as client:
        await client.post("/images/edits", body=body, cast_to=object)

    (seen,) = gateway.seen
    assert (seen.encoding, seen.images, seen.mask) == ("json", 2, True)
    assert json.loads(seen.rendered) == {**body, "model": "b"}


ERRORS: list[tuple[GatewayError, type[openai.APIStatusError]]] = [
    (InvalidApiKey("No such key."), openai.AuthenticationError),
    (BudgetExceeded("Spent."), openai.APIStatusError),
    (RateLimited("Wait.", retry_after=1), openai.RateLimitError),
]


async def test_the_sdk_understands_errors(port: int, gateway: RecordingGateway) -> None:
    """Class, code, type and request id of an error are what the SDK's users branch on."""
    async with client_of(port) as client:
        for error, expected in ERRORS:
            gateway.refuse = error
            with pytest.raises(expected) as caught:
                await client.images.generate(prompt="x", model="m")
            assert (caught.value.code, caught.value.type) == (error.code, error.type)
            assert caught.value.request_id
            assert caught.value.request_id.startswith("req_")
        gateway.refuse = None
        with pytest.raises(openai.APIStatusError) as caught:
            await client.images.edit(image=[PNG] * 17, prompt="x", model="m")
        assert (caught.value.status_code, caught.value.param) == (400, "image")

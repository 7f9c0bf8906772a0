"""What a line of a batch says where a profile has other words, and what becomes of files that have served."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.assets.blobs import BlobsOnDisk
from gateway.domain.profile import Auth, ImageForm, Parameter, Profile, Source
from gateway.domain.settlement import Outcome
from gateway.ports import Inputs, Rendered
from gateway.ports.provider import Call, ProviderServices, UpstreamFailure
from gateway.providers.batch_lines import LineFile, line_body
from gateway.providers.batch_wire import BatchWire
from tests.providers import calls
from tests.providers.raw_server import Connection, serving
from tests.providers.test_upstream_json import PNG, asking, uploaded

IMAGE = "data:image/png;base64," + base64.b64encode(PNG).decode()


async def line(call: Call, profile: Profile) -> Any:
    """The JSON of a line."""
    body = await line_body(call, ProviderServices(), profile)
    text = b"".join([chunk async for chunk in body.chunks()])
    await body.aclose()
    assert len(text) == body.length
    return json.loads(text)


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        (Profile(), {"prompt": "a cat", "user": "u", "seed": 7, "model": "upstream-name"}),
        (Profile(drop=("user",)), {"prompt": "a cat", "seed": 7, "model": "upstream-name"}),
        (
            Profile(rename={"seed": "noise"}, send_model=False),
            {"prompt": "a cat", "user": "u", "noise": 7, "model": "upstream-name"},
        ),
        (
            Profile(parameters=(Parameter("text", Source.PROMPT), Parameter("kind", Source.CONSTANT, constant=1))),
            {"text": "a cat", "kind": 1},
        ),
    ],
)
async def test_a_line_says_what_a_plain_call_would(profile: Profile, told: Mapping[str, object]) -> None:
    """Fields are dropped, renamed and described as the profile has it; the model stays, for a line has no path."""
    call = asking({"prompt": "a cat", "user": "u", "seed": 7})

    assert await line(call, profile) == told


async def test_a_form_becomes_json_in_the_profiles_words() -> None:
    """Texts of a form are dropped, renamed and typed, and its images stand under the profile's name for them."""
    profile = Profile(drop=("user",), rename={"n": "count", "images": "inputs"})
    fields = {"prompt": "a cat", "user": "u", "n": "2"}
    call = asking(fields, Inputs((uploaded(),)), form=True)

    assert await line(call, profile) == {
        "prompt": "a cat",
        "model": "upstream-name",
        "count": 2,
        "inputs": [{"image_url": IMAGE}],
    }


async def test_a_drawing_over_an_uploaded_image_is_not_left_out() -> None:
    """What no line can say is refused unsent: the picture without it is not the one that was asked for."""
    call = asking({"prompt": "a cat"}, Inputs((uploaded(),), markup=uploaded()), form=True)

    with pytest.raises(UpstreamFailure, match="markup") as caught:
        await line_body(call, ProviderServices(), Profile())
    assert caught.value.outcome is Outcome.NOT_SENT


async def test_images_in_json_go_by_the_profiles_name_and_form() -> None:
    """An edit in JSON is written anew where its images have another name, or parameters describe it."""
    call = asking({"prompt": "a cat", "images": [{"image_url": IMAGE}]}, Inputs((uploaded(),)))
    images = Parameter("image", Source.IMAGE, form=ImageForm.BASE64)

    assert await line(call, Profile(rename={"images": "inputs"})) == {
        "prompt": "a cat",
        "model": "upstream-name",
        "inputs": [{"image_url": IMAGE}],
    }
    assert await line(call, Profile(parameters=(images,))) == {"image": base64.b64encode(PNG).decode()}


async def test_what_the_provider_would_misread_is_in_no_line() -> None:
    """A field or a text of the prompt that a plain call refuses is refused for a line too, unsent."""
    profile = Profile(refuse={"seed": "it is ignored"}, prompt_refuses={"<lora": "it would be carried out"})
    for fields in ({"prompt": "a cat", "seed": 7}, {"prompt": "a <LoRA:x> cat"}):
        with pytest.raises(UpstreamFailure, match=r"ignored|carried out"):
            await line_body(asking(fields), ProviderServices(), profile)


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "500 Internal Server Error"])
async def test_files_are_deleted_and_nothing_fails_by_it(status: str) -> None:
    """A file that has served is deleted in the background, and it is no matter whether the provider agrees."""
    asked = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        asked.set()
        await connection.answer(b'{"id":"file-1","deleted":true}', status=status)

    async with serving(script) as server:
        wire = BatchWire(calls.config(server.url))
        wire.forget(None)
        wire.forget("file-1")
        await asyncio.wait_for(asked.wait(), 60)
        await wire.aclose()
        lines = [request.line for request in server.requests]

    assert lines == ["DELETE /v1/files/file-1 HTTP/1.1"]


@pytest.mark.parametrize(
    ("generations", "path"),
    [
        ("/images/generations", "/v1/batches/batch_1"),
        ("/openai/v1/images/generations", "/v1/openai/v1/batches/batch_1"),
        ("/openai/deployments/{deployment}/images/generations", "/v1/openai/batches/batch_1?api-version=2025"),
    ],
)
async def test_batches_are_asked_for_where_the_account_has_them(generations: str, path: str) -> None:
    """Files and batches lie beside the images, those of deployments above them, with the account's own header."""
    profile = Profile(auth=Auth("api-key", ""), generations=generations)
    profile = replace(profile, query={"api-version": "2025"}) if "deployment" in generations else profile

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b'{"id":"batch_1","status":"completed","input_file_id":"file-1"}')

    async with serving(script) as server:
        wire = BatchWire(calls.config(server.url, profile=profile))
        seen = await wire.look("batch_1")
        await wire.aclose()
        [request] = server.requests

    assert request.line == f"GET {path} HTTP/1.1"
    assert request.header("api-key") == calls.SECRET
    assert (seen.over, seen.source) == (True, "file-1")


async def test_a_line_whose_images_the_storage_lost_was_not_sent(tmp_path: Path) -> None:
    """It is left out of the file, which takes others as before, and costs nothing."""
    blobs, file = BlobsOnDisk(tmp_path), LineFile("/v1/images/edits", 10, 10_000)

    async def content() -> AsyncIterator[bytes]:
        yield b'{"prompt": "a cat"}'

    await blobs.put("images/one", content())
    blob = await blobs.get("images/one")
    assert blob is not None
    body = Rendered("application/json", blob.length, lambda: blob.chunks(0, blob.length))
    (tmp_path / "images" / "one").write_bytes(b'{"prompt"')
    with pytest.raises(UpstreamFailure) as caught:
        await file.add("req_1", body)
    assert (caught.value.outcome, file.lines) == (Outcome.NOT_SENT, 0)
    await file.add("req_2", Rendered("application/json", 19, content))
    [kept] = b"".join([chunk async for chunk in file.chunks()]).splitlines()
    assert json.loads(kept)["custom_id"] == "req_2"
    await file.aclose()

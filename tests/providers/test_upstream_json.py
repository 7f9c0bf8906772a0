"""Bodies that parameters describe, as JSON and as a form, read back by the parsers of others."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from email import message_from_bytes
from typing import Any

import pytest

from gateway.domain.job import Operation
from gateway.domain.profile import ImageForm, Parameter, Source
from gateway.domain.settlement import Outcome
from gateway.ports import InputImage, Inputs, Rendered
from gateway.ports.provider import Call, ProviderServices, UpstreamFailure
from gateway.providers.unsupported import UNSUPPORTED
from gateway.providers.upstream_form import form_of_fields, upstream_form
from gateway.providers.upstream_json import upstream_json
from gateway.web.json_body import read_json
from gateway.web.limits import BodyLimits
from tests import builders
from tests.providers.calls import MemoryBody
from tests.providers.pages import Pages

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
URL = "https://images.example.com/cat.png"
IMAGES = Parameter("images", Source.IMAGES)


def uploaded(data: bytes = PNG, piece: int = 1000) -> InputImage:
    """An image kept here, read in pieces that no group of base64 fits."""

    async def content() -> AsyncIterator[bytes]:
        for at in range(0, len(data), piece):
            yield data[at : at + piece]

    return InputImage(content=content, length=len(data), media_type="image/png")


def asking(
    fields: Mapping[str, object] | None = None,
    given: Inputs | None = None,
    *,
    form: bool = False,
    changes: Mapping[str, str | int | None] | None = None,
    **job: Any,
) -> Call:
    """A call with these fields, images and job."""
    body = MemoryBody(fields or {"prompt": "a cat"}, encoding="multipart" if form else "json", given=given)
    body.mask = given is not None and given.mask is not None
    return Call(
        request_id="req_1",
        route=builders.route("acme/gpt-image-2", upstream_model="upstream-name"),
        job=builders.job(**{"operation": Operation.EDIT if given else Operation.GENERATE, **job}),
        body=body,
        changes=changes or {},
    )


async def sent(rendered: Rendered) -> bytes:
    """What would go out, twice the same and as long as announced."""
    whole = b"".join([chunk async for chunk in rendered.chunks()])
    assert (
        b"".join([chunk async for chunk in rendered.chunks()]) == whole or b"boundary" in rendered.content_type.encode()
    )
    assert len(whole) == rendered.length
    await rendered.aclose()
    return whole


async def as_json(call: Call, *parameters: Parameter, services: ProviderServices | None = None) -> Any:
    """The body as its reader parses it."""
    return json.loads(await sent(await upstream_json(call, parameters, services or ProviderServices())))


async def refusal(call: Call, *parameters: Parameter, services: ProviderServices | None = None) -> str:
    """Why nothing is sent."""
    with pytest.raises(UpstreamFailure) as caught:
        await upstream_json(call, parameters, services or ProviderServices())
    assert (caught.value.outcome, caught.value.reason) == (Outcome.NOT_SENT, UNSUPPORTED)
    return caught.value.message


async def test_a_markup_is_not_left_out_in_silence() -> None:
    """A provider that is told of a mask has no word for a markup: what it would make of the rest is not sent for."""
    call = asking(given=Inputs((uploaded(),), markup=uploaded()))
    parameters = (IMAGES, Parameter("mask", Source.MASK))
    assert "markup" in await refusal(call, *parameters)
    with pytest.raises(UpstreamFailure, match="markup"):
        await upstream_form(call, parameters, ProviderServices())


async def test_each_field_comes_from_where_its_parameter_says() -> None:
    """Job, policy's changes, the client's own fields and constants end up under the provider's names."""
    fields = {"prompt": "a cat", "seed": 7, "size": "1024x1024", "quality": "high", "secret_knob": 1}
    call = asking(fields, size="1024x1024", quality="high", n=3, user="u1", changes={"size": "1536x1024"})
    parameters = (
        Parameter("input.prompt", Source.PROMPT),
        Parameter("input.count", Source.N),
        Parameter("model", Source.MODEL),
        Parameter("image_size.width", Source.WIDTH),
        Parameter("image_size.height", Source.HEIGHT),
        Parameter("grade", Source.QUALITY, values={"high": "ultra"}),
        Parameter("seed", Source.FIELD, client_field="seed"),
        Parameter("steps", Source.FIELD, client_field="steps", constant=28),
        Parameter("absent", Source.FIELD, client_field="absent"),
        Parameter("who", Source.USER),
        Parameter("mode", Source.CONSTANT, constant={"fast": True}),
        Parameter("hook", Source.CALLBACK),
    )
    rendered = await upstream_json(call, parameters, ProviderServices(), callback="https://gw.example.com/h/1")
    assert json.loads(await sent(rendered)) == {
        "input": {"prompt": "a cat", "count": 3},
        "model": "upstream-name",
        "image_size": {"width": 1536, "height": 1024},
        "grade": "ultra",
        "seed": 7,
        "steps": 28,
        "who": "u1",
        "mode": {"fast": True},
        "hook": "https://gw.example.com/h/1",
    }


async def test_sizes_as_ratio_and_resolution() -> None:
    """A size in pixels becomes the nearest ratio and the first tier that holds it; `auto` is left out."""
    ratio = Parameter("aspect_ratio", Source.RATIO, among=("1:1", "16:9", "3:2", "2:3"))
    tiers = Parameter("resolution", Source.RESOLUTION, tiers=(("1k", 1_048_576), ("2k", 4_194_304)))
    for size, wanted in (
        ("1024x1024", ("1:1", "1k")),
        ("1792x1024", ("16:9", "2k")),
        ("1024x1040", ("1:1", "1k")),  # 3 % above a tier is still that tier
        ("1056x1040", ("1:1", "2k")),
        ("1248x832", ("3:2", "1k")),
        ("832x1248", ("2:3", "1k")),
        ("1264x848", ("3:2", "1k")),
    ):
        told = await as_json(asking(size=size), ratio, tiers)
        assert (told["aspect_ratio"], told["resolution"]) == wanted, size
    assert await as_json(asking(size="auto"), ratio, tiers) == {}
    assert "2k" in await refusal(asking(size="3840x2160"), tiers)
    for size in ("1088x1040", "1024x1280", "1440x480"):
        assert "none of the ratios" in await refusal(asking(size=size), ratio), size


async def test_words_without_a_counterpart_are_refused_where_the_list_is_closed() -> None:
    """A closed list refuses what it does not have; an open one passes it on; `auto` is no wish."""
    open_list = Parameter("quality", Source.QUALITY, values={"high": "hd"})
    closed = replace(open_list, closed=True)
    assert await as_json(asking(quality="low"), open_list) == {"quality": "low"}
    assert "low" in await refusal(asking(quality="low"), closed)
    assert await as_json(asking(quality="auto"), closed) == {}
    assert await as_json(asking(quality="auto"), replace(open_list, values={"auto": "standard"})) == {
        "quality": "standard"
    }


async def test_texts_of_a_form_become_what_they_mean() -> None:
    """A form knows only text: numbers and truth values of own fields are numbers again, all else stays text."""
    fields = {"prompt": "1", "seed": "7", "scale": "7.5", "fast": "true", "style": "a1", "deep": "[1]", "huge": "1e999"}
    parameters = [Parameter(name, Source.FIELD, client_field=name) for name in fields if name != "prompt"]
    told = await as_json(asking(fields, Inputs(), form=True), Parameter("prompt", Source.PROMPT), *parameters)
    assert told == {"prompt": "1", "seed": 7, "scale": 7.5, "fast": True, "style": "a1", "deep": "[1]", "huge": "1e999"}


async def test_images_are_streamed_into_the_body_in_the_form_asked_for() -> None:
    """Uploads as data URLs or base64, URLs as they are, each in its object; the bytes come out as they went in."""
    given = Inputs((uploaded(), InputImage(url=URL)), mask=uploaded(b"\xff\xd8\xffmask"))
    encoded = base64.b64encode(PNG).decode()
    wrapped = replace(IMAGES, wrap="image_url.url", beside={"type": "image_url"})
    first = Parameter("image", Source.IMAGE, form=ImageForm.BASE64)
    mask = Parameter("mask", Source.MASK, form=ImageForm.BASE64)
    told = await as_json(asking(given=given), wrapped, first, mask, replace(first, name="third", number=2))
    assert told == {
        "images": [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}},
            {"type": "image_url", "image_url": {"url": URL}},
        ],
        "image": encoded,
        "mask": base64.b64encode(b"\xff\xd8\xffmask").decode(),
    }


class Uploads:
    """Keeps images in memory."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    async def keep(self, content: AsyncIterator[bytes]) -> str:
        """Keep one."""
        self.kept.append(b"".join([chunk async for chunk in content]))
        return f"https://gw.example.com/u/{len(self.kept)}"


async def test_images_by_url_alone() -> None:
    """An upload gets a URL of the gateway's; without one the caller is told what would help."""
    by_url = replace(IMAGES, form=ImageForm.URL)
    call = asking(given=Inputs((InputImage(url=URL), uploaded())))
    assert "--public-url" in await refusal(call, by_url)
    uploads = Uploads()
    assert await as_json(replace(call, uploads=uploads), by_url) == {"images": [URL, "https://gw.example.com/u/1"]}
    assert uploads.kept == [PNG]
    assert "file ids" in await refusal(asking(given=Inputs((InputImage(file_id="file-1"),))), IMAGES)


async def test_what_came_by_url_is_fetched_where_bytes_are_needed() -> None:
    """Fetched images are told as base64; what cannot be fetched, or is no image, is refused in words."""
    services = ProviderServices(client_fetcher=Pages({URL: PNG, f"{URL}?gone": (404, b""), f"{URL}?page": b"<html>"}))
    base64_form = replace(IMAGES, form=ImageForm.BASE64)
    call = asking(given=Inputs((InputImage(url=URL),)))
    assert await as_json(call, base64_form, services=services) == {"images": [base64.b64encode(PNG).decode()]}
    for url, reason in ((f"{URL}?gone", "404"), (f"{URL}?page", "no image"), ("http://10.0.0.1/", "inside")):
        bad = asking(given=Inputs((InputImage(url=URL), InputImage(url=url))))
        assert reason in await refusal(bad, base64_form, services=services)
    assert "upload" in await refusal(call, base64_form)


def parts_of(rendered: Rendered, whole: bytes) -> list[tuple[str, str | None, str | None, bytes]]:
    """The parts of a form, by the standard library's reader of MIME: name, file name, type, content."""
    message = message_from_bytes(f"Content-Type: {rendered.content_type}\r\n\r\n".encode() + whole)
    found: list[tuple[str, str | None, str | None, bytes]] = []
    for part in list(message.walk())[1:]:
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        name = str(part.get_param("name", header="content-disposition"))
        found.append((name, part.get_filename(), part.get("Content-Type"), content))
    return found


async def test_a_form_out_of_parameters() -> None:
    """Images become uploads under the provider's names, those by URL too; a field may depend on the mask."""
    given = Inputs((uploaded(), InputImage(url=URL)), mask=uploaded(b"\xff\xd8\xffmask"))
    services = ProviderServices(client_fetcher=Pages({URL: PNG}))
    parameters = (
        Parameter("prompt", Source.PROMPT),
        Parameter("n", Source.N),
        Parameter("strength", Source.CONSTANT, constant=0.5, masked=False),
        Parameter("image[]", Source.IMAGES),
        Parameter("mask_image", Source.MASK),
    )
    rendered = await upstream_form(asking({"prompt": 'a "cat"\r\n'}, given, n=2), parameters, services)
    whole = await sent(rendered)
    assert parts_of(rendered, whole) == [
        ("prompt", None, None, b'a "cat"\r\n'),
        ("n", None, None, b"2"),
        ("image[]", "image-0.png", "image/png", PNG),
        ("image[]", "image-1.png", "image/png", PNG),
        ("mask_image", "image-2.png", "image/png", b"\xff\xd8\xffmask"),
    ]


async def test_a_form_out_of_the_clients_own_fields() -> None:
    """A JSON edit becomes the form that it would have been, with names of the provider's where they differ."""
    call = asking(given=Inputs((uploaded(),), mask=uploaded(), markup=uploaded()))
    fields = {"prompt": "a cat", "n": 2, "fast": True, "svg": {"model": "m"}, "gone": None}
    rendered = await form_of_fields(call, fields, {"mask": "mask_image"}, ProviderServices())
    whole = await sent(rendered)
    assert [(name, content) for name, _, _, content in parts_of(rendered, whole)] == [
        ("prompt", b"a cat"),
        ("n", b"2"),
        ("fast", b"true"),
        ("svg", b'{"model": "m"}'),
        ("image", PNG),
        ("mask_image", PNG),
        ("markup", PNG),
    ]


async def test_a_field_that_was_left_on_disk_is_not_sent_as_its_marker() -> None:
    """A text too long to be decoded has no place in another body; the caller is told which it was."""

    async def written() -> AsyncIterator[bytes]:
        yield json.dumps({"prompt": "a cat", "controls": {"picture": "x" * 2000}}).encode()

    body = await read_json(written(), BodyLimits(long_string=1000))
    call, controls = replace(asking(), body=body), Parameter("controls", Source.FIELD, client_field="controls")
    assert "controls is too long" in await refusal(call, controls)
    with pytest.raises(UpstreamFailure):
        await form_of_fields(call, body.fields, {}, ProviderServices())
    await body.aclose()

"""Input images out of a body, whichever way the client sent them."""

from __future__ import annotations

import base64
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import InvalidRequest
from gateway.ports import Body, InputImage
from gateway.web.json_body import read_json
from gateway.web.limits import MIB, BodyLimits
from gateway.web.multipart_body import read_multipart
from tests.web.forms import Item, write_form
from tests.web.recording import in_pieces

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(200))
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(50)
GIF = b"GIF89a" + bytes(40)
PHOTOS = [(PNG, "image/png"), (JPEG, "image/jpeg"), (WEBP, "image/webp"), (GIF, "image/gif")]
NONE = [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"\x89PN", b"hello"]
SMALL = BodyLimits(json_in_memory=64, long_string=200, files_in_memory=64)
"""Limits so small that short examples take the ways of long ones."""


def data_url(image: bytes, kind: str = "image/png") -> str:
    """An image as clients write it into JSON."""
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"


async def json_body(fields: dict[str, Any] | bytes, limits: BodyLimits = SMALL) -> Body:
    """A JSON body that arrives in one piece."""
    return await read_json(in_pieces(fields if isinstance(fields, bytes) else json.dumps(fields).encode()), limits)


async def form_body(*items: Item, limits: BodyLimits = SMALL) -> Body:
    """A form that arrives in one piece."""
    return await read_multipart(b"b0undary", in_pieces(write_form(list(items))), limits)


async def content(image: InputImage | None) -> bytes:
    """An image's bytes, the same each time they are read, and as many as it says."""
    assert image is not None
    assert image.content is not None
    assert (image.url, image.file_id) == (None, None)
    first, second = [b"".join([chunk async for chunk in image.content()]) for _ in range(2)]
    assert first == second
    assert len(first) == image.length
    return first


@pytest.mark.parametrize("limits", [SMALL, BodyLimits()], ids=["spooled", "inline"])
async def test_images_of_a_json_body(limits: BodyLimits) -> None:
    """Data URLs, links and file ids keep the client's order; types are those of the bytes."""
    named = [
        {"image_url": data_url(JPEG)},
        {"image_url": "https://example.com/a.png?x=1"},
        {"file_id": "file-1"},
        {"image_url": data_url(PNG, "text/plain")},
    ]
    body = await json_body({"prompt": "x", "images": named, "mask": {"image_url": data_url(GIF)}}, limits)
    inputs = await body.inputs()
    assert [await content(inputs.images[at]) for at in (0, 3)] == [JPEG, PNG]
    assert [inputs.images[at].media_type for at in (0, 3)] == ["image/jpeg", "image/png"]
    assert (inputs.images[1].url, inputs.images[2].file_id) == ("https://example.com/a.png?x=1", "file-1")
    assert (await content(inputs.mask), inputs.markup) == (GIF, None)
    assert len(inputs.images) == body.images
    await body.aclose()


async def test_image_urls_are_images_too() -> None:
    """The plain list of URLs gives the same, links and data URLs alike."""
    body = await json_body({"prompt": "x", "image_urls": ["http://example.com/1", data_url(WEBP)]})
    inputs = await body.inputs()
    assert inputs.images[0].url == "http://example.com/1"
    assert (await content(inputs.images[1]), inputs.images[1].media_type) == (WEBP, "image/webp")
    await body.aclose()


@pytest.mark.parametrize("limits", [SMALL, BodyLimits()], ids=["spooled", "inline"])
async def test_images_of_a_form(limits: BodyLimits) -> None:
    """Every spelling of the part, in order; a declared type counts for nothing."""
    body = await form_body(
        Item("prompt", b"x"),
        Item("image[]", PNG, "a.txt", "text/plain"),
        Item("mask", GIF, "m.png", "image/png"),
        Item("image", JPEG),
        Item("image[]", WEBP, "c.webp"),
        Item("markup", PNG, "k.png"),
        limits=limits,
    )
    inputs = await body.inputs()
    assert [await content(image) for image in inputs.images] == [PNG, JPEG, WEBP]
    assert [image.media_type for image in inputs.images] == ["image/png", "image/jpeg", "image/webp"]
    assert (await content(inputs.mask), await content(inputs.markup)) == (GIF, PNG)
    await body.aclose()


async def test_a_body_without_images_has_none() -> None:
    """There is nothing to be read."""
    for body in (await json_body({"prompt": "x"}), await form_body(Item("prompt", b"x"))):
        inputs = await body.inputs()
        assert (inputs.images, inputs.mask, inputs.markup) == ((), None, None)
        await body.aclose()


@given(
    photo=st.sampled_from(PHOTOS),
    tail=st.binary(max_size=600),
    how=st.sampled_from(["plain", "slashes", "codes", "lines", "unpadded", "upper case"]),
)
async def test_a_data_url_however_it_is_written(photo: tuple[bytes, str], tail: bytes, how: str) -> None:
    """Escaped slashes (PHP), code points, line breaks and missing padding are what encoders do."""
    image, kind = photo[0] + tail, photo[1]
    text = base64.b64encode(image).decode()
    head = "DATA:image/PNG;BASE64," if how == "upper case" else "data:image/png;charset=x;base64,"
    written = {
        "slashes": text.replace("/", "\\/"),
        "codes": text.replace("+", "\\u002B").replace("/", "\\u002f").replace("=", "\\u003d"),
        "lines": "\\r\\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
        "unpadded": text.rstrip("="),
    }.get(how, text)
    url = (head.replace("/", "\\/") if how == "slashes" else head) + written
    body = await json_body(f'{{"prompt": "x", "images": [{{"image_url": "{url}"}}]}}'.encode())
    [found] = (await body.inputs()).images
    assert (await content(found), found.media_type) == (image, kind)
    await body.aclose()


BAD_URLS = [
    "data:image/png;base64,!!!!",
    data_url(PNG) + "=A",
    data_url(PNG)[:-1] + "*",
    data_url(PNG[:9]) + "AAAA" * 100 + "=AAA",
    "data:image/png," + "A" * 300,
    "data:image/png;base64",
    "data:" + "x" * 300 + ";base64,AAAA",
    "ftp://example.com/a.png",
    "file:///etc/passwd",
    "https://",
    "https://example.com/a b",
    "http://example.com/\n",
    "https://example.com/" + "x" * 9000,
    "/v1/files/1",
    "",
    *(data_url(each) for each in NONE),
]


@pytest.mark.parametrize("limits", [SMALL, BodyLimits()], ids=["spooled", "inline"])
@pytest.mark.parametrize("url", BAD_URLS, ids=lambda url: repr(url[:30]))
async def test_a_url_that_names_no_image_is_refused(url: str, limits: BodyLimits) -> None:
    """The error names the field, and a data URL is judged to its end before anything is sent anywhere."""
    body = await json_body({"prompt": "x", "images": [{"file_id": "f"}, {"image_url": url}]}, limits)
    with pytest.raises(InvalidRequest) as caught:
        await body.inputs()
    assert caught.value.param == "images[1].image_url"
    assert "images[1].image_url" in caught.value.message
    await body.aclose()


async def test_a_broken_mask_names_the_mask() -> None:
    """Its field is the one at fault."""
    body = await json_body({"prompt": "x", "mask": {"image_url": data_url(b"%PDF-1.7")}})
    with pytest.raises(InvalidRequest, match="mask") as caught:
        await body.inputs()
    assert caught.value.param == "mask.image_url"
    await body.aclose()


async def test_a_markup_that_is_no_reference_is_refused() -> None:
    """An object of another shape names nothing."""
    body = await json_body({"prompt": "x", "markup": "https://example.com/a.png"})
    with pytest.raises(InvalidRequest) as caught:
        await body.inputs()
    assert caught.value.param == "markup"
    await body.aclose()


@pytest.mark.parametrize("junk", NONE, ids=repr)
async def test_an_upload_that_is_no_image_is_refused(junk: bytes) -> None:
    """Whatever its file name and its type say."""
    body = await form_body(Item("prompt", b"x"), Item("image[1]", junk, "cat.png", "image/png"))
    with pytest.raises(InvalidRequest) as caught:
        await body.inputs()
    assert caught.value.param == "image[1]"
    await body.aclose()


async def test_a_large_image_is_never_whole_in_memory() -> None:
    """An image of 12 MB, in base64 on disk, is checked and read in pieces."""
    image = PNG + bytes(12 * MIB)
    raw = json.dumps({"prompt": "x", "images": [{"image_url": data_url(image)}]}).encode()
    body = await read_json(in_pieces(*(raw[at : at + 65_536] for at in range(0, len(raw), 65_536))), BodyLimits())
    tracemalloc.start()
    try:
        [found] = (await body.inputs()).images
        assert found.content is not None
        length = sum([len(chunk) async for chunk in found.content()])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (length, found.media_type) == (len(image), "image/png")
    assert peak < 4 * MIB
    await body.aclose()

"""JSON bodies: strict on the way in, unchanged on the way out."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.errors import InvalidRequest, RequestTooLarge
from gateway.ports import Body
from gateway.steps.classify import MAX_PROMPT_CHARS
from gateway.web.form_fields import other_spelling
from gateway.web.json_body import read_json
from gateway.web.limits import BodyLimits
from tests.web.recording import in_pieces

SMALL = BodyLimits(json_in_memory=64, long_string=200)
"""Limits so small that short examples take the ways of long ones."""


async def read(raw: bytes, limits: BodyLimits = SMALL) -> Body:
    """Read a body that arrives in one piece."""
    return await read_json(in_pieces(raw), limits)


async def rendered(body: Body, changes: dict[str, str | int | None]) -> bytes:
    """The bytes that a body renders to, checked against the length it names."""
    made = body.render(changes)
    content = b"".join([chunk async for chunk in made.chunks()])
    assert (made.content_type, made.length) == ("application/json", len(content))
    return content


def cut(raw: bytes, seed: int) -> list[bytes]:
    """Cut bytes at random places."""
    chance = random.Random(seed)
    places = sorted(chance.randrange(len(raw) + 1) for _ in range(chance.randrange(8)))
    return [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "blank": (b" \n", "empty"),
    "not an object": (b"[1]", "not an object"),
    "a string": (b'"prompt"', "not an object"),
    "cut off in an object": (b'{"prompt": "x"', "where it ends"),
    "cut off in a string": (b'{"prompt": "x', "byte 11 has no end"),
    "cut off in a value": (b'{"prompt": ', "byte 11"),
    "something after it": (b'{"a": 1} {"b": 2}', "byte 9"),
    "trailing comma": (b'{"a": 1,}', "byte 8"),
    "single quotes": (b"{'a': 1}", "byte 1"),
    "no colon": (b'{"a" 1}', "colon is missing at byte 5"),
    "no comma": (b'{"a": 1 "b": 2}', "byte 8"),
    "comment": (b'{"a": 1 // one\n}', "byte 8"),
    "key twice": (b'{"n": 1, "n": 10}', "'n' occurs twice"),
    "key twice, escaped": (b'{"n": 1, "\\u006e": 10}', "'n' occurs twice"),
    "key twice below": (b'{"a": [{"n": 1, "n": 10}]}', "'n' occurs twice"),
    "NaN": (b'{"n": NaN}', "NaN"),
    "Infinity": (b'{"n": Infinity}', "Infinity"),
    "-Infinity": (b'{"a": [-Infinity]}', "-Infinity"),
    "1e999": (b'{"n": 1e999}', "too large"),
    "5,000 digits": (b'{"n": ' + b"9" * 5000 + b"}", "too large"),
    "byte order mark": (b'\xef\xbb\xbf{"a": 1}', "byte order mark"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "byte 0 is not UTF-8"),
    "UTF-16 without a mark": ('{"a": 1}'.encode("utf-16-le"), "byte 3 is a control"),
    "broken UTF-8": (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
    "UTF-8 surrogate": (b'{"a": "\xed\xa0\x80"}', "byte 7 is not UTF-8"),
    "ends in a character": (b'{"a": 1}\xc3', "inside a UTF-8 character"),
    "lone surrogate": (b'{"a": "\\ud800 and on it goes"}', "byte 7"),
    "lone surrogate at the end": (b'{"a": "\\ud800"}', "byte 7"),
    "low surrogate first": (b'{"a": "\\udc00\\ud800 and so on"}', "byte 7"),
    "bad escape": (b'{"a": "\\x41 and so on, and on"}', "byte 7"),
    "control character": (b'{"a": "x\ny"}', "byte 8 is a control character"),
    "NUL outside": (b'{"a": 1\x00}', "byte 7"),
    "too deep": (b'{"a": ' + b"[" * 5_000, "byte 69 nests too deeply"),
    "deeper than counted": (b'{"a": ' + b"[" * 100_000, "too "),
    "too many values": (b'{"a": [' + b"0," * 20_000 + b"0]}", "too many values"),
    "closed too often": (b'{"a": 1}]}', "byte 8 closes"),
    "a very long key": (b'{"' + b"k" * 400 + b'": 1}', "longer than any key"),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_json_is_refused_with_its_place_and_a_remedy(case: str) -> None:
    """Each kind of bad JSON is a 400 `invalid_json` that says what is wrong, however it is cut into pieces."""
    raw, said = BAD[case]
    for seed in range(5):
        with pytest.raises(InvalidRequest) as caught:
            await read_json(in_pieces(*cut(raw, seed)), SMALL)
        assert caught.value.code == "invalid_json"
        assert said in caught.value.message


async def test_places_after_a_spooled_string_are_those_of_the_body() -> None:
    """A position in an error message counts the bytes of strings that were never decoded."""
    raw = b'{"a": "' + b"x" * 1000 + b'", "b": tru}'

    with pytest.raises(InvalidRequest, match=f"byte {raw.index(b'tru')}"):
        await read(raw)


async def test_a_body_without_changes_is_the_clients_own_bytes() -> None:
    """Nothing is reformatted when nothing is changed: spaces, escapes, number forms and order stay."""
    raw = b' {"prompt" : "\\u00e9\\/",\t"n":1.0, "x": 1E2 }\n'
    body = await read(raw)

    assert await rendered(body, {}) == raw
    await body.aclose()


async def test_changes_replace_add_and_remove_and_leave_the_rest_as_written() -> None:
    """Fields that are not changed keep their bytes; the others are replaced where they stood, added or left out."""
    raw = b'{"model": "job:a", "prompt": "\\u00e9", "n":1.0, "size": null}'
    body = await read(raw)

    changed = await rendered(body, {"model": "vendor", "size": None, "user": None, "n": 2, "quality": "low"})

    assert changed == b'{"model":"vendor","prompt":"\\u00e9","n":2,"quality":"low"}'
    await body.aclose()


async def test_image_urls_are_rendered_as_images_of_an_edit() -> None:
    """EvoLink's list of URLs counts as images and becomes OpenAI's form, long data URLs included."""
    long = "data:image/png;base64," + "A" * 500
    raw = json.dumps({"prompt": "x", "image_urls": ["https://a/1.png", long], "images": None}).encode()
    body = await read(raw)

    assert body.images == 2
    for changes in ({}, {"model": "m"}):
        assert json.loads(await rendered(body, dict(changes))) == {
            "prompt": "x",
            "images": [{"image_url": "https://a/1.png"}, {"image_url": long}],
            **changes,
        }
    await body.aclose()


async def test_long_strings_are_opaque_in_fields_and_whole_in_the_rendered_body() -> None:
    """A data URL is never decoded, and comes out as it went in, twice."""
    url = "data:image/png;base64," + "A" * 100_000 + "\\u0041\\/é"
    raw = f'{{"images": [{{"image_url": "{url}"}}], "mask": {{"file_id": "f"}}, "prompt": "x"}}'.encode()
    body = await read(raw)

    assert (body.images, body.mask) == (1, True)
    assert len(str(body.fields["images"])) < 200
    expected = raw.replace(b'": ', b'":', 0)
    assert await rendered(body, {}) == expected
    for _ in range(2):
        changed = await rendered(body, {"prompt": "y"})
        assert json.loads(changed) == {**json.loads(raw), "prompt": "y"}
        assert url.encode() in changed
    await body.aclose()


@pytest.mark.parametrize("escaped", [True, False])
async def test_the_longest_prompt_is_read_however_it_is_written(*, escaped: bool) -> None:
    """32,000 characters beyond the first plane are 384,000 bytes where all are escaped; one far longer is told so."""
    prompt = "\U0001f600" * MAX_PROMPT_CHARS
    body = await read(json.dumps({"prompt": prompt}, ensure_ascii=escaped).encode(), BodyLimits())
    assert body.fields["prompt"] == prompt
    await body.aclose()

    with pytest.raises(InvalidRequest, match="At most 32000 characters") as caught:
        await read(json.dumps({"prompt": prompt * 4}).encode(), BodyLimits())
    assert (caught.value.param, caught.value.code) == ("prompt", "string_above_max_length")


async def test_images_of_some_hundred_kilobytes_are_none_of_the_text() -> None:
    """As many of them as there may be are left where they lie, as larger ones are."""
    images = [{"image_url": "data:image/png;base64," + "A" * 390_000}] * 16
    body = await read(json.dumps({"prompt": "x", "images": images}).encode(), BodyLimits())
    assert body.images == 16
    await body.aclose()


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({"images": {}}, "images"),
        ({"images": "x"}, "images"),
        ({"images": [{}]}, "images[0]"),
        ({"images": [{"image_url": "a"}, {"image_url": "a", "file_id": "b"}]}, "images[1]"),
        ({"images": [{"image_url": 1}]}, "images[0]"),
        ({"images": ["https://a"]}, "images[0]"),
        ({"image_urls": "https://a"}, "image_urls"),
        ({"image_urls": [""]}, "image_urls"),
        ({"image_urls": ["a"], "images": [{"file_id": "f"}]}, "image_urls"),
        ({"mask": "x"}, "mask"),
        ({"mask": {"image_url": "a", "file_id": "b"}}, "mask"),
        ({"prompt": "x" * 1000}, "prompt"),
        ({"n": 1, "N": 10}, "N"),
        ({"n[]": 10}, "n[]"),
        ({"\u017fize": "1024x1024"}, "\u017fize"),
        ({"Images": [{"file_id": "f"}]}, "Images"),
        ({"image": "https://a/1.png", "images": [{"file_id": "f"}]}, "image"),
        ({"image": ["https://a/1.png"] * 16}, "image"),
    ],
)
async def test_image_fields_of_another_shape_are_refused(raw: dict[str, Any], param: str) -> None:
    """Images, masks and URLs have one shape each; a field of plain text cannot hide in the spool."""
    with pytest.raises(InvalidRequest) as caught:
        await read(json.dumps(raw).encode())

    assert caught.value.param == param


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ({"images": 5}, "invalid_type"),
        ({"images": ["https://a"]}, "invalid_type"),
        ({"images": [{"image_url": 5}]}, "invalid_type"),
        ({"images": [{}]}, "invalid_value"),
        ({"image_urls": 5}, "invalid_type"),
        ({"image_urls": [5]}, "invalid_type"),
        ({"image_urls": [""]}, "invalid_value"),
        ({"mask": 5}, "invalid_type"),
        ({"mask": {}}, "invalid_value"),
    ],
)
async def test_a_wrong_type_is_told_from_a_wrong_value(raw: dict[str, Any], code: str) -> None:
    """As of all other fields."""
    with pytest.raises(InvalidRequest) as caught:
        await read(json.dumps(raw).encode())
    assert caught.value.code == code


async def test_text_beside_the_images_is_bounded() -> None:
    """Many strings that are each short are refused before they fill memory."""
    with pytest.raises(RequestTooLarge):
        await read(b'{"a": [' + b",".join([b'"' + b"x" * 150 + b'"'] * 100) + b"]}", BodyLimits(json_text=4096))


REFUSED = {"image", "images", "image_urls", "mask", "prompt", "model"}
NAMES = st.text(max_size=8).filter(lambda name: name not in REFUSED)
TEXTS = st.text(max_size=20) | st.text(alphabet='aé\\"\n😀', min_size=100, max_size=500)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        NAMES.filter(lambda name: name not in {"n", "user"} and not other_spelling(name)), VALUES, max_size=6
    ),
    st.booleans(),
    st.integers(),
)
def test_random_json_goes_through_unchanged(value: dict[str, Any], ascii_only: bool, seed: int) -> None:
    """Any object in any chunking renders byte for byte, and with changes to the same object but for them."""
    raw = json.dumps({**value, "n": 1}, ensure_ascii=ascii_only).encode()

    async def through() -> None:
        body = await read_json(in_pieces(*cut(raw, seed)), SMALL)
        assert await rendered(body, {}) == raw
        assert json.loads(await rendered(body, {"n": None, "user": "u"})) == {**value, "user": "u"}
        await body.aclose()

    asyncio.run(through())


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0d8c1eE+-. ntfalsru\n', max_size=60).map(str.encode),
    st.integers(),
)
def test_whatever_is_accepted_is_what_python_reads(raw: bytes, seed: int) -> None:
    """Garbage gives the documented error and nothing else; what is accepted means the same to another parser."""

    async def through() -> None:
        try:
            body = await read_json(in_pieces(*cut(raw, seed)), SMALL)
        except InvalidRequest:
            return
        assert dict(body.fields) == json.loads(raw)
        await body.aclose()

    asyncio.run(through())


async def test_nothing_stays_open_when_a_body_breaks_off() -> None:
    """A spooled body whose client hangs up leaves no temporary file (an unclosed one fails the suite)."""

    async def breaks_off() -> AsyncIterator[bytes]:
        yield b'{"a": "' + b"x" * 10_000
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await read_json(breaks_off(), SMALL)

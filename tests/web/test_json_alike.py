"""Short bodies that are alike: reading the second by the first finds what reading it by itself would find."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.errors import GatewayError
from gateway.ports import Body
from gateway.web.json_alike import AlikeBody
from gateway.web.json_body import JsonBody, read_json, read_short
from gateway.web.limits import BodyLimits
from tests.web.recording import in_pieces

LIMITS = BodyLimits()
FREE = b'{"prompt": "a red apple", "size": "1024x1024", "n": 1}'
CHANGES: tuple[dict[str, str | int | None], ...] = (
    {},
    {"model": "main", "n": 2, "async": None, "size": None},
    {"prompt": "another"},
    {"prompt": None},
)

Told = tuple[object, ...]


async def told(body: Body) -> Told:
    """All that a body says, and what it is rendered to."""
    made = [body.render(changes) for changes in CHANGES]
    content = [b"".join([chunk async for chunk in each.chunks()]) for each in made]
    assert [each.length for each in made] == [len(each) for each in content]
    inputs = await body.inputs()
    await body.aclose()
    return dict(body.fields), list(body.fields), body.images, body.mask, body.fingerprint, content, inputs


async def alone(data: bytes) -> Told:
    """What a body says that is read by itself, since blanks make it long; or the error."""
    try:
        body = await read_json(in_pieces(data + b" " * 10_000), LIMITS)
        assert isinstance(body, JsonBody)
        *facts, content, inputs = await told(body)
    except GatewayError as error:
        return error.code, error.message, error.param
    assert isinstance(content, list)
    return *facts, [each.rstrip() for each in content], inputs


async def known(data: bytes) -> Told:
    """What a body says as the gateway reads it; or the error."""
    try:
        *facts, content, inputs = await told(await read_json(in_pieces(data), LIMITS))
    except GatewayError as error:
        return error.code, error.message, error.param
    assert isinstance(content, list)
    return *facts, [each.rstrip() for each in content], inputs


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.sampled_from(["prompt", "x"]), st.text(max_size=5), max_size=2),
)
NAMES = st.one_of(st.sampled_from(["size", "n", "user", 'a"prompt', "prompt2", "images", "mask"]), st.text(max_size=8))


@settings(max_examples=300, deadline=None)
@given(
    before=st.dictionaries(NAMES, VALUES, max_size=3),
    prompts=st.lists(st.text(max_size=30), min_size=1, max_size=3),
    after=st.dictionaries(NAMES, VALUES, max_size=3),
    indent=st.sampled_from([None, 2]),
    plain=st.booleans(),
)
async def test_a_body_says_the_same_read_by_another(
    before: Mapping[str, object], prompts: list[str], after: Mapping[str, object], indent: int | None, plain: bool
) -> None:
    """Fields, images, what is rendered, and the words of a refusal do not depend on what was read before."""
    for prompt in [*prompts, *prompts]:
        content = {**before, "prompt": prompt, **after}
        data = json.dumps(content, indent=indent, ensure_ascii=plain).encode(errors="surrogatepass")
        assert await known(data) == await alone(data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a\\"prompt": "x", "prompt": "x"}',
        b'{"metadata": {"prompt": "x"}, "prompt": "x"}',
        b'{"prompt": "x", "metadata": {"prompt": "x"}}',
        b'{"user": "\\"prompt\\": \\"x\\"", "prompt": "x"}',
        b'{"prompt": "x", "prompt": "x"}',
        b'{"prompt": "x", "\\u0070rompt": "x"}',
        b'{"\\u0070rompt": "x"}',
        b'[{"prompt": "x"}]',
        b'{"prompt": "x"} {"prompt": "x"}',
        b'{"prompt": "x"',
        b'{"prompt": "x",}',
        b'{"prompt": x}',
        b'{"prompt": 1, "a": "prompt"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "\\ud83d\\ude00"}',
        b'{"prompt": "\xff"}',
        b'{"prompt": "a\nb"}',
        b'{"prompt": "\\x"}',
        b'{"prompt": ""}',
        b'{"n": 1e999, "prompt": "x"}',
        b'{"Prompt": "x", "prompt": "x"}',
        b'{"prompt": "x", "image": "y"}',
        b'{"prompt": "x", "image_urls": ["https://x/y.png"]}',
        b'{"prompt": "x", "images": [{"image_url": "https://x/y.png"}], "mask": {"file_id": "f"}}',
    ],
)
async def test_what_only_looks_like_a_prompt_is_none(data: bytes) -> None:
    """A prompt is the text of that one field at the top; all that is wrong is told as it ever was."""
    for letter in (b"x", b"xy", b"", b"x"):
        changed = data.replace(b'"x"', b'"' + letter + b'"')
        assert await known(changed) == await alone(changed)


@pytest.mark.parametrize(
    "prompt", [b"pear", b"", b"\xc3\xa9", b'\\"pear\\"', b'p", "n": 2, "user": "u', b'p"', b"a\nb", b"\xff", b"\\"]
)
@pytest.mark.parametrize("around", [FREE, b'{"n": 1, "prompt":"a red apple"}'])
async def test_a_body_is_read_by_the_one_before_it_on_its_connection(around: bytes, prompt: bytes) -> None:
    """It says what it says by itself, whatever its prompt is made of; one with other text around it is not read so."""
    first = read_short(around, LIMITS, fingerprint=False)
    assert isinstance(first, AlikeBody)
    like = first.alike
    data = around.replace(b"a red apple", prompt)
    try:
        *facts, content, inputs = await told(read_short(data, LIMITS, fingerprint=False, like=like))
        assert isinstance(content, list)
        found: Told = (*facts, [each.rstrip() for each in content], inputs)
    except GatewayError as error:
        found = error.code, error.message, error.param
    assert found == await alone(data)
    shared = around.replace(b'"a red apple"', b'"')  # one quote, that before the prompt and that after it
    others = (around[:-1], around + b" ", b" " + around, around[: around.index(b"apple")], shared, b"", b'"')
    assert [like.another(other, LIMITS, None) for other in others] == [None] * len(others)
    assert like.another(around, BodyLimits(), None) is None
    assert like.another(around, LIMITS, None) is not None


async def test_bodies_are_alike_that_differ_in_their_prompts_alone() -> None:
    """The same text around another prompt is alike; another value, or a blank elsewhere, is not."""

    async def likeness(old: bytes, new: bytes) -> object:
        body = await read_json(in_pieces(FREE.replace(old, new)), LIMITS)
        assert isinstance(body, AlikeBody)
        return body.likeness

    others = [(b"1}", b"3}"), (b"1}", b"1 }"), (b'{"p', b'{ "p')]
    await likeness(b"", b"")
    assert [await likeness(*each) for each in others] == [None] * 3  # nobody was like them yet
    same = {await likeness(b"apple", each) for each in (b"apple", b'\\"pear\\"', b"")}
    numbers = [same.pop(), *[await likeness(*each) for each in others]]
    assert not same
    assert len(set(numbers)) == 4
    assert None not in numbers


async def test_what_is_read_under_wide_limits_is_refused_under_narrow_ones() -> None:
    """What one endpoint accepts is not known to another that accepts less."""
    narrow = BodyLimits(json_values=2)
    for _ in range(2):
        assert isinstance(await read_json(in_pieces(FREE), LIMITS), AlikeBody)
        with pytest.raises(GatewayError, match="too many values"):
            await read_json(in_pieces(FREE), narrow)


async def test_changes_that_are_equal_but_written_otherwise_are_kept_apart() -> None:
    """1 and true are one key of a mapping, and two things in JSON; what is no plain value is written anew each time."""
    body = await read_json(in_pieces(FREE), LIMITS)

    async def rendered(value: object) -> object:
        made = body.render({"n": value})
        return json.loads(b"".join([chunk async for chunk in made.chunks()]))["n"]

    for value in (1, True, 1.0, 0, False, [1], [True], {"a": 1}, 1, True):
        found = await rendered(value)
        assert (type(found), found) == (type(value), value)


async def test_the_fingerprint_is_that_of_the_whole_body() -> None:
    """Bodies that are alike have fingerprints of their own; none is taken where none is asked for."""
    one = await read_json(in_pieces(FREE), LIMITS, fingerprint=True)
    other = await read_json(in_pieces(FREE.replace(b"apple", b"melon")), LIMITS, fingerprint=True)
    again = await read_json(in_pieces(FREE[:20], FREE[20:]), LIMITS, fingerprint=True)
    assert one.fingerprint == again.fingerprint
    assert one.fingerprint != other.fingerprint
    assert (await read_json(in_pieces(FREE), LIMITS)).fingerprint is None

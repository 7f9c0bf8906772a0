"""Forms: any order and any client's dialect on the way in, the same parts on the way out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.errors import InvalidRequest, RequestTooLarge
from gateway.web.limits import BodyLimits
from gateway.web.multipart_body import MultipartBody, read_multipart
from tests.web.forms import Item, read_form, write_form
from tests.web.recording import in_pieces

BOUNDARY = b"b0undary"
SMALL = BodyLimits(files_in_memory=64)


async def read(raw: bytes, limits: BodyLimits = SMALL, piece: int = 7) -> MultipartBody:
    """Read a form that arrives in small pieces."""
    pieces = (raw[start : start + piece] for start in range(0, len(raw), piece))
    return await read_multipart(BOUNDARY, in_pieces(*pieces), limits)


async def sent_on(body: MultipartBody, changes: dict[str, str | int | None]) -> list[Item]:
    """The parts of a rendered form, read by another reader, with the length checked."""
    made = body.render(changes)
    content = b"".join([chunk async for chunk in made.chunks()])
    assert made.length == len(content)
    assert BOUNDARY not in content.partition(b"\r\n")[0]
    return read_form(made.content_type, content)


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3


async def test_every_way_of_naming_images_is_understood_and_kept() -> None:
    """`image`, repeated `image`, `image[]`, `image[0]`, a mask and unknown files keep names, order and types."""
    items = [
        Item("image", PNG, "upload", "application/octet-stream"),
        Item("image", PNG + b"2", "blob"),
        Item("n", b"2"),
        Item("image[]", PNG + b"3", "a.png", "image/png"),
        Item("markup", b"\r\n--b0undar", "m.png", "image/png"),
        Item("image[0]", b"", "empty.png"),
        Item("mask", PNG + b"4", "mask.png", "image/png"),
        Item("prompt", "ein Bär\r\n--".encode(), None, "text/plain; charset=utf-8"),
        Item("svg[model]", b"a"),
        Item("svg[model]", b"b"),
    ]
    body = await read(write_form(items))

    assert (body.encoding, body.images, body.mask) == ("multipart", 4, True)
    assert body.fields == {"n": "2", "prompt": "ein Bär\r\n--", "svg[model]": "b"}
    assert await sent_on(body, {}) == items
    await body.aclose()


async def test_fields_are_replaced_in_place_added_at_the_end_and_left_out() -> None:
    """Changes touch text fields alone; a repeated field is replaced once."""
    items = [Item("model", b"job:a"), Item("image", PNG, "a.png"), Item("x", b"1"), Item("x", b"2"), Item("n", b"1")]
    body = await read(write_form(items))

    changed = await sent_on(body, {"model": "vendor", "x": "3", "n": None, "quality": "low", "size": None, "k": 4})

    image = Item("image", PNG, "a.png")
    assert changed == [Item("model", b"vendor"), image, Item("x", b"3"), Item("quality", b"low"), Item("k", b"4")]
    await body.aclose()


@pytest.mark.parametrize(
    "filename", ['qu"ote.png', "back\\slash.png", "../../etc/passwd", "Bär ü.png", "semi;colon.png", ""]
)
async def test_file_names_are_data(filename: str) -> None:
    """A file name is passed on as it was, whatever it holds, and never used."""
    items = [Item("image", PNG, filename, "image/png"), Item("prompt", b"x")]
    body = await read(write_form(items))

    assert await sent_on(body, {}) == items
    await body.aclose()


@pytest.mark.parametrize("piece", [1, 10, 5000])
async def test_what_stands_around_a_form_is_no_part_of_it(piece: int) -> None:
    """Text before the first boundary and behind the last means nothing, whatever else it looks like."""
    items = [Item("prompt", b"x"), Item("image", PNG, "a.png")]
    for before in (b"This is a form.\r\n", b"\r\n--b0\r\n--\r\n", b"\n", b"x" * 4000 + b"\r\n"):
        body = await read(before + write_form(items) + b"the end", piece=piece)
        assert await sent_on(body, {}) == items
        await body.aclose()


@pytest.mark.parametrize("piece", [100, 100_000])
async def test_a_file_name_may_be_as_long_as_a_parts_head_and_is_named_beyond_it(piece: int) -> None:
    """The error names the part and says what to shorten."""
    items = [Item("image", PNG, "日" * 2600 + ".png")]
    body = await read(write_form(items), piece=piece)
    assert await sent_on(body, {}) == items
    await body.aclose()

    for long in (3000, 30_000):
        with pytest.raises(InvalidRequest, match="8192 bytes of headers; shorten its file name") as caught:
            await read(write_form([Item("image[]", PNG, "日" * long)]), piece=piece)
        assert (caught.value.code, caught.value.param) == ("invalid_multipart", "image[]")


def part(head: bytes, content: bytes = b"x") -> bytes:
    """One part with a head of its own making, and the end of the form."""
    return b"--b0undary\r\n" + head + b"\r\n\r\n" + content + b"\r\n--b0undary--\r\n"


NAMED = b'Content-Disposition: form-data; name="x"'
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "closing boundary"),
    "no parts": (b"--b0undary--\r\n", "no parts"),
    "another boundary": (write_form([Item("n", b"1")], "other"), "boundary that its Content-Type names"),
    "another boundary of much": (write_form([Item("n", b"1" * 9000)], "other"), "boundary that its Content-Type names"),
    "json": (b'{"prompt": "x"}', "boundary that its Content-Type names"),
    "cut off in a head": (write_form([Item("n", b"1")])[:30], "closing boundary"),
    "cut off in content": (write_form([Item("image", PNG, "a")])[:200], "closing boundary"),
    "cut off in the last boundary": (write_form([Item("n", b"1")])[:-4], "closing boundary"),
    "no name": (part(b"Content-Disposition: form-data"), "with a name"),
    "no disposition": (part(b"Content-Type: text/plain"), "with a name"),
    "attachment": (part(b'Content-Disposition: attachment; name="x"'), "with a name"),
    "two dispositions": (part(NAMED + b"\r\n" + NAMED), "two content-disposition headers"),
    "base64": (part(NAMED + b"\r\nContent-Transfer-Encoding: base64"), "Content-Transfer-Encoding"),
    "control character": (part(NAMED + b'; filename="a\nb"'), "control character"),
    "name not UTF-8": (part(b'Content-Disposition: form-data; name="\xff"'), "not UTF-8"),
    "field not UTF-8": (part(NAMED, b"\xff"), "x is not UTF-8 text"),
    "unknown charset": (part(NAMED + b"\r\nContent-Type: text/plain; charset=utf-7"), "x is not UTF-8 text"),
    "large head": (part(NAMED + b"\r\nA: " + b"x" * 4100 + b"\r\nB: " + b"x" * 4100), "bytes of headers"),
    "very large head": (part(NAMED + b"\r\nA: " + b"x" * 1_000_000), "bytes of headers"),
    "many headers": (part(NAMED + b"".join(b"\r\nH%d: x" % n for n in range(100))), "multipart"),
    "many parts": (write_form([Item(f"x{n}", b"1") for n in range(65)]), "more than 64 parts"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_malformed_form_is_refused(case: str) -> None:
    """Each kind of malformed form is a 400 `invalid_multipart` that says what is wrong."""
    raw, said = BAD[case]
    for piece in (1 if len(raw) < 1000 else 999, len(raw) + 1):
        with pytest.raises(InvalidRequest, match=said) as caught:
            await read(raw, piece=piece)
        assert (caught.value.status, caught.value.code) == (400, "invalid_multipart")


@pytest.mark.parametrize("boundary", [b"", b"x" * 201])
async def test_a_boundary_is_needed(boundary: bytes) -> None:
    """A content type without a usable boundary is refused before anything is read."""
    with pytest.raises(InvalidRequest, match="boundary"):
        await read_multipart(boundary, in_pieces(), SMALL)


@pytest.mark.parametrize("name", ["prompt", "model", "n", "size", "quality", "stream", "mask"])
async def test_a_single_value_sent_twice_is_refused(name: str) -> None:
    """Where two readers could disagree on which one counts, neither is taken."""
    filename = "m.png" if name == "mask" else None
    with pytest.raises(InvalidRequest, match="twice") as caught:
        await read(write_form([Item(name, b"1", filename), Item("image", PNG, "a"), Item(name, b"10", filename)]))

    assert caught.value.param == name


@pytest.mark.parametrize("filename", ["a.png", None])
@pytest.mark.parametrize("name", ["images", "image_urls"])
async def test_what_names_images_in_json_is_refused_in_a_form(name: str, filename: str | None) -> None:
    """Some providers read it in forms too: images would go on that nobody has counted."""
    with pytest.raises(InvalidRequest, match="image parts") as caught:
        await read(write_form([Item("prompt", b"a cat"), Item("image", PNG, "a"), Item(name, PNG, filename)]))

    assert caught.value.param == name


@pytest.mark.parametrize(
    "name", ["n[]", "N", "Quality", "size[0]", "stream[]", "partial_images[]", "n ", "Image", "image[1000]", "mask[]"]
)
async def test_a_name_that_others_read_as_a_known_one_is_refused(name: str) -> None:
    """What a provider would take for a field that is priced is never sent on unread."""
    with pytest.raises(InvalidRequest, match="must be spelt") as caught:
        await read(write_form([Item("image", PNG, "a"), Item(name, b"10", "a" if "mage[" in name else None)]))

    assert caught.value.param == name


@pytest.mark.parametrize("filename", ["", "n.txt"])
async def test_a_single_value_is_not_a_file(filename: str) -> None:
    """Some readers take a part with an empty file name for a field."""
    with pytest.raises(InvalidRequest, match="not a file") as caught:
        await read(write_form([Item("image", PNG, "a"), Item("n", b"10", filename)]))

    assert caught.value.param == "n"


async def test_a_markup_counts_as_a_mask() -> None:
    """It is an image too, and is priced as one."""
    body = await read(write_form([Item("image", PNG, "a"), Item("markup", PNG, "m.png")]))

    assert (body.images, body.mask) == (1, True)
    await body.aclose()


async def test_sizes_and_counts_are_bounded() -> None:
    """A field, all fields, a file and the number of images each have a limit of their own."""
    limits = BodyLimits(field=100, fields=250, file=1000, images=2)
    with pytest.raises(RequestTooLarge) as caught:
        await read(write_form([Item("prompt", b"x" * 101)]), limits)
    assert caught.value.param == "prompt"
    with pytest.raises(RequestTooLarge):
        await read(write_form([Item(f"x{n}", b"x" * 90) for n in range(3)]), limits)
    with pytest.raises(RequestTooLarge) as caught:
        await read(write_form([Item("image", b"x" * 1001, "a")]), limits)
    assert caught.value.param == "image"
    with pytest.raises(InvalidRequest, match="At most 2 images"):
        await read(write_form([Item("image[]", b"x", "a")] * 3), limits)


async def test_latin_1_is_read_where_it_is_declared() -> None:
    """Clients that declare their charset are read in it, and their bytes passed on as they were."""
    items = [Item("prompt", "Bär".encode("latin-1"), None, "text/plain; charset=ISO-8859-1")]
    body = await read(write_form(items))

    assert body.fields == {"prompt": "Bär"}
    assert await sent_on(body, {}) == items
    await body.aclose()


NAMES = st.text(alphabet='ab"é; %=', min_size=1, max_size=6).filter(lambda name: name.strip() == name)
CONTENT = st.binary(max_size=300) | st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"b0undary", b"\r\n--b0undar", b"\r\n--b0undary-x", b"-"]),
    max_size=12,
).map(b"".join)
FILES = st.builds(
    Item,
    st.sampled_from(["image", "image[]", "other"]) | NAMES,
    CONTENT.filter(lambda content: b"\r\n--b0undary" not in b"\r\n" + content),
    st.text(alphabet='ab"\\é;.', max_size=8).filter(lambda name: not name.endswith("\\") and name[:2] != "\\\\"),
    st.sampled_from([None, "image/png", "application/octet-stream"]),
)
FIELDS = st.builds(Item, NAMES, st.text(max_size=30).map(str.encode), st.none(), st.none())


@settings(max_examples=200, deadline=None)
@given(st.lists(FILES | FIELDS, min_size=1, max_size=8), st.integers())
def test_random_forms_go_through_unchanged(items: list[Item], seed: int) -> None:
    """Any form in any chunking renders to the same parts: names, file names, types and every byte."""
    raw = write_form(items)
    chance = random.Random(seed)
    places = sorted(chance.randrange(len(raw) + 1) for _ in range(chance.randrange(12)))
    pieces = [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]

    async def through() -> None:
        body = await read_multipart(BOUNDARY, in_pieces(*pieces), SMALL)
        assert await sent_on(body, {}) == items
        await body.aclose()

    asyncio.run(through())


async def test_a_form_can_be_rendered_twice_and_not_after_it_was_freed() -> None:
    """A second route gets the same bytes; a late reader gets an error and never another request's bytes."""
    body = await read(write_form([Item("image", PNG * 100, "a")]))
    assert await sent_on(body, {}) == await sent_on(body, {})
    late = body.render({})
    await body.aclose()
    await body.aclose()

    with pytest.raises(ValueError, match="freed"):
        assert [chunk async for chunk in late.chunks()] == []


async def test_nothing_stays_open_when_a_form_breaks_off() -> None:
    """A spooled form whose client hangs up leaves no temporary file (an unclosed one fails the suite)."""

    async def breaks_off() -> AsyncIterator[bytes]:
        yield write_form([Item("image", PNG * 10, "a")])[:2000]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await read_multipart(BOUNDARY, breaks_off(), SMALL)

"""Fingerprints: the same for the same request however it arrives, another for any other, and none if nobody asks."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ports import Body
from gateway.web.body import FORM, JSON, read_body
from gateway.web.fingerprint import RawFingerprint
from gateway.web.json_body import read_json
from gateway.web.limits import BodyLimits
from gateway.web.multipart_body import read_multipart
from tests.web.forms import Item, write_form
from tests.web.raw import connection, post, read_reply
from tests.web.recording import RecordingGateway, in_pieces, serving_gateway

LIMITS = BodyLimits(json_in_memory=64, files_in_memory=64)
IMAGE = Item("image", b"\x89PNG" + bytes(range(256)), "a.png", "image/png")
FORM_ITEMS = [Item("prompt", b"a cat"), IMAGE, Item("n", b"1")]


def cut(raw: bytes, size: int) -> list[bytes]:
    """Cut bytes into pieces of this size."""
    return [raw[start : start + size] for start in range(0, len(raw), size)]


async def of_form(items: list[Item], boundary: str = "b0undary", piece: int = 10_000) -> str:
    """The fingerprint of a form."""
    raw = write_form(items, boundary)
    body = await read_multipart(boundary.encode(), in_pieces(*cut(raw, piece)), LIMITS, fingerprint=True)
    await body.aclose()
    assert body.fingerprint is not None
    return body.fingerprint


async def of_json(raw: bytes, piece: int = 10_000) -> str | None:
    """The fingerprint of a JSON body."""
    body = await read_json(in_pieces(*cut(raw, piece)), LIMITS, fingerprint=True)
    await body.aclose()
    return body.fingerprint


async def test_json_is_told_apart_by_its_bytes() -> None:
    """The digest is that of the bytes, in whatever pieces they come."""
    raw = b'{"prompt": "' + b"x" * 500 + b'", "n": 1}'
    assert {await of_json(raw, piece) for piece in (1, 7, 10_000)} == {hashlib.sha256(raw).hexdigest()}
    assert await of_json(raw + b"\n") != await of_json(raw)


def of_raw(raw: bytes, content_type: str, piece: int) -> str:
    """The fingerprint of a body that is only sent on."""
    prints = RawFingerprint(content_type)
    for each in cut(raw, piece):
        prints.update(each)
    return prints.hexdigest()


def test_a_form_that_is_only_sent_on_is_the_same_with_another_boundary() -> None:
    """In whatever pieces it comes; any other change is another form."""

    def of(items: list[Item], boundary: str, piece: int) -> str:
        return of_raw(write_form(items, boundary), f'Multipart/Form-Data; boundary="{boundary}"', piece)

    made = {of(FORM_ITEMS, boundary, piece) for boundary in ("b0undary", "another-1") for piece in (1, 7, 10_000)}
    assert len(made) == 1
    assert of([*FORM_ITEMS, Item("n", b"2")], "b0undary", 7) not in made


@pytest.mark.parametrize("content_type", ["application/json", "", "application/json; boundary=x"])
def test_other_bodies_that_are_only_sent_on_are_told_apart_by_their_bytes(content_type: str) -> None:
    """The digest is that of the bytes."""
    raw = b"x" * 500
    assert {of_raw(raw, content_type, piece) for piece in (1, 7, 1000)} == {hashlib.sha256(raw).hexdigest()}


async def test_a_form_is_the_same_with_another_boundary() -> None:
    """An SDK makes a new boundary for each of its retries; pieces and boundary leave no trace."""
    made = {
        await of_form(FORM_ITEMS, boundary, piece) for boundary in ("b0undary", "another-1") for piece in (1, 7, 10_000)
    }
    assert len(made) == 1


@pytest.mark.parametrize(
    "other",
    [
        [Item("prompt", b"a dog"), IMAGE, Item("n", b"1")],
        [Item("prompt", b"a cat"), IMAGE, Item("n", b"2")],
        [Item("prompt", b"a cat"), IMAGE, Item("k", b"1")],
        [Item("prompt", b"a cat"), IMAGE],
        [IMAGE, Item("prompt", b"a cat"), Item("n", b"1")],
        [Item("prompt", b"a cat"), IMAGE._replace(content=IMAGE.content + b"\0"), Item("n", b"1")],
        [Item("prompt", b"a cat"), IMAGE._replace(filename="b.png"), Item("n", b"1")],
        [Item("prompt", b"a cat"), IMAGE._replace(content_type="image/webp"), Item("n", b"1")],
        [Item("prompt", b"a cat"), IMAGE._replace(content_type=None), Item("n", b"1")],
        [Item("prompt", b"a cat"), IMAGE._replace(name="image[]"), Item("n", b"1")],
        [Item("prompt", b"a cat"), Item("n", b"1"), IMAGE],
        [Item("prompt", b"a catn"), IMAGE, Item("x", b"1")],
    ],
)
async def test_any_other_form_has_another_fingerprint(other: list[Item]) -> None:
    """Names, file names, types, contents and their order all count."""
    assert await of_form(other) != await of_form(FORM_ITEMS)


_ITEMS = st.lists(
    st.builds(
        lambda name, content, filename: Item(f"x{name}", content, filename),
        st.text("ab", max_size=3),
        st.text("ab\r\n-", max_size=6).map(str.encode),
        st.none() | st.text("ab", max_size=3),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(_ITEMS, _ITEMS)
async def test_no_two_forms_meet(one: list[Item], other: list[Item]) -> None:
    """However bytes are moved from a name to a content, or from one part to the next."""
    assert (await of_form(one) == await of_form(other)) is (one == other)


@pytest.mark.parametrize("kind", [JSON, FORM])
async def test_nobody_pays_for_one_that_is_not_asked_for(kind: str) -> None:
    """Without the flag there is none."""
    raw = b'{"prompt": "x"}' if kind == JSON else write_form(FORM_ITEMS)
    content_type = kind if kind == JSON else f"{kind}; boundary=b0undary"

    async def chunks() -> AsyncIterator[bytes]:
        yield raw

    async def read(*, fingerprint: bool) -> Body:
        headers = {"content-type": content_type}
        found = await read_body(headers, chunks(), accepted=[kind], limits=LIMITS, fingerprint=fingerprint)
        await found.aclose()
        return found

    assert (await read(fingerprint=False)).fingerprint is None
    assert len((await read(fingerprint=True)).fingerprint or "") == 64


@pytest.mark.parametrize("header", [b"", b"Idempotency-Key: a\r\n", b"X-Stainless-Retry-Count: 0\r\n"])
async def test_it_is_taken_where_a_request_may_be_repeated(header: bytes) -> None:
    """One of the two headers asks for it, whatever its value; a plain request has none."""
    gateway = RecordingGateway()
    async with serving_gateway(gateway) as port, connection(port) as (reader, writer):
        writer.write(post(extra=header))
        assert (await read_reply(reader)).status == 200
    assert (gateway.seen[0].fingerprint is not None) is bool(header)

"""What is picked out of an answer is right, whatever its form and however it is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.settlement import Reading, Usage
from gateway.providers.reading import MOST_KEPT, DocumentReader, EventReader, Reader

IMAGE = "iVBORw0KGgo" * 500
USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 12},
    "output_tokens": 196,
    "total_tokens": 208,
}
READ_USAGE = Usage(text_in=12, image_out=196)
FACTS = {"size": "1024x1024", "quality": "low", "output_format": "png", "background": "opaque"}


def document(images: int = 1, **changes: Any) -> bytes:
    """An answer in one piece."""
    return json.dumps(
        {"created": 1, **FACTS, "data": [{"b64_json": IMAGE}] * images, "usage": USAGE, **changes}
    ).encode()


def event(name: str, **changes: Any) -> bytes:
    """One event of a stream."""
    data = {"type": name, "b64_json": IMAGE, **FACTS, **changes}
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def read(reader: Reader, body: bytes, *, framed: bool = True, piece: int = 1000) -> Reading:
    """Read a body that ended properly."""
    for at in range(0, len(body), piece):
        reader.feed(body[at : at + piece])
    reader.end(framed=framed)
    return reader.reading()


WHOLE = Reading(usage=READ_USAGE, size="1024x1024", quality="low", output_format="png", images=1, complete=True)


@pytest.mark.parametrize("framed", [True, False])
def test_document(framed: bool) -> None:
    """A document says all; that it parses proves that it is whole."""
    assert read(DocumentReader(), document(), framed=framed) == WHOLE


@pytest.mark.parametrize(
    ("data", "images"),
    [
        ([], 0),
        (None, 0),
        ("x", 0),
        ([{"b64_json": ""}, {"b64_json": None}, {}, 3], 0),
        ([{"b64_json": "AAAA"}, {"url": "https://x/y.png"}], 2),
        ([{"b64_json": IMAGE}] * 10, 10),
    ],
)
def test_images_are_counted(data: object, images: int) -> None:
    """Only what carries an image or a link to one counts."""
    assert read(DocumentReader(), document(data=data)).images == images


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"data": [', b"\xff\xfe", b"null", b"[" * 60_000])
def test_a_document_that_is_none(body: bytes) -> None:
    """Garbage, half a document and deep nesting are never complete."""
    assert read(DocumentReader(), body) == Reading()


def test_a_document_with_an_error() -> None:
    """An error inside a 200 is seen, without images."""
    reading = read(DocumentReader(), b'{"error": {"message": "m", "type": "server_error", "code": null}}')
    assert (reading.error, reading.images, reading.usage) == ("server_error", 0, None)


@pytest.mark.parametrize("length", [2_000, 15_000, 17_000, 50_000])
def test_what_stands_in_an_image_is_no_matter(length: int) -> None:
    """A document is read although its image is no text at all, short or long."""
    body = document().replace(IMAGE.encode(), b"\xff\xfe" * (length // 2))
    reading = read(DocumentReader(), body)
    assert (reading.usage, reading.images, reading.complete) == (READ_USAGE, 1, True)


def test_nothing_is_known_before_the_end() -> None:
    """Half a document says nothing."""
    reader = DocumentReader()
    reader.feed(document()[:-1])
    assert reader.reading() == Reading()


def test_a_document_too_long_even_without_images() -> None:
    """The copy is bounded, and the reading says that it was given up."""
    reading = read(DocumentReader(), document(junk=["x"] * MOST_KEPT), piece=65_536)
    assert (reading.usage, reading.usage_problem, reading.complete) == (None, "unread", True)


def test_auto_says_nothing() -> None:
    """`auto` is no resolved value, and neither is what is no word."""
    reading = read(DocumentReader(), document(size="auto", quality=3, output_format="x" * 100))
    assert (reading.size, reading.quality, reading.output_format) == (None, None, None)


@pytest.mark.parametrize("kind", ["image_generation", "image_edit"])
@pytest.mark.parametrize("done", [b"", b"data: [DONE]\n\n"])
def test_events(kind: str, done: bytes) -> None:
    """A stream's usage and size come from its completed event; partial images are not images."""
    body = event(f"{kind}.partial_image", partial_image_index=0) + event(f"{kind}.completed", usage=USAGE) + done
    assert read(EventReader(), body) == WHOLE


@given(
    pieces=st.lists(st.integers(1, 3000), min_size=1, max_size=30),
    newline=st.sampled_from([b"\n", b"\r\n"]),
)
def test_events_cut_anywhere(pieces: list[int], newline: bytes) -> None:
    """How a stream is cut changes nothing, with either line end."""
    body = b": hello\n\n" + event("image_edit.partial_image") + event("image_edit.completed", usage=USAGE)
    body = body.replace(b"\n", newline)
    reader, at = EventReader(), 0
    while at < len(body):
        size = pieces[at % len(pieces)]
        reader.feed(body[at : at + size])
        at += size
    reader.end(framed=True)
    assert reader.reading() == WHOLE


def test_several_images_in_a_stream() -> None:
    """The usage of several completed events is summed; if one has none, there is no sum."""
    completed = event("image_generation.completed", usage=USAGE)
    both = read(EventReader(), completed * 2)
    assert (both.images, both.usage) == (2, Usage(text_in=24, image_out=392))
    for body in (completed + event("image_generation.completed"), event("image_generation.completed") + completed):
        half = read(EventReader(), body)
        assert (half.images, half.usage, half.usage_problem) == (2, None, "missing")


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (b'data: {"error": {"message": "m", "code": "moderation_blocked"}}\n\n', True),
        (b'event: error\ndata: {"message": "m", "code": "moderation_blocked"}\n\n', False),
        (b'data: {"type": "error", "code": "moderation_blocked"}\n\n', False),
    ],
)
@pytest.mark.parametrize("done", [b"", b"data: [DONE]\n\n"])
def test_an_error_in_a_stream(error: bytes, done: bytes, *, seen: bool) -> None:
    """An error ends a stream properly where SDKs see it, which is in one form; each keeps what came before it."""
    reading = read(EventReader(), event("image_generation.completed", usage=USAGE) + error + done)
    assert (reading.error, reading.images, reading.usage) == ("moderation_blocked", 1, READ_USAGE)
    assert reading.complete is read(EventReader(), error + done).complete is seen


@pytest.mark.parametrize("image", ["", None])
def test_a_completed_event_without_an_image(image: str | None) -> None:
    """It is none that SDKs could give to their users."""
    reading = read(EventReader(), event("image_generation.completed", b64_json=image, usage=USAGE))
    assert (reading.images, reading.complete) == (0, False)


@pytest.mark.parametrize(
    ("body", "framed", "complete"),
    [
        (event("image_generation.partial_image"), True, False),
        (event("image_generation.partial_image") + b"data: [DONE]\n\n", True, False),
        (b"data: [DONE]\n\n", True, False),
        (b"", True, False),
        (event("image_generation.completed"), True, True),
        (event("image_generation.completed"), False, False),
        (event("image_generation.completed") + b"data: [DONE]\n\n", False, True),
        (event("image_generation.completed") + b"data: [DONE] \t\n\n", False, True),
        (event("image_generation.completed").rstrip(b"\n"), True, True),
        (b"<html>hello</html>", True, False),
    ],
)
def test_when_a_stream_is_complete(body: bytes, framed: bool, complete: bool) -> None:
    """A stream that just ends after a partial image is not complete, though SDKs do not notice."""
    assert read(EventReader(), body, framed=framed).complete is complete


ONE, TWO = event("image_generation.completed"), event("image_generation.completed") * 2
ERROR = b'event: error\ndata: {"message": "m", "code": "c"}\n\n'


@pytest.mark.parametrize(
    ("body", "images", "complete"),
    [
        (ONE, 1, True),
        (event("image_generation.partial_image") + ONE + b": bye\n\n", 1, True),
        (ONE.replace(b"\n", b"\r\n"), 1, True),
        (TWO, 2, True),
        (ONE, 2, False),
        (TWO, 3, False),
        (ONE[:-1], 1, True),
        (ONE[:-2], 1, True),
        (TWO[:-1], 2, True),
        (TWO[:-1], 3, False),
        (ONE[:-3], 1, False),
        (ONE[:-30], 1, False),
        (ONE + event("image_generation.partial_image")[:-1], 1, False),
        (ONE + b"data: {", 1, False),
        (ONE + ERROR, 1, False),
        (event("image_generation.partial_image"), 1, False),
        (ERROR, 1, False),
        (b"", 1, False),
    ],
)
def test_when_a_stream_is_complete_that_ends_with_its_connection(body: bytes, images: int, *, complete: bool) -> None:
    """Nothing has to follow the last image that was asked for; a cut before it, or in it, is one."""
    assert read(EventReader(images), body, framed=False).complete is complete


def test_a_line_without_end() -> None:
    """A line that is no image and never ends is given up within bounded memory."""
    reader = EventReader()
    for _ in range(100):
        reader.feed(b"x" * 10_000)
    assert reader.reading().usage_problem == "unread"
    assert len(reader._line) <= MOST_KEPT

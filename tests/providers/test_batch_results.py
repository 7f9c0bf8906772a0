"""Results of batches: found line by line in bytes that are cut anywhere, and read without being parsed."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from gateway.domain.settlement import Usage
from gateway.ports.provider import UpstreamFailure
from gateway.providers.batch_results import AT_ONCE, MOST_KEPT, LineScan, ResultLine, Results
from gateway.spool import Spool

IMAGE = "iVBOR" + "A" * 5000
USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"text_tokens": 7, "image_tokens": 0},
    "output_tokens": 9,
    "total_tokens": 16,
}


def body(name: str) -> dict[str, object]:
    """An answer with an image."""
    return {"created": 1, "data": [{"b64_json": IMAGE, "revised_prompt": f'{name} \\ "body": {{'}], "usage": USAGE}


def line(name: str, **more: object) -> dict[str, object]:
    """A line of results, its keys in no particular order."""
    response = {"body": body(name), "status_code": 200, "request_id": f"req_{name}"}
    return {"response": response, "error": None, "id": "batch_req_1", "custom_id": name, **more}


LINES = [
    line("a"),
    {"custom_id": "b", "response": None, "error": {"code": "batch_expired", "message": "response: body"}},
    line("c", metadata={"response": {"body": {"x": 1}}}),
    {"custom_id": "d", "response": {"status_code": 400, "body": {"error": {"message": "no"}}}, "error": None},
    line("e"),
]
TEXT = "\n".join(json.dumps(each, indent=None) for each in LINES).encode()


def cut(text: bytes, seed: int) -> list[bytes]:
    """The text in pieces, cut at random places."""
    draw = random.Random(seed)
    places = sorted({0, len(text), *(draw.randrange(len(text)) for _ in range(draw.choice((0, 3, 40, 400))))})
    return [text[start:end] for start, end in itertools.pairwise(places)]


def found(pieces: list[bytes]) -> dict[object, ResultLine]:
    """What a scan finds, by name."""
    scan = LineScan()
    lines = [each for piece in pieces for each in scan.feed(piece)]
    return {each.document["custom_id"]: each for each in [*lines, *scan.end()]}


@pytest.mark.parametrize("seed", range(30))
def test_each_line_is_found_however_it_is_cut(seed: int) -> None:
    """Every line's own words are read, and the body of its response lies exactly where the scan says."""
    lines = found(cut(TEXT, seed))
    assert lines.keys() == {"a", "b", "c", "d", "e"}
    for name in ("a", "c", "e"):
        assert json.loads(TEXT[lines[name].start : lines[name].end]) == body(name)
        assert lines[name].document["response"]["request_id"] == f"req_{name}"
    assert lines["b"].end == 0
    assert lines["b"].document["error"]["code"] == "batch_expired"
    assert json.loads(TEXT[lines["d"].start : lines["d"].end]) == {"error": {"message": "no"}}


def test_what_is_no_line_is_passed_over() -> None:
    """Broken JSON, an empty line and a list spoil no other line."""
    text = b'{"custom_id": "x", "resp\n\n[1]\n' + TEXT + b"\n"
    assert found([text]).keys() == {"a", "b", "c", "d", "e"}


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (b"", True),
        (TEXT + b"\n\n \r\n", True),
        (TEXT[:-1], False),
        (b"<html><body>One moment please</body></html>", False),
        (b'{"error": {"message": "try again"}}', False),
        (TEXT.replace(b'{"custom_id": "b"', b'{"custom_id": 7'), False),
        (TEXT + b'\n{"custom_id": "x", "a": [' + b"0," * MOST_KEPT + b"0]}", False),
    ],
    ids=["nothing", "empty lines", "cut", "a page", "an error", "no name", "endless"],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_no_line_is_told(text: bytes, whole: bool, seed: int) -> None:
    """A file with more in it than results and empty lines is not what the provider wrote."""
    scan = LineScan()
    for piece in cut(text, seed) if text else []:
        scan.feed(piece)
    scan.end()
    assert scan.garbled is not whole


async def test_a_cut_file_is_kept_as_far_as_it_goes_and_completed_by_the_whole_one() -> None:
    """What is missing of it is known by how many requests the batch has, and how many of them were done."""
    results = Results()
    with pytest.raises(UpstreamFailure, match="no result"):
        await results.take(chunks(TEXT[:-1]))
    assert (results.line("a") is not None, results.line("e")) == (True, None)
    assert [results.holds(*told) for told in ((5, 2), (5, 3), (4, 3), (0, 3), (0, 0))] == [
        True,
        False,
        True,
        False,
        True,
    ]
    await results.take(chunks(TEXT))
    assert results.line("e") is not None
    assert results.holds(5, 3)
    await results.returned(read=False)


async def test_a_file_that_comes_again_takes_no_more_room() -> None:
    """It is asked for again and again where the batch counts more lines than it has."""
    before = Spool.held
    results = Results()
    await results.take(chunks(TEXT))
    once = Spool.held
    for text in (TEXT, TEXT[: len(TEXT) // 2], b""):
        with suppress(UpstreamFailure):
            await results.take(chunks(text))
        assert Spool.held == once > before
    known = results.line("a")
    assert known is not None
    assert json.loads(await results.text(known, 10**6)) == body("a")
    await results.returned(read=False)
    assert Spool.held == before


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    """A file as it comes."""
    for piece in pieces:
        yield piece


async def test_an_answer_is_read_from_its_line() -> None:
    """The body comes byte for byte, with its length, usage and the provider's id; results are freed after the last."""
    results = Results()
    await results.take(chunks(TEXT))
    await results.take(chunks(b'{"custom_id": "z", "response": null, "error": {"code": "x"}}\n'))
    assert results.line("z") is not None
    assert results.line("y") is None
    for name in ("a", "c", "e") * AT_ONCE:  # more than may be read at once: each gives its place back
        known = results.line(name)
        assert known is not None
        answer = await results.answer(known)
        text = b"".join([chunk async for chunk in answer.chunks()])
        assert json.loads(text) == body(name)
        assert answer.content_length == len(text)
        reading = answer.reading()
        assert (reading.images, reading.complete, reading.usage) == (1, True, Usage(text_in=7, image_out=9))
        assert answer.upstream_request_id == f"req_{name}"
        await answer.aclose()
        await answer.aclose()
    await results.returned(read=False)

"""Short bodies without escapes are parsed without being scanned first: what is read, or refused, is the same."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.errors import InvalidRequest
from gateway.web import json_object
from gateway.web.json_object import Member, read_object
from gateway.web.json_scan import Scanner
from gateway.web.limits import BodyLimits

BODIES = [
    b'{"prompt":"a cat","n":2,"size":"1024x1024"}',
    b'\n\t{ "prompt" : "a cat" ,\r\n "images":[{"image_url":"https://x/y.png"}], "f": -1.5e3, "t": true, "z": null }\n',
    b"{}",
    b'{"prompt":"gr\xc3\xbcn"}',
    b'{"prompt":"a \\"cat\\" \\u00fc"}',
    b"",
    b"  ",
    b"[]",
    b'"x"',
    b'{"a":1}}',
    b"}{",
    b'{"a":[1}]',
    b'{"a":1,"a":2}',
    b'{"a":"b',
    b'{"a":"b\nc"}',
    b'{"a":"\\ud800"}',
    b'{"a":\x00}',
    b'{"a":NaN}',
    b'{"a":1e999}',
    b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
    b'{"a":\xff}',
    b'\xef\xbb\xbf{"a":1}',
    b"{'a':1}",
]


def outcome(body: bytes, *, plain: bool, pieces: int = 1) -> list[Member] | str:
    """What is read of a body, or the code of the error."""
    scanner = Scanner(BodyLimits())
    if not plain:
        scanner._plain = None
    step = max(-(-len(body) // pieces), 1)
    try:
        for start in range(0, len(body), step):
            scanner.feed(body[start : start + step])
        return read_object(scanner)
    except InvalidRequest as error:
        return error.code


@pytest.mark.parametrize("pieces", [1, 3, 50])
@pytest.mark.parametrize("body", BODIES)
def test_a_short_body_reads_the_same_without_a_scan(body: bytes, pieces: int) -> None:
    """Members, values and the way they were written, or the refusal, do not depend on how the body was looked at."""
    assert outcome(body, plain=True, pieces=pieces) == outcome(body, plain=False, pieces=pieces)


def test_a_body_that_grows_long_is_scanned_after_all() -> None:
    """What was kept back until then is scanned with the rest."""
    body = b'{"a":"' + b"x" * 3000 + b'","b":"' + b"y" * 500_000 + b'"}'
    scanner = Scanner(BodyLimits())
    for start in range(0, len(body), 1000):
        scanner.feed(body[start : start + 1000])
    names = [member.name for member in read_object(scanner)]
    assert names == ["a", "b"]
    assert len(scanner.long_strings) == 1


FLAT = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20), max_size=6
)


@settings(max_examples=200, deadline=None)
@given(value=FLAT, indent=st.sampled_from([None, 3]), tail=st.sampled_from(["", " ", ",", "}", '"']))
def test_a_flat_object_reads_the_same_member_by_member(value: dict[str, object], indent: int | None, tail: str) -> None:
    """What is read in one pass has the members, values and texts that are read one by one, or is left to that."""
    told(json.dumps(value, indent=indent, ensure_ascii=False) + tail)


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', '{"a":"x","a":"y","b":-0.0}', '{ "a" : 1e5 , "b" : -0 }', "{}", "{ }", "1"]
)
def test_numbers_and_names_stay_as_they_were_written(text: str) -> None:
    """A name that occurs twice is refused, and a number is not written anew."""
    told(text)


def told(text: str) -> None:
    """Compare both ways to read a text that the scanner lets through."""
    scanner = Scanner(BodyLimits())
    with contextlib.suppress(InvalidRequest):
        scanner.feed(text.encode())
        text = scanner.finish()
        at_once = said(lambda: json_object._flat(text))
        assert at_once in {"None", said(json_object._Reader(scanner, text).read)}


def said(read: Callable[[], object]) -> str:
    """What is read, to the last sign, or the words of the refusal."""
    try:
        return repr(read())
    except InvalidRequest as error:
        return error.message

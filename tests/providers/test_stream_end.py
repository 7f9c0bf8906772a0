"""The mark at a stream's end is taken off, however it is cut, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.stream_end import StreamEnd

EVENT = b'event: image_generation.completed\ndata: {"b64_json": "dada"}\n\n'


def passed_on(body: bytes, cuts: Sequence[int]) -> bytes:
    """What goes on of a body that comes in these pieces, over and over."""
    end, out, at, turn = StreamEnd(), b"", 0, 0
    while at < len(body):
        size = cuts[turn % len(cuts)]
        out += end.without(body[at : at + size])
        at, turn = at + size, turn + 1
    return out + end.left()


@given(
    cuts=st.lists(st.integers(1, 40), min_size=1),
    mark=st.sampled_from([b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n", b"data: [DONE]", b""]),
    events=st.integers(0, 3),
)
def test_the_mark_goes_and_all_else_stays(cuts: list[int], mark: bytes, events: int) -> None:
    """Every byte of the events is there, and none of the mark."""
    assert passed_on(EVENT * events + mark, cuts) == EVENT * events


@given(
    cuts=st.lists(st.integers(1, 30), min_size=1),
    body=st.lists(
        st.sampled_from([b"data", b":", b" ", b"[DONE]", b"[DO", b"\n", b"\r\n", b"x", b"  ", b"{}", b"d"]), max_size=20
    ).map(b"".join),
)
def test_what_only_looks_like_it_stays(cuts: list[int], body: bytes) -> None:
    """What follows shows that it was not the end."""
    assert passed_on(body + b"\n: more\n\n", cuts) == body + b"\n: more\n\n"


@pytest.mark.parametrize("chunk", [EVENT, b"x" * 70_000, b"\n\n", b"data: {}\n", b'data: {"a": "data: [DONE]'])
def test_an_event_is_not_delayed(chunk: bytes) -> None:
    """What cannot become the mark goes on at once."""
    assert StreamEnd().without(chunk) is chunk

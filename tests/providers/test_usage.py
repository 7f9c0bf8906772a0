"""Usage is believed when it adds up, and refused with a reason when it does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.settlement import Usage
from gateway.providers.usage import read_usage

PLAIN: dict[str, Any] = {
    "input_tokens": 1050,
    "input_tokens_details": {"image_tokens": 1024, "text_tokens": 26},
    "output_tokens": 7024,
    "total_tokens": 8074,
}


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        (PLAIN, Usage(text_in=26, image_in=1024, image_out=7024)),
        (PLAIN | {"input_tokens_details": None}, Usage(image_in=1050, image_out=7024)),
        (PLAIN | {"input_tokens_details": {}}, Usage(image_in=1050, image_out=7024)),
        (PLAIN | {"input_tokens_details": {"text_tokens": 50}}, Usage(text_in=50, image_in=1000, image_out=7024)),
        (
            PLAIN | {"output_tokens_details": {"image_tokens": 7000, "text_tokens": 24}},
            Usage(text_in=26, image_in=1024, image_out=7000, text_out=24),
        ),
        (
            PLAIN
            | {"cached_tokens": 126, "cached_tokens_details": {"cached_image_tokens": 100, "cached_text_tokens": 26}},
            Usage(image_in=924, text_in_cached=26, image_in_cached=100, image_out=7024),
        ),
        (PLAIN | {"cached_tokens": 30}, Usage(image_in=1020, text_in_cached=26, image_in_cached=4, image_out=7024)),
        (
            PLAIN | {"input_tokens_details": {"image_tokens": 1024, "text_tokens": 26, "cached_tokens": 30}},
            Usage(image_in=1020, text_in_cached=26, image_in_cached=4, image_out=7024),
        ),
        (
            PLAIN | {"cached_tokens_details": {"cached_text_tokens": 26, "cached_image_tokens": 100}},
            Usage(image_in=924, text_in_cached=26, image_in_cached=100, image_out=7024),
        ),
        (PLAIN | {"cached_tokens": 0, "total_tokens": None}, Usage(text_in=26, image_in=1024, image_out=7024)),
    ],
)
def test_usable(reported: dict[str, Any], usage: Usage) -> None:
    """Tokens land in the kind they are priced by, unsplit ones in the dearer."""
    assert read_usage(reported, images=1) == usage


@pytest.mark.parametrize(
    ("reported", "reason"),
    [
        (None, "missing"),
        ([], "malformed"),
        ("7024", "malformed"),
        ({}, "missing"),
        (PLAIN | {"output_tokens": None}, "missing"),
        (PLAIN | {"output_tokens": -1}, "negative"),
        (PLAIN | {"output_tokens": True}, "malformed"),
        (PLAIN | {"output_tokens": 7024.0}, "malformed"),
        (PLAIN | {"output_tokens": float("nan")}, "malformed"),
        (PLAIN | {"output_tokens": "7024"}, "malformed"),
        (PLAIN | {"output_tokens": 10**9 + 1}, "too_large"),
        (PLAIN | {"output_tokens": 0, "total_tokens": 1050}, "zero_output"),
        (PLAIN | {"output_tokens_details": {"text_tokens": 7024}}, "zero_output"),
        (PLAIN | {"output_tokens_details": {"text_tokens": 7025}}, "contradictory"),
        (PLAIN | {"output_tokens_details": 3}, "malformed"),
        (PLAIN | {"total_tokens": 8075}, "contradictory"),
        (PLAIN | {"input_tokens_details": {"image_tokens": 1, "text_tokens": 1}}, "contradictory"),
        (PLAIN | {"cached_tokens": 2000}, "contradictory"),
        (PLAIN | {"cached_tokens": 5, "cached_tokens_details": {"cached_text_tokens": 6}}, "contradictory"),
    ],
)
def test_unusable(reported: object, reason: str) -> None:
    """What does not add up is refused with the reason, and is never taken for zero."""
    assert read_usage(reported, images=1) == reason


def test_no_output_without_an_image_is_usable() -> None:
    """An answer without an image may well have no output."""
    nothing = {"input_tokens": 5, "output_tokens": 0, "total_tokens": 5}
    assert read_usage(nothing, images=0) == Usage(image_in=5)


def test_a_usage_of_nothing_at_all_is_never_believed() -> None:
    """Every request has a prompt, so an answer that counts nothing does not say what was done."""
    assert read_usage({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, images=0) == "zero_output"


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
PARTS = st.dictionaries(
    st.sampled_from(["image_tokens", "text_tokens", "cached_tokens", "cached_image_tokens", "cached_text_tokens"]),
    VALUES | st.integers(0, 50),
)
FIELDS = ["input_tokens", "output_tokens", "total_tokens", "cached_tokens"]
DETAILS = ["input_tokens_details", "output_tokens_details", "cached_tokens_details"]
REPORTS = st.builds(
    lambda counts, parts: counts | parts,
    st.dictionaries(st.sampled_from(FIELDS), VALUES | st.integers(0, 100)),
    st.dictionaries(st.sampled_from(DETAILS), PARTS | VALUES),
)


@given(reported=REPORTS | VALUES, images=st.integers(0, 10))
def test_garbage_never_raises_and_never_lowers_the_bill(reported: Any, images: int) -> None:
    """Whatever is reported, the tokens add up to the totals that were reported, or there are none."""
    usage = read_usage(reported, images=images)
    if isinstance(usage, Usage):
        counted_in = usage.text_in + usage.image_in + usage.text_in_cached + usage.image_in_cached
        assert counted_in == reported["input_tokens"]
        assert usage.image_out + usage.text_out == reported["output_tokens"]
        kinds = (usage.text_in, usage.image_in, usage.text_in_cached, usage.image_in_cached, usage.text_out)
        assert min(kinds) >= 0
        assert usage.image_out > 0 or images == 0

"""Sizes of models that take a ratio and a resolution: what is priced is what is asked for."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.job import Job, Operation, Size, parse_ratio
from gateway.domain.route import SizeRule
from gateway.domain.size_choice import made
from gateway.domain.sizing import nearest, of_ratio
from gateway.domain.tiers import SLACK, Tiers, sold_as
from tests.builders import FREE_SIZES

RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9", "1:8", "8:1")
TIERS = Tiers(RATIOS, (("512", 2**18), ("1K", 2**20), ("2K", 2**22), ("4K", 2**24)))
RULE = SizeRule(max_pixels=2**24, tiers=TIERS)
SIZES = st.builds(Size, st.integers(1, 9000), st.integers(1, 9000))


@given(size=SIZES)
def test_what_is_made_of_a_size_is_that_ratio_and_resolution_again(size: Size) -> None:
    """No more pixels than the resolution has, so that a price by pixels and what is sent agree."""
    if RULE.refusal(size) is not None:
        return
    found = nearest(RULE, size)
    assert found is not None
    assert nearest(RULE, found) == found
    assert RULE.refusal(found) is None
    assert TIERS.ratio_of(found) == TIERS.ratio_of(size)
    assert TIERS.resolution_of(found) == TIERS.resolution_of(size)
    assert found.pixels <= dict(TIERS.resolutions)[TIERS.resolution_of(size)]
    assert size.pixels <= found.pixels * SLACK * Fraction(101, 100)


@given(size=SIZES)
def test_every_size_has_one_nearest_to_it(size: Size) -> None:
    """What stands in for a size of old is one that is made."""
    found = nearest(RULE, size)
    assert found is not None
    assert RULE.refusal(found) is None


@pytest.mark.parametrize("text", RATIOS)
@pytest.mark.parametrize("name", ["512", "1K", "2K", "4K"])
def test_a_ratio_at_a_resolution_is_made_so(text: str, name: str) -> None:
    """The pixels that stand for both lead back to both."""
    size, ratio = TIERS.size(text, name), parse_ratio(text)
    assert ratio is not None
    assert (TIERS.ratio_of(size), TIERS.resolution_of(size)) == (text, name)
    assert of_ratio(RULE, ratio, dict(TIERS.resolutions)[name]) == size


@pytest.mark.parametrize(
    ("text", "resolution", "size"),
    [
        ("1:1", "1K", "1024x1024"),
        ("3:2", "2K", "2512x1680"),
        ("2:3", "2K", "1680x2512"),
        ("16:9", "1K", "1360x768"),
        ("9:16", "4K", "2160x3840"),
        ("1:1", "4K", "2880x2880"),
        ("21:9", "4K", "3840x1632"),
        ("1:3", "1K", "592x1776"),
    ],
)
def test_a_ratio_at_a_resolution_in_pixels(text: str, resolution: str, size: str) -> None:
    """Where pixels are taken, they are those that resellers make of the same words, and the model makes them."""
    ratio, found = parse_ratio(text), Size.parse(size)
    assert ratio is not None
    assert found is not None
    assert sold_as(ratio, resolution) == found
    assert FREE_SIZES.refusal(found) is None
    job = Job(Operation.GENERATE, None, 1, 1, size=text, resolution=resolution)
    sized = made(job, FREE_SIZES, (), None)
    assert sized is not None
    assert sized.size == size


def test_a_size_of_the_client_s_own_is_never_enlarged_by_a_resolution() -> None:
    """Pixels say more than a word for them."""
    job = Job(Operation.GENERATE, None, 1, 1, size="1024x1024", resolution="4K")
    for rule in (RULE, FREE_SIZES):
        sized = made(job, rule, (), None)
        assert sized is not None
        assert sized.size == "1024x1024"


@pytest.mark.parametrize(("resolution", "size"), [(None, "1024x1024"), ("512", "512x512"), ("4K", "4096x4096")])
def test_where_no_size_is_asked_for_the_ratio_is_the_provider_s(resolution: str | None, size: str) -> None:
    """Of the size the pixels alone are meant, and they are priced."""
    sized = made(Job(Operation.EDIT, None, 1, 1, resolution=resolution), RULE, (), None)
    assert sized is not None
    assert (sized.size, sized.any_ratio) == (size, True)

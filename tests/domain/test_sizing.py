"""Sizes of a ratio, and those that stand in for one that is no longer made."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.job import Size, parse_ratio
from gateway.domain.route import SizeRule
from gateway.domain.sizing import nearest, of_ratio
from gateway.domain.tiers import USUAL_PIXELS
from tests.builders import FREE_SIZES, LEGACY_SIZES

DALL = SizeRule(fixed=(Size(1024, 1024), Size(1792, 1024), Size(1024, 1792)))


@pytest.mark.parametrize(
    ("text", "size"),
    [("1:1", "1024x1024"), ("3:2", "1248x832"), ("16:9", "1280x720"), ("9:16", "720x1280"), ("21:9", "1568x672")],
)
def test_a_ratio_becomes_about_a_megapixel(text: str, size: str) -> None:
    """Exactly of that ratio, on the model's multiple."""
    ratio = parse_ratio(text)

    assert ratio is not None
    assert str(of_ratio(FREE_SIZES, ratio)) == size


def test_of_a_list_the_entry_of_the_ratio_is_taken_or_none() -> None:
    """1792x1024 is sold as 16:9, though it is 7:4; 4:3 is not 3:2."""
    assert of_ratio(DALL, Fraction(16, 9)) == Size(1792, 1024)
    assert of_ratio(LEGACY_SIZES, Fraction(2, 3)) == Size(1024, 1536)
    assert of_ratio(LEGACY_SIZES, Fraction(4, 3)) is None


@given(width=st.integers(1, 999), height=st.integers(1, 999))
def test_every_ratio_within_the_rule_has_a_size_that_is_made(width: int, height: int) -> None:
    """Within the rule's bounds, close to the ratio, and close to a megapixel."""
    ratio = Fraction(width, height)
    size = of_ratio(FREE_SIZES, ratio)

    if max(ratio, 1 / ratio) > Fraction(295, 100):
        return
    assert size is not None
    assert FREE_SIZES.refusal(size) is None
    assert size.width / size.height == pytest.approx(float(ratio), rel=0.03)
    assert 2 / 3 <= size.pixels / USUAL_PIXELS <= 3 / 2


@given(width=st.integers(1, 99_999), height=st.integers(1, 99_999))
def test_any_size_has_one_nearest_to_it(width: int, height: int) -> None:
    """What a model no longer makes is replaced by what its successor does make, whatever it was."""
    size = Size(width, height)

    for rule in (FREE_SIZES, LEGACY_SIZES, DALL):
        stand_in = nearest(rule, size)
        assert stand_in is not None
        assert rule.refusal(stand_in) is None
        assert stand_in == size or rule.refusal(size) is not None


def test_bounds_of_a_narrow_rule_hold() -> None:
    """A megapixel that the rule does not reach is replaced by what it does; a ratio beyond it by nothing."""
    small = SizeRule(multiple=32, max_edge=512, min_pixels=1, max_pixels=100_000, max_ratio=Fraction(2))

    assert of_ratio(small, Fraction(1)) == Size(288, 288)
    assert of_ratio(small, Fraction(5, 2)) is None
    assert of_ratio(FREE_SIZES, Fraction(10)) is None

"""Sizes for those who say a ratio, or a size that is no longer made: the pixels that a model makes instead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

from gateway.domain.job import Size
from gateway.domain.route import SizeRule
from gateway.domain.tiers import USUAL_PIXELS

CLOSE = math.log(1.02)
"""How far two ratios may differ and still be called the same: 1792x1024 is sold as 16:9."""
_NEAR = math.log(1.5)
"""How far from the pixels wanted a size of exactly the ratio is still better than a rounded one."""


def of_ratio(rule: SizeRule, ratio: Fraction, pixels: int = USUAL_PIXELS) -> Size | None:
    """Return the size of this ratio (width to height) with about these pixels; None if the rule has none."""
    if rule.fixed:
        return closest(rule.fixed, ratio, pixels)
    if rule.tiers is not None:
        return rule.tiers.of_ratio(ratio, pixels)
    long_by_short = max(ratio, 1 / ratio)
    widest = math.floor(rule.max_edge**2 / long_by_short)
    pixels = min(max(pixels, rule.min_pixels), rule.max_pixels, max(widest, 1))
    exact = [size for size in _exact(ratio, pixels, rule.multiple) if rule.refusal(size) is None]
    if exact:
        return min(exact, key=lambda size: _apart(size.pixels, pixels))
    rounded = [size for size in _rounded(ratio, pixels, rule.multiple) if rule.refusal(size) is None]
    return min(rounded, key=lambda size: _ratio_apart(size, ratio), default=None)


def closest(sizes: Iterable[Size], ratio: Fraction, pixels: int = USUAL_PIXELS) -> Size | None:
    """Return the size of this ratio, give or take 2 %, whose pixels come nearest; None if there is none."""
    alike = (size for size in sizes if _ratio_apart(size, ratio) <= CLOSE)
    return min(alike, key=lambda size: _apart(size.pixels, pixels), default=None)


def nearest(rule: SizeRule, size: Size) -> Size | None:
    """Return the size that is made nearest to this one: its ratio first, then its pixels."""
    if rule.tiers is not None and not rule.fixed:
        return rule.tiers.made(size)
    if rule.refusal(size) is None:
        return size
    ratio = Fraction(size.width, size.height)
    if rule.fixed:
        return min(rule.fixed, key=lambda made: (_ratio_apart(made, ratio), _apart(made.pixels, size.pixels)))
    ratio = max(min(ratio, rule.max_ratio), 1 / rule.max_ratio)
    return of_ratio(rule, ratio, size.pixels)


def nearest_listed(size: Size, listed: Iterable[Size]) -> Size | None:
    """Return the listed size nearest to this one, its ratio first, of those with no more pixels; else of all."""
    ratio, listed = Fraction(size.width, size.height), tuple(listed)
    below = [each for each in listed if each.pixels <= size.pixels]
    return min(
        below or listed,
        key=lambda each: (_ratio_apart(each, ratio), _apart(each.pixels, size.pixels)),
        default=None,
    )


def _exact(ratio: Fraction, pixels: int, multiple: int) -> Iterator[Size]:
    width, height = ratio.numerator * multiple, ratio.denominator * multiple
    times = math.isqrt(pixels // (width * height))
    for factor in (times, times + 1):
        size = Size(width * factor, height * factor)
        if factor and _apart(size.pixels, pixels) <= _NEAR:
            yield size


def _rounded(ratio: Fraction, pixels: int, multiple: int) -> Iterator[Size]:
    height = math.sqrt(pixels / ratio)
    for width in _around(height * float(ratio), multiple):
        for high in _around(height, multiple):
            yield Size(width, high)


def _around(length: float, multiple: int) -> tuple[int, int]:
    below = max(int(length) // multiple, 1) * multiple
    return below, below + multiple


def _apart(one: float, other: float) -> float:
    return abs(math.log(one / other))


def _ratio_apart(size: Size, ratio: Fraction) -> float:
    return _apart(size.width / size.height, float(ratio))

"""Tiers: sizes of models that take an aspect ratio and a resolution in place of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from gateway.domain.job import Size, parse_ratio

RESOLUTIONS: Final = {"512": 512 * 512, "1K": 1024 * 1024, "2K": 2048 * 2048, "4K": 3840 * 2160}
"""What a client may ask for by `resolution`, and how many pixels that is where a model takes pixels."""
USUAL_PIXELS: Final = 1024 * 1024
"""Pixels of an image of which only the ratio is known: a square of 1024."""
STRETCH: Final = math.log(1.03)
"""How far a size may be from a ratio to be made in it: nobody sees 3 %, and sizes in use are as far from 16:9."""
SLACK: Final = Fraction(103, 100)
"""How many more pixels than its own a resolution covers: real sizes are rounded up from it to whole blocks."""


@dataclass(frozen=True, slots=True)
class Tiers:
    """The ratios (width to height, `3:2`) and the resolutions (name and pixels, smallest first) of a model."""

    ratios: tuple[str, ...]
    resolutions: tuple[tuple[str, int], ...]

    def refusal(self, size: Size) -> str | None:
        """Say why nothing like the size is made, or None if it is."""
        if self.ratio_of(size) is None:
            return f"size {size} has none of the ratios {', '.join(self.ratios)}"
        if size.pixels > self.resolutions[-1][1] * SLACK:
            return f"size {size} has more pixels than {self.resolutions[-1][0]}, the most that is made"
        return None

    def ratio_of(self, size: Size) -> str | None:
        """Return the ratio that a size is made in: the nearest, if it is near."""
        nearest = self._nearest(Fraction(size.width, size.height))
        return nearest if _apart(size, nearest) <= STRETCH else None

    def resolution_of(self, size: Size) -> str:
        """Return the smallest resolution that covers a size, else the largest."""
        covering = (name for name, pixels in self.resolutions if size.pixels <= pixels * SLACK)
        return next(covering, self.resolutions[-1][0])

    def made(self, size: Size) -> Size:
        """Return the pixels that are made for a size: in the nearest ratio, by the resolution that covers it."""
        return self.size(self._nearest(Fraction(size.width, size.height)), self.resolution_of(size))

    def of_ratio(self, ratio: Fraction, pixels: int = USUAL_PIXELS) -> Size | None:
        """Return the size of this ratio with these pixels, or as many as are made; None if there is no such ratio."""
        nearest = self._nearest(ratio)
        if abs(math.log(ratio / (parse_ratio(nearest) or 1))) > STRETCH:
            return None
        covering = (name for name, most in self.resolutions if pixels <= most * SLACK)
        return self.size(nearest, next(covering, self.resolutions[-1][0]))

    def size(self, ratio: str, resolution: str) -> Size:
        """Return the largest size of a ratio with no more pixels than a resolution, so that prices find the same."""
        pixels, shape = dict(self.resolutions)[resolution], parse_ratio(ratio) or Fraction(1)
        return Size(math.isqrt(int(pixels * shape)), math.isqrt(int(pixels / shape)))

    def _nearest(self, ratio: Fraction) -> str:
        return min(self.ratios, key=lambda text: abs(math.log(ratio / (parse_ratio(text) or 1))))


def _apart(size: Size, ratio: str) -> float:
    return abs(math.log(Fraction(size.width, size.height) / (parse_ratio(ratio) or 1)))


_SOLD = {
    "1:1": ("1024x1024", "2048x2048", "2880x2880"),
    "5:4": ("1152x912", "2288x1824", "3216x2576"),
    "4:3": ("1184x880", "2368x1776", "3312x2480"),
    "3:2": ("1248x832", "2512x1680", "3520x2352"),
    "16:9": ("1360x768", "2736x1536", "3840x2160"),
    "2:1": ("1456x720", "2896x1456", "3840x1904"),
    "21:9": ("1568x672", "3136x1344", "3840x1632"),
    "3:1": ("1776x592", "3552x1184", "3840x1280"),
}
"""What a reseller that takes a ratio and `1K`, `2K` or `4K` makes of them, in multiples of 16 (its published table)."""


def sold_as(ratio: Fraction, resolution: str) -> Size | None:
    """Return the pixels that a ratio and a resolution commonly stand for; None if nobody says."""
    names = ("1K", "2K", "4K")
    if resolution not in names:
        return None
    for text, sizes in _SOLD.items():
        size = Size.parse(sizes[names.index(resolution)])
        if size is not None and parse_ratio(text) == max(ratio, 1 / ratio):
            return size if ratio >= 1 else Size(size.height, size.width)
    return None

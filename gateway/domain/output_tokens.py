"""Output tokens: how many a model's images take.

Those of the grid models follow the vendor's published calculator:
`g` patches on the long edge, `s = round_half_even(g * short / long)`, `ceil(g * s * (2_000_000 + w * h) / 4_000_000)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

from gateway.domain.job import Size
from gateway.domain.price import PixelTier
from gateway.domain.route import Model, TokenTier

T = TypeVar("T", PixelTier, TokenTier)


def _grid_tokens(g: int, size: Size) -> int:
    """Image output tokens of one image of this size, for a grid of `g`."""
    long, short = max(size.width, size.height), min(size.width, size.height)
    s = round(Fraction(g * short, long))
    return -(-g * s * (2_000_000 + size.pixels) // 4_000_000)


def output_tokens(model: Model, sizes: Iterable[Size], qualities: Iterable[str]) -> int:
    """Most image output tokens one image may take, over these sizes and qualities.

    No sizes means any size the model makes; no qualities, or one the catalog doesn't know, means its dearest.
    """
    tokens = model.output_tokens
    wanted, chosen = tuple(sizes), tuple(qualities)
    if tokens.grid:
        known = [tokens.grid[quality] for quality in chosen if quality in tokens.grid]
        g = max(known) if known and len(known) == len(chosen) else max(tokens.grid.values())
        rule = model.capabilities.sizes
        wanted = wanted or rule.fixed
        if wanted:
            return max(_grid_tokens(g, size) for size in wanted)
        return -(-g * g * (2_000_000 + rule.max_pixels) // 4_000_000)
    if tokens.by_resolution:
        tiers = [tier_of(tokens.by_resolution, size) for size in wanted]
        return max((tier.tokens for tier in tiers or tokens.by_resolution), default=0)
    rows = [tokens.table[size] for size in wanted if size in tokens.table]
    rows = rows if rows and len(rows) == len(wanted) else list(tokens.table.values())
    return max((_dearest(row, chosen) for row in rows), default=0)


def _dearest(row: Mapping[str, int], chosen: Sequence[str]) -> int:
    known = [row[quality] for quality in chosen if quality in row]
    return max(known) if known and len(known) == len(chosen) else max(row.values())


def tier_of(tiers: Sequence[T], size: Size) -> T:
    """Return the smallest tier that holds the size, else the last."""
    fitting = (tier for tier in tiers if tier.max_pixels is None or size.pixels <= tier.max_pixels)
    return next(fitting, tiers[-1])

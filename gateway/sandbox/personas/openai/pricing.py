"""Tokens by OpenAI's published formulas and what they cost, in exact integers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from gateway.sandbox.personas.openai.catalog import ImageModel

PARTIAL_IMAGE_TOKENS = 100
_PATCH = 32
_PATCH_BUDGET = 1536
_SMALL = 1024
_MAX_MAGNIFICATION = 2
_MAX_RATIO = 3
_TILE_BASE = 65
_TILE_TOKENS = 129
_FIDELITY_SQUARE = 4160
_FIDELITY_OBLONG = 6240
_BYTES_PER_TEXT_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Tokens:
    """Billed tokens of one request."""

    text_in: int
    image_in: int
    image_out: int

    @property
    def total(self) -> int:
        """Input and output together."""
        return self.text_in + self.image_in + self.image_out

    def pico_usd(self, model: ImageModel) -> int:
        """What the tokens cost, in pico-USD."""
        rates = model.rates
        return self.text_in * rates.text_in + self.image_in * rates.image_in + self.image_out * rates.image_out

    def as_usage(self, *, details: bool) -> dict[str, object]:
        """Return the answer's `usage`; stream events carry no output details."""
        usage: dict[str, object] = {
            "input_tokens": self.text_in + self.image_in,
            "input_tokens_details": {"image_tokens": self.image_in, "text_tokens": self.text_in},
            "output_tokens": self.image_out,
            "total_tokens": self.total,
        }
        if details:
            usage["output_tokens_details"] = {"image_tokens": self.image_out, "text_tokens": 0}
        return usage


def output_tokens(model: ImageModel, width: int, height: int, quality: str) -> int:
    """Tokens of one finished image of `width` x `height` pixels.

    By grid: the long edge has `g` cells, the short one its share, rounded half to even; the cells weigh
    (2,000,000 + pixels) / 4,000,000, rounded up.
    """
    if not model.grid:
        return model.table[quality][width, height]
    cells = model.grid[quality]
    across = round(Fraction(cells * min(width, height), max(width, height)))
    return -(-cells * across * (2_000_000 + width * height) // 4_000_000)


def text_tokens(prompt: str) -> int:
    """A stand-in for the tokenizer: one token per four UTF-8 bytes, so never more than there are bytes."""
    return -(-len(prompt.encode("utf-8", "surrogatepass")) // _BYTES_PER_TEXT_TOKEN)


def input_image_tokens(model: ImageModel, sizes: Iterable[tuple[int, int]], fidelity: str | None) -> int:
    """Tokens of all input images; `sizes` are widths and heights in pixels."""
    if model.grid:
        return sum(_patches(width, height) for width, height in sizes)
    return sum(_tiles(width, height, high=fidelity == "high") for width, height in sizes)


def _patches(width: int, height: int) -> int:
    """32-pixel patches, at most 1536.

    An image below 1024 pixels is magnified towards it, at most twice; beyond 3:1 it counts as 3:1; what exceeds the
    budget is shrunk to whole patches. Measured by OpenAI's users on edits (community forum topic 1382940), unpublished.
    """
    long, short = max(width, height), max(min(width, height), -(-max(width, height) // _MAX_RATIO))
    if long < _SMALL:
        factor = min(Fraction(_MAX_MAGNIFICATION), Fraction(_SMALL, long))
        long, short = math.ceil(long * factor), math.ceil(short * factor)
    patches = -(-long // _PATCH) * -(-short // _PATCH)
    if patches <= _PATCH_BUDGET:
        return patches
    scale = math.sqrt(_PATCH_BUDGET * _PATCH * _PATCH / (long * short))
    across, down = int(long * scale / _PATCH), int(short * scale / _PATCH)
    return min(_PATCH_BUDGET, max(1, across) * max(1, down))


def _tiles(width: int, height: int, *, high: bool) -> int:
    """512-pixel tiles after the short edge is scaled to 512; high fidelity adds a fixed number."""
    long, short = max(width, height), min(width, height)
    tiles = -(-long // short)
    extra = (_FIDELITY_SQUARE if long == short else _FIDELITY_OBLONG) if high else 0
    return _TILE_BASE + _TILE_TOKENS * tiles + extra

"""What EvoLink charges: tokens at nine tenths of OpenAI's rates, or an amount per image; told in credits.

Source: evolink.ai/gpt-image-2 (stored copies of spring 2026). 68 credits are a dollar, which nine published pairs of
both agree on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from gateway.sandbox.bill import nano_usd
from gateway.sandbox.personas.openai.catalog import MODELS
from gateway.sandbox.personas.openai.pricing import input_image_tokens, output_tokens, text_tokens
from gateway.sandbox.work import Charge

CREDITS_PER_USD = 68
_PICO_PER_USD = 10**12
_TEXT_IN, _IMAGE_IN, _IMAGE_OUT = 4_500_000, 7_200_000, 27_000_000
"""Pico-USD per token: $4.5, $7.2 and $27 per million. The first is assumed, nine tenths of OpenAI's $5."""
_BETA: Mapping[str, int] = {"1K": 15_000_000_000, "2K": 25_500_000_000, "4K": 39_000_000_000}
"""Pico-USD per image; the page rounds 0.0255 to 0.025."""
_FORMULA = MODELS["gpt-image-2"]


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost in pico-USD, and what it was counted by."""

    pico: int
    usage: Mapping[str, object]

    @property
    def charge(self) -> Charge:
        """The line on the bill."""
        return Charge(nano_usd(self.pico), self.usage)

    @property
    def credits(self) -> float:
        """The cost in credits; all of its at most seven decimals survive in JSON."""
        return float(Fraction(self.pico * CREDITS_PER_USD, _PICO_PER_USD))


def by_tokens(
    prompt: str, sources: Sequence[tuple[int, int]], size: tuple[int, int], quality: str, images: int
) -> Cost:
    """Cost of so many images of one size; prompt and input images are charged for each of them."""
    text = text_tokens(prompt) * images
    inputs = input_image_tokens(_FORMULA, sources, None) * images
    made = output_tokens(_FORMULA, *size, quality) * images
    usage = {
        "input_tokens": text + inputs,
        "input_tokens_details": {"image_tokens": inputs, "text_tokens": text},
        "output_tokens": made,
        "total_tokens": text + inputs + made,
    }
    return Cost(text * _TEXT_IN + inputs * _IMAGE_IN + made * _IMAGE_OUT, usage)


def by_tier(tier: str, images: int) -> Cost:
    """Cost of so many images of a tier."""
    return Cost(_BETA[tier] * images, {"images": images, "tier": tier})

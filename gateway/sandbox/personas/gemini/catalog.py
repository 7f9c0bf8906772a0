"""Image models of the Gemini API: what they take, how many tokens an image has, and what tokens cost.

Sources: `google-genai` 3.4.0 (`ImageConfig`), ai.google.dev/gemini-api/docs/pricing and docs.cloud.google.com (token
counts), read November 2026. Assumed, since unpublished: an input image of 2.5 has the 258 tokens of any image of that
generation, and one of the others the 1,120 of `gemini-3.1-flash-image`; a thought has 180 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SIZES = {
    "1:1": (1024, 1024),
    "2:3": (832, 1248),
    "3:2": (1248, 832),
    "3:4": (864, 1184),
    "4:3": (1184, 864),
    "4:5": (896, 1152),
    "5:4": (1152, 896),
    "9:16": (768, 1344),
    "16:9": (1344, 768),
    "21:9": (1536, 672),
}
"""What each ratio is at 1K, in pixels."""
SCALE = {"512": (1, 2), "1K": (1, 1), "2K": (2, 1), "4K": (4, 1)}
"""What edges are multiplied by, and divided by."""
DEFAULT = "1K"
THOUGHT_TOKENS = 180


@dataclass(frozen=True, slots=True)
class Model:
    """One model. Rates are pico-USD per token; `tokens` are those of an image by resolution."""

    id: str
    tokens: Mapping[str, int]
    input_image: int
    rate_in: int
    rate_text: int
    rate_image: int
    takes_size: bool = True
    output_format: str = "png"


_ALL = (
    Model("gemini-2.5-flash-image", {"1K": 1290}, 258, 300_000, 2_500_000, 30_000_000, takes_size=False),
    Model(
        "gemini-3.1-flash-image",
        {"512": 747, "1K": 1120, "2K": 1680, "4K": 2520},
        1120,
        500_000,
        3_000_000,
        60_000_000,
    ),
    Model("gemini-3.1-flash-lite-image", {"1K": 1120}, 1120, 250_000, 1_500_000, 30_000_000, takes_size=False),
    Model(
        "gemini-3-pro-image",
        {"1K": 1120, "2K": 1120, "4K": 2000},
        560,
        2_000_000,
        12_000_000,
        120_000_000,
        output_format="jpeg",
    ),
    Model("gemini-nano-banana-2.1", {"1K": 1120}, 1120, 1_500_000, 7_500_000, 30_000_000, takes_size=False),
)
MODELS = {model.id: model for model in _ALL}

"""Tokens and amounts against published, measured and hand-computed values."""

from __future__ import annotations

import pytest

from gateway.sandbox.bill import decimal_usd, nano_usd
from gateway.sandbox.personas.openai.catalog import MODELS
from gateway.sandbox.personas.openai.pricing import Tokens, input_image_tokens, output_tokens, text_tokens

PUBLISHED = {
    (1024, 1024): ((196, 1756, 7024), (196, 439, 1756, 3122, 7024)),
    (1024, 1536): ((158, 1372, 5488), (158, 343, 1372, 2459, 5488)),
    (1536, 1024): ((158, 1372, 5488), (158, 343, 1372, 2459, 5488)),
    (1536, 864): ((120, 1078, 4312), (120, 280, 1078, 1917, 4312)),
    (2048, 1152): ((157, 1413, 5650), (157, 367, 1413, 2511, 5650)),
    (2048, 2048): ((397, 3568, 14272), (397, 892, 3568, 6343, 14272)),
    (2880, 2880): ((659, 5930, 23719), (659, 1483, 5930, 10542, 23719)),
    (3840, 2160): ((371, 3336, 13342), (371, 865, 3336, 5930, 13342)),
}
LEGACY = {
    "low": {(1024, 1024): 272, (1024, 1536): 408, (1536, 1024): 400},
    "medium": {(1024, 1024): 1056, (1024, 1536): 1584, (1536, 1024): 1568},
    "high": {(1024, 1024): 4160, (1024, 1536): 6240, (1536, 1024): 6208},
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_grid_models_give_the_published_tokens(size: tuple[int, int]) -> None:
    """Every published value of gpt-image-2 and 2.5 comes out of the formula."""
    for name, expected in zip(("gpt-image-2", "gpt-image-2.5-sunburst"), PUBLISHED[size], strict=True):
        model = MODELS[name]
        assert tuple(output_tokens(model, *size, quality) for quality in model.qualities) == expected


def test_26_takes_three_to_four_times_the_tokens_of_25_at_low_and_medium() -> None:
    """The assumed grid of 2.6 stays within what is reported of it."""
    older, newer = MODELS["gpt-image-2.5-flare"], MODELS["gpt-image-2.6-flare"]
    for quality in ("low", "medium"):
        ratio = output_tokens(newer, 1024, 1024, quality) / output_tokens(older, 1024, 1024, quality)
        assert 3 <= ratio <= 4
    assert output_tokens(newer, 1024, 1024, "max") == 7024


@pytest.mark.parametrize("name", ["gpt-image-1.5", "gpt-image-1-mini", "chatgpt-image-latest"])
def test_older_models_follow_the_table(name: str) -> None:
    """The legacy table is used for every model before the grid."""
    for quality, sizes in LEGACY.items():
        for (width, height), tokens in sizes.items():
            assert output_tokens(MODELS[name], width, height, quality) == tokens


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        ((1024, 1024), 1024),
        ((512, 512), 1024),
        ((256, 256), 256),
        ((1024, 512), 512),
        ((1536, 1024), 1536),
        ((2048, 2048), 1521),
        ((3840, 2160), 1508),
        ((1, 1), 1),
        ((9000, 10), 1474),
    ],
)
def test_input_images_are_counted_in_patches(size: tuple[int, int], tokens: int) -> None:
    """Small images are magnified at most twice, large ones shrunk to 1536 patches, thin ones count as 3:1."""
    assert input_image_tokens(MODELS["gpt-image-2"], [size], None) == tokens
    assert input_image_tokens(MODELS["gpt-image-2"], [size, size], None) == 2 * tokens


def test_older_models_count_input_images_in_tiles() -> None:
    """A square image is one tile, a 3:2 one two; high fidelity adds 4160 or 6240."""
    model = MODELS["gpt-image-1.5"]
    assert input_image_tokens(model, [(800, 800)], None) == 65 + 129
    assert input_image_tokens(model, [(1536, 1024)], "low") == 65 + 2 * 129
    assert input_image_tokens(model, [(800, 800)], "high") == 65 + 129 + 4160
    assert input_image_tokens(model, [(1024, 1536)], "high") == 65 + 2 * 129 + 6240


@pytest.mark.parametrize("prompt", ["x", "a cat", "日本語", "🎨" * 50, "\ud800", "word " * 999])
def test_text_is_never_more_tokens_than_bytes(prompt: str) -> None:
    """The byte count is an upper bound of the text tokens, and no prompt is free."""
    assert 1 <= text_tokens(prompt) <= len(prompt.encode("utf-8", "surrogatepass"))


def test_amounts_are_exact() -> None:
    """Hand-computed: 7024 tokens at $30, 10 at $5 and 1024 at $8 per million, and mini's fractions of a dollar."""
    assert nano_usd(Tokens(0, 0, 7024).pico_usd(MODELS["gpt-image-2"])) == 210_720_000
    assert nano_usd(Tokens(10, 1024, 7024).pico_usd(MODELS["gpt-image-2"])) == 210_720_000 + 50_000 + 8_192_000
    assert nano_usd(Tokens(1, 1, 1).pico_usd(MODELS["gpt-image-1-mini"])) == 2_000 + 2_500 + 8_000
    assert (nano_usd(1), nano_usd(1000), nano_usd(1001)) == (1, 1, 2)
    assert decimal_usd(210_720_000) == "0.21072"
    assert (decimal_usd(0), decimal_usd(1), decimal_usd(10_000_000_000)) == ("0", "0.000000001", "10")

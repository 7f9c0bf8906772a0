"""Prices: the vendor's published figures, bounds that hold, and exact integers."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import pricing
from gateway.domain.job import Size
from gateway.domain.money import parse_usd
from gateway.domain.output_tokens import output_tokens
from gateway.domain.price import PixelTier, Price
from gateway.domain.route import Model
from gateway.domain.settlement import Reading, Usage
from tests.builders import GPT_IMAGE_2, GPT_IMAGE_15, GPT_IMAGE_25, TODAY, job, rates

QUALITIES_2 = ("low", "medium", "high")
QUALITIES_25 = ("low", "medium", "high", "xhigh", "max")
KNOWN_2 = {
    "1024x1024": (196, 1756, 7024),
    "1024x1536": (158, 1372, 5488),
    "1536x1024": (158, 1372, 5488),
    "1536x864": (120, 1078, 4312),
    "2048x1152": (157, 1413, 5650),
    "2048x2048": (397, 3568, 14272),
    "2880x2880": (659, 5930, 23719),
    "3840x2160": (371, 3336, 13342),
}
KNOWN_25 = {
    "1024x1024": (196, 439, 1756, 3122, 7024),
    "1024x1536": (158, 343, 1372, 2459, 5488),
    "1536x1024": (158, 343, 1372, 2459, 5488),
    "1536x864": (120, 280, 1078, 1917, 4312),
    "2048x1152": (157, 367, 1413, 2511, 5650),
    "2048x2048": (397, 892, 3568, 6343, 14272),
    "2880x2880": (659, 1483, 5930, 10542, 23719),
    "3840x2160": (371, 865, 3336, 5930, 13342),
}
CASES = [
    (model, size, quality, tokens)
    for model, known, qualities in (
        (GPT_IMAGE_2, KNOWN_2, QUALITIES_2),
        (GPT_IMAGE_25, KNOWN_25, QUALITIES_25),
    )
    for size, row in known.items()
    for quality, tokens in zip(qualities, row, strict=True)
]


def size_of(text: str) -> Size:
    """Parse a size that is known to be one."""
    size = Size.parse(text)
    assert size is not None
    return size


def worst(model: Model, **changes: object) -> int:
    """The worst case of a job on a model, nano-USD, with every value of the model open to `auto`."""
    return pricing.worst_case(job(**changes), model, model.prices[0], sizes=(), qualities=model.capabilities.quality)


@pytest.mark.parametrize(("model", "size", "quality", "tokens"), CASES)
def test_output_tokens_are_the_published_ones(model: Model, size: str, quality: str, tokens: int) -> None:
    """Every published or measured token count of the grid models is reproduced."""
    assert output_tokens(model, [size_of(size)], [quality]) == tokens


@pytest.mark.parametrize(
    ("size", "quality", "tokens"),
    [
        ("1024x1024", "low", 272),
        ("1024x1536", "medium", 1584),
        ("1536x1024", "high", 6208),
        ("auto", "high", 6240),
        ("auto", "auto", 6240),
    ],
)
def test_older_models_are_priced_by_table(size: str, quality: str, tokens: int) -> None:
    """A table model takes its row, and the dearest row for what is left open."""
    parsed = Size.parse(size)
    qualities = QUALITIES_2 if quality == "auto" else (quality,)

    assert output_tokens(GPT_IMAGE_15, [parsed] if parsed else [], qualities) == tokens


def test_auto_is_held_at_the_dearest_size_and_quality() -> None:
    """Nothing said means 23,719 tokens an image on gpt-image-2: $0.71 at $30 a million, and the prompt."""
    text = (5 + pricing.PROMPT_OVERHEAD_TOKENS) * 5_000

    assert worst(GPT_IMAGE_2) == 23_719 * 30_000 + text


def test_an_unknown_quality_is_held_at_the_dearest_one() -> None:
    """A word that the catalog doesn't know may be dearer than we think: it takes the model's highest."""
    assert worst(GPT_IMAGE_25, quality="ultra", size="1024x1024") == worst(
        GPT_IMAGE_25, quality="max", size="1024x1024"
    )


@pytest.mark.parametrize(
    ("model", "size"), [(GPT_IMAGE_25, "2048x2048"), (GPT_IMAGE_15, "1024x1024")], ids=["grid", "table"]
)
def test_an_unknown_quality_among_known_ones_is_the_dearest_too(model: Model, size: str) -> None:
    """Of several that are left open the one nobody knows may be dearer than those that are known."""
    dearest = output_tokens(model, [size_of(size)], ())

    assert output_tokens(model, [size_of(size)], ("low", "ultra")) == dearest
    assert output_tokens(model, [size_of(size)], ("low",)) < dearest


def test_an_unknown_size_among_known_ones_is_the_dearest_too() -> None:
    """A table says nothing of a size that it does not have: its dearest row counts, whatever else is left open."""
    sizes = [size_of("1024x1024"), size_of("640x480")]

    assert output_tokens(GPT_IMAGE_15, sizes, ("high",)) == 6240
    assert output_tokens(GPT_IMAGE_15, sizes[:1], ("high",)) < 6240


def test_ten_high_images_hold_at_least_two_dollars_eleven() -> None:
    """The example that other proxies hold at $0.0001."""
    assert worst(GPT_IMAGE_2, n=10, size="1024x1024", quality="high") >= parse_usd("2.11")


def test_inputs_count_for_every_image_made() -> None:
    """Two references and a mask with n=3 are billed three times over."""
    plain = worst(GPT_IMAGE_2, n=3, size="1024x1024", quality="low")
    edit = worst(GPT_IMAGE_2, n=3, size="1024x1024", quality="low", references=2, mask=True)

    assert edit - plain == 3 * 3 * 1536 * 8_000


def test_partial_images_are_held() -> None:
    """Each partial image adds 100 output tokens."""
    plain = worst(GPT_IMAGE_2, size="1024x1024", quality="low")

    assert worst(GPT_IMAGE_2, size="1024x1024", quality="low", partial_images=3) - plain == 300 * 30_000


@given(
    width=st.integers(20, 240).map(lambda n: n * 16),
    height=st.integers(20, 240).map(lambda n: n * 16),
    quality=st.sampled_from(QUALITIES_25),
)
def test_auto_is_never_cheaper_than_a_size_that_can_be_made(width: int, height: int, quality: str) -> None:
    """The bound for `auto` holds for every size within the model's rule."""
    size = Size(width, height)
    if GPT_IMAGE_25.capabilities.sizes.refusal(size) is not None:
        return

    exact = output_tokens(GPT_IMAGE_25, [size], [quality])

    assert exact <= output_tokens(GPT_IMAGE_25, [], [quality])


def test_the_price_of_the_day_is_the_newest_valid_one() -> None:
    """Prices have a date from which they hold; none before it."""
    old = Price(date(2026, 1, 1), "test", rates("5", "1", "8", "2", "30"))
    new = replace(old, valid_from=date(2026, 11, 1))

    assert pricing.price_on((new, old), TODAY) is new
    assert pricing.price_on((new, old), date(2026, 10, 31)) is old
    with pytest.raises(pricing.NoPrice):
        pricing.price_on((new, old), date(2025, 12, 31))


def test_cost_of_usage_is_exact_and_rounded_up_once() -> None:
    """Rates finer than a nano-USD are summed in pico-USD before the one rounding."""
    mini = rates("2", "0.20", "2.5", "0.25", "8")

    assert pricing.cost_of_usage(Usage(text_in=10, image_in=323, image_out=272), mini) == 20_000 + 807_500 + 2_176_000
    assert pricing.cost_of_usage(Usage(image_in_cached=1), mini) == 250
    tiny = rates("0.000001", "0", "0", "0", "0")
    assert pricing.cost_of_usage(Usage(text_in=1), tiny) == 1
    assert pricing.cost_of_usage(Usage(text_in=1000), tiny) == 1


def test_views_are_official_route_and_internal() -> None:
    """The internal view is the route's price times the project's multiplier, rounded up."""
    views = pricing.views(100, 90, Fraction("1.15"))

    assert (views.official, views.route, views.internal) == (100, 90, 104)


def test_per_image_prices_go_by_pixels() -> None:
    """The smallest bucket that holds the image; the dearest when the size is open."""
    tiers = (
        PixelTier("1K", parse_usd("0.015"), 1_700_000),
        PixelTier("2K", parse_usd("0.0255"), 4_400_000),
        PixelTier("4K", parse_usd("0.039"), None),
    )
    price = Price(TODAY, "test", per_image=tiers)

    for size, images, usd in (("1024x1024", 2, "0.03"), ("2048x2048", 1, "0.0255")):
        made = pricing.cost_of_work(job(size=size), price, GPT_IMAGE_2, Reading(images=images))
        assert made == parse_usd(usd)
    assert pricing.worst_case(job(n=3), GPT_IMAGE_2, price, sizes=(), qualities=()) == parse_usd("0.117")

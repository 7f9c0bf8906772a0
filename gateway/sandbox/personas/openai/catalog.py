"""OpenAI's image models as the simulated service knows them: what they accept, how tokens count, what a token costs.

Sources: openai-python 3.52.0 (ids, shutdown dates, parameters), the image generation guide (sizes, qualities, token
tables), the pricing page (rates). Where OpenAI publishes nothing, the line says what was assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

Sizes = tuple[int, int]

FIXED_SIZES: tuple[Sizes, ...] = ((1024, 1024), (1024, 1536), (1536, 1024))


@dataclass(frozen=True, slots=True)
class Rates:
    """Pico-USD per token."""

    text_in: int
    image_in: int
    image_out: int


@dataclass(frozen=True, slots=True)
class ImageModel:
    """A model. Without `table` its output tokens come from `grid`, and any size within the rules is made."""

    id: str
    created: int
    qualities: tuple[str, ...]
    rates: Rates
    family: str = "gpt-image"
    grid: Mapping[str, int] = field(default_factory=dict)
    table: Mapping[str, Mapping[Sizes, int]] = field(default_factory=dict)
    transparent: bool = True
    input_fidelity: tuple[str, ...] = ()
    shutdown_date: str | None = None
    retired: bool = False
    """Whether it is gone already; the sandbox does not look at the calendar, so that tests stay the same."""

    @property
    def any_size(self) -> bool:
        """Whether sizes beyond the three fixed ones are made."""
        return bool(self.grid)


_PICO_PER_DOLLAR_PER_MILLION = 1_000_000


def _rates(text_in: int, image_in_tenths: int, image_out: int) -> Rates:
    """Dollars per million tokens; tenths of a dollar for image input."""
    return Rates(
        text_in * _PICO_PER_DOLLAR_PER_MILLION,
        image_in_tenths * _PICO_PER_DOLLAR_PER_MILLION // 10,
        image_out * _PICO_PER_DOLLAR_PER_MILLION,
    )


_CURRENT = _rates(5, 80, 30)
_GRID_2 = {"low": 16, "medium": 48, "high": 96}
_GRID_25 = {"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96}
# Unpublished; reported: low and medium take three to four times the tokens of 2.5, the rest the same.
_GRID_26 = {"low": 30, "medium": 44, "high": 48, "xhigh": 64, "max": 96}
_LEGACY_TABLE = {
    "low": dict(zip(FIXED_SIZES, (272, 408, 400), strict=True)),
    "medium": dict(zip(FIXED_SIZES, (1056, 1584, 1568), strict=True)),
    "high": dict(zip(FIXED_SIZES, (4160, 6240, 6208), strict=True)),
}

_IMAGE_2 = ImageModel("gpt-image-2", 1776729600, tuple(_GRID_2), _CURRENT, grid=_GRID_2, transparent=False)
_SUNBURST_25 = ImageModel("gpt-image-2.5-sunburst", 1788825600, tuple(_GRID_25), _CURRENT, grid=_GRID_25)
_SUNBURST_26 = ImageModel("gpt-image-2.6-sunburst", 1793750400, tuple(_GRID_26), _CURRENT, grid=_GRID_26)
_IMAGE_15 = ImageModel(
    "gpt-image-1.5",
    1765843200,
    tuple(_LEGACY_TABLE),
    _rates(5, 80, 32),
    table=_LEGACY_TABLE,
    input_fidelity=("high", "low"),
    shutdown_date="2026-12-01",
)
_GONE = ImageModel(
    "gpt-image-1", 1745452800, tuple(_LEGACY_TABLE), _rates(5, 100, 40), table=_LEGACY_TABLE, retired=True
)

_ALL = (
    _IMAGE_2,
    replace(_IMAGE_2, id="gpt-image-2-2026-04-21"),
    _SUNBURST_25,
    replace(_SUNBURST_25, id="gpt-image-2.5-sunburst-2026-09-08"),
    replace(_SUNBURST_25, id="gpt-image-2.5-flare"),
    replace(_SUNBURST_25, id="gpt-image-2.5-flare-2026-09-08"),
    _SUNBURST_26,
    replace(_SUNBURST_26, id="gpt-image-2.6-flare"),
    _IMAGE_15,
    replace(_IMAGE_15, id="gpt-image-1.5-2025-12-16"),
    replace(_IMAGE_15, id="chatgpt-image-latest", family="chatgpt-image"),
    replace(_IMAGE_15, id="gpt-image-1-mini", rates=_rates(2, 25, 8), input_fidelity=("low",)),
    replace(_GONE, shutdown_date="2026-10-23"),
    replace(_GONE, id="dall-e-3", shutdown_date="2026-05-12"),
    replace(_GONE, id="dall-e-2", shutdown_date="2026-05-12"),
)

MODELS: Mapping[str, ImageModel] = {model.id: model for model in _ALL}

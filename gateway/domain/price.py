"""Price rows: what one provider charges for an image, a megapixel, a token or a second, from a day on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from fractions import Fraction

from gateway.domain import money
from gateway.domain.job import Size


@dataclass(frozen=True, slots=True)
class TokenRates:
    """Pico-USD per token. Thinking counts as text output."""

    text_in: int
    text_in_cached: int
    image_in: int
    image_in_cached: int
    image_out: int
    text_out: int | None = None


@dataclass(frozen=True, slots=True)
class PixelTier:
    """A per-image price, nano-USD, for images of at most `max_pixels` (None: any size).

    With `size` it is for that size alone, with `quality` for that quality alone.
    """

    name: str
    nano: int
    max_pixels: int | None
    size: Size | None = None
    quality: str | None = None


@dataclass(frozen=True, slots=True)
class MegapixelRates:
    """Nano-USD per megapixel of output: `first` for the first, whole or not (None: as the rest), `more` for the rest.

    `input` is for each megapixel of an input image, which counts as `most_input` megapixels at most. `megapixel` is in
    pixels; `whole` tells that a megapixel begun is paid in full.
    """

    more: int
    first: int | None = None
    input: int = 0
    most_input: int = 0
    megapixel: int = 1_000_000
    whole: bool = True

    def pico(self, pixels: int) -> int:
        """Pico-USD of one image of so many pixels, rounded up."""
        if self.whole:
            begun = -(-pixels // self.megapixel)
            first = self.more if self.first is None else self.first
            return (first + (begun - 1) * self.more) * money.PICO_PER_NANO
        rest = pixels if self.first is None else max(pixels - self.megapixel, 0)
        return (self.first or 0) * money.PICO_PER_NANO + -(-self.more * money.PICO_PER_NANO * rest // self.megapixel)


@dataclass(frozen=True, slots=True)
class Metered:
    """Nano-USD for one of what the provider counts; how many an image takes as a rule, and at most."""

    nano: int
    usual: Fraction
    most: Fraction

    def pico(self, count: Fraction) -> int:
        """Pico-USD of so many, rounded up."""
        return money.times(self.nano * money.PICO_PER_NANO, count)


@dataclass(frozen=True, slots=True)
class AddOns:
    """Nano-USD on top: for each input image (the mask too) of each image made, and for each request."""

    input_image: int = 0
    request: int = 0


class Charged(StrEnum):
    """What a provider charges for."""

    SUCCEEDED = "succeeded"
    MODERATED = "moderated"
    """A refusal by its content policy."""
    INVALID = "invalid"
    """A request that it found invalid."""
    FAILED = "failed"
    """Work that it began and could not finish."""


class Bills(StrEnum):
    """Which images are charged for, where fewer came than were asked for."""

    RETURNED = "returned"
    REQUESTED = "requested"


@dataclass(frozen=True, slots=True)
class Price:
    """A price from a date on: exactly one of `tokens` to `free`, and what applies to any of them.

    `per_image` are tiers, smallest first; `seconds` and `units` are of one image; `per_request` is nano-USD. All of it,
    add-ons too, is multiplied by `multiplier`. `free` is for own machines: nothing is charged.
    """

    valid_from: date
    source: str
    tokens: TokenRates | None = None
    per_image: tuple[PixelTier, ...] = ()
    megapixels: MegapixelRates | None = None
    seconds: Metered | None = None
    units: Metered | None = None
    per_request: int | None = None
    free: bool = False
    add_ons: AddOns = field(default_factory=AddOns)
    multiplier: Fraction = money.ONE
    charged_for: frozenset[str] = frozenset({Charged.SUCCEEDED})
    bills: Bills = Bills.RETURNED
    reported_unit: int | None = None
    """Nano-USD for a unit that the provider counts: where it tells how many, that is the cost, add-ons and all."""

"""What a job may cost at most, and what it did cost: exact integers, one rounding, up.

Image output tokens of the grid models follow the vendor's published calculator:
`g` patches on the long edge, `s = round_half_even(g * short / long)`, `ceil(g * s * (2_000_000 + w * h) / 4_000_000)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from gateway.domain import money
from gateway.domain.job import AUTO, Job, Size
from gateway.domain.route import Model, Price, Route, TokenRates, Views
from gateway.domain.settlement import Usage

PROMPT_OVERHEAD_TOKENS = 64
"""Text tokens held beyond the prompt's own: providers wrap a prompt in words of their own and do not say how many."""

BYTES_PER_TOKEN = 4
"""Of English text, by the vendor's rule of thumb; what is held counts a token a byte."""


class NoPrice(ValueError):
    """A model or route has no price that is valid on the day asked for."""


def price_on(prices: Sequence[Price], day: date) -> Price:
    """Return the newest price valid on that day; NoPrice if there is none."""
    valid = [price for price in prices if price.valid_from <= day]
    if not valid:
        raise NoPrice(f"no price is valid on {day}")
    return max(valid, key=lambda price: price.valid_from)


def grid_tokens(g: int, size: Size) -> int:
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
            return max(grid_tokens(g, size) for size in wanted)
        return -(-g * g * (2_000_000 + rule.max_pixels) // 4_000_000)
    rows = [tokens.table[size] for size in wanted if size in tokens.table]
    rows = rows if rows and len(rows) == len(wanted) else list(tokens.table.values())
    return max((_dearest(row, chosen) for row in rows), default=0)


def _dearest(row: Mapping[str, int], chosen: Sequence[str]) -> int:
    known = [row[quality] for quality in chosen if quality in row]
    return max(known) if known and len(known) == len(chosen) else max(row.values())


@dataclass(frozen=True, slots=True)
class Tariff:
    """What one image costs by a price list: pico-USD besides its text, and for each token of its text."""

    rest: int
    text: int

    def nano(self, tokens: int, n: int, per_call: int) -> int:
        """Nano-USD of n images by calls of at most `per_call`, each with so much text; each call is rounded up."""
        each = self.rest + tokens * self.text
        if n <= per_call:
            return money.nano_from_pico(n * each)
        full, rest = divmod(n, per_call)
        return full * money.nano_from_pico(per_call * each) + money.nano_from_pico(rest * each)


def most_text(prompt_bytes: int) -> int:
    """Most text tokens a prompt may take: a token a byte, and what providers put around it."""
    return prompt_bytes + PROMPT_OVERHEAD_TOKENS


def likely_text(prompt_bytes: int) -> int:
    """Text tokens a prompt will probably take."""
    return -(-prompt_bytes // BYTES_PER_TOKEN)


def tariff(job: Job, model: Model, price: Price, *, sizes: Sequence[Size], qualities: Sequence[str]) -> Tariff:
    """Most that one image of this job may cost: `sizes` and `qualities` are what `auto` may still turn into."""
    size = Size.parse(job.size)
    wanted = (size,) if size else tuple(sizes)
    if price.tokens is None:
        return Tariff(_dearest_tier(price, wanted) * money.PICO_PER_NANO, 0)
    image_in, image_out = _most_tokens(job, model, wanted, qualities)
    rates = price.tokens
    return Tariff(image_in * rates.image_in + image_out * rates.image_out, rates.text_in)


def worst_case(job: Job, model: Model, price: Price, *, sizes: Sequence[Size], qualities: Sequence[str]) -> int:
    """Most nano-USD this job may be billed by one call; the arguments are those of `tariff`."""
    most = tariff(job, model, price, sizes=sizes, qualities=qualities)
    return most.nano(most_text(job.prompt_bytes), job.n, job.n)


def most_image_tokens(job: Job, model: Model, *, sizes: Sequence[Size], qualities: Sequence[str]) -> int:
    """Most tokens, in and out, that one image of this job may take besides its text."""
    size = Size.parse(job.size)
    return sum(_most_tokens(job, model, (size,) if size else tuple(sizes), qualities))


def _most_tokens(job: Job, model: Model, sizes: tuple[Size, ...], qualities: Sequence[str]) -> tuple[int, int]:
    """Most tokens of one image: images in, image out."""
    chosen = tuple(qualities) if job.quality == AUTO else (job.quality,)
    image_out = output_tokens(model, sizes, chosen) + job.partial_images * model.output_tokens.per_partial_image
    return (job.references + job.mask) * model.input_image_tokens, image_out


def _dearest_tier(price: Price, sizes: Sequence[Size]) -> int:
    if not sizes:
        return max(tier.nano for tier in price.per_image)
    return max(_tier(price, size) for size in sizes)


def _tier(price: Price, size: Size) -> int:
    fitting = [tier for tier in price.per_image if tier.max_pixels is None or size.pixels <= tier.max_pixels]
    return fitting[0].nano if fitting else max(tier.nano for tier in price.per_image)


def cost_of_usage(usage: Usage, rates: TokenRates) -> int:
    """Nano-USD of what was reported; text output is priced as image output where no rate for it is known."""
    text_out = rates.image_out if rates.text_out is None else rates.text_out
    return money.nano_from_pico(
        usage.text_in * rates.text_in
        + usage.text_in_cached * rates.text_in_cached
        + usage.image_in * rates.image_in
        + usage.image_in_cached * rates.image_in_cached
        + usage.image_out * rates.image_out
        + usage.text_out * text_out
    )


def cost_of_images(images: int, size: Size | None, price: Price) -> int:
    """Nano-USD of finished images on a route that sells by the image."""
    return images * _dearest_tier(price, (size,) if size else ())


def views(official: int, route: int, multiplier: Fraction) -> Views:
    """The three views of one amount, nano-USD."""
    return Views(official=official, route=route, internal=money.times(route, multiplier))


def prices_of(route: Route, day: date) -> tuple[Price, Price]:
    """The official price and this route's own price on that day; NoPrice if either is missing."""
    official = price_on(route.model.prices, day)
    return official, (price_on(route.prices, day) if route.prices else official)

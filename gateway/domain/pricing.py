"""What a job may cost at most, and what it did cost: exact integers, one rounding, up.

Image output tokens of the grid models follow the vendor's published calculator:
`g` patches on the long edge, `s = round_half_even(g * short / long)`, `ceil(g * s * (2_000_000 + w * h) / 4_000_000)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from fractions import Fraction

from gateway.domain import money
from gateway.domain.job import AUTO, Job, Size
from gateway.domain.route import Model, Price, Route, TokenRates, Views
from gateway.domain.settlement import Usage

PROMPT_OVERHEAD_TOKENS = 64
"""Text tokens held beyond the prompt's own: providers wrap a prompt in words of their own and do not say how many."""


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


def worst_case(job: Job, model: Model, price: Price, *, sizes: Sequence[Size], qualities: Sequence[str]) -> int:
    """Most nano-USD this job may be billed: `sizes` and `qualities` are what `auto` may still turn into."""
    size = Size.parse(job.size)
    wanted = (size,) if size else tuple(sizes)
    if price.tokens is None:
        return job.n * _dearest_tier(price, wanted)
    chosen = tuple(qualities) if job.quality == AUTO else (job.quality,)
    text = job.prompt_bytes + PROMPT_OVERHEAD_TOKENS
    image_in = (job.references + job.mask) * model.input_image_tokens
    image_out = output_tokens(model, wanted, chosen) + job.partial_images * model.output_tokens.per_partial_image
    rates = price.tokens
    each = text * rates.text_in + image_in * rates.image_in + image_out * rates.image_out
    return money.nano_from_pico(job.n * each)


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

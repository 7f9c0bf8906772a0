"""What a job may cost at most, and what it did cost: exact integers, one rounding, up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Final

from gateway.domain import money
from gateway.domain.job import AUTO, Job, Size
from gateway.domain.output_tokens import output_tokens, tier_of
from gateway.domain.price import Bills, PixelTier, Price, TokenRates
from gateway.domain.route import Model, Route, Views
from gateway.domain.settlement import Reading, Usage

_REQUESTED: Final = Bills.REQUESTED

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


@dataclass(frozen=True, slots=True)
class Tariff:
    """What one image costs by a price row: besides its text, and for each token of its text; `call` is for each call.

    In units of which `divisor` make a nano-USD: pico-USD, where the row has no multiplier.
    """

    rest: int
    text: int
    call: int = 0
    divisor: int = money.PICO_PER_NANO

    def nano(self, tokens: int, n: int, per_call: int) -> int:
        """Nano-USD of n images by calls of at most `per_call`, each with so much text; each call is rounded up.

        Of several calls each image and each fee is, so that every call has its share of it, however they divide them.
        """
        each = self.rest + tokens * self.text
        if n <= per_call:
            return self._rounded(n * each + self.call)
        return n * self._rounded(each) + -(-n // per_call) * self._rounded(self.call)

    def pico(self, tokens: int, n: int, per_call: int) -> int:
        """Pico-USD of the same, not rounded where there is no multiplier: for comparing."""
        exact = n * (self.rest + tokens * self.text)
        if self.call:
            exact += -(-n // per_call) * self.call
        return exact if self.divisor == money.PICO_PER_NANO else -(-exact * money.PICO_PER_NANO // self.divisor)

    def _rounded(self, amount: int) -> int:
        return -(-amount // self.divisor)


def most_text(prompt_bytes: int) -> int:
    """Most text tokens a prompt may take: a token a byte, and what providers put around it."""
    return prompt_bytes + PROMPT_OVERHEAD_TOKENS


def likely_text(prompt_bytes: int) -> int:
    """Text tokens a prompt will probably take."""
    return -(-prompt_bytes // BYTES_PER_TOKEN)


def tariff(
    job: Job, model: Model, price: Price, *, sizes: Sequence[Size], qualities: Sequence[str], likely: bool = False
) -> Tariff:
    """Most that one image of this job may cost: `sizes` and `qualities` are what `auto` may still turn into.

    With `likely`, what is counted by the provider alone (seconds, units, megapixels of inputs, words that come with an
    image) is taken as it usually is.
    """
    size = Size.parse(job.size)
    wanted = (size,) if size else tuple(sizes)
    text = 0
    if price.tokens is not None:
        image_in, image_out, text_out = _most_tokens(job, model, wanted, qualities)
        rates, text = price.tokens, price.tokens.text_in
        rest = image_in * rates.image_in + image_out * rates.image_out + (0 if likely else text_out * _text_out(rates))
    else:
        rest = _most_of_image(job, model, price, wanted, qualities, likely=likely)
    rest += _inputs(job) * price.add_ons.input_image * money.PICO_PER_NANO
    call = ((price.per_request or 0) + price.add_ons.request) * money.PICO_PER_NANO
    up, down = price.multiplier.numerator, price.multiplier.denominator
    return Tariff(rest * up, text * up, call * up, money.PICO_PER_NANO * down)


def _most_of_image(
    job: Job, model: Model, price: Price, sizes: tuple[Size, ...], qualities: Sequence[str], *, likely: bool
) -> int:
    """Most pico-USD of one image where it is not sold by tokens, without add-ons."""
    if price.per_image:
        wanted = sizes or model.capabilities.sizes.fixed
        return _dearest_tier(price, wanted, _open(job, qualities)) * money.PICO_PER_NANO
    if price.megapixels is not None:
        rates = price.megapixels
        counted = 1 if likely else rates.most_input
        return rates.pico(_most_pixels(model, sizes)) + _inputs(job) * counted * rates.input * money.PICO_PER_NANO
    metered = price.seconds or price.units
    return metered.pico(metered.usual if likely else metered.most) if metered else 0


def worst_case(job: Job, model: Model, price: Price, *, sizes: Sequence[Size], qualities: Sequence[str]) -> int:
    """Most nano-USD this job may be billed by one call; the arguments are those of `tariff`."""
    most = tariff(job, model, price, sizes=sizes, qualities=qualities)
    return most.nano(most_text(job.prompt_bytes), job.n, job.n)


def usual_case(job: Job, model: Model, price: Price, *, sizes: Sequence[Size], qualities: Sequence[str]) -> int:
    """Nano-USD that this job usually costs by one call; the arguments are those of `tariff`."""
    usual = tariff(job, model, price, sizes=sizes, qualities=qualities, likely=True)
    return usual.nano(likely_text(job.prompt_bytes), job.n, job.n)


def most_image_tokens(job: Job, model: Model, *, sizes: Sequence[Size], qualities: Sequence[str]) -> int:
    """Most tokens, in and out, that one image of this job may take besides its prompt."""
    size = Size.parse(job.size)
    return sum(_most_tokens(job, model, (size,) if size else tuple(sizes), qualities))


def _most_tokens(job: Job, model: Model, sizes: tuple[Size, ...], qualities: Sequence[str]) -> tuple[int, int, int]:
    """Most tokens of one image: images in, image out, text out."""
    made = model.output_tokens
    image_out = output_tokens(model, sizes, _open(job, qualities)) + job.partial_images * made.per_partial_image
    return _inputs(job) * model.input_image_tokens, image_out, made.text


def _inputs(job: Job) -> int:
    return job.references + job.mask


def _open(job: Job, qualities: Sequence[str]) -> tuple[str, ...]:
    """Qualities that the job may be made in."""
    return tuple(qualities) if job.quality == AUTO else (job.quality,)


def _most_pixels(model: Model, sizes: Sequence[Size]) -> int:
    rule = model.capabilities.sizes
    return max((size.pixels for size in sizes or rule.fixed), default=rule.max_pixels)


def _dearest_tier(price: Price, sizes: Sequence[Size], qualities: Sequence[str]) -> int:
    """Nano-USD of the dearest image of these sizes (none: any) and qualities; a row that there is not is any row."""
    rows = [row for row in price.per_image if row.quality is None or row.quality in qualities]
    known = {row.quality for row in rows}
    if None not in known and not (qualities and known >= set(qualities)):
        rows = list(price.per_image)
    own = {row.quality: [other for other in rows if other.quality == row.quality] for row in rows}
    return max(_of_quality(each, sizes) for each in own.values())


def _of_quality(rows: Sequence[PixelTier], sizes: Sequence[Size]) -> int:
    """Nano-USD of the dearest of these sizes: each by its own row, else by its tier, else by the dearest row."""
    dearest = max(row.nano for row in rows)
    named = {row.size: row.nano for row in rows if row.size is not None}
    tiers = [row for row in rows if row.size is None]
    found = (named.get(size) or (tier_of(tiers, size).nano if tiers else dearest) for size in sizes)
    return max(found, default=dearest)


def cost_of_usage(usage: Usage, rates: TokenRates) -> int:
    """Nano-USD of what was reported; text output is priced as image output where no rate for it is known."""
    return -(-_pico_of_usage(usage, rates) // money.PICO_PER_NANO)


def _pico_of_usage(usage: Usage, rates: TokenRates) -> int:
    return (
        usage.text_in * rates.text_in
        + usage.text_in_cached * rates.text_in_cached
        + usage.image_in * rates.image_in
        + usage.image_in_cached * rates.image_in_cached
        + usage.image_out * rates.image_out
        + usage.text_out * (rates.image_out if rates.text_out is None else rates.text_out)
    )


def _text_out(rates: TokenRates) -> int:
    return rates.image_out if rates.text_out is None else rates.text_out


def cost_of_work(made: Job, price: Price, model: Model, reading: Reading) -> int | None:
    """Nano-USD of what was done, by what the answer says of it; None where the row charges for what it does not say.

    `made` is the job as the answer says that it was made; its `n` is what was asked for.
    """
    if price.reported_unit is not None and reading.units is not None:
        return money.times(price.reported_unit, reading.units * price.multiplier)
    images = made.n if price.bills is _REQUESTED else reading.images or made.n
    if price.tokens is not None:
        pico = None if reading.usage is None else _pico_of_usage(reading.usage, price.tokens)
    else:
        pico = _pico_of_work(made, price, model, reading, images)
    if pico is None:
        return None
    add_ons = price.add_ons
    if add_ons.input_image:
        pico += images * _inputs(made) * add_ons.input_image * money.PICO_PER_NANO
    pico += add_ons.request * money.PICO_PER_NANO
    if price.multiplier is money.ONE:
        return -(-pico // money.PICO_PER_NANO)
    up, down = price.multiplier.as_integer_ratio()
    return -(-pico * up // (money.PICO_PER_NANO * down))


def _pico_of_work(made: Job, price: Price, model: Model, reading: Reading, images: int) -> int | None:
    """Pico-USD of work that is not sold by tokens, without add-ons."""
    size = Size.parse(made.size)
    sizes = (size,) if size else model.capabilities.sizes.fixed
    if price.per_image:
        qualities = _open(made, model.capabilities.quality)
        return images * _dearest_tier(price, sizes, qualities) * money.PICO_PER_NANO
    if price.megapixels is not None:
        if size is None or (price.megapixels.input and _inputs(made)):
            return None
        return images * price.megapixels.pico(size.pixels)
    metered, count = (price.units, reading.units) if price.seconds is None else (price.seconds, reading.seconds)
    if metered is not None:
        return None if count is None else metered.pico(count)
    return (price.per_request or 0) * money.PICO_PER_NANO


def fee_of_call(price: Price) -> int:
    """Nano-USD of each call, however many images it makes."""
    return money.times((price.per_request or 0) + price.add_ons.request, price.multiplier)


def views(official: int, route: int, multiplier: Fraction) -> Views:
    """The three views of one amount, nano-USD."""
    return Views(official, route, money.times(route, multiplier))


def prices_of(route: Route, day: date) -> tuple[Price, Price]:
    """The official price and this route's own price on that day; NoPrice if either is missing."""
    official = price_on(route.model.prices, day)
    return official, (price_on(route.prices, day) if route.prices else official)

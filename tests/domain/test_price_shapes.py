"""Prices of every shape: what is held covers what is billed by the provider's own rules, exactly to the nano-dollar."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import pricing
from gateway.domain.job import Job, Operation, Size
from gateway.domain.money import parse_rate_per_million, parse_usd
from gateway.domain.output_tokens import output_tokens
from gateway.domain.price import AddOns, Bills, MegapixelRates, Metered, PixelTier, Price, TokenRates
from gateway.domain.route import Model, OutputTokens, TokenTier
from gateway.domain.settlement import Reading, Usage
from tests.builders import FREE_SIZES, GPT_IMAGE_2, TODAY, capabilities, job, rates

QUALITIES = ("low", "medium", "high")
BY_RESOLUTION = replace(
    GPT_IMAGE_2,
    name="tiered",
    capabilities=capabilities(FREE_SIZES, ("standard",)),
    output_tokens=OutputTokens(
        by_resolution=(TokenTier("1K", 1120, 1_700_000), TokenTier("2K", 1680, 4_400_000), TokenTier("4K", 2520, None)),
        text=3000,
    ),
)
TABLE = (
    PixelTier("1024x1024", parse_usd("0.006"), None, Size(1024, 1024), "low"),
    PixelTier("1024x1024", parse_usd("0.211"), None, Size(1024, 1024), "high"),
    PixelTier("1024x1536", parse_usd("0.005"), None, Size(1024, 1536), "low"),
    PixelTier("1024x1536", parse_usd("0.165"), None, Size(1024, 1536), "high"),
)
MATRIX = (
    PixelTier("1K", parse_usd("0.04"), 1_700_000, None, "low"),
    PixelTier("2K", parse_usd("0.06"), None, None, "low"),
    PixelTier("1K", parse_usd("0.06"), 1_700_000, None, "medium"),
    PixelTier("2K", parse_usd("0.08"), None, None, "medium"),
)
FIRST = MegapixelRates(parse_usd("0.015"), parse_usd("0.03"), parse_usd("0.015"), 4, 1_048_576)

rows = st.builds(
    Price,
    valid_from=st.just(TODAY),
    source=st.just("test"),
    tokens=st.none(),
    per_image=st.just(()),
    add_ons=st.builds(AddOns, st.integers(0, 10**8), st.integers(0, 10**8)),
    multiplier=st.fractions(Fraction(1, 50), Fraction(3), max_denominator=97),
    bills=st.sampled_from(Bills),
)
amounts = st.integers(1, 10**9)
tiers = st.lists(amounts, min_size=1, max_size=4).map(
    lambda nanos: tuple(
        PixelTier(str(at), nano, None if at == len(nanos) - 1 else 1_000_000 * (at + 1))
        for at, nano in enumerate(nanos)
    )
)
by_quality = st.lists(amounts, min_size=6, max_size=6).map(
    lambda nanos: tuple(
        PixelTier(f"{at}", nano, 1_700_000 if at % 2 == 0 else None, None, QUALITIES[at // 2])
        for at, nano in enumerate(nanos)
    )
)
megapixels = st.builds(
    MegapixelRates,
    more=amounts,
    first=st.none() | amounts,
    input=amounts,
    most_input=st.integers(1, 9),
    megapixel=st.sampled_from([1_000_000, 1_048_576]),
    whole=st.booleans(),
)
metered = st.builds(
    lambda nano, usual, more: Metered(nano, usual, usual + more),
    amounts,
    st.fractions(Fraction(1, 50), Fraction(90), max_denominator=50),
    st.fractions(Fraction(0), Fraction(90), max_denominator=50),
)
token_rates = st.builds(TokenRates, *([st.integers(0, 10**8)] * 5), text_out=st.none() | st.integers(0, 10**8))
EVERY_SIZE = [
    size
    for size in (Size(width * 16, height * 16) for width in range(40, 241, 8) for height in range(24, 241, 7))
    if FREE_SIZES.refusal(size) is None
]
sizes = st.sampled_from(EVERY_SIZE)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """A job that a grid model makes: size and quality named or open, inputs, several images."""
    size = draw(sizes)
    open_size, open_quality = draw(st.booleans()), draw(st.booleans())
    return job(
        operation=Operation.EDIT,
        n=draw(st.integers(1, 10)),
        size="auto" if open_size else str(size),
        quality="auto" if open_quality else draw(st.sampled_from(QUALITIES)),
        references=draw(st.integers(0, 16)),
        mask=draw(st.booleans()),
        prompt_bytes=draw(st.integers(1, 32_000)),
    )


def made(draw: st.DataObject, asked: Job) -> Job:
    """The job as a provider may make it: what was left open is settled, what was named is kept."""
    size = draw.draw(sizes)
    return replace(
        asked,
        size=str(size) if asked.size == "auto" else asked.size,
        quality=draw.draw(st.sampled_from(QUALITIES)) if asked.quality == "auto" else asked.quality,
    )


def worst(asked: Job, price: Price, model: Model = GPT_IMAGE_2) -> int:
    """What is held for the job, nano-USD."""
    return pricing.worst_case(asked, model, price, sizes=(), qualities=model.capabilities.quality)


def usual(asked: Job, price: Price, model: Model = GPT_IMAGE_2) -> int:
    """What is expected of the job, nano-USD."""
    return pricing.usual_case(asked, model, price, sizes=(), qualities=model.capabilities.quality)


@given(data=st.data(), row=rows, per_image=tiers | by_quality, asked=jobs())
def test_images_by_tier_or_table_are_within_the_hold(
    data: st.DataObject, row: Price, per_image: tuple[PixelTier, ...], asked: Job
) -> None:
    """However many of the images came, of whatever size and quality was left open, they cost no more than is held."""
    price, reading = replace(row, per_image=per_image), Reading(images=data.draw(st.integers(1, asked.n)))

    cost = pricing.cost_of_work(made(data, asked), price, GPT_IMAGE_2, reading)

    assert cost is not None
    assert 0 < cost <= worst(asked, price)
    assert usual(asked, price) <= worst(asked, price)


@given(data=st.data(), row=rows, megapixels=megapixels, asked=jobs())
def test_megapixels_are_within_the_hold(
    data: st.DataObject, row: Price, megapixels: MegapixelRates, asked: Job
) -> None:
    """A bill by megapixels of output and input, each input within its bound, is no more than is held."""
    price, done = replace(row, megapixels=megapixels), made(data, asked)
    size = Size.parse(done.size)
    assert size is not None
    images, inputs = data.draw(st.integers(1, asked.n)), asked.references + asked.mask
    taken = sum(data.draw(st.lists(st.integers(1, megapixels.most_input), min_size=inputs, max_size=inputs)))
    output = Fraction(megapixels.pico(size.pixels), 1000)
    bill = images * (output + taken * megapixels.input + inputs * price.add_ons.input_image) + price.add_ons.request

    assert bill * price.multiplier <= worst(asked, price)
    assert usual(asked, price) <= worst(asked, price)
    known = pricing.cost_of_work(done, price, GPT_IMAGE_2, Reading(images=images))
    assert known is None if inputs else known is not None and known <= worst(asked, price)


@given(data=st.data(), row=rows, meter=metered, asked=jobs(), by_seconds=st.booleans())
def test_what_the_provider_counts_is_within_the_hold(
    data: st.DataObject, row: Price, meter: Metered, asked: Job, *, by_seconds: bool
) -> None:
    """Seconds or units of at most what an image may take, of each image, cost no more than is held."""
    price = replace(row, seconds=meter) if by_seconds else replace(row, units=meter)
    count = data.draw(st.fractions(Fraction(0), Fraction(1), max_denominator=1000)) * meter.most * asked.n
    reading = Reading(images=asked.n, seconds=count if by_seconds else None, units=None if by_seconds else count)

    cost = pricing.cost_of_work(asked, price, GPT_IMAGE_2, reading)

    assert cost is not None
    assert cost <= worst(asked, price)
    assert usual(asked, price) <= worst(asked, price)
    assert pricing.cost_of_work(asked, price, GPT_IMAGE_2, Reading(images=1)) is None


@given(data=st.data(), row=rows, tokens=token_rates, asked=jobs())
def test_tokens_are_within_the_hold(data: st.DataObject, row: Price, tokens: TokenRates, asked: Job) -> None:
    """Usage by the model's own token rules, thinking included, costs no more than is held."""
    price, done = replace(row, tokens=tokens), replace(made(data, asked), quality="standard")
    size = Size.parse(done.size)
    assert size is not None
    out = output_tokens(BY_RESOLUTION, [size], ["standard"])
    usage = Usage(
        text_in=asked.n * data.draw(st.integers(0, asked.prompt_bytes + 64)),
        image_in=asked.n * (asked.references + asked.mask) * data.draw(st.integers(0, 1536)),
        image_out=asked.n * out,
        text_out=asked.n * data.draw(st.integers(0, 3000)),
    )

    cost = pricing.cost_of_work(done, price, BY_RESOLUTION, Reading(images=asked.n, usage=usage))

    assert cost is not None
    assert cost <= worst(replace(asked, quality="auto"), price, BY_RESOLUTION)


@given(row=rows, nano=amounts, asked=jobs(), per_call=st.integers(1, 10))
def test_a_request_costs_the_same_however_many_images_it_makes(
    row: Price, nano: int, asked: Job, per_call: int
) -> None:
    """A price by the request is paid for each call, and once for a call of several images."""
    price = replace(row, per_request=nano, add_ons=AddOns())
    cost = pricing.cost_of_work(asked, price, GPT_IMAGE_2, Reading(images=1))
    tariff = pricing.tariff(asked, GPT_IMAGE_2, price, sizes=(), qualities=QUALITIES)

    assert cost == worst(asked, price) == -(-nano * price.multiplier // 1)
    assert tariff.nano(0, asked.n, per_call) == -(-asked.n // per_call) * cost


@given(row=rows, nano=amounts, text=st.integers(0, 32_000), n=st.integers(1, 10), per_call=st.integers(1, 10))
def test_comparing_is_exact_to_a_rounding(row: Price, nano: int, text: int, n: int, per_call: int) -> None:
    """What offers are compared by is what they cost, but for the rounding of one call, else of each image and fee."""
    price = replace(row, per_image=(PixelTier("any", nano, None),))
    tariff = pricing.tariff(job(n=n), GPT_IMAGE_2, price, sizes=(), qualities=QUALITIES)

    roundings = 1 if n <= per_call else n - (-n // per_call)
    assert 0 <= tariff.nano(text, n, per_call) * 1000 - tariff.pico(text, n, per_call) < 1000 * roundings + 1


@pytest.mark.parametrize(
    ("size", "quality", "usd"),
    [
        ("1024x1024", "low", "0.006"),
        ("1024x1024", "high", "0.211"),
        ("1024x1536", "high", "0.165"),
        ("1536x1024", "low", "0.006"),
        ("auto", "high", "0.211"),
        ("1024x1536", "auto", "0.165"),
        ("auto", "auto", "0.211"),
        ("1024x1536", "medium", "0.165"),
    ],
)
def test_a_table_by_size_and_quality(size: str, quality: str, usd: str) -> None:
    """Its own cell; the dearest of what is left open; and the dearest of all for what no row names."""
    price = Price(TODAY, "test", per_image=TABLE)

    assert worst(job(size=size, quality=quality), price) == parse_usd(usd)


@pytest.mark.parametrize(
    ("size", "quality", "usd"),
    [
        ("1024x1024", "low", "0.04"),
        ("2048x2048", "low", "0.06"),
        ("1024x1024", "medium", "0.06"),
        ("2048x2048", "medium", "0.08"),
        ("1024x1024", "auto", "0.06"),
    ],
)
def test_a_table_by_quality_and_tier(size: str, quality: str, usd: str) -> None:
    """The tier of its own quality; of a quality that the row does not know, here `high`, the dearest of its size."""
    price = Price(TODAY, "test", per_image=MATRIX)

    assert worst(job(size=size, quality=quality), price) == parse_usd(usd)


@pytest.mark.parametrize(
    ("rates_of", "size", "usd"),
    [
        (FIRST, "1024x1024", "0.03"),
        (FIRST, "512x512", "0.03"),
        (FIRST, "1024x1040", "0.045"),
        (FIRST, "2048x2048", "0.075"),
        (replace(FIRST, first=None), "2048x2048", "0.06"),
        (replace(FIRST, whole=False), "2048x1024", "0.045"),
        (replace(FIRST, whole=False), "512x512", "0.03"),
        (MegapixelRates(parse_usd("0.0027"), whole=False), "1000x500", "0.00135"),
        (MegapixelRates(parse_usd("0.0027"), whole=False), "2000x1000", "0.0054"),
    ],
)
def test_megapixels_round_as_the_row_says(rates_of: MegapixelRates, size: str, usd: str) -> None:
    """The first one whole, the rest begun or by share; without a price for the first a small image costs its share."""
    price = Price(TODAY, "test", megapixels=rates_of)

    assert pricing.cost_of_work(job(size=size), price, GPT_IMAGE_2, Reading(images=1)) == parse_usd(usd)


def test_what_applies_to_any_shape() -> None:
    """Add-ons count inputs of each image and calls, the multiplier is of it all; what was asked for may be billed."""
    price = Price(
        TODAY,
        "test",
        per_image=(PixelTier("any", parse_usd("0.04"), None),),
        add_ons=AddOns(parse_usd("0.001"), parse_usd("0.014")),
        multiplier=Fraction(1, 2),
        bills=Bills.REQUESTED,
    )
    asked = job(n=4, references=2, mask=True)
    returned = replace(price, bills=Bills.RETURNED)

    assert worst(asked, price) == (4 * (parse_usd("0.04") + 3 * parse_usd("0.001")) + parse_usd("0.014")) // 2
    assert pricing.cost_of_work(asked, price, GPT_IMAGE_2, Reading(images=1)) == worst(asked, price)
    assert pricing.cost_of_work(asked, returned, GPT_IMAGE_2, Reading(images=1)) == parse_usd("0.0285")


def test_units_that_are_told_are_the_bill_of_any_row_that_prices_them() -> None:
    """A table is what is held; the provider's count of units, at what one is worth, is what it cost."""
    price = Price(TODAY, "test", per_image=TABLE, reported_unit=parse_usd("0.001"), multiplier=Fraction(9, 10))
    asked = job(size="1024x1024", quality="low", n=2)

    assert pricing.cost_of_work(asked, price, GPT_IMAGE_2, Reading(images=2, units=Fraction(15))) == parse_usd("0.0135")
    assert pricing.cost_of_work(asked, price, GPT_IMAGE_2, Reading(images=2)) == parse_usd("0.0108")


def test_thinking_is_held_at_the_price_of_text() -> None:
    """Text that may come with an image is in the hold, at its own rate, and not in what is expected."""
    price = Price(TODAY, "test", replace(rates("0.5", "0.5", "0.5", "0.5", "60"), text_out=parse_rate_per_million("3")))
    asked = job(size="1024x1024", quality="standard")

    assert worst(asked, price, BY_RESOLUTION) == 1120 * 60_000 + 3000 * 3_000 + (5 + 64) * 500
    assert usual(asked, price, BY_RESOLUTION) == 1120 * 60_000 + 2 * 500
    assert pricing.most_image_tokens(asked, BY_RESOLUTION, sizes=(), qualities=("standard",)) == 1120 + 3000


def test_a_free_row_costs_nothing() -> None:
    """Of an own machine, however much it makes."""
    price = Price(TODAY, "test", free=True)

    assert worst(job(n=10), price) == pricing.cost_of_work(job(n=10), price, GPT_IMAGE_2, Reading(images=10)) == 0

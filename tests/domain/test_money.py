"""Money: decimal strings in, integers inside, one rounding, up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import money


@pytest.mark.parametrize(
    ("text", "nano"),
    [("0", 0), ("5", 5 * 10**9), ("0.21072", 210_720_000), ("0.000000001", 1), ("900.50", 900_500_000_000)],
)
def test_usd_is_read_exactly(text: str, nano: int) -> None:
    """Decimal strings become whole nano-USD."""
    assert money.parse_usd(text) == nano


@pytest.mark.parametrize("text", ["", "-1", "+1", "1e3", "NaN", "inf", ".5", "5.", "1,5", " 1", "\uff15", "1\n"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    """Signs, exponents and foreign digits are errors."""
    with pytest.raises(ValueError, match=r"decimal"):
        money.parse_usd(text)


@pytest.mark.parametrize(
    ("parse", "text", "rule"),
    [
        (money.parse_usd, "1" * 13, "at most 999999999999"),
        (money.parse_usd, "1" * 5000, "at most 999999999999"),
        (money.parse_usd, "0.0000000001", "in steps of 0.000000001"),
        (money.parse_usd, f"0.{'1' * 5000}", "in steps of 0.000000001"),
        (money.parse_rate_per_million, "0.0000001", "in steps of 0.000001"),
        (money.parse_rate_per_million, "1" * 13, "at most 999999999999"),
        (money.parse_multiplier, "1.0000000000001", "in steps of 0.000000000001"),
    ],
    ids=["large", "huge", "fine", "minute", "fine-rate", "large-rate", "fine-multiplier"],
)
def test_the_bound_of_an_amount_is_named(parse: Callable[[str], object], text: str, rule: str) -> None:
    """What is a decimal, and is too large or too fine, is not called malformed."""
    with pytest.raises(money.OutOfBounds, match=f"must be {rule}$"):
        parse(text)


def test_noughts_at_the_end_are_no_matter() -> None:
    """They make an amount no finer."""
    assert money.parse_usd("0.250000000000") == 250_000_000
    assert money.parse_rate_per_million("0.500000000") == 500_000


@given(st.integers(0, 2**60))
def test_formatting_and_reading_are_inverse(nano: int) -> None:
    """What is printed reads back as the same amount."""
    text = money.format_usd(nano)
    whole = text.partition(".")[0]

    assert len(whole) > 12 or money.parse_usd(text) == nano


@given(st.integers(0, 10**18))
def test_counters_are_never_below_the_amount(nano: int) -> None:
    """Rounding to micro-USD goes up, by less than one micro-USD."""
    micro = money.micro_from_nano(nano)

    assert 0 <= micro * money.NANO_PER_MICRO - nano < money.NANO_PER_MICRO


def test_rates_are_pico_usd_per_token() -> None:
    """$30 a million is 30 micro-USD, 30,000,000 pico-USD, a token."""
    assert money.parse_rate_per_million("30") == 30_000_000
    assert money.parse_rate_per_million("0.20") == 200_000

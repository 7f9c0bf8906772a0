"""Money: decimal strings in, integers inside, one rounding, up."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1e3", "NaN", "inf", ".5", "5.", "1,5", " 1", "0.0000000001", "1" * 13, "\uff15"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    """Signs, exponents, foreign digits and amounts finer than a nano-USD are errors."""
    with pytest.raises(ValueError, match=r"decimal"):
        money.parse_usd(text)


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

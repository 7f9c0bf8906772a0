"""Numbers that providers tell of cost, exactly as they wrote them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from gateway.domain.profile import Amount
from gateway.providers.amounts import nano, number, told
from gateway.providers.task_wire import parsed


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("2.5", Fraction(5, 2)),
        ("0.1", Fraction(1, 10)),
        ("3", Fraction(3)),
        ('"8.7"', Fraction(87, 10)),
        ("1e-3", Fraction(1, 1000)),
        ("0", Fraction(0)),
        ("0.0", Fraction(0)),
        ("-1", None),
        ("true", None),
        ("null", None),
        ('"much"', None),
        ('"NaN"', None),
        ("1e99", None),
        ("1e-99", None),
        ("[1]", None),
    ],
)
def test_numbers_are_exact_and_believable(written: str, wanted: Fraction | None) -> None:
    """A number from zero up is read without a float in between; all else is no amount."""
    assert number(parsed(written.encode())) == wanted


@pytest.mark.parametrize(
    ("written", "usd", "wanted"),
    [
        ("2.5", Fraction(1, 68), 36_764_706),
        ("1.02", Fraction(1, 68), 15_000_000),
        ("0.4896", Fraction(1, 68), 7_200_000),
        ("3.1", Fraction(1, 100), 31_000_000),
        ("0.0000000001", Fraction(1), 1),
    ],
)
def test_worth_is_rounded_up_once(written: str, usd: Fraction, wanted: int) -> None:
    """Credits of 1/68 dollar and cents become nano-USD, rounded up where they do not come out even."""
    amount = told(Amount(path="cost", usd=usd), parsed(b'{"cost": %s}' % written.encode()), {})
    assert amount is not None
    assert nano(amount, usd) == wanted


def test_a_header_tells_as_well() -> None:
    """Units that stand in a header are read there."""
    assert told(Amount(header="X-Units"), None, {"x-units": "1.75"}) == Fraction(7, 4)
    assert told(Amount(header="X-Units"), None, {}) is None

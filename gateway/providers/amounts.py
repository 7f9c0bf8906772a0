"""Amounts: numbers that an answer tells of its cost, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

from gateway.domain.json_path import first
from gateway.domain.money import NANO_PER_USD
from gateway.domain.profile import Amount

LARGEST = 10**15
"""A larger number is a provider's mistake and not a bill; some count in ten-billionths of a dollar."""
_LONGEST = 40


def told(amount: Amount, document: object, headers: Mapping[str, str]) -> Fraction | None:
    """Return the number, exactly as it was written; None where there is none.

    Zero is a number: whether it is a bill depends on what it is told of.
    `document` has its fractions as `Decimal`; header names are lower case.
    """
    return number(headers.get(amount.header.lower()) if amount.header else first(document, amount.path))


def number(value: object) -> Fraction | None:
    """Return what a JSON number, or a text that is one, says; None if it is below zero or not believable."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    if isinstance(value, str) and len(value) > _LONGEST:
        return None
    try:
        decimal = Decimal(value)
    except ArithmeticError:
        return None
    if not (decimal.is_finite() and 0 <= decimal <= LARGEST) or (decimal and decimal.adjusted() < -_LONGEST):
        return None
    return Fraction(decimal)


def nano(value: Fraction, usd: Fraction) -> int:
    """Return so many of what is worth `usd` each, as nano-USD, rounded up once."""
    exact = value * usd * NANO_PER_USD
    return -(-exact.numerator // exact.denominator)

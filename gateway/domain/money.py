"""Exact money: integers only, no float anywhere.

A *rate* is an integer number of pico-USD per unit (one token), a request's cost an integer number of nano-USD,
a ledger counter an integer number of micro-USD. Conversions round up, and each happens once.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

NANO_PER_USD = 10**9
PICO_PER_NANO = 10**3
NANO_PER_MICRO = 10**3
MICRO_PER_USD = 10**6
PICO_PER_USD = 10**12
ONE = Fraction(1)
"""The factor that changes nothing: most factors are this very object, so that nobody has to multiply."""

MAX_MICRO = 2**52
"""The largest amount a counter may be asked to hold; Lua numbers are exact up to 2**53."""

MAX_REQUEST = 450_000 * NANO_PER_USD
"""The most that one request is held at, nano-USD: ten times as much may be booked (`costing.ABSURD`), within 2^52."""

_DECIMAL = re.compile(r"([0-9]+)(?:\.([0-9]+))?")
_DIGITS = 12
"""The most that are read before a point, and behind it."""


class OutOfBounds(ValueError):
    """A decimal that is too large or too fine; `rule` says what it must be."""

    def __init__(self, text: str, rule: str) -> None:
        super().__init__(f"{text!r} {rule}")
        self.rule = rule


def parse_usd(text: str) -> int:
    """Read a decimal string of USD as nano-USD; ValueError if it is malformed or negative.

    OutOfBounds for one that is finer than a nano-USD, or has more than twelve digits before its point.
    """
    return int(_exact(text, "amount such as 0.25", 9) * NANO_PER_USD)


def parse_rate_per_million(text: str) -> int:
    """Read a decimal string of USD per million units as pico-USD per unit; ValueError as for `parse_usd`."""
    return int(_exact(text, "amount such as 0.25", 6) * (PICO_PER_USD // 10**6))


def parse_multiplier(text: str) -> Fraction:
    """Read a decimal string such as "1.15" exactly; ValueError if it is malformed or negative, or out of bounds."""
    exact = _exact(text, "number such as 1.15", _DIGITS)
    return ONE if exact == ONE else exact


def _exact(text: str, wanted: str, decimals: int) -> Fraction:
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a decimal {wanted}")
    if len(match[1]) > _DIGITS:
        raise OutOfBounds(text, f"must be at most {'9' * _DIGITS}")
    behind = match[2] or ""
    if len(behind) > _DIGITS or behind[decimals:].strip("0"):
        raise OutOfBounds(text, f"must be in steps of 0.{'1'.zfill(decimals)}")
    return Fraction(text)


def nano_from_pico(pico: int) -> int:
    """Pico-USD as nano-USD, rounded up: the one rounding of a request's cost."""
    return -(-pico // PICO_PER_NANO)


def micro_from_nano(nano: int) -> int:
    """Nano-USD as micro-USD, rounded up: what a ledger counter takes."""
    return -(-nano // NANO_PER_MICRO)


def times(nano: int, factor: Fraction) -> int:
    """Nano-USD times an exact factor, rounded up to a whole nano-USD."""
    return nano if factor is ONE else -(-nano * factor.numerator // factor.denominator)


@lru_cache(1024)
def format_usd(nano: int) -> str:
    """Nano-USD as a plain decimal string of USD, at least two decimals, no trailing zeros beyond them."""
    if nano < 0:
        return f"-{format_usd(-nano)}"
    decimals = f"{nano % NANO_PER_USD:09d}".rstrip("0").ljust(2, "0")
    return f"{nano // NANO_PER_USD}.{decimals}"

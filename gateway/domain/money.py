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

_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")


def parse_usd(text: str) -> int:
    """Read a decimal string of USD as nano-USD; ValueError if it is malformed, negative or finer than a nano-USD."""
    return _scaled(text, NANO_PER_USD)


def parse_rate_per_million(text: str) -> int:
    """Read a decimal string of USD per million units as pico-USD per unit; ValueError as for `parse_usd`."""
    return _scaled(text, PICO_PER_USD // 10**6)


def parse_multiplier(text: str) -> Fraction:
    """Read a decimal string such as "1.15" exactly; ValueError if it is malformed or negative."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"{text!r} is not a decimal number such as 1.15")
    exact = Fraction(text)
    return ONE if exact == ONE else exact


def _scaled(text: str, scale: int) -> int:
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"{text!r} is not a decimal amount such as 0.25")
    exact = Fraction(text) * scale
    if exact.denominator != 1:
        raise ValueError(f"{text!r} has more decimals than can be kept exactly")
    return int(exact)


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

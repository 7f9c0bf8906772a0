"""The bill: every request that a simulated provider charges for, exact, in nano-USD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

PICO_PER_NANO = 1_000
NANO_PER_USD = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine:
    """One charged request. `at` is Unix seconds, `images` what was made, `size` is `WIDTHxHEIGHT` in pixels."""

    provider: str
    request: str
    at: float
    model: str
    operation: str
    n: int
    images: int
    size: str
    quality: str
    usage: Mapping[str, object]
    nano_usd: int

    def as_json(self) -> dict[str, object]:
        """Return the line as the bill shows it, with the amount as a decimal string of USD besides."""
        return {**asdict(self), "amount_usd": decimal_usd(self.nano_usd)}


class Bill:
    """All lines since the start or the last reset; its total is a whole number of nano-USD."""

    def __init__(self) -> None:
        self._lines: list[BillLine] = []

    def charge(self, line: BillLine) -> None:
        """Add a line."""
        self._lines.append(line)

    def lines(self, provider: str) -> list[BillLine]:
        """Return one provider's lines, in order."""
        return [line for line in self._lines if line.provider == provider]

    def clear(self) -> None:
        """Forget everything."""
        self._lines.clear()

    def as_json(self) -> dict[str, object]:
        """Return the total in nano-USD and in USD, and every line in order."""
        total = sum(line.nano_usd for line in self._lines)
        return {
            "total_nano_usd": total,
            "total_usd": decimal_usd(total),
            "lines": [line.as_json() for line in self._lines],
        }


def nano_usd(pico: int) -> int:
    """Pico-USD as nano-USD, rounded up; done once for a request."""
    return -(-pico // PICO_PER_NANO)


def decimal_usd(nano: int) -> str:
    """Nano-USD as a decimal string of USD without trailing zeros: 210720000 is "0.21072"."""
    whole, fraction = divmod(nano, NANO_PER_USD)
    return f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")

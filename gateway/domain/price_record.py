"""Price records: price rows as JSON values, so that work is settled by what it was held on, whatever policy says later.

A record holds what cost is counted by; where the price comes from is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from datetime import date
from fractions import Fraction
from typing import Any

from gateway.domain.job import Size
from gateway.domain.price import AddOns, Bills, MegapixelRates, Metered, PixelTier, Price, TokenRates

Record = Mapping[str, Any]


def record_of(price: Price) -> dict[str, object]:
    """Return a row as JSON values; what it has not is left out."""
    every: dict[str, object] = {
        "from": price.valid_from.isoformat(),
        "tokens": price.tokens and astuple(price.tokens),
        "per_image": [
            (tier.name, tier.nano, tier.max_pixels, tier.size and str(tier.size), tier.quality)
            for tier in price.per_image
        ]
        or None,
        "megapixels": price.megapixels and astuple(price.megapixels),
        "seconds": _metered(price.seconds),
        "units": _metered(price.units),
        "per_request": price.per_request,
        "free": price.free or None,
        "add_ons": astuple(price.add_ons),
        "multiplier": str(price.multiplier),
        "charged_for": sorted(price.charged_for),
        "bills": str(price.bills),
        "reported_unit": price.reported_unit,
    }
    return {name: value for name, value in every.items() if value is not None}


def price_of(record: Record) -> Price:
    """Read a row back."""
    tokens, megapixels = record.get("tokens"), record.get("megapixels")
    return Price(
        date.fromisoformat(record["from"]),
        "",
        TokenRates(*tokens) if tokens else None,
        tuple(
            PixelTier(name, nano, most, Size.parse(size) if size else None, quality)
            for name, nano, most, size, quality in record.get("per_image", ())
        ),
        MegapixelRates(*megapixels) if megapixels else None,
        seconds=_read_metered(record.get("seconds")),
        units=_read_metered(record.get("units")),
        per_request=record.get("per_request"),
        free=record.get("free", False),
        add_ons=AddOns(*record["add_ons"]),
        multiplier=Fraction(record["multiplier"]),
        charged_for=frozenset(record["charged_for"]),
        bills=Bills(record["bills"]),
        reported_unit=record.get("reported_unit"),
    )


def records_of(official: Price, own: Price) -> list[dict[str, object]]:
    """Return the vendor's row and a route's, which is left out where it is the vendor's."""
    return [record_of(price) for price in ((official,) if own is official else (official, own))]


def prices_of(records: Sequence[Record]) -> tuple[Price, Price]:
    """Read the vendor's row and a route's back."""
    every = [price_of(record) for record in records]
    return every[0], every[-1]


def _metered(metered: Metered | None) -> tuple[int, str, str] | None:
    return (metered.nano, str(metered.usual), str(metered.most)) if metered else None


def _read_metered(kept: Any) -> Metered | None:
    return Metered(kept[0], Fraction(kept[1]), Fraction(kept[2])) if kept else None

"""Price rows come back from their records as they were, in all that cost is counted by."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path

import pytest

from gateway.config.load import load_policy
from gateway.domain.job import Size
from gateway.domain.price import AddOns, Bills, MegapixelRates, Metered, PixelTier, Price, TokenRates
from gateway.domain.price_record import price_of, prices_of, record_of, records_of
from tests.builders import TODAY

DAY = date(2026, 1, 1)
ROWS = [
    Price(DAY, "", tokens=TokenRates(1, 2, 3, 4, 5, 6), multiplier=Fraction(1, 3)),
    Price(DAY, "", tokens=TokenRates(1, 2, 3, 4, 5)),
    Price(DAY, "", per_image=(PixelTier("a", 7, 100), PixelTier("b", 8, None, Size(16, 32), "low"))),
    Price(DAY, "", megapixels=MegapixelRates(3, 4, 5, 6, 7, whole=False), bills=Bills.REQUESTED),
    Price(DAY, "", seconds=Metered(3, Fraction(1, 2), Fraction(9)), charged_for=frozenset({"succeeded", "moderated"})),
    Price(DAY, "", units=Metered(3, Fraction(1), Fraction(2)), add_ons=AddOns(1, 2), reported_unit=0),
    Price(DAY, "", per_request=0),
    Price(DAY, "", free=True),
]


@pytest.mark.parametrize("price", ROWS)
def test_every_shape_of_price_comes_back(price: Price) -> None:
    """Through JSON, as it lies in the store."""
    assert price_of(json.loads(json.dumps(record_of(price)))) == price


def test_the_whole_catalog_comes_back_and_is_small(tmp_path: Path) -> None:
    """All rows of all models: none is larger than what may be noted for a task leaves room for."""
    (tmp_path / "policy.yaml").write_text("{}")
    policy = load_policy(tmp_path, environ={}, today=TODAY).policy
    assert policy is not None
    for model in policy.models.values():
        for row in model.prices:
            kept = json.dumps(record_of(row))
            assert price_of(json.loads(kept)) == replace(row, source="")
            assert len(kept) < 4_000


def test_a_route_at_the_vendors_price_has_one_row() -> None:
    """Whoever resells has two; both are told apart as they were."""
    one, other = ROWS[0], ROWS[1]
    assert len(records_of(one, one)) == 1
    official, own = prices_of(records_of(one, one))
    assert official is own
    assert prices_of(records_of(one, other)) == (one, other)

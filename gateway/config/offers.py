"""Offers: what a provider publishes of a model that it sells, for routes to name instead of copying it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from gateway.config.capabilities import narrow
from gateway.config.equivalents import read_quality_names
from gateway.config.fields import Fields
from gateway.config.image_prices import price_gap
from gateway.config.lookup import Known
from gateway.config.models import ModelEntry, token_gap
from gateway.config.prices import read_prices
from gateway.config.problems import Report
from gateway.config.schema import OFFER
from gateway.config.sources import Entry
from gateway.config.values import LANES, one_of, text
from gateway.domain.price import Price
from gateway.domain.route import Capabilities


@dataclass(frozen=True, slots=True)
class OfferEntry:
    """What a route takes from an offer where it says nothing itself. `found` is what is wrong with the offer.

    `model` is None if it cannot be told.
    """

    model: ModelEntry | None
    upstream_model: str | None = None
    lane: str | None = None
    capabilities: Capabilities | None = None
    quality_names: Mapping[str, str] = field(default_factory=dict)
    prices: tuple[Price, ...] = ()
    found: Report = field(default_factory=Report)

    def tell(self, report: Report) -> None:
        """Report what is wrong, once it matters: of the catalog's offers only those do that a route takes."""
        report.problems.extend(self.found.problems)
        report.warnings.extend(self.found.warnings)


def read_offer(entry: Entry, models: Known[ModelEntry], today: date) -> OfferEntry:
    """Read one entry of the `offers` section."""
    report = Report()
    fields = Fields(entry.node, OFFER, report, entry.place)
    found = fields.required("model", models.find)
    upstream_model, lane = fields.read("upstream_model", text), fields.read("lane", one_of(LANES))
    qualities = found.model.capabilities.quality if found and found.sound else ()
    quality_names = read_quality_names(fields, qualities)
    prices = read_prices(fields, report, qualities)
    if fields.lacks("price"):
        report.problem(fields.place, "price is missing: an offer says what a provider charges")
    if found is None or not found.sound:
        return OfferEntry(found, found=report)
    can = narrow(fields, found.model.capabilities, report)
    check_prices(fields, found, prices, can, today)
    return OfferEntry(found, upstream_model, lane, can, quality_names, prices, report)


def check_prices(fields: Fields, found: ModelEntry, prices: tuple[Price, ...], can: Capabilities, today: date) -> None:
    """Report prices of a route or an offer that do not go with its model, or begin too late."""
    report = fields.report
    if prices and prices[0].valid_from > today:
        report.problem(fields.at("price"), f"starts on {prices[0].valid_from}, so there is none today")
    if any(price.tokens for price in prices) and (gap := token_gap(found.model)):
        report.problem(fields.at("price"), f"model {found.model.name}: {gap}")
    if gap := price_gap(prices, can.quality):
        report.problem(fields.at("price"), gap)

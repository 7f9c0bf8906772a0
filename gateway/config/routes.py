"""Routes: a model as one provider sells it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from gateway.config.capabilities import narrow
from gateway.config.equivalents import read_quality_names
from gateway.config.fields import Fields
from gateway.config.lookup import Known
from gateway.config.models import ModelEntry, token_gap
from gateway.config.prices import read_prices
from gateway.config.problems import Report
from gateway.config.retirement import successor_of, tell_retirement
from gateway.config.schema import ROUTE
from gateway.config.sources import Entry
from gateway.config.tiers import read_limits
from gateway.config.values import one_of, text
from gateway.domain.route import AfterRetirement, ProviderConfig, Route, RouteLimits

PRODUCTION = "production"
LANES = (PRODUCTION, "testing")


def read_route(
    name: str,
    entry: Entry,
    providers: Known[ProviderConfig],
    models: Known[ModelEntry],
    tiers: Known[RouteLimits],
    *,
    today: date,
    report: Report,
) -> Route | None:
    """Read one entry of the `routes` section; None if its provider or model cannot be told."""
    fields = Fields(entry.node, ROUTE, report, entry.place)
    provider = fields.required("provider", providers.find)
    found = fields.required("model", models.find)
    upstream_model = fields.read("upstream_model", text)
    lane = fields.read("lane", one_of(LANES)) or PRODUCTION
    prices = read_prices(fields, report)
    limits = read_limits(fields, tiers)
    after_retirement = AfterRetirement(fields.read("after_retirement", one_of(AfterRetirement)) or "replace")
    qualities = found.model.capabilities.quality if found and found.sound else ()
    quality_names = read_quality_names(fields, qualities)
    if prices and prices[0].valid_from > today:
        report.problem(fields.at("price"), f"starts on {prices[0].valid_from}, so there is none today")
    if found is None:
        return None
    capabilities = narrow(fields, found.model.capabilities, report) if found.sound else found.model.capabilities
    if found.sound and any(price.tokens for price in prices) and (gap := token_gap(found.model)):
        report.problem(fields.at("price"), f"model {found.model.name}: {gap}")
    if provider is None:
        return None
    route = Route(
        name=name,
        provider=provider,
        model=found.model,
        upstream_model=upstream_model or found.model.name,
        capabilities=capabilities,
        lane=lane,
        prices=prices,
        limits=limits,
        quality_names=quality_names,
        after_retirement=after_retirement,
    )
    known = {key: each.model for key, each in models.things.items() if each}
    route = replace(route, successor=successor_of(route, known))
    tell_retirement(route, fields, today, report)
    if upstream_model or fields.node("upstream_model") is None:
        _check_pinned(route, fields, report)
    return route


def _check_pinned(route: Route, fields: Fields, report: Report) -> None:
    snapshot = route.model.snapshot
    if snapshot and route.lane == PRODUCTION and route.upstream_model != snapshot:
        report.warn(
            fields.at("upstream_model"),
            f"{route.upstream_model} may change under you; pin it with upstream_model: {snapshot}",
        )

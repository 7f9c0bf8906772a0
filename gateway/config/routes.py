"""Routes: a model as one provider sells it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from gateway.config.capabilities import narrow
from gateway.config.fields import Fields
from gateway.config.lookup import Known
from gateway.config.models import ModelEntry, retired, successor, token_gap
from gateway.config.prices import read_prices
from gateway.config.problems import Report
from gateway.config.schema import LIMITS, ROUTE
from gateway.config.sources import Entry
from gateway.config.values import one_of, text, whole
from gateway.domain.route import ProviderConfig, Route, RouteLimits

PRODUCTION = "production"
LANES = (PRODUCTION, "testing")
_NOTICE = timedelta(days=90)
_limit = whole(1, 10**9)


def read_route(
    name: str,
    entry: Entry,
    providers: Known[ProviderConfig],
    models: Known[ModelEntry],
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
    limits = _limits(fields)
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
    )
    _check_dates(route, fields, models.things, today, report)
    if upstream_model or fields.node("upstream_model") is None:
        _check_pinned(route, fields, report)
    return route


def _limits(owner: Fields) -> RouteLimits:
    fields = owner.within("limits", LIMITS)
    if fields is None:
        return RouteLimits()
    return RouteLimits(
        images_per_minute=fields.read("images_per_minute", _limit),
        images_per_day=fields.read("images_per_day", _limit),
        requests_per_minute=fields.read("requests_per_minute", _limit),
        concurrent=fields.read("concurrent", _limit),
    )


def _check_dates(
    route: Route,
    fields: Fields,
    models: Mapping[str, ModelEntry | None],
    today: date,
    report: Report,
) -> None:
    model = route.model
    if model.retires is None:
        return
    better = successor(model, {key: entry for key, entry in models.items() if entry}, today)
    advice = f"use {better} instead" if better else "and no replacement is known"
    if retired(model, today):
        # A date that passes must not keep a gateway from starting again: the route is passed over, the others serve.
        tell = report.warn if model.prices else report.problem
        tell(fields.at("model"), f"{model.name} was shut down on {model.retires}, so no request goes here; {advice}")
    elif model.retires - today <= _NOTICE:
        days = (model.retires - today).days
        report.warn(fields.at("model"), f"{model.name} retires on {model.retires}, in {days} days; {advice}")


def _check_pinned(route: Route, fields: Fields, report: Report) -> None:
    snapshot = route.model.snapshot
    if snapshot and route.lane == PRODUCTION and route.upstream_model != snapshot:
        report.warn(
            fields.at("upstream_model"),
            f"{route.upstream_model} may change under you; pin it with upstream_model: {snapshot}",
        )

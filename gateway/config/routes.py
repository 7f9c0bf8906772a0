"""Routes: a model as one provider sells it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from fractions import Fraction

from gateway.config.capabilities import narrow
from gateway.config.equivalents import read_quality_names
from gateway.config.fields import Fields
from gateway.config.lookup import Known
from gateway.config.models import ModelEntry
from gateway.config.offers import OfferEntry, check_prices
from gateway.config.prices import read_prices
from gateway.config.problems import Report
from gateway.config.profiles import within
from gateway.config.retirement import successor_of, tell_retirement
from gateway.config.schema import ROUTE
from gateway.config.sources import Entry
from gateway.config.tiers import read_limits
from gateway.config.values import LANES, PRODUCTION, one_of, text
from gateway.domain.job import Job, Size
from gateway.domain.pricing import tariff
from gateway.domain.profile import Profile
from gateway.domain.route import AfterRetirement, Capabilities, Model, ProviderConfig, Route, RouteLimits
from gateway.domain.sizing import nearest, of_ratio
from gateway.domain.unsent_fields import QUALITY, SIZE, unsent

_NOTHING = OfferEntry(None)
_VENDORS_PATH = Profile().generations


def read_route(
    name: str,
    entry: Entry,
    providers: Known[ProviderConfig],
    models: Known[ModelEntry],
    tiers: Known[RouteLimits],
    *,
    offers: Known[OfferEntry],
    today: date,
    report: Report,
) -> Route | None:
    """Read one entry of the `routes` section; None if its provider or model cannot be told."""
    fields = Fields(entry.node, ROUTE, report, entry.place)
    provider = fields.required("provider", providers.find)
    offer = fields.read("offer", offers.find) or _NOTHING
    offer.tell(report)
    found = _model(fields, models, offer)
    upstream_model = fields.read("upstream_model", text)
    lane = fields.read("lane", one_of(LANES)) or offer.lane or PRODUCTION
    limits = read_limits(fields, tiers)
    after_retirement = AfterRetirement(fields.read("after_retirement", one_of(AfterRetirement)) or "replace")
    qualities = found.model.capabilities.quality if found and found.sound else ()
    quality_names = read_quality_names(fields, qualities) or offer.quality_names
    prices = read_prices(fields, report, qualities)
    if found is None:
        return None
    capabilities = _capabilities(fields, found, offer, provider)
    if found.sound:
        check_prices(fields, found, prices, capabilities, today)
    if provider is None:
        return None
    route = Route(
        name=name,
        provider=provider,
        model=found.model,
        upstream_model=upstream_model or offer.upstream_model or found.model.name,
        capabilities=capabilities,
        lane=lane,
        prices=prices or offer.prices,
        limits=limits,
        quality_names=quality_names,
        after_retirement=after_retirement,
    )
    route = replace(route, successor=successor_of(route, {key: one.model for key, one in models.things.items() if one}))
    tell_retirement(route, fields, today, report)
    _check_told(route, fields, found)
    if upstream_model or (fields.node("upstream_model") is None and offer is _NOTHING):
        _check_pinned(route, fields, report)
    return route


def of_models(models: Iterable[Model], routes: Iterable[Route]) -> dict[str, list[str]]:
    """Return the names of each model's routes, by its name, its snapshot, and what providers call it."""
    found: dict[str, list[str]] = {word: [] for model in models for word in (model.name, model.snapshot) if word}
    for route in routes:
        for word in {route.model.name, route.model.snapshot or "", route.upstream_model}:
            found.setdefault(word, []).append(route.name)
    return found


def _capabilities(
    fields: Fields, found: ModelEntry, offer: OfferEntry, provider: ProviderConfig | None
) -> Capabilities:
    """What the model can do, narrowed by the offer, by what the provider lacks, then by the route itself."""
    capabilities = offer.capabilities or found.model.capabilities
    if provider is not None:
        capabilities = within(capabilities, provider.profile)
    return narrow(fields, capabilities, fields.report) if found.sound else capabilities


def _model(fields: Fields, models: Known[ModelEntry], offer: OfferEntry) -> ModelEntry | None:
    """The model that the route names, or that of its offer; None if there is none, or they are not the same."""
    if fields.node("offer") is None:
        return fields.required("model", models.find)
    named = fields.read("model", models.find)
    if named is not None and offer.model is not None and named.model.name != offer.model.model.name:
        fields.report.problem(fields.at("model"), f"the offer is of {offer.model.model.name}; leave model out")
        return None
    return offer.model


def _check_told(route: Route, fields: Fields, found: ModelEntry) -> None:
    """Warn of what the provider is not told although the route's price depends on it."""
    can, model = route.capabilities, route.model
    masks = (False, True) if can.mask else (False,)
    jobs = [Job(each, None, 0, 0, mask=masked) for each in can.operations for masked in masks]
    missing = frozenset[str]().union(*(unsent(job, route) for job in jobs))
    if not missing or not found.sound:
        return
    rule = model.capabilities.sizes
    small = of_ratio(rule, Fraction(1), 1) or nearest(rule, Size(1, 1))
    asked: dict[str, list[Job]] = {
        QUALITY: [replace(jobs[0], quality=word) for word in model.capabilities.quality],
        SIZE: [jobs[0], replace(jobs[0], size=str(small))],
    }
    rows = route.prices or model.prices
    for name in sorted(missing):
        every = [{tariff(job, model, row, sizes=(), qualities=can.quality).rest for job in asked[name]} for row in rows]
        if any(len(amounts) > 1 for amounts in every):
            fields.report.warn(
                fields.at("provider"),
                f"{route.provider.name} is not always told the {name}, on which the price depends: "
                f"what is not told is held at the dearest that {model.name} makes",
            )


def _check_pinned(route: Route, fields: Fields, report: Report) -> None:
    snapshot = route.model.snapshot
    # Elsewhere than at the vendor's own path a name is the provider's: a deployment's, a product's.
    vendors_own = route.upstream_model == route.model.name and route.provider.profile.generations == _VENDORS_PATH
    if snapshot and route.lane == PRODUCTION and vendors_own:
        report.warn(
            fields.at("upstream_model"),
            f"{route.upstream_model} may change under you; pin it with upstream_model: {snapshot}",
        )

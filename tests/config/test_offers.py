"""Offers: what a route takes from one, and what it says itself."""

from __future__ import annotations

from gateway.domain.money import parse_usd
from gateway.domain.price import PixelTier
from gateway.domain.route import Route
from tests.config.conftest import Load

TEAM = "projects:\n  team: {job_types: [hero, experiments], lanes: [production, testing]}\n"


def routed(load: Load, keys: str, **files: str) -> Route:
    """The route `acct/second` with these keys."""
    routes = f"routes:\n  acct/second: {{provider: acct, {keys}}}\n"
    loaded = load(more=f"{routes}job_types:\n  more: {{routes: [acct/gpt-image-2, acct/second]}}\n", team=TEAM, **files)
    assert loaded.policy is not None, loaded.problems
    return loaded.policy.routes["acct/second"]


def test_a_route_takes_what_its_offer_says(load: Load) -> None:
    """Model, name, lane, abilities and prices come from the catalog, so that a policy copies none of them."""
    route = routed(load, "offer: evolink/gpt-image-2-beta")

    assert (route.model.name, route.upstream_model, route.lane) == ("gpt-image-2", "gpt-image-2-beta", "testing")
    assert (route.capabilities.n, route.capabilities.references, route.capabilities.mask) == (1, 16, False)
    assert [tier.nano for tier in route.prices[0].per_image] == [15_000_000, 25_500_000, 39_000_000]


def test_what_a_route_says_itself_counts(load: Load) -> None:
    """Its own price, name, lane and narrower abilities stand in place of the offer's; the rest stays."""
    keys = (
        "offer: evolink/gpt-image-2-beta, lane: production, upstream_model: other, model: gpt-image-2, "
        'price: [{from: 2026-01-01, per_image: "0.02"}], capabilities: {references: 2, operations: [generate]}'
    )
    route = routed(load, keys)

    assert (route.upstream_model, route.lane) == ("other", "production")
    assert (route.capabilities.references, route.capabilities.n) == (2, 1)
    assert route.prices[0].per_image == (PixelTier("any", parse_usd("0.02"), None),)


def test_a_policy_has_offers_of_its_own(load: Load) -> None:
    """What a team has agreed with a provider stands under a name too, or in place of the shipped one."""
    offers = """
offers:
  acct/flare: {model: gpt-image-2.5-flare, quality: {high: hd}, price: [{from: 2026-01-01, per_request: "0.01"}]}
  evolink/gpt-image-2-beta: {model: gpt-image-2, price: [{from: 2026-01-01, per_image: "0.01"}]}
"""
    own = routed(load, "offer: acct/flare, lane: testing", offers=offers)

    assert (own.model.name, own.upstream_model) == ("gpt-image-2.5-flare", "gpt-image-2.5-flare")
    assert (own.quality_names, own.prices[0].per_request) == ({"high": "hd"}, parse_usd("0.01"))
    replaced = routed(load, "offer: evolink/gpt-image-2-beta", offers=offers)
    assert (replaced.lane, replaced.capabilities.n) == ("production", 10)


def test_offers_of_the_catalog_that_nobody_takes_do_no_harm(load: Load) -> None:
    """A policy may replace a model by one that shipped offers do not go with; only a route that takes one is told."""
    model = """
models:
  gpt-image-2:
    capabilities: {operations: [generate], n: 2, quality: [medium, high], output_formats: [png], sizes: [1024x1024]}
    price: [{from: 2026-01-01, per_image: "0.5"}]
"""
    quiet = load(own=model, team=TEAM)
    told = load(own=model, team=TEAM, more="routes:\n  acct/second: {provider: acct, offer: evolink/gpt-image-2}\n")

    assert quiet.policy is not None, quiet.problems
    assert told.policy is None
    assert any("evolink.yaml" in problem.file for problem in told.problems)

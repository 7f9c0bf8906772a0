"""The catalog's offers: what is priced is what the provider is told."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from gateway.config.load import load_policy
from gateway.domain import pricing
from gateway.domain.job import Operation
from gateway.domain.policy import Policy
from gateway.domain.route import Route
from gateway.ports.provider import Call
from gateway.providers.upstream_values import IMAGE_SOURCES, Asked
from tests.builders import job
from tests.config.golden import TODAY
from tests.providers.calls import MemoryBody

SOLD = ("fal/gemini-3.1-flash-image", "fal/gemini-3-pro-image", "replicate/gemini-3.1-flash-image")
"""Offers by resolution of providers that are told it by a word."""
STEPS = ("together/flux-schnell", "together/flux-dev")
"""Offers at a price for the usual number of steps."""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Return a policy with a route for each of these offers, at an account of its provider's preset."""
    directory: Path = tmp_path_factory.mktemp("policy")
    names = {name.partition("/")[0] for name in (*SOLD, *STEPS)}
    providers = [f'  {name}: {{preset: {name}, base_url: "http://127.0.0.1:1/v1"}}' for name in sorted(names)]
    routes = [f"  {name}: {{provider: {name.partition('/')[0]}, offer: {name}}}" for name in (*SOLD, *STEPS)]
    text = "\n".join(["providers:", *providers, "routes:", *routes, ""])
    (directory / "every.yaml").write_text(text)
    loaded = load_policy(directory, environ={}, today=TODAY)
    assert loaded.policy is not None, loaded.problems
    return loaded.policy


def told(route: Route, size: str, fields: dict[str, object] | None = None) -> dict[str, object]:
    """What the route's provider is told of a job of this size, images apart."""
    made = job(operation=Operation.GENERATE, size=size)
    asked = Asked(Call("req_1", route, made, MemoryBody({"prompt": "a cat", **(fields or {})}), {}))
    parameters = [each for each in route.provider.profile.parameters if asked.sends(each)]
    return {each.name: asked.value(each) for each in parameters if each.source not in IMAGE_SOURCES}


@pytest.mark.parametrize("name", SOLD)
def test_a_word_for_a_resolution_has_one_price(policy: Policy, name: str) -> None:
    """Sizes that are told by the same word cost the same, so that none is held at less than what is made of it."""
    route = policy.routes[name]
    tiers = route.capabilities.sizes.tiers
    assert tiers is not None
    prices: defaultdict[object, set[int]] = defaultdict(set)
    for resolution, _ in tiers.resolutions:
        size = str(tiers.size("1:1", resolution))
        word = next(value for key, value in told(route, size).items() if key.endswith("resolution"))
        most = pricing.tariff(job(size=size), route.model, route.prices[0], sizes=(), qualities=("auto",))
        prices[word].add(most.nano(0, 1, 1))

    assert [word for word, costs in prices.items() if len(costs) > 1] == []


@pytest.mark.parametrize("name", STEPS)
def test_a_client_does_not_choose_how_many_steps_are_paid(policy: Policy, name: str) -> None:
    """More steps than usual cost more than what is held, and nothing tells what they cost."""
    assert 50 not in told(policy.routes[name], "1024x1024", {"steps": 50}).values()

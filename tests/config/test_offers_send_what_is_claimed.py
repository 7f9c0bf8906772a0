"""The catalog's offers and models: every size and every word that a route claims can be asked of its provider."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.load import load_policy
from gateway.config.shipped import shipped_policies
from gateway.domain.job import Operation, Size, parse_ratio
from gateway.domain.policy import Policy
from gateway.domain.profile import Source
from gateway.domain.route import Route, SizeRule
from gateway.domain.tiers import STRETCH
from gateway.ports.provider import Call, UpstreamFailure
from gateway.providers.upstream_values import Asked
from tests.builders import job
from tests.config.golden import TODAY
from tests.providers.calls import MemoryBody

BY_MODEL = (("xai", "grok-*"), ("bfl", "flux-2-*"), ("bfl", "flux-kontext-*"))
"""Vendors that sell models of their own without an offer: preset and names."""


def _catalog() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {"offers": {}, "presets": {}, "models": {}}
    for file in sorted((shipped_policies() / "catalog").glob("*.yaml")):
        for section, entries in yaml.safe_load(file.read_text()).items():
            found.setdefault(section, {}).update(entries)
    return found


CATALOG = _catalog()
ROUTES = {name: f"offer: {name}" for name in CATALOG["offers"] if name.partition("/")[0] in CATALOG["presets"]} | {
    f"{preset}/{name}": f"model: {name}"
    for preset, pattern in BY_MODEL
    for name in CATALOG["models"]
    if fnmatchcase(name, pattern)
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Return a policy with a route for each, at an account of its provider's preset."""
    directory: Path = tmp_path_factory.mktemp("policy")
    presets = sorted({name.partition("/")[0] for name in ROUTES})
    providers = [f'  {name}: {{preset: {name}, base_url: "http://127.0.0.1:1/v1"}}' for name in presets]
    routes = [f"  {name}: {{provider: {name.partition('/')[0]}, {keys}}}" for name, keys in ROUTES.items()]
    (directory / "every.yaml").write_text("\n".join(["providers:", *providers, "routes:", *routes, ""]))
    loaded = load_policy(directory, environ={}, today=TODAY)
    assert loaded.policy is not None, loaded.problems
    return loaded.policy


def ratio_told(route: Route, size: Size) -> str | None:
    """The ratio that the route's provider is told of a job of this size; None if it is told none."""
    asked = Asked(
        Call("req_1", route, job(operation=Operation.GENERATE, size=str(size)), MemoryBody({"prompt": "a cat"}), {})
    )
    told = [each for each in route.provider.profile.parameters if each.source is Source.RATIO and asked.sends(each)]
    assert len(told) <= 1
    return str(asked.value(told[0])) if told else None


def claimed(rule: SizeRule) -> list[Size]:
    """Every size of a list, or of ratios and resolutions; of bounds in pixels the widest."""
    if rule.fixed:
        return list(rule.fixed)
    if rule.tiers is not None:
        return [rule.tiers.size(ratio, name) for ratio in rule.tiers.ratios for name, _ in rule.tiers.resolutions]
    return [Size(rule.max_edge, int(rule.max_edge / rule.max_ratio))]


@pytest.mark.parametrize("name", ROUTES)
def test_a_size_that_a_route_claims_is_told_as_its_ratio(policy: Policy, name: str) -> None:
    """What is told is within 3 % of it, as the documentation has it: no other picture comes than was asked for."""
    route = policy.routes[name]
    for size in claimed(route.capabilities.sizes):
        told = ratio_told(route, size)
        ratio = parse_ratio(told or "")
        assert told is None or ratio, told
        if ratio:
            assert abs(math.log(size.width / size.height / float(ratio))) <= STRETCH, (size, told)


def words(route: Route) -> list[tuple[str, str]]:
    """The field and the word of every quality, output format and background that a route claims."""
    can = route.capabilities
    return [
        *(("quality", each) for each in can.quality),
        *(("output_format", each) for each in can.output_formats),
        *([("background", "transparent")] if can.transparent else []),
    ]


def refusal(route: Route, operation: Operation, field: str, word: str) -> str | None:
    """Why the route's provider cannot be asked for a word; None if it can."""
    told = route.quality_names.get(word, word) if field == "quality" else word
    made = job(operation=operation, **{field: word})
    asked = Asked(Call("req_1", route, made, MemoryBody({"prompt": "a cat"}), {field: told}))
    try:
        for each in route.provider.profile.parameters:
            if each.source == field and asked.sends(each):
                asked.value(each)
    except UpstreamFailure as failure:
        return str(failure)
    return None


@pytest.mark.parametrize("name", ROUTES)
def test_a_word_that_a_route_claims_can_be_asked_for(policy: Policy, name: str) -> None:
    """No request is refused by the preset's closed lists for what the catalog says that the provider makes."""
    route = policy.routes[name]
    refused = [
        f"{operation} {field}: {why}"
        for operation in route.capabilities.operations
        for field, word in words(route)
        if (why := refusal(route, operation, field, word))
    ]

    assert refused == []

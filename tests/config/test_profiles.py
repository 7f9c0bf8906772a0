"""What presets, providers and their profiles mean once they are read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from gateway.config.load import load_policy
from gateway.domain.job import Operation
from gateway.domain.policy import Policy
from gateway.domain.profile import Amount, Auth, ImageForm, Parameter, Profile, Source

OWN = """
presets:
  own:
    kind: openai
    auth: {header: X-Key}
    generations: "/v2/{tenant}/images?x={model}"
    masked_edits: /inpaint
    query: {version: "{tenant}"}
    send_model: false
    forms: [edit]
    refuse: {moderation: it has none}
    prompt_refuses: {"|": it splits there}
    lacks: [stream, mask]
    reported: {path: billing.credits, usd: "1/68"}
    blind_usage: true
    normalise: true
    parameters:
      - {name: prompt}
      - {name: image_size.width, from: width}
      - {name: ratio, among: ["1:1", "3:2"]}
      - {name: tier, from: resolution, tiers: {1k: 1048576, 4k: any}}
      - {name: seed, field: seed, value: 7}
      - {name: extra, value: {deep: [1, 2.5, true, text]}}
      - {name: refs, from: images, operations: [edit], form: base64, wrap: image_url.url, beside: {type: image_url}}
  rewriting: {kind: openai, drop: [style], rename: {mask: mask_image}}
"""
PROVIDERS = """
providers:
  plain: {kind: openai, base_url: "https://a.example.com/v1"}
  named: {preset: openai, base_url: "https://a.example.com/v1"}
  own: {preset: own, base_url: "https://b.example.com", variables: {tenant: acme}}
  rewriting: {preset: rewriting, base_url: "https://c.example.com"}
  bent: {preset: own, base_url: "https://b.example.com", generations: /images, query: {a: b}, auth: {prefix: "Key "}}
routes:
  own/gpt-image-2: {provider: own, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  own/old: {provider: own, model: gpt-image-1, capabilities: {n: 2}}
"""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A policy with a preset of its own."""
    directory = tmp_path_factory.mktemp("policy")
    return load(directory, OWN + PROVIDERS)


def load(directory: Path, text: str) -> Policy:
    """Read a policy that must be sound."""
    (directory / "policy.yaml").write_text(text)
    loaded = load_policy(directory, environ={})
    assert loaded.policy is not None, loaded.problems
    return loaded.policy


def test_a_provider_without_a_profile_is_plain(policy: Policy) -> None:
    """With or without the preset of that name nothing differs from the kind, so that nothing is done for it."""
    assert policy.providers["plain"].profile == policy.providers["named"].profile == Profile()
    assert policy.providers["plain"].profile.plain


def test_every_key_of_a_preset_is_read(policy: Policy) -> None:
    """What stands in YAML is what the profile says."""
    provider = policy.providers["own"]
    assert (provider.kind, provider.variables) == ("openai", {"tenant": "acme"})
    assert provider.profile == Profile(
        auth=Auth("X-Key", ""),
        generations="/v2/{tenant}/images?x={model}",
        masked_edits="/inpaint",
        query={"version": "{tenant}"},
        send_model=False,
        forms=frozenset({Operation.EDIT}),
        refuse={"moderation": "it has none"},
        prompt_refuses={"|": "it splits there"},
        lacks=frozenset({"stream", "mask"}),
        reported=Amount(path="billing.credits", usd=Fraction(1, 68)),
        blind_usage=True,
        normalise=True,
        parameters=(
            Parameter("prompt", Source.PROMPT),
            Parameter("image_size.width", Source.WIDTH),
            Parameter("ratio", Source.RATIO, among=("1:1", "3:2")),
            Parameter("tier", Source.RESOLUTION, tiers=(("1k", 1048576), ("4k", None))),
            Parameter("seed", Source.FIELD, client_field="seed", constant=7),
            Parameter("extra", Source.CONSTANT, constant={"deep": [1, 2.5, True, "text"]}),
            Parameter(
                "refs",
                Source.IMAGES,
                operations=frozenset({Operation.EDIT}),
                form=ImageForm.BASE64,
                wrap="image_url.url",
                beside={"type": "image_url"},
            ),
        ),
    )


def test_what_rewrites_the_body_is_read(policy: Policy) -> None:
    """Fields to leave out and to rename stand in a preset without parameters."""
    assert policy.providers["rewriting"].profile == Profile(drop=("style",), rename={"mask": "mask_image"})


def test_a_provider_overrides_single_keys_of_its_preset(policy: Policy) -> None:
    """What it says counts instead, all else stays the preset's."""
    own, bent = policy.providers["own"].profile, policy.providers["bent"].profile
    assert (bent.generations, bent.query, bent.auth) == ("/images", {"a": "b"}, Auth("X-Key", "Key "))
    assert (bent.parameters, bent.reported, bent.lacks) == (own.parameters, own.reported, own.lacks)


def test_what_a_provider_lacks_its_routes_cannot(policy: Policy) -> None:
    """Whatever the model can do elsewhere, and its replacement after it has retired too."""
    route = policy.routes["own/gpt-image-2"]
    assert route.model.capabilities.stream
    assert route.model.capabilities.mask
    assert not route.capabilities.stream
    assert not route.capabilities.mask
    assert Operation.EDIT in route.capabilities.operations
    successor = policy.routes["own/old"].successor
    assert successor is not None
    assert not successor.capabilities.stream
    assert not successor.capabilities.mask


def test_a_preset_of_the_policy_replaces_the_shipped_one(tmp_path: Path) -> None:
    """Named again it is another one, whole."""
    text = "presets:\n  xai: {kind: openai, generations: /mine}\n"
    text += 'providers:\n  a: {preset: xai, base_url: "https://a.example.com"}\n'
    assert load(tmp_path, text).providers["a"].profile == Profile(generations="/mine")

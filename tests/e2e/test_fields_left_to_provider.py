"""What a provider may choose for itself: never more than was held, and nothing that policy does not allow."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import NANO, admin, billed, booked, nano, settled
from tests.e2e.stack import Reply, Stack, running_gateway

ACCOUNT = 'kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"'
TOLD_LITTLE = {
    "dropped": ", drop: [quality, size]",
    "listed": ", parameters: [{name: prompt}, {name: model}, {name: n}]",
}
"""Providers that never hear of a quality or a size."""
NARROWED = {
    "web": "allow: {output_format: [webp, jpeg]}",
    "any": "allow: {output_format: [webp, png]}",
    "flat": "allow: {background: [opaque]}",
    "small": 'allow: {size: ["16:9", "1:1"]}',
}
BEGINNINGS = {"png": b"\x89PNG", "webp": b"RIFF", "jpeg": b"\xff\xd8"}


def policy() -> str:
    """One job type for each of these."""
    providers = [f"  {name}: {{{ACCOUNT}{more}}}" for name, more in {"plain": "", **TOLD_LITTLE}.items()]
    routes = [
        f"  {name}/two: {{provider: {name}, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}}"
        for name in ("plain", *TOLD_LITTLE)
    ]
    routes += ["  plain/flare: {provider: plain, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare}"]
    kinds = [f"  {name}: {{routes: [{name}/two]}}" for name in TOLD_LITTLE]
    kinds += [
        f"  {name}: {{routes: [plain/flare], defaults: {{quality: low}}, {more}}}" for name, more in NARROWED.items()
    ]
    team, poor = ", ".join((*TOLD_LITTLE, *NARROWED)), ", ".join(TOLD_LITTLE)
    projects = [
        f'  team: {{job_types: [{team}], budgets: [{{window: total, limit: "50"}}]}}',
        f'  poor: {{job_types: [{poor}], budgets: [{{window: total, limit: "0.06"}}]}}',
    ]
    sections = {"providers": providers, "routes": routes, "job_types": kinds, "projects": projects}
    return "\n".join(line for name, lines in sections.items() for line in (f"{name}:", *lines))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with this policy."""
    with running_gateway(tmp_path_factory.mktemp("narrowed"), policy(), sandbox) as running:
        yield running


def ask(stack: Stack, kind: str, *, project: str = "team", **fields: object) -> Reply:
    """Ask for an image of a job type."""
    body = {"prompt": "a cat", **fields}
    return stack.post("/v1/images/generations", body, project=project, headers={"x-gateway-job-type": kind})


def sent(sandbox: Sandbox) -> dict[str, Any]:
    """What the sandbox was asked for last."""
    posted = [request for request in sandbox.requests() if request["method"] == "POST"]
    return dict(posted[-1]["fields"])


@pytest.mark.parametrize("kind", TOLD_LITTLE)
def test_a_budget_is_not_overspent_by_what_the_provider_is_not_told(stack: Stack, sandbox: Sandbox, kind: str) -> None:
    """The client's `medium` never arrives there, so that the most of all is held, which the budget does not have."""
    reply = ask(stack, kind, project="poor", quality="medium", size="1024x1024")

    assert reply.status == 402, reply.body
    assert billed(sandbox) == 0
    assert [nano(each["used_usd"]) for each in admin(stack, "budgets") if each["scope"] == "project:poor"] == [0]


@pytest.mark.parametrize("kind", TOLD_LITTLE)
@pytest.mark.parametrize("quality", ["low", "medium"])
def test_what_the_provider_chose_is_booked_as_billed(stack: Stack, sandbox: Sandbox, kind: str, quality: str) -> None:
    """Within what was held, and believed however little was asked for."""
    before = booked(stack)
    reply = ask(stack, kind, quality=quality, size="1024x1024")
    settled(stack)

    assert reply.status == 200, reply.body
    cost = booked(stack) - before
    assert 0 < cost.route == billed(sandbox) <= float(reply.headers["x-gateway-cost-estimate"]) * NANO
    assert cost.unconfirmed == 0
    assert stack.record(reply.headers["x-request-id"])["cost_source"] == "usage"


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        ("web", {}, {"output_format": "webp"}),
        ("web", {"output_format": "jpeg"}, {"output_format": "jpeg"}),
        ("any", {}, {}),
        ("flat", {}, {"background": "opaque"}),
        ("flat", {"background": "auto"}, {"background": "opaque"}),
    ],
)
def test_a_client_that_leaves_it_open_gets_what_policy_allows(
    stack: Stack, sandbox: Sandbox, kind: str, fields: dict[str, str], told: dict[str, str]
) -> None:
    """The provider is told so, unless it does so by itself."""
    reply = ask(stack, kind, **fields)

    assert reply.status == 200, reply.body
    assert base64.b64decode(reply.json["data"][0]["b64_json"]).startswith(BEGINNINGS[told.get("output_format", "png")])
    arrived = sent(sandbox)
    assert {name: arrived[name] for name in ("output_format", "background") if name in arrived} == told


def test_a_resolution_does_not_enlarge_a_ratio_that_policy_lists(stack: Stack, sandbox: Sandbox) -> None:
    """The ratio alone is made, and nothing is sent for what is larger."""
    small, large = ask(stack, "small", size="16:9"), ask(stack, "small", size="16:9", resolution="4K")

    assert (small.status, small.json["size"]) == (200, "1280x720")
    assert (large.status, large.error["param"]) == (400, "resolution")
    assert "policy allows 16:9 at about the pixels of 1024x1024, not at 4K" in large.error["message"]
    assert len(sandbox.requests()) == 1

"""Values that are too long by far: an error says what is wrong with one, and does not repeat all of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.stack import Stack, running_gateway

ROUTES = [f"route-{number}" for number in range(50)]
POLICY = f"""
providers:
  main: {{kind: openai, base_url: "${{SANDBOX_URL}}/openai/v1", api_key: "${{SANDBOX_KEY}}"}}
routes:
{"".join(f"  {name}: {{provider: main, model: gpt-image-2}}{chr(10)}" for name in ROUTES)}
job_types:
  draft: {{routes: [{", ".join(ROUTES)}]}}
  listed: {{routes: [{", ".join(ROUTES)}], allow: {{size: [1024x1024], quality: [low], output_format: [png]}}}}
projects:
  team:
    job_types: [draft, listed]
    default_job_type: draft
    client_model: honour
    budgets: [{{window: day, limit: "1000"}}]
"""
FIELDS = (
    "prompt", "model", "n", "size", "quality", "background", "output_format", "output_compression", "moderation",
    "input_fidelity", "style", "user", "response_format", "stream", "partial_images", "resolution", "aspect_ratio",
    "seed", "images", "image_urls", "mask", "callback_url", "async", "web_search", "negative_prompt",
    "safety_identifier", "metadata", "tools", "input",
)  # fmt: skip
LONG = "Q" * 300_000
VALUES = (LONG, f"{LONG}:1", {"a": LONG}, {LONG: 1}, [LONG])
MOST = 8_000
"""Bytes of an error; fifty routes are named in it."""
MOST_PLANNED = 50_000
"""Bytes of a dry run, which tells much of each route."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with many routes, each of which says why it cannot."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), POLICY, sandbox) as running:
        yield running


@pytest.mark.parametrize("job_type", ["draft", "listed"])
@pytest.mark.parametrize("name", FIELDS)
def test_an_error_is_short_however_long_a_value_is(stack: Stack, name: str, job_type: str) -> None:
    """Each field that is known, with 300 KB of a value of each kind: neither an error nor a dry run repeats it."""
    for value in VALUES:
        asked = {"prompt": "x", "model": "gpt-image-2", name: value}
        headers = {"x-gateway-dry-run": "true", "x-gateway-job-type": job_type}
        reply = stack.post("/v1/images/generations", asked, headers=headers)
        assert reply.status < 500
        assert len(reply.body) < (MOST_PLANNED if reply.status == 200 else MOST), reply.body[:300]

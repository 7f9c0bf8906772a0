"""Both planes under requests that are made of their own descriptions, right ones and wrong ones."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.server import running_sandbox
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until
from tests.fuzz.campaign import Campaign
from tests.security.description import DOCS

POLICY = """
text_models:
  gpt-5.2:
    context: 400000
    max_tokens_per_image: 1536
    price: [{from: 2026-01-01, text_in: "1.75", text_in_cached: "0.175", text_out: "14"}]
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  draft: {routes: [main], defaults: {size: 1024x1024, quality: low}, cache: 24h}
  chat:
    routes: [main]
    defaults: {quality: low, size: 1024x1024}
    responses: {provider: main, models: [gpt-5.2], max_images: 2, max_output_tokens: 2000}
projects:
  team:
    job_types: [draft, chat]
    default_job_type: draft
    budgets: [{window: total, limit: "10000000"}]
    images: {store: always, keep: 1d}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway with a budget that nothing here uses up."""
    with (
        running_sandbox() as sandbox,
        running_gateway(tmp_path_factory.mktemp("api"), POLICY, sandbox, "--max-wrong-keys", "0") as running,
    ):
        yield running


@pytest.fixture(autouse=True)
def _clean_sandbox(stack: Stack) -> None:
    stack.sandbox.reset()


@pytest.fixture(scope="module")
def sandbox(stack: Stack) -> Sandbox:
    """Its simulated provider."""
    return stack.sandbox


def made(stack: Stack) -> tuple[str, ...]:
    """Ids of one of everything."""
    image = stack.post("/v1/images/generations", {"prompt": "a cat", "response_format": "url"})
    assert image.status == 200, image.body
    asset = image.json["data"][0]["url"].partition("?")[0].rpartition("/")[2]
    task = stack.post("/v1/images/generations", {"prompt": "a dog", "async": True}).json["id"]
    return asset, task, image.headers["x-request-id"], "gpt-image-2"


def data_plane(stack: Stack) -> Campaign:
    """A campaign against the data plane, with the key of a project."""
    description = json.loads((DOCS / "openapi-data.json").read_bytes())
    key = {"authorization": f"Bearer {stack.key()}"}
    return Campaign(f"http://127.0.0.1:{stack.port}", description, key, ids=made(stack))


def admin_plane(stack: Stack) -> Campaign:
    """A campaign against the admin plane."""
    description = json.loads((DOCS / "openapi-admin.json").read_bytes())
    return Campaign(f"http://127.0.0.1:{stack.admin_port}", description, {}, ids=("cb_1",))


def nothing_is_left(stack: Stack) -> None:
    """Assert that nothing is held, the books are whole, and that the gateway serves on and has logged no fault."""
    wait_until(lambda: stack.held() == 0, 100, "the end of what was held")
    audit = stack.command("ledger", "verify")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert stack.process.poll() is None
    assert fetch(f"http://127.0.0.1:{stack.port}/readyz").status == 200
    assert '"exception"' not in stack.log.read_text()


def test_the_data_plane_answers_as_it_is_described(stack: Stack) -> None:
    """300 requests: no fault but the documented ones, statuses, types, headers and shapes conform, nothing is held."""
    campaign = data_plane(stack)
    campaign.run(300, seed=1)
    assert sum(campaign.statuses.values()) >= 300
    assert campaign.statuses[200] > 20
    nothing_is_left(stack)


def test_the_admin_plane_answers_as_it_is_described(stack: Stack) -> None:
    """100 requests: no fault, and statuses, types, headers and shapes conform."""
    campaign = admin_plane(stack)
    campaign.run(100, seed=2)
    assert campaign.statuses[200] > 10
    nothing_is_left(stack)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_ten_thousand_requests_are_answered_as_described(stack: Stack) -> None:
    """10,000 requests on both planes: no fault but the documented ones, everything conforms, the books are whole."""
    campaigns = data_plane(stack), admin_plane(stack)
    for campaign, cases in zip(campaigns, (8500, 1500), strict=True):
        campaign.run(cases, seed=3)
        print(sorted(campaign.statuses.items()), sorted(campaign.operations.items()))  # noqa: T201 - shown with -s
    assert sum(sum(campaign.statuses.values()) for campaign in campaigns) >= 10_000
    nothing_is_left(stack)

"""The shipped catalog: what was published, and nothing dearer hidden."""

from __future__ import annotations

import pytest

from gateway.config.load import load_policy
from gateway.config.shipped import shipped_policies
from gateway.domain.job import Operation, Size
from gateway.domain.policy import Policy
from tests.config.golden import TODAY

LIVE = {
    "gpt-image-2",
    "gpt-image-2.5-sunburst",
    "gpt-image-2.5-flare",
    "gpt-image-2.6-sunburst",
    "gpt-image-2.6-flare",
    "gpt-image-1.5",
    "gpt-image-1-mini",
    "chatgpt-image-latest",
}
RETIRED = {"gpt-image-1", "dall-e-2", "dall-e-3"}


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Return the default policy, which holds the whole catalog."""
    loaded = load_policy(shipped_policies() / "default", environ={"OPENAI_API_KEY": "k"}, today=TODAY)
    assert loaded.policy is not None
    return loaded.policy


def test_catalog_knows_live_and_retired_models(policy: Policy) -> None:
    """OpenAI's models are all there; live ones have a price with source and date, retired ones lead to a live one."""
    assert {name for name in policy.models if name.startswith(("gpt-image-", "chatgpt-", "dall-e-"))} == LIVE | RETIRED
    for name in LIVE:
        model = policy.models[name]
        assert model.prices[0].tokens
        assert "read 2026-11-20" in model.prices[0].source
        assert model.retires is None or model.retires > TODAY
    for name in RETIRED:
        retires, replacement = policy.models[name].retires, policy.models[name].replacement
        assert retires
        assert retires <= TODAY
        assert replacement in LIVE


def test_every_live_model_has_tokens_for_each_quality_and_input(policy: Policy) -> None:
    """No quality of a live model is without output tokens, and none that edits is without input tokens."""
    for name in LIVE:
        model = policy.models[name]
        rows = [model.output_tokens.grid] if model.output_tokens.grid else list(model.output_tokens.table.values())
        assert all(row.keys() == set(model.capabilities.quality) for row in rows)
        assert Operation.EDIT in model.capabilities.operations
        assert model.input_image_tokens >= 1536


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("gpt-image-1.5", [["0.009", "0.034", "0.133"], ["0.013", "0.050", "0.200"]]),
        ("gpt-image-1-mini", [["0.005", "0.011", "0.036"], ["0.006", "0.015", "0.052"]]),
    ],
)
def test_tables_price_no_image_below_what_is_published(policy: Policy, name: str, published: list[list[str]]) -> None:
    """Tokens times rate is the published price of an image, or at most a tenth of a cent above it."""
    model = policy.models[name]
    rates = model.prices[0].tokens
    assert rates is not None
    for size, row in zip((Size(1024, 1024), Size(1024, 1536)), published, strict=True):
        for quality, usd in zip(("low", "medium", "high"), row, strict=True):
            milli = int(usd.replace(".", ""))
            pico = model.output_tokens.table[size][quality] * rates.image_out
            assert (2 * milli - 1) * 10**9 <= 2 * pico <= (2 * milli + 2) * 10**9

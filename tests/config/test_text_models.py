"""Text models: what their price rows mean."""

from __future__ import annotations

from gateway.domain.money import parse_rate_per_million
from gateway.domain.responses import TextRates
from tests.config.conftest import Load


def rates(*usd: str) -> TextRates:
    """USD per million tokens: read, read from the cache, written there, and output."""
    return TextRates(*map(parse_rate_per_million, usd))


def test_rates_that_are_left_out_are_those_of_text_in(load: Load) -> None:
    """Of a row, and of its long context by itself."""
    long = '{above: 272000, text_in: "10", text_in_cached: "1", text_out: "45"}'
    row = '{from: 2026-02-01, text_in: "5", text_in_cached: "0.5", text_in_written: "6.25", text_out: "30"'
    rows = f'[{{from: 2026-01-01, text_in: "5", text_out: "30"}}, {row}, long_context: {long}}}]'
    writer = f"{{context: 400000, max_tokens_per_image: 1536, price: {rows}}}"
    policy = load(more=f"text_models: {{writer: {writer}}}\n").policy

    assert policy is not None
    plain, priced = policy.text_models["writer"].prices
    assert (plain.rates, plain.long) == (rates("5", "5", "5", "30"), None)
    assert priced.rates == rates("5", "0.5", "6.25", "30")
    assert (priced.above, priced.long) == (272_000, rates("10", "1", "10", "45"))

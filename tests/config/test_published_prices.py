"""The catalog's prices, held against the figures that vendors and providers publish."""

from __future__ import annotations

import hashlib
import re
from fractions import Fraction
from pathlib import Path

import pytest

from gateway.config.load import load_policy
from gateway.config.problems import Report
from gateway.config.shipped import shipped_policies
from gateway.config.sources import Sources, read_sources
from gateway.domain import money, pricing
from gateway.domain.job import Job, Operation, Size
from gateway.domain.money import parse_usd
from gateway.domain.output_tokens import output_tokens
from gateway.domain.policy import Policy
from gateway.domain.settlement import Reading, Usage
from tests.builders import job
from tests.config.golden import TODAY

GUIDE = "OpenAI's image guide"
GEMINI = "ai.google.dev/gemini-api/docs/pricing"
BFL = "Black Forest Labs' skill, 2026-02-03"
BFL_FLAT = "bfl.ai/pricing"
FAL = "fal.ai/models"
REPLICATE = "replicate.com/pricing, 2026-10-07"
RECRAFT = "recraft.ai/docs"
TOGETHER = "Together by Portkey-AI/models, 2026-08-21"
EVOLINK = "evolink.ai/gpt-image-2"
XAI = "docs.x.ai/docs/models"

# What is sold (model or offer), size, quality, input images, USD of one image as published, where.
FIGURES = [
    *(
        ("gpt-image-2", size, quality, 0, usd, GUIDE)
        for size, row in {
            "1024x1024": (".006", ".053", ".211"),
            "1024x1536": (".005", ".041", ".165"),
            "1536x864": (".0036", ".032", ".129"),
            "2048x1152": (".0047", ".042", ".170"),
            "2048x2048": (".012", ".107", ".428"),
            "2880x2880": (".020", ".178", ".712"),
            "3840x2160": (".011", ".100", ".400"),
        }.items()
        for quality, usd in zip(("low", "medium", "high"), row, strict=True)
    ),
    ("gpt-image-1.5", "1024x1024", "low", 0, ".009", GUIDE),
    ("gpt-image-1.5", "1024x1024", "medium", 0, ".034", GUIDE),
    ("gpt-image-1.5", "1024x1024", "high", 0, ".133", GUIDE),
    ("gpt-image-1.5", "1024x1536", "high", 0, ".20", GUIDE),
    ("gemini-2.5-flash-image", "1024x1024", "auto", 0, ".039", GEMINI),
    ("gemini-3.1-flash-image", "512x512", "auto", 0, ".04482", GEMINI),
    ("gemini-3.1-flash-image", "1024x1024", "auto", 0, ".0672", GEMINI),
    ("gemini-3.1-flash-image", "2048x2048", "auto", 0, ".1008", GEMINI),
    ("gemini-3.1-flash-image", "4096x4096", "auto", 0, ".1512", GEMINI),
    ("gemini-3.1-flash-lite-image", "1024x1024", "auto", 0, ".0336", GEMINI),
    ("gemini-3-pro-image", "1024x1024", "auto", 0, ".1344", GEMINI),
    ("gemini-3-pro-image", "2048x2048", "auto", 0, ".1344", GEMINI),
    ("gemini-3-pro-image", "4096x4096", "auto", 0, ".24", GEMINI),
    ("gemini-nano-banana-2.1", "1024x1024", "auto", 0, ".0336", GEMINI),
    ("grok-imagine-image", "1024x1024", "auto", 0, ".02", XAI),
    ("grok-imagine-image-2.0", "1024x1024", "low", 0, ".04", XAI),
    ("grok-imagine-image-2.0", "1024x1024", "medium", 0, ".06", XAI),
    ("grok-imagine-image-2.0", "2048x2048", "medium", 0, ".08", XAI),
    ("flux-2-klein-4b", "1024x1024", "auto", 0, ".014", BFL),
    ("flux-2-klein-4b", "2048x2048", "auto", 0, ".017", BFL),
    ("flux-2-klein-9b", "1024x1024", "auto", 0, ".015", BFL),
    ("flux-2-klein-9b", "2048x2048", "auto", 0, ".021", BFL),
    ("flux-2-pro", "1024x1024", "auto", 0, ".03", BFL),
    ("flux-2-pro", "2048x2048", "auto", 0, ".075", BFL),
    ("flux-2-max", "1024x1024", "auto", 0, ".07", BFL),
    ("flux-2-max", "2048x1024", "auto", 0, ".10", BFL),
    ("flux-2-flex", "1024x1024", "auto", 0, ".06", "docs.bfl.ai, a later copy"),
    ("flux-kontext-pro", "1024x1024", "auto", 1, ".04", BFL_FLAT),
    ("flux-kontext-max", "1024x1024", "auto", 1, ".08", BFL_FLAT),
    ("bfl/flux-1.1-pro", "1024x1024", "auto", 0, ".04", BFL_FLAT),
    ("bfl/flux-1.1-pro-ultra", "2048x2048", "auto", 0, ".06", BFL_FLAT),
    ("bfl/flux-1.0-fill", "1024x1024", "auto", 1, ".05", BFL_FLAT),
    ("evolink/gpt-image-2-beta", "1024x1024", "auto", 0, ".015", EVOLINK),
    ("evolink/gpt-image-2-beta", "2048x2048", "auto", 0, ".0255", EVOLINK),
    ("evolink/gpt-image-2-beta", "3840x2160", "auto", 0, ".039", EVOLINK),
    ("evolink/gpt-image-2", "1024x1024", "medium", 0, ".047", "27 USD a million tokens, evolink.ai/zh/gpt-image-2"),
    ("fal/gpt-image-2", "1024x1024", "low", 0, ".006", FAL),
    ("fal/gpt-image-2", "1024x1024", "medium", 0, ".053", FAL),
    ("fal/gpt-image-2", "1024x1024", "high", 0, ".211", FAL),
    ("fal/gpt-image-2", "1024x768", "high", 0, ".145", FAL),
    ("fal/gpt-image-2", "3840x2160", "high", 0, ".401", FAL),
    *(
        ("fal/gpt-image-2.5-flare", "1024x1024", quality, 0, usd, FAL)
        for quality, usd in {
            "low": ".00588",
            "medium": ".01317",
            "high": ".05268",
            "xhigh": ".09366",
            "max": ".21072",
        }.items()
    ),
    ("fal/gpt-image-2.5-sunburst", "1536x1024", "max", 0, ".16464", FAL),
    ("fal/gemini-3.1-flash-image", "512x512", "auto", 0, ".06", FAL),
    ("fal/gemini-3.1-flash-image", "1024x1024", "auto", 0, ".08", FAL),
    ("fal/gemini-3.1-flash-image", "2048x2048", "auto", 0, ".12", FAL),
    ("fal/gemini-3.1-flash-image", "4096x4096", "auto", 0, ".16", FAL),
    ("fal/gemini-3-pro-image", "2048x2048", "auto", 0, ".15", FAL),
    ("fal/gemini-3-pro-image", "4096x4096", "auto", 0, ".30", FAL),
    ("fal/gemini-2.5-flash-image", "1024x1024", "auto", 0, ".039", FAL),
    ("fal/flux-schnell", "1024x1024", "auto", 0, ".003", FAL),
    ("fal/flux-dev", "1024x1024", "auto", 0, ".025", FAL),
    ("fal/flux-1.1-pro", "1024x1024", "auto", 0, ".04", FAL),
    ("fal/flux-1.1-pro-ultra", "2048x2048", "auto", 0, ".06", FAL),
    ("replicate/flux-1.1-pro", "1024x1024", "auto", 0, ".04", REPLICATE),
    ("replicate/flux-dev", "1024x1024", "auto", 0, ".025", REPLICATE),
    ("replicate/flux-schnell", "1024x1024", "auto", 0, ".003", REPLICATE),
    ("replicate/gemini-3.1-flash-image", "1024x1024", "auto", 0, ".067", REPLICATE),
    ("replicate/gemini-3.1-flash-image", "2048x2048", "auto", 0, ".101", REPLICATE),
    ("replicate/gemini-3.1-flash-image", "4096x4096", "auto", 0, ".151", REPLICATE),
    ("together/flux-schnell", "1000x1000", "auto", 0, ".0027", TOGETHER),
    ("together/flux-dev", "1000x1000", "auto", 0, ".025", TOGETHER),
    ("together/flux-kontext-pro", "1024x1024", "auto", 0, ".04", TOGETHER),
    ("together/flux-kontext-max", "1024x1024", "auto", 0, ".08", TOGETHER),
    ("recraft/recraft-v4.1", "1024x1024", "auto", 0, ".035", RECRAFT),
    ("recraft/recraft-v4.1-pro", "2048x2048", "auto", 0, ".21", RECRAFT),
    ("recraft/recraft-v4.1-flash", "1024x1024", "auto", 0, ".007", RECRAFT),
    ("recraft/recraft-v4.1-vector", "1024x1024", "auto", 0, ".08", RECRAFT),
    ("recraft/recraft-v3", "1024x1024", "auto", 0, ".04", RECRAFT),
    ("recraft/recraft-v3-vector", "1024x1024", "auto", 0, ".08", RECRAFT),
    ("recraft/recraft-v2", "1024x1024", "auto", 0, ".022", RECRAFT),
    ("openrouter/seedream-4.5", "2048x2048", "auto", 0, ".05", "OpenRouter's documentation, 2026-08-22"),
]
CREDITS = [("1K", "1.02"), ("2K", "1.734"), ("4K", "2.652")]
"""EvoLink publishes the beta's prices in credits too, of which 68 are a dollar."""


@pytest.fixture(scope="module")
def catalog() -> Sources:
    """Return the catalog as it is written."""
    report = Report()
    sources = read_sources(shipped_policies() / "catalog", "catalog", hashlib.sha256(), report)
    assert report.problems == []
    return sources


@pytest.fixture(scope="module")
def policy(catalog: Sources, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Return a policy with a route for every offer and every model that can be called, under its name."""
    directory: Path = tmp_path_factory.mktemp("policy")
    models = [name for name, entry in catalog.named["models"].items() if "price" in getattr(entry.node, "nodes", {})]
    lines = [f"  {name}: {{provider: any, offer: {name}}}" for name in catalog.named["offers"]]
    lines += [f"  {name}: {{provider: any, model: {name}}}" for name in models]
    provider = 'providers: {any: {kind: openai, base_url: "http://127.0.0.1:1/v1"}}\n'
    (directory / "every.yaml").write_text(provider + "routes:\n" + "\n".join(lines) + "\n")
    loaded = load_policy(directory, environ={}, today=TODAY)
    assert loaded.policy is not None, loaded.problems
    return loaded.policy


def cost(policy: Policy, name: str, wanted: Job) -> int:
    """What one such image costs besides its text, nano-USD."""
    route = policy.routes[name]
    price = pricing.prices_of(route, TODAY)[1]
    size = Size.parse(wanted.size)
    assert size is not None
    reading = Reading(images=1)
    if price.tokens is not None:
        out = output_tokens(route.model, [size], [wanted.quality])
        reading = Reading(images=1, usage=Usage(image_out=out))
    known = pricing.cost_of_work(wanted, price, route.model, reading)
    assert known is not None
    return known


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: " ".join(figure[:3]))
def test_every_published_figure_comes_from_the_catalog(
    policy: Policy, figure: tuple[str, str, str, int, str, str]
) -> None:
    """An image costs what is published of it, to as many decimals as are published."""
    name, size, quality, inputs, usd, where = figure
    wanted = job(operation=Operation.GENERATE, size=size, quality=quality, references=inputs)

    made, published, decimals = cost(policy, name, wanted), parse_usd(f"0{usd}"), len(usd) - 1

    assert abs(made - published) * 2 <= 10 ** (9 - decimals), f"{money.format_usd(made)} is not {usd} of {where}"


def test_published_credits_are_the_published_dollars(policy: Policy) -> None:
    """What EvoLink says in credits and in dollars is the same, at 68 to the dollar."""
    tiers = {tier.name: tier.nano for tier in policy.routes["evolink/gpt-image-2-beta"].prices[0].per_image}

    assert {tier: Fraction(nano * 68, money.NANO_PER_USD) for tier, nano in tiers.items()} == {
        tier: Fraction(amount) for tier, amount in CREDITS
    }


def test_a_reseller_by_tokens_takes_nine_tenths(policy: Policy) -> None:
    """EvoLink's rates of gpt-image-2 are nine tenths of OpenAI's."""
    own, official = policy.routes["evolink/gpt-image-2"].prices[0].tokens, policy.models["gpt-image-2"].prices[0].tokens
    assert own
    assert official
    for rate in ("text_in", "image_in", "image_out"):
        assert getattr(own, rate) * 10 == getattr(official, rate) * 9


@pytest.mark.parametrize(("size", "usd"), [("1024x1024", ".219"), ("1024x1536", ".178"), ("3840x2160", ".413")])
def test_edits_by_fal_are_held_above_their_price(policy: Policy, size: str, usd: str) -> None:
    """Its page has a price of edits with one input image; what is held covers it, and its units are what is booked."""
    route = policy.routes["fal/gpt-image-2"]
    edit = job(
        operation=Operation.EDIT, size=size if size != "1024x1536" else "1536x1024", quality="high", references=1
    )
    units = Reading(images=1, units=parse_usd(f"0{usd}") // parse_usd("0.001") * Fraction(1))

    assert pricing.worst_case(edit, route.model, route.prices[0], sizes=(), qualities=()) >= parse_usd(f"0{usd}")
    assert pricing.cost_of_work(edit, route.prices[0], route.model, units) == parse_usd(f"0{usd}")


def test_a_second_of_a_gpu(policy: Policy) -> None:
    """Replicate's own example: 2.9 seconds of an L40S at $0.000975."""
    route = policy.routes["replicate/sdxl"]
    reading = Reading(images=1, seconds=Fraction("2.9"))

    assert pricing.cost_of_work(job(), route.prices[0], route.model, reading) == parse_usd("0.0028275")


def test_every_price_has_its_date_and_its_source(policy: Policy) -> None:
    """Each row of the catalog says from when on it holds, where it was published, and when it was read there."""
    rows = [(name, row) for name, model in policy.models.items() for row in model.prices]
    rows += [(name, row) for name, route in policy.routes.items() for row in route.prices]

    assert len(rows) > 60
    for name, row in rows:
        assert re.fullmatch(r"https://\S+ \(read \d{4}-\d{2}-\d{2}\)", row.source), name
        assert row.valid_from <= TODAY, name


def test_what_is_bought_only_on_request_is_not_served_by_price_alone(policy: Policy) -> None:
    """The beta is cheaper than anything, and is for those alone who ask for the testing lane."""
    assert policy.routes["evolink/gpt-image-2-beta"].lane == "testing"

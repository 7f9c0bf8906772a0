"""Steps of a ladder that save nothing and price limits that nothing keeps to: refused where that is true of all."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import check_policy
from gateway.config.shipped import shipped_policies
from gateway.domain.fitting import fit
from tests.config.golden import TODAY

SQUARE = "[1024x1024]"
ANY = "{multiple: 16, max_edge: 2048, min_pixels: 262144, max_pixels: 4194304, max_ratio: 3}"
TOKENS = 'tokens_per_million: {text_in: "5", image_in: "8", image_out: "30"}'
STEP = "{routes: [one], degrade: [{budget_used: 80%, route: two}]}"


def model(name: str, price: str, *, sizes: str = SQUARE, transparent: bool = False, partial: int = 100) -> str:
    """One entry of `models`."""
    return f"""
  {name}:
    capabilities:
      operations: [generate, edit]
      n: 10
      references: 4
      mask: true
      stream: true
      transparent: {str(transparent).lower()}
      quality: [low, high]
      output_formats: [png]
      sizes: {sizes}
    output_tokens: {{grid: {{low: 16, high: 48}}, per_partial_image: {partial}}}
    input_image_tokens: {{max_per_image: 1000}}
    price: [{{from: 2026-01-01, {price}}}]"""


def told(folder: Path, job_type: str, *models: str) -> list[str]:
    """What is told of the job type `k` over a route to each of the models, called by its name."""
    names = [each.split(":")[0].strip() for each in models]
    (folder / "policy.yaml").write_text(
        'providers: {a: {kind: openai, base_url: "http://127.0.0.1:9/v1"}}\n'
        f"models: {''.join(models)}\n"
        f"routes: {{{', '.join(f'{name}: {{provider: a, model: {name}}}' for name in names)}}}\n"
        f"job_types:\n  k: {job_type}\n"
        "projects: {team: {job_types: [k]}}\n"
    )
    loaded = check_policy(folder, {}, TODAY)
    return [problem.message for problem in loaded.problems]


CHEAPER = {
    "edits": (
        STEP,
        model("one", 'per_image: "0.04", add_ons: {input_image: "0.03"}'),
        model("two", 'per_image: "0.04"'),
    ),
    "many input images": (
        STEP,
        model("one", 'per_image: "0.04", add_ons: {input_image: "0.03"}'),
        model("two", 'per_image: "0.08", add_ons: {input_image: "0.01"}'),
    ),
    "a transparent background": (
        "{routes: [one, two], degrade: [{budget_used: 80%, routes: [one, three]}]}",
        model("one", 'per_image: "0.01"'),
        model("two", 'per_image: "0.08"', transparent=True),
        model("three", 'per_image: "0.03"', transparent=True),
    ),
    "a size with a price of its own": (
        STEP,
        model("one", 'per_image: {1024x1024: "0.06", 2048x2048: "0.06"}', sizes=ANY),
        model("two", 'per_image: {1024x1024: "0.03", 2048x2048: "0.06"}', sizes=ANY),
    ),
    "sizes up to where a tier ends": (
        STEP,
        model("one", 'per_image: "0.06"', sizes=ANY),
        model("two", 'per_image: {a: "0.07", b: "0.03", c: "0.08"}, buckets: {a: 500000, b: 1600000}', sizes=ANY),
    ),
    "partial images": (STEP, model("one", TOKENS, partial=1000), model("two", TOKENS, partial=100)),
    "long prompts": (
        STEP,
        model("one", TOKENS),
        model("two", 'tokens_per_million: {text_in: "1", image_in: "8", image_out: "30"}, add_ons: {request: "0.05"}'),
    ),
    "one image alone": (
        STEP,
        model("one", 'per_image: "0.04", add_ons: {request: "0.09"}'),
        model("two", 'per_image: "0.06", add_ons: {request: "0.05"}'),
    ),
    "what the first route fails at": (
        "{routes: [one, two], degrade: [{budget_used: 80%, routes: [one, three]}]}",
        model("one", 'per_image: "0.01"'),
        model("two", 'per_image: "0.08"'),
        model("three", 'per_image: "0.03"'),
    ),
    "what is not to be transparent": (
        "{routes: [one], defaults: {background: transparent}, degrade: [{budget_used: 80%, routes: [one, two]}]}",
        model("one", 'per_image: "0.08"', transparent=True),
        model("two", 'per_image: "0.03"'),
    ),
    "what leaves the quality open": (
        STEP,
        model("one", 'per_image: {low: "0.02", high: "0.08"}'),
        model("two", 'per_image: "0.03"').replace("[low, high]", "[draft]").replace("low: 16, high: 48", "draft: 16"),
    ),
}


@pytest.mark.parametrize("what", CHEAPER)
def test_a_step_that_saves_for_some_is_no_mistake(what: str, tmp_path: Path) -> None:
    """However few they are, and whichever route serves them."""
    job_type, *models = CHEAPER[what]
    assert told(tmp_path, job_type, *models) == []


DEARER = {
    "order of the same routes": (
        "{routes: [one, two], degrade: [{budget_used: 80%, order: cheapest}]}",
        model("one", 'per_image: "0.01"'),
        model("two", 'per_image: "0.08"'),
    ),
    "dearer ones added": (
        "{routes: [one], degrade: [{budget_used: 80%, routes: [one, two]}]}",
        model("one", 'per_image: "0.01"'),
        model("two", 'per_image: "0.08"'),
    ),
    "the cheap one last": (
        "{routes: [one, two], degrade: [{budget_used: 80%, routes: [two, one]}]}",
        model("one", 'per_image: "0.01"'),
        model("two", 'per_image: "0.08"'),
    ),
    "a list in another order, by cost": (
        "{routes: [two, one], order: cheapest, degrade: [{budget_used: 80%, routes: [one, two]}]}",
        model("one", 'per_image: "0.01"'),
        model("two", 'per_image: "0.08"'),
    ),
}


@pytest.mark.parametrize("what", DEARER)
def test_a_step_that_saves_for_nobody_is_one(what: str, tmp_path: Path) -> None:
    """Routes are compared with those that serve in their place, in the order in which they are tried."""
    job_type, *models = DEARER[what]
    assert [message.split(":")[0] for message in told(tmp_path, job_type, *models)] == ["saves nothing"]


KEPT_TO = {
    "a size with a price of its own": (
        '{routes: [two], max_cost_per_image: "0.05"}',
        model("two", 'per_image: {1024x1024: "0.03", 2048x2048: "0.06"}', sizes=ANY),
    ),
    "several images that share a fee": (
        '{routes: [one], max_cost_per_image: "0.05"}',
        model("one", 'per_image: "0.04", add_ons: {request: "0.05"}'),
    ),
    "a step of the ladder": (
        '{routes: [one], max_cost_per_image: "0.05", degrade: [{budget_used: 50%, route: two}]}',
        model("one", 'per_image: "0.08"'),
        model("two", 'per_image: "0.03"'),
    ),
}


@pytest.mark.parametrize("what", KEPT_TO)
def test_a_price_limit_that_some_keep_to_is_no_mistake(what: str, tmp_path: Path) -> None:
    """Only one that every request would exceed is."""
    job_type, *models = KEPT_TO[what]
    assert told(tmp_path, job_type, *models) == []


def test_a_price_limit_that_nothing_keeps_to_names_the_cheapest(tmp_path: Path) -> None:
    """The least is that of as many images as make it cheapest, each."""
    found = told(
        tmp_path,
        '{routes: [one], max_cost_per_image: "0.04"}',
        model("one", 'per_image: "0.04", add_ons: {request: "0.05"}'),
    )
    assert [message.split(";")[0] for message in found] == [
        "every image costs more: the cheapest that is allowed may cost 0.0450 USD"
    ]


@pytest.mark.parametrize(
    "rules",
    [
        "degrade: [{budget_used: 80%, set: {n: 10}}]",
        'max_cost_per_image: "0.000001"',
    ],
)
def test_many_routes_are_read_with_bounded_work(rules: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that would take too many prices to answer is left open, and no policy is refused for it."""
    fitted = 0

    def counted(*asked: object) -> object:
        nonlocal fitted
        fitted += 1
        return fit(*asked)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr("gateway.steps.price.fit", counted)
    catalog = check_policy(shipped_policies() / "default", {}, TODAY)
    assert catalog.policy is not None
    names = [name for name, each in sorted(catalog.policy.models.items()) if each.prices]
    routes = ", ".join(f"r{number}: {{provider: a, model: {name}}}" for number, name in enumerate(names * 3))
    listed = ", ".join(f"r{number}" for number in range(3 * len(names)))
    (tmp_path / "policy.yaml").write_text(
        'providers: {a: {kind: openai, base_url: "http://127.0.0.1:9/v1"}}\n'
        f"routes: {{{routes}}}\n"
        f"job_types: {{k: {{routes: [{listed}], {rules}}}}}\n"
        "projects: {team: {job_types: [k]}}\n"
    )

    fitted = 0
    loaded = check_policy(tmp_path, {}, TODAY)

    assert [problem.message for problem in loaded.problems] == []
    assert fitted < 20_000

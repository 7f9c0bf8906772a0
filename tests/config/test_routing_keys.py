"""What the keys that say how a request is routed become."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from gateway.config.load import check_policy, load_policy
from gateway.config.shipped import shipped_policies
from gateway.config.sources import policy_files
from gateway.domain.budget import Budget, Scope, Window
from gateway.domain.policy import DegradeStep, Experiment, JobType, Order, Policy, Shadow, SplitBy, Throttled, WhenFull
from gateway.domain.route import AfterRetirement, Legacy, Route, RouteLimits
from tests.config.conftest import Load
from tests.config.golden import HERE, TODAY

EVERYTHING = (HERE / "everything.yaml").read_text()


@pytest.fixture
def policy(load: Load) -> Policy:
    """Return the policy that has each key once."""
    loaded = load(base=False, policy=EVERYTHING)
    assert loaded.policy is not None, loaded.problems
    return loaded.policy


@pytest.fixture
def hero(policy: Policy) -> JobType:
    """Return its job type."""
    return policy.job_types["hero"]


def _chain(route: Route) -> list[str]:
    return [route.model.name, *(_chain(route.successor) if route.successor else [])]


def test_a_ladder_is_read_in_basis_points(policy: Policy, hero: JobType) -> None:
    """Each step has its share of the budget, what it sets, and the order and routes that it names."""
    assert hero.degrade == (
        DegradeStep(8000, {"quality": "medium", "n": 2}),
        DegradeStep(9025, {"size": "1024x1024"}, Order.CHEAPEST),
        DegradeStep(9500, {}, None, (policy.routes["acct/cheap"], policy.routes["acct/old"])),
        DegradeStep(10_000, {"n": 1}, None, (policy.routes["acct/cheap"],)),
    )


def test_order_weights_and_waiting_are_read(hero: JobType) -> None:
    """The order, the weights of the routes that have one, and the seconds to wait."""
    assert (hero.order, hero.weights) == (Order.WEIGHTED, {"acct/gpt-image-2": 3})
    assert hero.throttled == Throttled(20.0, WhenFull.REJECT)


@pytest.mark.parametrize("word", list(Order))
def test_every_order_loads(load: Load, word: Order) -> None:
    """Each word means what it says."""
    loaded = load(more=f"job_types:\n  more: {{routes: [acct/gpt-image-2, acct/flare], order: {word}}}\n").policy

    assert loaded is not None
    assert loaded.job_types["more"].order is word


def test_experiment_and_shadow_are_read(policy: Policy, hero: JobType) -> None:
    """Shares are basis points, an experiment's route need not be the job type's, a shadow has a budget of its own."""
    flare = policy.routes["acct/flare"]
    budget = Budget(Scope(shadow="hero"), Window.DAY, 5_000_000)

    assert hero.experiment == Experiment("flare-trial", {"acct/flare": 1250}, (flare,), SplitBy.KEY)
    assert hero.shadow == Shadow(flare, 200, budget)


def test_what_stands_beside_a_tier_counts(policy: Policy) -> None:
    """A tier gives all its limits, and a key beside it another value for one; a provider has limits like a route."""
    route = policy.routes["acct/gpt-image-2"]

    assert route.limits == RouteLimits(50, None, 60, 8, 500_000)
    assert route.provider.limits == RouteLimits(images_per_minute=20, images_per_day=5000)
    assert route.quality_names == {"high": "max"}


@pytest.mark.parametrize(("tier", "images"), [(1, 5), (2, 20), (3, 50), (4, 150), (5, 250)])
def test_shipped_tiers_are_the_published_ones(load: Load, tier: int, images: int) -> None:
    """The tiers of the catalog allow the images a minute that their vendor publishes."""
    route = "{provider: acct, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21"
    loaded = load(more=f"routes:\n  acct/more: {route}, limits: {{tier: openai-{tier}}}}}\n").policy

    assert loaded is not None
    assert loaded.routes["acct/more"].limits == RouteLimits(images_per_minute=images)


def test_old_words_are_read(policy: Policy) -> None:
    """A model says which words mean the same picture, a retired one what its old words mean now, a project who may."""
    old = policy.models["old"]

    assert old.equivalent_quality == {"gpt-image-2": {"low": "standard", "high": "hd"}}
    assert old.legacy == Legacy(
        {"standard": "medium", "hd": "high"},
        {"1792x1024": "1536x1024"},
        ("style",),
        links=True,
        defaults={"quality": "standard"},
    )
    assert policy.projects["team"].legacy


def test_a_successor_outlives_what_it_follows(policy: Policy) -> None:
    """The first in the chain that answers when the model no longer does serves, and has a successor in its turn."""
    route = policy.routes["acct/old"]
    after = route.successor

    assert after is not None
    assert _chain(route) == ["old", "short", "gpt-image-2"]
    assert (after.name, after.provider, after.lane, after.limits) == (
        route.name,
        route.provider,
        route.lane,
        route.limits,
    )
    assert after.capabilities == policy.models["short"].capabilities
    assert (after.upstream_model, after.prices, route.prices != ()) == ("short", (), True)
    assert after.successor is not None
    assert after.successor.upstream_model == "gpt-image-2-2026-04-21"


def test_a_route_may_refuse_to_be_replaced(policy: Policy) -> None:
    """`after_retirement: refuse` leaves a route without a successor, and so does a model that does not retire."""
    route = policy.routes["acct/oldest"]

    assert (route.after_retirement, route.successor) == (AfterRetirement.REFUSE, None)
    assert policy.routes["acct/gpt-image-2"].successor is None


@pytest.mark.parametrize("name", ["dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1.5", "gpt-image-1-mini"])
def test_every_retired_model_of_the_catalog_is_served(load: Load, name: str) -> None:
    """A route of a model that is gone, or soon is, loads with a warning and leads to one that stays."""
    loaded = load(more=f"routes:\n  acct/more: {{provider: acct, model: {name}}}\n")

    assert loaded.policy is not None, loaded.problems
    successor = loaded.policy.routes["acct/more"].successor
    assert successor is not None
    assert successor.model.retires is None
    assert any(f"{successor.model.name} serves instead" in warning.message for warning in loaded.warnings)


def test_old_words_of_the_catalog_exist_on_what_replaces_them(load: Load) -> None:
    """Each old quality and size of a shut-down model leads to one that its replacement can do."""
    loaded = load(more="routes:\n  a/3: {provider: acct, model: dall-e-3}\n  a/2: {provider: acct, model: dall-e-2}\n")
    found = loaded.policy

    assert found is not None
    for name in ("a/2", "a/3"):
        legacy, after = found.routes[name].model.legacy, found.routes[name].successor
        assert legacy is not None
        assert after is not None
        assert set(legacy.quality.values()) <= set(after.capabilities.quality)
        assert set(legacy.quality) == set(found.routes[name].model.capabilities.quality)
        assert set(legacy.drop) == {"style"}
        assert legacy.defaults == {"quality": "standard", "size": "1024x1024"}


def test_equal_words_of_the_catalog_are_equal_tokens(load: Load) -> None:
    """Words that the catalog says make the same picture stand for the same grid, and each pair says so both ways."""
    found = load().policy

    assert found is not None
    for model in found.models.values():
        for other, words in model.equivalent_quality.items():
            theirs, ours = found.models[other].output_tokens.grid, model.output_tokens.grid
            assert [theirs[word] for word in words] == [ours[word] for word in words.values()]
            back = found.models[other].equivalent_quality[model.name]
            assert set(words.items()) == {(word, mine) for mine, word in back.items()}


@pytest.mark.parametrize("names", [("everything.yaml",), ("contract.yaml", "contract_names.yaml")])
def test_no_day_makes_a_sound_policy_unsound(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Days on which models retire and prices begin bring warnings, and never a problem: a restart must work."""
    for name in names:
        (tmp_path / name).write_text((HERE / name).read_text())

    for months in range(0, 40, 3):
        loaded = check_policy(tmp_path, {}, TODAY + timedelta(days=31 * months))
        assert loaded.problems == (), months


def test_tests_beside_a_policy_are_no_part_of_it(tmp_path: Path) -> None:
    """Files below a folder named tests are neither read nor in the digest, nor looked at for a reload."""
    (tmp_path / "policy.yaml").write_text((HERE / "base" / "base.yaml").read_text())
    before = load_policy(tmp_path, environ={"KEY": "k"}, today=TODAY)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "some.yaml").write_text("tests: [{name: anything}]\nroute: nonsense\n")

    after = load_policy(tmp_path, environ={"KEY": "k"}, today=TODAY)

    assert before.policy is not None
    assert after.policy is not None
    assert after.policy.digest == before.policy.digest
    assert [path.name for path in policy_files(tmp_path, lambda _: None)] == ["policy.yaml"]


def test_a_step_that_saved_once_stays_sound(load: Load) -> None:
    """A step to a route that was cheaper until its price rose is kept, since prices change by themselves."""
    text = """
routes:
  acct/other:
    provider: acct
    model: gpt-image-2
    upstream_model: gpt-image-2-2026-04-21
    price: [{from: 2026-01-01, per_image: "0.001"}, {from: 2026-11-01, per_image: "0.9"}]
job_types:
  more: {routes: [acct/gpt-image-2], degrade: [{budget_used: 80%, route: acct/other}]}
"""

    assert load(more=text).policy is not None


def test_shipped_policies_have_no_lasting_problem() -> None:
    """The default policy loads ten years from now."""
    loaded = check_policy(shipped_policies() / "default", {}, date(2036, 1, 1))

    assert loaded.policy is not None

"""What a sound policy becomes, and how files, catalog and secrets come together."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path

import pytest

from gateway.config.fingerprint import fingerprint
from gateway.config.load import check_policy, load_policy
from gateway.config.problems import format_problem
from gateway.config.shipped import shipped_policies
from gateway.config.sources import MAX_FILE_BYTES
from gateway.domain.budget import Budget, Counted, Quota, Scope, View, Window
from gateway.domain.job import Operation, Size
from gateway.domain.policy import ClientModel, OnUnknown, Order, Retry, Throttled, WhenFull
from gateway.domain.price import PixelTier
from gateway.domain.route import RouteLimits
from gateway.ports.provider import ProviderServices
from gateway.providers.registry import open_provider
from tests.config.conftest import Load
from tests.config.golden import HERE, TODAY

CONTRACT = {name: (HERE / f"{name}.yaml").read_text() for name in ("contract", "contract_names")}
"""The contract's own example, word for word, and what it names without telling it."""
SECRETS = {"OPENAI_API_KEY": "sk-1", "EVOLINK_API_KEY": "sk-2"}
TEAM = "projects:\n  team: {job_types: [hero, experiments], lanes: [production, testing]}\n"


@pytest.mark.parametrize("name", ["default", "demo"])
def test_shipped_policies_are_clean(name: str) -> None:
    """The policies that ship have no problem and no warning once their variables are set."""
    environ = {
        "OPENAI_API_KEY": "k",
        "IMAGE_GATEWAY_SANDBOX_URL": "http://127.0.0.1:1",
        "IMAGE_GATEWAY_SANDBOX_KEY": "k",
    }

    loaded = load_policy(shipped_policies() / name, environ=environ, today=TODAY)

    assert list(map(format_problem, loaded.problems + loaded.warnings)) == []
    assert loaded.policy is not None
    assert {"hero_image", "text_heavy_mockup", "product_edit", "creative_iteration"} == set(loaded.policy.job_types)
    assert all(project.default_job_type for project in loaded.policy.projects.values())


@pytest.mark.parametrize("name", ["default", "demo"])
def test_shipped_policies_check_without_secrets(name: str) -> None:
    """`check` on a machine without the secrets warns by name and still yields the policy."""
    loaded = check_policy(shipped_policies() / name, {}, TODAY)

    assert loaded.policy is not None
    assert loaded.warnings
    assert all("is not set" in warning.message for warning in loaded.warnings)


def test_contract_example_loads(load: Load) -> None:
    """The contract's own example loads as it stands there, and means what it says."""
    loaded = load(base=False, environ=SECRETS, **CONTRACT)
    policy = loaded.policy

    assert (list(map(format_problem, loaded.problems)), policy is not None) == ([], True)
    assert policy is not None
    hero = policy.job_types["hero_image"]
    assert [route.name for route in hero.routes] == ["openai/gpt-image-2", "evolink/gpt-image-2"]
    assert hero.match is not None
    assert hero.match.fields == {"operation": ("generate",), "quality": ("high",)}
    assert hero.defaults == {"quality": "high", "size": "1536x1024"}
    assert hero.allow == {"quality": ("medium", "high")}
    assert hero.max_cost_per_image == 250_000_000
    assert (hero.retry.attempts, hero.retry.on_unknown) == (2, OnUnknown.HOLD)
    first, last = hero.degrade
    assert (first.fields, last.order) == ({"quality": "medium"}, Order.CHEAPEST)
    assert hero.throttled == Throttled(20.0, WhenFull.NEXT_ROUTE)
    assert hero.experiment is not None
    assert (hero.experiment.name, hero.experiment.split) == ("beta-trial", {"evolink/gpt-image-2-beta": 1_000})
    assert hero.shadow is not None
    assert (hero.shadow.route.name, hero.shadow.sample) == ("evolink/gpt-image-2-beta", 200)
    assert hero.shadow.budget == Budget(Scope(shadow="hero_image"), Window.DAY, 5_000_000)
    marketing = policy.projects["marketing"]
    assert marketing.client_model is ClientModel.IGNORE
    assert marketing.multiplier == Fraction("1.15")
    assert marketing.budgets == (
        Budget(Scope(project="marketing"), Window.DAY, 50_000_000),
        Budget(Scope(project="marketing", job_type="hero_image"), Window.MONTH, 900_000_000, View.ROUTE),
    )
    assert marketing.quotas == (
        Quota(Scope(project="marketing"), Counted.IMAGES, 10, 60),
        Quota(Scope(project="marketing"), Counted.REQUESTS, 100, 3600),
        Quota(Scope(project="marketing"), Counted.CONCURRENT, 8, 0),
    )
    assert policy.budgets == (Budget(Scope(), Window.MONTH, 5_000_000_000),)


@pytest.mark.parametrize("word", list(OnUnknown))
def test_every_way_on_after_an_unknown_outcome_loads(load: Load, word: OnUnknown) -> None:
    """Each word means what it says, and the number of calls beside it holds."""
    retry = f"{{attempts: 3, on_unknown: {word}}}"
    policy = load(more=f"job_types:\n  more: {{routes: [acct/flare], retry: {retry}}}\n").policy

    assert policy is not None
    assert policy.job_types["more"].retry == Retry(3, word)


def test_an_allowance_is_counted_in_micro_usd(load: Load) -> None:
    """What an instance may hold for a project while the ledger is away, as exact as any money."""
    away = 'while_ledger_away: {allowance: "2.50"}'
    policy = load(more=f"projects:\n  more: {{job_types: [hero], {away}}}\n").policy

    assert policy is not None
    assert policy.projects["more"].offline_allowance == 2_500_000


def test_contract_example_prices_and_routes(load: Load) -> None:
    """Rates are pico-USD per token, tiers nano-USD smallest first, and a route narrows its model."""
    policy = load(base=False, environ=SECRETS, **CONTRACT).policy

    assert policy is not None
    main, beta = policy.routes["openai/gpt-image-2"], policy.routes["evolink/gpt-image-2-beta"]
    rates = main.model.prices[0].tokens
    assert rates is not None
    assert (rates.text_in, rates.text_in_cached, rates.image_out, rates.text_out) == (
        5 * 10**6,
        1_250_000,
        3 * 10**7,
        None,
    )
    assert main.prices == ()
    assert main.limits == RouteLimits(images_per_minute=5, concurrent=20)
    assert beta.prices[0].per_image == (
        PixelTier("1K", 15_000_000, 1_700_000),
        PixelTier("2K", 25_500_000, 4_400_000),
        PixelTier("4K", 39_000_000, None),
    )
    assert (beta.lane, beta.capabilities.n, beta.capabilities.mask, beta.capabilities.stream) == (
        "testing",
        1,
        False,
        False,
    )
    assert beta.capabilities.references == 16
    assert beta.capabilities.sizes == main.model.capabilities.sizes
    assert main.provider.timeout == 180.0
    assert main.provider.api_key is not None
    assert main.provider.api_key.reveal() == "sk-1"


def test_route_narrows_sizes_and_qualities(load: Load) -> None:
    """A route may list some sizes and qualities of its model; order stays the model's, and bounds merge."""
    text = """
routes:
  acct/list:
    {provider: acct, model: gpt-image-2, lane: testing, capabilities: {quality: [high, low], sizes: [1024x1024]}}
  acct/bounds:
    {provider: acct, model: gpt-image-2, lane: testing, capabilities: {sizes: {max_edge: 2048, max_ratio: 2}}}
job_types: {more: {routes: [acct/list, acct/bounds]}}
"""
    loaded = load(more=text)

    assert loaded.policy is not None, loaded.problems
    listed, bounds = (loaded.policy.routes[name].capabilities for name in ("acct/list", "acct/bounds"))
    assert listed.quality == ("low", "high")
    assert listed.sizes.refusal(Size(1024, 1024)) is None
    assert listed.sizes.refusal(Size(1536, 1024)) is not None
    assert (bounds.sizes.max_edge, bounds.sizes.max_ratio, bounds.sizes.multiple) == (2048, Fraction(2), 16)
    assert listed.operations == {Operation.GENERATE, Operation.EDIT}


def test_flat_price_per_image(load: Load) -> None:
    """A price for an image of any size needs no tiers, and the row in force later is kept beside it, in order."""
    price = '[{from: 2026-12-01, per_image: "0.05"}, {from: 2026-01-01, per_image: "0.04"}]'
    loaded = load(more=f"routes:\n  acct/flat: {{provider: acct, model: gpt-image-2, lane: testing, price: {price}}}\n")

    assert loaded.policy is not None, loaded.problems
    assert [row.per_image for row in loaded.policy.routes["acct/flat"].prices] == [
        (PixelTier("any", 40_000_000, None),),
        (PixelTier("any", 50_000_000, None),),
    ]


def test_tiers_are_the_smallest_first_however_they_are_written(load: Load) -> None:
    """An image is priced by the first that is large enough for it."""
    price = 'per_image: {big: "0.09", small: "0.01", middle: "0.04"}, buckets: {middle: 4000000, small: 1000000}'
    text = (
        f"  acct/tiers: {{provider: acct, model: gpt-image-2, lane: testing, price: [{{from: 2026-01-01, {price}}}]}}\n"
    )
    loaded = load(more=f"routes:\n{text}")

    assert loaded.policy is not None, loaded.problems
    [row] = loaded.policy.routes["acct/tiers"].prices
    assert [(tier.name, tier.max_pixels) for tier in row.per_image] == [
        ("small", 1_000_000),
        ("middle", 4_000_000),
        ("big", None),
    ]


@pytest.mark.parametrize(("rounding", "whole"), [("", True), (", rounding: up", True), (", rounding: exact", False)])
def test_megapixels_are_counted_whole_unless_a_row_says_otherwise(load: Load, rounding: str, *, whole: bool) -> None:
    """What is begun is paid for, but where the vendor bills by the pixel."""
    price = f'[{{from: 2026-01-01, per_megapixel: {{more: "0.01"{rounding}}}}}]'
    loaded = load(more=f"routes:\n  acct/mp: {{provider: acct, model: gpt-image-2, lane: testing, price: {price}}}\n")

    assert loaded.policy is not None, loaded.problems
    rates = loaded.policy.routes["acct/mp"].prices[0].megapixels
    assert rates is not None
    assert rates.whole is whole


def test_a_limit_that_is_written_out_counts_instead_of_its_tiers(load: Load) -> None:
    """Whether it is lower or higher; what is not written out is the tier's."""
    named = ("images_per_minute", "images_per_day", "requests_per_minute", "concurrent", "tokens_per_minute")
    every = ", ".join(f"{name}: 50" for name in named)
    ways = "".join(
        f"  acct/{name}: {{provider: acct, model: gpt-image-2, lane: testing, limits: {{tier: some, {name}: {own}}}}}\n"
        for name, own in zip(named, (5, 500, 5, 500, 5), strict=True)
    )
    ways += "  acct/plain: {provider: acct, model: gpt-image-2, lane: testing, limits: {tier: some}}\n"
    loaded = load(more=f"tiers:\n  some: {{{every}}}\nroutes:\n{ways}")

    assert loaded.policy is not None, loaded.problems
    tier = RouteLimits(50, 50, 50, 50, 50)
    assert loaded.policy.routes["acct/plain"].limits == tier
    for name, own in zip(named, (5, 500, 5, 500, 5), strict=True):
        assert loaded.policy.routes[f"acct/{name}"].limits == replace(tier, **{name: own})


def test_policy_model_replaces_the_shipped_one_whole(load: Load) -> None:
    """A model of the catalog that the policy names again is the policy's alone, down to what it leaves out."""
    text = """
models:
  gpt-image-2:
    capabilities: {operations: [generate], n: 2, quality: [medium, high], output_formats: [png], sizes: [1024x1024]}
    price: [{from: 2026-01-01, per_image: "0.5"}]
"""
    loaded = load(own=text)

    assert loaded.policy is not None, loaded.problems
    model = loaded.policy.routes["acct/gpt-image-2"].model
    assert model is loaded.policy.models["gpt-image-2"]
    assert (model.snapshot, model.capabilities.n, model.input_image_tokens) == (None, 2, 0)
    assert "gpt-image-2.5-flare" in loaded.policy.models


def test_problems_of_all_files_in_one_run(load: Load) -> None:
    """One run names the mistakes of every file, sorted by file and line, and yields no policy."""
    loaded = load(
        a="budgets: [{window: day, limit: 5}]\nproject: {}\n",
        b__c="job_types:\n  x: {routes: [acct/flair]}\n",
        d="budget: []\n",
    )

    assert loaded.policy is None
    assert [(Path(problem.file).name, problem.line) for problem in loaded.problems] == [
        ("a.yaml", 1),
        ("a.yaml", 2),
        ("c.yaml", 2),
        ("d.yaml", 1),
    ]


def test_names_in_a_broken_file_are_not_called_unknown(load: Load) -> None:
    """While a file cannot be read, names that may stand in it are not reported on top."""
    loaded = load(broken="routes: {acct/other: [", team="job_types: {x: {routes: [acct/other]}}\n")

    assert [Path(problem.file).name for problem in loaded.problems] == ["broken.yaml"]


def test_sections_merge_in_order_of_files(load: Load) -> None:
    """Sections of several files are one, job types in order of file names and lines, lists joined."""
    loaded = load(
        c__late="job_types:\n  third: {routes: [acct/flare]}\nbudgets: [{window: day, limit: '2'}]\n",
        a__early="job_types:\n  second: {routes: [acct/flare]}\n  first: {routes: [acct/flare]}\n"
        "budgets: [{window: month, limit: '1'}]\n",
        team=TEAM,
    )

    assert loaded.policy is not None, loaded.problems
    assert list(loaded.policy.job_types) == ["second", "first", "hero", "experiments", "third"]
    assert [budget.window for budget in loaded.policy.budgets] == [Window.MONTH, Window.DAY]


def test_hidden_files_and_tests_are_not_policy(load: Load, tmp_path: Path) -> None:
    """Hidden files and folders, tests and files of other kinds are passed over; `.yml` is read, in capitals too."""
    for name in (".hidden.yaml", ".git/x.yaml", "tests/x.yaml", "readme.md", "a/tests/x.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("][")
    (tmp_path / "team.yml").write_text(TEAM)
    (tmp_path / "budgets.YAML").write_text("budgets: [{window: day, limit: '2'}]\n")

    loaded = load()

    assert loaded.policy is not None, loaded.problems
    assert set(loaded.policy.projects) == {"team"}
    assert len(loaded.policy.budgets) == 1


def test_top_level_quotas_reach_every_project(load: Load) -> None:
    """A quota for everything is on each project, with a scope that names none, so that all count on one meter."""
    loaded = load(team=TEAM + "  two: {job_types: [hero]}\nquotas: [{concurrent: 3}]\n")

    assert loaded.policy is not None, loaded.problems
    assert [project.quotas for project in loaded.policy.projects.values()] == [
        (Quota(Scope(), Counted.CONCURRENT, 3),)
    ] * 2


def test_digest_names_the_exact_files(load: Load) -> None:
    """The digest is the same for the same files, and another after any change, be it a comment or a file's name."""
    first, again = load(team=TEAM), load(team=TEAM)
    changed = load(team=TEAM + "# note\n")

    assert first.policy
    assert again.policy
    assert changed.policy
    assert first.policy.digest == again.policy.digest != changed.policy.digest
    assert len(first.policy.digest) == 16
    assert int(first.policy.digest, 16)


def test_directory_missing_or_empty(tmp_path: Path) -> None:
    """A directory that is not there, or holds no policy, is one clear problem."""
    missing = load_policy(tmp_path / "nowhere", environ={}, today=TODAY)
    empty = load_policy(tmp_path, environ={}, today=TODAY)

    assert [problem.message for problem in missing.problems] == ["is not a directory"]
    assert [problem.message for problem in empty.problems] == ["holds no policy: no file ends in .yaml or .yml"]


def test_directory_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """Whatever the file system says of it is a problem in its words, and ends nobody who reads it."""
    loaded = load_policy(tmp_path / ("x" * 300), environ={}, today=TODAY)

    assert [problem.message for problem in loaded.problems] == ["cannot be read: File name too long"]


def test_folders_that_are_links_are_read(load: Load, tmp_path: Path) -> None:
    """As clusters mount a ConfigMap: links into a hidden folder. Each file is read once, wherever links lead."""
    hidden = tmp_path / "policy" / "..2026_11_20"
    (hidden / "teams").mkdir(parents=True)
    (hidden / "teams" / "team.yaml").write_text(TEAM)
    (hidden / "top.yaml").write_text("budgets: [{window: day, limit: '5'}]\n")
    (tmp_path / "policy" / "..data").symlink_to(hidden.name)
    for name in ("top.yaml", "teams"):
        (tmp_path / "policy" / name).symlink_to(f"..data/{name}")
    (tmp_path / "policy" / "again").symlink_to("teams")
    (hidden / "teams" / "round").symlink_to(tmp_path)

    before = fingerprint(tmp_path)
    policy = load().policy
    assert policy is not None
    assert (list(policy.projects), len(policy.budgets)) == (["team"], 1)
    (hidden / "teams" / "team.yaml").write_text(TEAM + "# note\n")
    assert fingerprint(tmp_path) != before


def test_a_link_that_leads_nowhere_is_seen_to_come_and_go(load: Load, tmp_path: Path) -> None:
    """A policy that was refused for one is looked at again when it is gone."""
    assert load().policy is not None
    sound = fingerprint(tmp_path)
    link = tmp_path / "more.yaml"
    link.symlink_to(tmp_path / "..data" / "more.yaml")
    dangling = fingerprint(tmp_path)
    assert load_policy(tmp_path, environ={"KEY": "k"}, today=TODAY).policy is None
    link.unlink()
    assert dangling != sound == fingerprint(tmp_path)


def test_odd_files_are_refused(load: Load, tmp_path: Path) -> None:
    """A pipe, a dangling link, a file over 5 MB and one that is not UTF-8 are problems, and none of them blocks."""
    os.mkfifo(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "c.yaml").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    (tmp_path / "d.yaml").write_bytes(b"# fine\n# \xff\n")

    loaded = load()

    assert [(Path(problem.file).name, problem.line, problem.message) for problem in loaded.problems] == [
        ("a.yaml", 1, "is not a regular file"),
        ("b.yaml", 1, "is a link that leads nowhere"),
        ("c.yaml", 1, "is larger than 5 MB"),
        ("d.yaml", 2, "the file is not UTF-8; save it as UTF-8"),
    ]


def test_alias_bomb_is_refused_without_growing(load: Load) -> None:
    """Nine levels of nine aliases, a billion values when followed, are answered with a line for each level."""
    names = "abcdefghi"
    levels = [f"{names[0]}: &{names[0]} [x, x]"]
    levels += [f"{name}: &{name} [{', '.join([f'*{names[i]}'] * 9)}]" for i, name in enumerate(names[1:])]

    loaded = load(bomb="\n".join(levels) + "\n")

    assert loaded.policy is None
    assert {"alias *a is not allowed; write the value out"} <= {problem.message for problem in loaded.problems}


def test_secrets_come_from_environment_or_file(load: Load, tmp_path: Path) -> None:
    """A key is read from a variable or a file without its line break, and stays hidden when the policy is printed."""
    secret = tmp_path / "secret"
    secret.write_text("sk-from-file\n")
    secret.chmod(0o640)
    text = f'providers:\n  two: {{kind: openai, base_url: "${{BASE}}/v1/", api_key: "${{file:{secret}}}"}}\n'

    loaded = load(two=text, environ={"KEY": "sk-from-env", "BASE": "https://two.example.com"})

    assert loaded.policy is not None, loaded.problems
    key = loaded.policy.providers["two"].api_key
    assert key is not None
    assert key.reveal() == "sk-from-file"
    assert loaded.policy.providers["two"].base_url == "https://two.example.com/v1"
    assert "sk-from" not in repr(loaded)


def test_secret_file_that_everybody_reads_is_warned_of(load: Load, tmp_path: Path) -> None:
    """A secret file with open permissions is named in a warning."""
    secret = tmp_path / "secret"
    secret.write_text("sk-from-file")
    secret.chmod(0o644)

    loaded = load(two=f'providers: {{two: {{kind: openai, base_url: "http://a/v1", api_key: "${{file:{secret}}}"}}}}\n')

    assert [warning.message for warning in loaded.warnings if "everybody" in warning.message] == [
        f"{secret} can be read by everybody on this machine; chmod 640",
    ]


@pytest.mark.parametrize("value", ["sk canary", "sk\ncanary", "sk-cänary"])
def test_unusable_secret_is_named_and_not_shown(load: Load, value: str) -> None:
    """A secret that cannot be a header is refused by its name; neither it nor any other value is in a message."""
    loaded = load(environ={"KEY": value})

    assert [problem.key for problem in loaded.problems] == ["providers.acct.api_key"]
    assert "nary" not in repr(loaded)


def test_bad_url_from_outside_is_not_shown(load: Load) -> None:
    """A base URL is refused without being printed, since what it took from outside may be secret."""
    loaded = load(
        two='providers: {two: {kind: openai, base_url: "${BASE}"}}\n', environ={"KEY": "k", "BASE": "canary://x"}
    )

    assert len(loaded.problems) == 1
    assert "canary" not in repr(loaded.problems)


@pytest.mark.parametrize("kind", ["openai", "gemini"])
@pytest.mark.parametrize(
    ("address", "sound"),
    [
        ("10.0.0.256:8000", False),
        ("999.1.1.1", False),
        ("1.2.3.4.5", False),
        ("[v1.fe80]", False),
        ("[:::1]", False),
        ("a..b", False),
        ("-a.example", False),
        ("a" * 64 + ".example", False),
        ("a.example/" + "a" * 70_000, False),
        ("10.0.0.25:8000", True),
        ("[::1]:8000", True),
        ("image_proxy:8000", True),
        ("A.example.", True),
        ("xn--mnchen-3ya.example", True),
        ("xn--a.example", True),  # no name that DNS has, as may be any other
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_an_account_can_be_called_at_every_address_that_checks(
    load: Load, kind: str, address: str, *, sound: bool
) -> None:
    """What could not be opened is refused by the check, in words that do not show it."""
    account = f'providers: {{two: {{kind: {kind}, base_url: "http://${{ADDRESS}}/v1"}}}}\n'
    loaded = load(two=account, environ={"KEY": "k", "ADDRESS": address})

    if sound:
        assert loaded.policy is not None, loaded.problems
        assert open_provider(loaded.policy.providers["two"], ProviderServices()) is not None
    else:
        assert [problem.key for problem in loaded.problems] == ["providers.two.base_url"]
        assert address not in repr(loaded.problems)


def test_literal_secret_is_not_shown(load: Load) -> None:
    """A key that somebody wrote into the file is refused without being repeated."""
    loaded = load(two='providers: {two: {kind: openai, base_url: "http://a/v1", api_key: sk-canary}}\n')

    assert len(loaded.problems) == 1
    assert "canary" not in repr(loaded.problems)


def test_retirement_follows_the_date(tmp_path: Path) -> None:
    """A model is fine long before its retirement and warned of from 90 days on, also after it: a restart must work."""
    (tmp_path / "p.yaml").write_text(
        'providers: {a: {kind: openai, base_url: "http://a/v1"}}\n'
        "routes: {a/old: {provider: a, model: gpt-image-1.5, upstream_model: gpt-image-1.5-2025-12-16}}\n"
        "job_types: {j: {routes: [a/old]}}\nprojects: {p: {job_types: [j]}}\n",
    )

    found = [check_policy(tmp_path, {}, date(2026, *day)) for day in ((9, 1), (9, 2), (11, 30), (12, 1))]

    assert [len(loaded.warnings) for loaded in found] == [0, 1, 1, 1]
    assert [len(loaded.problems) for loaded in found] == [0, 0, 0, 0]
    assert "gpt-image-2.5-sunburst serves instead; name that here" in found[3].warnings[0].message


def test_unused_and_zero_are_warned_of(load: Load) -> None:
    """Routes and job types that nobody reaches, and a policy without projects, are warnings and no more."""
    loaded = load(more="routes: {acct/spare: {provider: acct, model: gpt-image-2, lane: testing}}\n")

    assert loaded.policy is not None
    assert sorted(warning.message for warning in loaded.warnings) == [
        "defines no project, so nobody can use it",
        "no job type uses this route",
        "no project uses this job type",
        "no project uses this job type",
    ]

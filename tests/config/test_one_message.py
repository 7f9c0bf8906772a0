"""One mistake is one message: what follows from it is not told beside it, and nothing that is right is called wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.policy_tests import read_policy_tests
from tests.config.conftest import Load
from tests.config.golden import HERE

BASE = (
    HERE / "base" / "base.yaml"
).read_text() + "projects:\n  team: {job_types: [hero], lanes: [production, testing]}\n"
BUDGET = 'budgets: [{window: day, limit: "5"}]\n'
MODEL = "models:\n  own: {price: [{from: 2026-01-01, free: true}], capabilities: @}\n"
ABLE = "operations: [generate], n: 1, quality: [low], output_formats: [png]"


def changed(old: str, new: str) -> str:
    """The base with a mistake in it."""
    assert old in BASE
    return BASE.replace(old, new)


MISTAKES = {
    "providers are a list": (changed("  acct: {", "  - {name: acct, "), "providers: must be a map, not a list"),
    "providers misspelt": (changed("providers:", "provders:"), "provders: unknown key (did you mean providers?)"),
    "routes misspelt": (changed("routes:\n", "route:\n"), "route: unknown key (did you mean routes?)"),
    "job types misspelt": (changed("job_types:\n", "jobtypes:\n"), "jobtypes: unknown key (did you mean job_types?)"),
    "projects misspelt": (changed("projects:", "project:"), "project: unknown key (did you mean projects?)"),
    "projects are a list": (changed("  team: {", "  - {name: team, "), "projects: must be a map, not a list"),
    "a project named no": (
        changed("  team:", "  no:"),
        "projects.no: YAML reads this key as true or false; write it in quotes",
    ),
    "a route named 1": (
        changed("  acct/flare:", "  1:").replace(", acct/flare", "").replace("[acct/flare]", '["1"]'),
        "routes.1: YAML reads this key as a number; write it in quotes",
    ),
    "window misspelt": (
        BASE + BUDGET.replace("window", "windows"),
        "budgets[0].windows: unknown key (did you mean window?)",
    ),
    "quota without a number": (
        BASE + "quotas: [concurrent]\n",
        'quotas[0]: must be a map, as {concurrent: 8}, not text ("concurrent")',
    ),
    "match as a word": (
        changed("defaults: {quality: high}", "match: edit"),
        'job_types.hero.match: must be a map, as {operation: edit}, not text ("edit")',
    ),
    "capabilities as a word": (
        BASE + MODEL.replace("@", "generate"),
        'models.own.capabilities: must be a map, not text ("generate")',
    ),
    "operation of operations": (
        BASE + MODEL.replace("@", f"{{{ABLE.replace('operations', 'operation')}, sizes: [64x64]}}"),
        "models.own.capabilities.operation: unknown key (did you mean operations?)",
    ),
    "one size": (
        BASE + MODEL.replace("@", f"{{{ABLE}, sizes: 64x64}}"),
        "models.own.capabilities.sizes: must be a list of sizes, as [64x64], or bounds",
    ),
    "a quality too many": (
        changed("gpt-image-2, acct/flare]", "gpt-image-2]").replace(
            "-21}", "-21, capabilities: {quality: [low, ultra]}}"
        ),
        "routes.acct/gpt-image-2.capabilities.quality: a route may only narrow what its model can do: it has no ultra",
    ),
    "a tag": (
        BASE + BUDGET.replace('"5"', "!!str 5"),
        'budgets[0].limit: tag "tag:yaml.org,2002:str" is not allowed; write the plain value',
    ),
    "an alias": (
        changed("{job_types: [hero], lanes: [production, testing]}", "*x"),
        "projects.team: alias *x is not allowed; write the value out",
    ),
    "an alias in a list": (
        changed("job_types: [hero]", "job_types: [hero, *x]"),
        "projects.team.job_types[1]: alias *x is not allowed; write the value out",
    ),
    "a merge key": (
        changed("{job_types: [hero], lanes", "{<<: *x, lanes"),
        'projects.team."<<": alias *x is not allowed; write the value out',
    ),
    "a model misspelt": (
        changed("model: gpt-image-2.5-flare", "modle: gpt-image-2.5-flare"),
        "routes.acct/flare.modle: unknown key (did you mean model?)",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_one_mistake_is_one_message(load: Load, name: str) -> None:
    """Whatever refers to what could not be read, or stands in a map that could not be, is not blamed."""
    policy, told = MISTAKES[name]
    loaded = load(base=False, policy=policy)

    said = [f"{each.key}: {each.message}" for each in loaded.problems]
    assert (said, [each for each in loaded.warnings if "defines no project" in each.message]) == ([told], [])


def test_sixty_routes_do_not_hide_what_is_wrong(load: Load) -> None:
    """The one true message would stand behind as many as there are names."""
    routes = "".join(f"  r{number}: {{provider: openai, model: gpt-image-2}}\n" for number in range(60))
    loaded = load(a="routes:\n" + routes, b="providers:\n  - name: openai\n    kind: openai\n")

    assert [(each.key, each.line) for each in loaded.problems] == [("providers", 2)]


def test_a_directory_without_a_policy_is_one_message(load: Load) -> None:
    """That it defines no project goes without saying."""
    loaded = load(base=False)

    assert ([each.message[:16] for each in loaded.problems], loaded.warnings) == (["holds no policy:"], ())


def test_two_mistakes_are_two_messages(load: Load) -> None:
    """A key that is not there under any name is told beside a misspelt one; so is a wrong name beside a list."""
    loaded = load(
        a="routes:\n  more: {modle: gpt-image-2}\n",
        b="budgets: {window: day}\njob_types:\n  more: {routes: [acct/flair]}\n",
    )

    assert [each.message.partition(" (")[0] for each in loaded.problems] == [
        "provider is missing",
        "unknown key",
        "must be a list, not a map; put it in brackets: [{…}]",
        'unknown route "acct/flair"',
    ]


@pytest.mark.parametrize(
    ("tests", "told"),
    [
        ("- {project: team}\n", [": the file must be a map of sections, such as `tests:`"]),
        (
            "tests: [{name: a, project: team, prompt: x, expect: {n: 1}}]\n",
            ["tests[0].prompt: belongs in request"],
        ),
        (
            "tests: [{name: a, project: team, budget_used: [{window: day, used: 40.50}], expect: {n: 1}}]\n",
            ['tests[0].budget_used[0].used: must be a percentage, as 40.50%, or USD in quotes, as "40.50"'],
        ),
        ("tests: {a: 5}\n", ['tests.a: must be a map, not a number ("5")']),
    ],
)
def test_mistakes_in_policy_tests_are_told_with_what_helps(
    load: Load, tmp_path: Path, tests: str, told: list[str]
) -> None:
    """A test is read by the same rules: where it has one mistake, one is told."""
    policy = load(base=False, policy=BASE, tests__cases=tests).policy
    assert policy is not None

    said = read_policy_tests(tmp_path, policy).problems
    assert [f"{each.key}: {each.message}" for each in said] == told

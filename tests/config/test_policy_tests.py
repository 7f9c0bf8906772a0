"""Policy tests: what is expected of a policy is checked with it, and told with its place where it does not hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config.load import check_policy
from gateway.config.policy_test_cases import ERRORS, EVERY_MAP
from gateway.config.policy_test_run import PolicyTestRun, run_policy_tests
from gateway.config.schema import Keys
from tests.config.golden import TODAY

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "policy-tests.md").read_text()
SECTIONS = dict(re.findall(r"^### `([^`]+)`\n(.*?)(?=^#|\Z)", REFERENCE, re.MULTILINE | re.DOTALL))
EXAMPLES = sorted(path for path in (ROOT / "policies" / "examples").iterdir() if path.is_dir())

POLICY = """
providers:
  acct: {kind: openai, base_url: "https://api.example.com/v1", api_key: "${KEY}"}
routes:
  acct/two: {provider: acct, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, limits: {images_per_minute: 5}}
  acct/flare: {provider: acct, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare-2026-09-08}
job_types:
  hero:
    match: {quality: high}
    routes: [acct/two, acct/flare]
    defaults: {size: 1536x1024}
    allow: {quality: [medium, high]}
  draft: {routes: [acct/two], defaults: {quality: low, size: 1024x1024}}
projects:
  web:
    job_types: [hero, draft]
    default_job_type: draft
    client_model: honour
    budgets: [{window: day, limit: "10"}, {window: day, limit: "1", job_type: hero}]
budgets: [{window: month, limit: "100"}]
"""

PASSING = """
tests:
  by match: {project: web, request: {quality: high}, expect: {job_type: hero, route: acct/two, quality: high, n: 1}}
  default: {project: web, expect: {job_type: draft, route: [acct/flare, acct/two], size: 1024x1024, model: gpt-image-2}}
  its price: {project: web, request: {prompt: a cat}, expect: {cost: "0.006225", degraded: {}}}
  by header: {project: web, request: {headers: {x-gateway-job-type: hero}, quality: medium}, expect: {job_type: hero}}
  by key: {project: web, key_job_type: hero, request: {quality: medium}, expect: {job_type: hero}}
  an edit: {project: web, request: {operation: edit, mask: true, images: 2}, expect: {route: acct/two}}
  a full route: {project: web, full: [acct/two], request: {quality: high}, expect: {route: acct/flare}}
  every route full: {project: web, full: [acct/two], expect: {error: rate_limit_exceeded}}
  one budget gone:
    project: web
    budget_used: [{window: day, job_type: hero, used: 100%}]
    request: {quality: high}
    expect: {error: 402, job_type: hero}
  the other is not: {project: web, budget_used: [{window: day, job_type: hero, used: 100%}], expect: {route: acct/two}}
  by dollars: {project: web, budget_used: [{window: month, common: true, used: "99.999"}], expect: {error: 402}}
  just room: {project: web, budget_used: [{window: month, used: "99"}, {window: day, used: 90%}], expect: {n: 1}}
  too dear: {project: web, request: {headers: {X-Gateway-Max-Cost: 0.001}}, expect: {error: max_cost_exceeded}}
  not allowed: {project: web, request: {quality: low, headers: {X-Gateway-Job-Type: hero}}, expect: {error: 400}}
  too many for a minute: {project: web, request: {n: 6, quality: high}, expect: {refused: {acct/two: images a minute}}}
  one model: {project: web, request: {model: gpt-image-2, quality: high}, expect: {refused: {acct/flare: asked for}}}
"""

FAILING = """tests:
  - name: wrong route
    project: web
    request: {quality: high}
    expect:
      job_type: draft
      route: acct/flare
      cost: "1"
  - {name: served, project: web, expect: {error: 402}}
  - {name: refused, project: web, request: {n: 11}, expect: {route: acct/two}}
  - {name: no reason, project: web, expect: {refused: {acct/two: full}}}
  - {name: no such budget, project: web, budget_used: [{window: week, used: 5%}], expect: {n: 1}}
  - {name: never full, project: web, full: [acct/flare], expect: {n: 1}}
"""

MISTAKEN = """tests:
  - {project: web, expect: {n: 1}}
  - {name: a, project: wbe, expect: {n: 1}}
  - {name: a, project: web, expect: {rout: acct/two}}
  - {name: b, project: web, request: {qualty: high}, expect: {n: 1}}
  - {name: c, project: web, request: {headers: {X-Gateway-Lan: testing}}, expect: {n: 1}}
  - {name: d, project: web}
  - {name: e, project: web, expect: {route: acct/too}}
  - {name: f, project: web, budget_used: [{window: day, used: 0.8}], expect: {n: 1}}
  - {name: g, project: web, date: tomorrow, expect: {n: 1}}
  - {name: h, project: web, expect: {}}
  - {name: i, project: web, expect: {error: project_spend_limit_exceded}}
  - {name: j, project: web, expect: {error: 999}}
  - {name: k, project: web, expect: {n: 1}}
  - {name: m, project: web, request: {mask: true}, expect: {n: 1}}
  - {name: l, project: web, key: igw_Kq0a, budget_used: [{window: day, used: 5%, key: Ann}], expect: {n: 1}}
  - {name: o, project: web, expect: {route: gpt-image-2}}
"""


MEANT = "(did you mean project_spend_limit_exceeded?)"
NO_ID = "must be a key's id as `image-gateway keys list` shows it (key_…), not its name or the key itself"
HAS = "everything per month, project:web per day, project:web+job_type:hero per day"


def run(folder: Path, tests: str) -> PolicyTestRun:
    """Run these tests of the policy above."""
    (folder / "tests").mkdir()
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "tests" / "some.yaml").write_text(tests)
    loaded = check_policy(folder, {"KEY": "k"}, TODAY)
    assert loaded.policy is not None, loaded.problems
    return run_policy_tests(folder, loaded.policy, TODAY)


def told(found: PolicyTestRun, folder: Path) -> list[str]:
    """The failures as they are printed, less the folder."""
    return [str(failure).removeprefix(f"{folder}/tests/some.yaml:") for failure in found.failures]


def test_what_holds_passes(tmp_path: Path) -> None:
    """Job types by each way of naming one, prices, budgets by share and by dollars, limits and refusals."""
    found = run(tmp_path, PASSING)
    assert told(found, tmp_path) == []
    assert (found.passed, found.failed) == (16, 0)


def test_an_empty_file_of_tests_is_told(tmp_path: Path) -> None:
    """As of policy: it is still being written, or somebody lost what stood there."""
    found = run(tmp_path, "")
    assert [line.partition(":")[2][:12] for line in told(found, tmp_path)] == [" is empty: i"]


def test_what_does_not_hold_is_told_with_its_line(tmp_path: Path) -> None:
    """Each failure has the line of what was expected, and says what came instead."""
    assert [line.partition(" Ask for")[0] for line in told(run(tmp_path, FAILING), tmp_path)] == [
        "6: tests.wrong route: expected job_type draft, got hero",
        "7: tests.wrong route: expected route acct/flare, got acct/two",
        "8: tests.wrong route: expected cost 1.00, got 0.165065",
        "9: tests.served: expected error 402, got route acct/two",
        "10: tests.refused: expected route acct/two, got error 400 invalid_value: n must be from 1 to 10.",
        "11: tests.no reason: expected acct/two to be refused with 'full', got no refusal",
        f"12: tests.no such budget: budget_used: window week is no budget of project web, which has {HAS}",
        "13: tests.never full: full: route acct/flare has no limits, so it is never full",
    ]


def test_mistakes_in_tests_are_told(tmp_path: Path) -> None:
    """What a test says wrongly is told as a policy's mistakes are, with suggestions; such a test is not run."""
    found = run(tmp_path, MISTAKEN)
    assert told(found, tmp_path) == [
        "2: tests[0]: name is missing",
        '3: tests[1].project: unknown project "wbe" (did you mean web?)',
        "4: tests.a: this name was already given at " + f"{tmp_path}/tests/some.yaml:3",
        "4: tests[2].expect.rout: unknown key (did you mean route?)",
        "5: tests[3].request.qualty: unknown key (did you mean quality?)",
        "6: tests[4].request.headers.X-Gateway-Lan: unknown header (did you mean X-Gateway-Lane?)",
        "7: tests.d: expect is missing: what is to come of the request",
        '8: tests[6].expect.route: unknown route "acct/too" (did you mean acct/two?)',
        '9: tests[7].budget_used[0].used: must be a percentage, as 0.8%, or USD in quotes, as "0.8"',
        '10: tests[8].date: must be a date such as 2026-11-20, not text ("tomorrow")',
        "11: tests[9].expect: is empty, so anything would pass: say what is to come of it, by route, cost, error …",
        f'12: tests[10].expect.error: unknown error code "project_spend_limit_exceded" {MEANT}',
        '13: tests[11].expect.error: no request is refused with status "999"; it is 400, 402, 403, 404, 429',
        "15: tests[13].request.mask: a mask is of an image, and there is none: say images: 1, or operation: edit",
        f"16: tests[14].budget_used[0].key: {NO_ID}",
        f"16: tests[14].key: {NO_ID}",
        '17: tests[15].expect.route: unknown route "gpt-image-2": that is a model; name a route of it: acct/two',
    ]
    assert (found.passed, found.failed) == (1, 15)


def test_check_runs_them(tmp_path: Path) -> None:
    """`image-gateway check` counts what passed; with a failure it prints it and ends with status 1."""
    run(tmp_path, PASSING)
    done = check(tmp_path)
    assert (done.returncode, done.stdout.strip().endswith("; tests: 16 passed, 0 failed")) == (0, True)
    (tmp_path / "tests" / "more.yml").write_text("tests: {wrong: {project: web, expect: {error: 402}}}")
    done = check(tmp_path)
    line = f"{tmp_path}/tests/more.yml:1: tests.wrong: expected error 402, got route acct/two"
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (
        1,
        line,
        "1 problem found; tests: 16 passed, 1 failed",
    )


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    keys = dict.fromkeys(("KEY", "OPENAI_API_KEY", "OPENAI_API_KEY_A", "OPENAI_API_KEY_B", "OPENAI_API_KEY_C"), "k")
    command = [sys.executable, "-m", "gateway", "check", str(folder)]
    return subprocess.run(command, env={**os.environ, **keys}, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_check_and_pass(example: Path) -> None:
    """Each example is sound, has tests of its own, and passes them all."""
    done = check(example)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(r"^ok: .*; tests: [1-9][0-9]* passed, 0 failed$", done.stdout, re.MULTILINE)


def test_there_are_the_examples() -> None:
    """The five that a team would copy."""
    assert [path.name for path in EXAMPLES] == ["many-projects", "one-team", "strict-finance", "testing-lane", "tiers"]


@pytest.mark.parametrize(("name", "keys"), EVERY_MAP.items(), ids=EVERY_MAP)
def test_each_key_of_a_test_is_documented(name: str, keys: Keys) -> None:
    """The reference lists exactly the keys that each map of a test takes, in the same order."""
    assert tuple(re.findall(r"^\| `(\w+)` \|", SECTIONS[name], re.MULTILINE)) == keys.known


def test_every_code_that_a_decision_ends_in_can_be_expected() -> None:
    """Each code that the steps of a decision name is known to tests, so that none is called a mistake."""
    folder = ROOT / "gateway"
    steps = [path for path in (folder / "steps").glob("*.py") if path.name != "authenticate.py"]  # before any decision
    files = [*steps, folder / "domain" / "denial.py", *folder.glob("decision.py")]
    named = {code for file in files for code in re.findall(r'code="([a-z_]+)"', file.read_text())}
    assert named <= set(ERRORS)

"""The decision before it is made: on the command line, by a dry run, on the admin plane: the same, for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.sandbox.client import Sandbox
from gateway.steps.write import OF_THE_ROUTE
from tests.e2e.accounting import booked, nano, settled
from tests.e2e.policies import PROVIDERS, ROUTES, lasting
from tests.e2e.stack import Reply, Stack, fetch, running_gateway

PATH = "/v1/images/generations"
BODY = {"prompt": "a lighthouse", "quality": "high", "size": "1792x1024", "n": 2}

POLICY = (
    lasting("gpt-image-1-mini")
    + PROVIDERS % {"timeout": "20s"}
    + ROUTES
    + """
job_types:
  hero:
    match: {quality: high}
    routes: [main/mini, main/gpt-image-2]
    allow: {size: [1792x1024]}
    max_cost_per_image: "0.40"
    degrade: [{budget_used: 50%, set: {quality: medium}}]
  draft: {routes: [main/flare], defaults: {quality: low, size: 1024x1024}}
projects:
  team:
    job_types: [hero, draft]
    default_job_type: draft
    budgets: [{window: total, limit: "0.50"}]
    quotas: [{images: 50, per: hour}]
    chargeback: {multiplier: "1.15"}
budgets: [{window: total, limit: "5000"}]
"""
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with a ladder and a small budget."""
    with running_gateway(tmp_path_factory.mktemp("explain"), POLICY, sandbox) as running:
        yield running


def dry_run(stack: Stack, body: object, **headers: str) -> Reply:
    """What a dry run answers."""
    return stack.post(PATH, body, headers={"x-gateway-dry-run": "true", **headers})


def explained(stack: Stack, folder: Path, body: object, *options: str) -> Any:
    """What the command says as JSON."""
    request = folder / "request.json"
    request.write_text(json.dumps(body))
    command = ("explain", "--policy", str(stack.policy), "--project", "team", "--format", "json")
    done = CliRunner().invoke(main, [*command, *options, str(request)], env=dict(stack.environ))
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def asked(stack: Stack, document: object) -> Reply:
    """What the admin plane answers."""
    return fetch(f"http://127.0.0.1:{stack.admin_port}/admin/explain", body=document, method="POST")


def test_three_ways_say_the_same(stack: Stack, tmp_path: Path) -> None:
    """Command, dry run and admin plane tell one decision, and none of them calls, holds or spends anything."""
    before, calls = booked(stack), len(stack.sandbox.requests())
    told = dry_run(stack, BODY).json
    live = explained(stack, tmp_path, BODY, "--live", "--key", told["candidates"][0].get("key", "key_of_nobody"))
    assert live == told == asked(stack, {"project": "team", "request": BODY}).json
    assert (booked(stack), len(stack.sandbox.requests())) == (before, calls)
    assert told["live"]
    paper = explained(stack, tmp_path, BODY)
    assert not paper["live"]
    assert paper["route"] == told["route"] == "main/gpt-image-2"


def test_that_it_becomes_a_task_is_told(stack: Stack, tmp_path: Path) -> None:
    """What asks for a task is in the decision, however it is asked for, and a URL that may not be called is refused."""
    later = {**BODY, "callback_url": "https://example.com/hook"}
    task = {"callback_url": later["callback_url"], "max_wait_seconds": None}
    assert dry_run(stack, BODY).json["task"] is None
    assert dry_run(stack, later, **{"x-gateway-max-wait": "90s"}).json["task"] == {**task, "max_wait_seconds": 90.0}
    assert explained(stack, tmp_path, later)["task"] == task
    assert asked(stack, {"project": "team", "request": later}).json["task"] == task
    inside = {**BODY, "callback_url": "http://10.0.0.1/hook"}
    denied = dry_run(stack, inside)
    assert (denied.status, denied.error["param"]) == (400, "callback_url")
    assert explained(stack, tmp_path, inside)["denied"]["message"] == denied.error["message"]


def test_every_part_of_the_decision_is_told(stack: Stack) -> None:
    """Job type and what named it, each rung with price views and range, each refusal, and what would be held on."""
    told = dry_run(stack, BODY).json
    assert (told["job_type"], told["job_type_from"], told["operation"]) == ("hero", "match", "generate")
    first = told["candidates"][0]
    assert (first["route"], first["quality"], first["now"]) == ("main/gpt-image-2", "high", "chosen")
    assert first["budget_used"] == {"from": "0%", "below": "50%"}
    cost = {view: nano(usd) for view, usd in first["cost_estimate"].items()}
    assert cost["internal"] == -(-cost["route"] * 115 // 100)
    medium = [each for each in told["candidates"] if each["degraded"] == {"quality": "medium"}]
    assert medium
    assert medium[0]["budget_used"] == {"from": "50%", "below": None}
    [refused] = [each for each in told["passed_over"] if each["route"] == "main/mini"][:1]
    assert refused["reason"]
    held = {(rule["scope"], rule.get("window") or rule["counted"]): rule for rule in first["holds_on"]}
    own = held["project:team", "total"]
    assert (own["limit_usd"], own["takes_usd"]) == ("0.50", first["cost_estimate"]["route"])
    assert held["project:team", "images"]["takes"] == 2


def test_live_budgets_decide(stack: Stack, tmp_path: Path) -> None:
    """What was spent moves the choice down the ladder, then to a denial; the dry run foretells what the call meets."""
    assert stack.post(PATH, BODY).status == 200
    settled(stack)
    told = dry_run(stack, BODY)
    assert told.json["candidates"][0]["now"] == "refused"
    assert told.json["candidates"][0]["because"]
    assert told.json["candidates"][told.json["chosen"]]["degraded"] == {"quality": "medium"}
    served = stack.post(PATH, BODY)
    assert served.headers["x-gateway-cost-estimate"] == told.headers["x-gateway-cost-estimate"]
    settled(stack)
    many = {**BODY, "n": 10}
    denied = dry_run(stack, many).json
    assert (denied["route"], denied["chosen"]) == (None, None)
    assert not {name.title() for name in dry_run(stack, many).headers} & OF_THE_ROUTE
    refused = stack.post(PATH, many)
    assert (refused.status, refused.error["code"]) == (denied["denied"]["status"], denied["denied"]["code"])
    assert explained(stack, tmp_path, many)["route"] == "main/gpt-image-2"


def test_a_refusal_is_told_too(stack: Stack, tmp_path: Path) -> None:
    """What policy refuses is no failure of the command: it shows the error that the client would get."""
    told = explained(stack, tmp_path, {**BODY, "size": "1024x1024"})
    assert (told["denied"]["status"], told["job_type"], told["candidates"]) == (400, "hero", [])
    gone = explained(stack, tmp_path, BODY, "--job-type", "poster")
    assert gone["denied"]["code"] == "job_type_not_allowed"
    dear = explained(stack, tmp_path, BODY, "--max-cost", "0.0001")
    assert dear["denied"]["code"] == "max_cost_exceeded"
    edit = explained(stack, tmp_path, {"prompt": "a hat", "image_urls": ["https://images.example.com/cat.png"]})
    assert (edit["operation"], edit["job_type"], edit["job_type_from"]) == ("edit", "draft", "default")


def test_people_get_tables(stack: Stack, tmp_path: Path) -> None:
    """The table names route, price and rules; piped, it has no colours. A file that is no request is told in a line."""
    request = tmp_path / "request.json"
    request.write_text(json.dumps(BODY))
    command = ("explain", "--policy", str(stack.policy), "--project", "team")
    done = stack.command(*command, str(request))
    assert done.returncode == 0, done.stderr
    assert "job type hero (its match rule holds)" in done.stdout
    assert "→ main/gpt-image-2: high, 1792x1024, n=2, at most $" in done.stdout
    assert "project:team in total" in done.stdout
    assert "Passed over" in done.stdout
    assert "\x1b[" not in done.stdout
    request.write_text("[1]")
    broken = stack.command(*command, str(request))
    assert (broken.returncode, broken.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"request": BODY}, "project"),
        ({"project": "team"}, "request"),
        ({"project": "team", "request": BODY, "day": "2026-11-20"}, "day"),
        ({"project": "team", "request": BODY, "date": "soon"}, "date"),
        ({"project": "team", "request": BODY, "operation": "paint"}, "operation"),
        ({"project": "team", "request": BODY, "headers": {"a": 1}}, "headers"),
        ({"project": "team", "request": BODY, "headers": {"X-Gateway-Max-Costs": "1"}}, "headers.X-Gateway-Max-Costs"),
    ],
)
def test_the_admin_plane_names_what_is_wrong(stack: Stack, document: object, param: str) -> None:
    """A question that cannot be read is a 400 that names the field."""
    answer = asked(stack, document)
    assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize(
    ("header", "hint"),
    [("X-Gateway-Foo", "; known are X-Gateway-Job-Type, "), ("x-gateway-lanes", " (did you mean X-Gateway-Lane?)")],
)
def test_a_header_that_is_like_none_is_not_taken_for_one(stack: Stack, header: str, hint: str) -> None:
    """All begin alike: what is a slip away from one is told it, anything else which there are."""
    answer = asked(stack, {"project": "team", "request": BODY, "headers": {header: "1"}})
    assert answer.status == 400
    assert f'Unknown header "{header}"{hint}' in answer.error["message"]


def test_a_body_that_is_no_json_is_told_so(stack: Stack) -> None:
    """The admin plane says that it could not read the body, and what it takes."""
    url = f"http://127.0.0.1:{stack.admin_port}/admin/explain"
    empty = fetch(url, data=b"", method="POST")
    assert (empty.status, empty.error["param"]) == (400, "project")
    for body in (b"project=team", b'{"project": team}'):
        answer = fetch(url, data=body, method="POST", headers={"content-type": "application/x-www-form-urlencoded"})
        assert (answer.status, answer.error["code"]) == (400, "invalid_json")
        assert "not valid JSON" in answer.error["message"]


def test_budgets_of_today_say_nothing_of_another_day(stack: Stack, tmp_path: Path) -> None:
    """The command refuses `--live` for another day, and the admin plane answers for it without asking budgets."""
    told = asked(stack, {"project": "team", "request": BODY, "date": "2099-01-01"}).json
    assert (told["date"], told["live"]) == ("2099-01-01", False)
    request = tmp_path / "request.json"
    request.write_text(json.dumps(BODY))
    command = ["explain", "--policy", str(stack.policy), "--project", "team", "--live", "--date", "2099-01-01"]
    done = CliRunner().invoke(main, [*command, str(request)], env=dict(stack.environ))
    assert (done.exit_code, "'--date': not with --live" in done.stderr) == (2, True)


def test_a_project_that_is_none_is_told_with_the_nearest(stack: Stack, tmp_path: Path) -> None:
    """A wrong `--project` is a wrong argument, not an answer of policy."""
    request = tmp_path / "request.json"
    request.write_text(json.dumps(BODY))
    command = ["explain", "--policy", str(stack.policy), "--project", "taem", str(request)]
    done = CliRunner().invoke(main, command, env=dict(stack.environ))
    assert (done.exit_code, "(did you mean team?)" in done.stderr) == (2, True)


RETIRING = """
providers: {acct: {kind: openai, base_url: "https://api.example.com/v1", api_key: "${KEY}"}}
routes:
  one: {provider: acct, model: gpt-image-1.5, upstream_model: gpt-image-1.5-2025-12-16}
  mini: {provider: acct, model: gpt-image-1-mini, after_retirement: refuse}
  two: {provider: acct, model: gpt-image-2}
job_types:
  pic: {routes: [one, mini, two], defaults: {quality: medium, size: 1024x1024}}
projects: {team: {job_types: [pic], quotas: [{requests: 9, per: day}]}}
"""


def on_paper(folder: Path, day: str, columns: int = 200, policy: str = RETIRING) -> str:
    """What the command prints of a policy on a day, on a terminal so wide."""
    (folder / "policy.yaml").write_text(policy)
    request = folder / "request.json"
    request.write_text('{"prompt": "a lighthouse"}')
    command = ["explain", "--policy", str(folder), "--project", "team", "--date", day, str(request)]
    done = CliRunner().invoke(main, command, env={"COLUMNS": str(columns)})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_retirements_are_told_as_of_the_day(tmp_path: Path) -> None:
    """Before the day it says what will serve, after it what serves, and that nothing does where policy refuses."""
    before, after = on_paper(tmp_path, "2026-11-20"), on_paper(tmp_path, "2027-03-01")
    assert "one: gpt-image-1.5 retires on 2026-12-01; then gpt-image-2" in before
    assert "mini: gpt-image-1-mini retires on 2026-12-01; then nothing serves in its place" in before
    assert "one: gpt-image-1.5 retired on 2026-12-01; gpt-image-2" in after
    assert "mini: gpt-image-1-mini retired on 2026-12-01; nothing serves in its place" in after


def test_tables_fit_the_terminal(tmp_path: Path) -> None:
    """No line of a table is wider than the terminal where figures leave names eight characters; a day is called one."""
    told = on_paper(tmp_path, "2026-11-20", columns=70)
    tables = [line for line in told.splitlines() if line.startswith(("│", "┃", "┏", "└"))]
    assert tables
    assert max(map(len, tables)) <= 70
    assert "requests per day" in told


def test_what_was_refused_is_not_named_as_able(tmp_path: Path) -> None:
    """Routes that have no price on a day are not recommended in the same breath."""
    told = on_paper(tmp_path, "2020-01-01")
    assert "no price is valid on 2020-01-01" in told
    assert "What could" not in told


def test_nothing_held_on_is_no_table(tmp_path: Path) -> None:
    """A project without budgets and quotas gets no empty table; prices that are the same are told once."""
    told = on_paper(tmp_path, "2026-11-20", policy=RETIRING.replace(", quotas: [{requests: 9, per: day}]", ""))
    assert "Routes in the order to try" in told
    assert ("is held on" in told, "official" in told) == (False, False)

"""`image-gateway replay`: history under its own policy comes back to the nano-dollar; under another one it changes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement
from gateway.ledger.entries import read_entries
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store, store_url
from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, crowd, nano, reported, settled
from tests.e2e.policies import PROVIDERS, ROUTES, lasting
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until

PATH = "/v1/images/generations"

HISTORY = (
    lasting("gpt-image-1-mini")
    + PROVIDERS % {"timeout": "20s"}
    + ROUTES
    + """
job_types:
  draft:
    routes: [main/gpt-image-2, main/flare, main/mini]
    defaults: {quality: low, size: 1024x1024}
  fallback:
    routes: [main/gpt-image-2, spare/gpt-image-2]
    retry: {attempts: 3, on_unknown: next_route}
  unreachable_first:
    routes: [closed/gpt-image-2, spare/gpt-image-2]
projects:
  team:
    job_types: [draft, fallback, unreachable_first]
    default_job_type: draft
    client_model: prefer
    budgets: [{window: day, limit: "1000"}, {window: month, limit: "1000", job_type: fallback, view: internal}]
    chargeback: {multiplier: "1.15"}
  other:
    job_types: [draft]
    budgets: [{window: month, limit: "1000"}, {window: total, limit: "1000", view: official}]
budgets: [{window: hour, limit: "5000"}]
"""
)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with some three hundred requests behind it: fallbacks, lost answers, late truths, invoices."""
    with running_gateway(tmp_path_factory.mktemp("replay"), HISTORY, sandbox) as stack:
        asyncio.run(crowd(_usual(), [stack], at_once=24))
        _by_keys(stack)
        _unlucky(stack, sandbox)
        settled(stack)
        asyncio.run(_late_truths(stack))
        yield stack


def _usual() -> list[Ask]:
    asks = []
    for number in range(260):
        body: dict[str, Any] = {
            "prompt": "a boat" * (1 + number % 3),
            "quality": ("low", "medium", "high", "auto")[number % 4],
            "size": ("1024x1024", "1536x1024", "auto")[number % 3],
            "n": 1 + number % 3,
        }
        body |= {"model": ("gpt-image-2", "gpt-image-2.5-flare", "job:unreachable_first")[number % 3]}
        body |= {"stream": True} if number % 7 == 0 else {}
        project = "other" if number % 3 != 2 and number % 5 == 0 else "team"
        asks.append(Ask(body, project))
    asks += [Ask({"prompt": "too dear", "n": 99}), Ask({"prompt": "", "n": 1})]
    return asks


def _by_keys(stack: Stack) -> None:
    """Work of a key that was made for one job type, with and without another in the model's place."""
    body = {"project": "team", "job_type": "unreachable_first"}
    made = fetch(f"http://127.0.0.1:{stack.admin_port}/admin/keys", body=body)
    assert made.status == 200, made.body
    headers = {"authorization": f"Bearer {made.json['key']}"}
    for named, served in (({"model": "job:draft"}, "draft"), ({}, "unreachable_first")):
        answer = stack.post(PATH, {"prompt": "a barge", **named}, headers=headers)
        assert (answer.status, answer.headers["x-gateway-job-type"]) == (200, served), answer.body


def _unlucky(stack: Stack, sandbox: Sandbox) -> None:
    """Answers that get lost, and routes that fail over."""
    body = {"prompt": "a storm", "quality": "medium", "size": "1024x1024"}
    for number in range(24):
        if number % 3 == 1:
            sandbox.fault("status", status=503)
        else:
            sandbox.fault("no_usage" if number % 3 else "lost_response")
        job_type = ("fallback", "draft")[number % 2]
        answer = stack.post(PATH, body, headers={"x-gateway-job-type": job_type, "x-gateway-tags": "storm=yes"})
        assert answer.status in (200, 429, 502, 503), answer.body


async def _late_truths(stack: Stack) -> None:
    """What was presumed is learnt, in part, and an invoice changes what was known."""
    with store_url("embedded:", stack.data) as url:
        store = Store(url, deadline=10.0, patience=30.0)
        ledger = RedisLedger(store)
        found = [entry async for entry in read_entries(store)]
        presumed = [entry for entry in found if entry.kind == "presume"]
        assert len(presumed) >= 4
        for entry in presumed[::2]:
            cost = Views(entry.cost.official // 3, entry.cost.route // 3 + 1, entry.cost.internal // 3 + 7)
            learnt = Settlement(entry.request_id, entry.attempt, cost, CostSource.REPORTED, 1)
            assert await ledger.settle(learnt) == "late"
        await ledger.void(presumed[1].request_id, presumed[1].attempt, "never made")
        await store.aclose()
    known = [entry for entry in found if entry.kind == "settle" and entry.project == "team"]
    for entry in known[:3]:
        command = ("ledger", "adjust", entry.request_id, "--cost", "0.0123", "--reason", "invoice", "--attempt")
        done = stack.command(*command, str(entry.attempt))
        assert done.returncode == 0, done.stderr


def other(folder: Path, text: str) -> Path:
    """A policy directory with this text."""
    folder.mkdir(exist_ok=True)
    (folder / "policy.yaml").write_text(text)
    return folder


def replayed(stack: Stack, policy: Path, *options: str) -> Any:
    """The replay as JSON."""
    command = ["replay", "--policy", str(policy), "--format", "json", *options]
    done = CliRunner().invoke(main, command, env=dict(stack.environ))
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def by_group(stack: Stack) -> dict[tuple[str, str], tuple[int, int, int]]:
    """What the ledger's own report says: bookings, route and internal nano-USD by project and job type."""
    rows, _ = reported(stack, "project,job_type")
    groups = {
        (row["project"], row["job_type"]): (row["requests"], nano(row["route_usd"]), nano(row["internal_usd"]))
        for row in rows
    }
    calls, route, internal = groups["team", "draft"]
    groups["team", "draft"] = calls + 1, route, internal  # one was given back: booked, but no call (`_late_truths`)
    return groups


def test_the_same_policy_gives_the_totals_back(past: Stack, tmp_path: Path) -> None:
    """The policy over its own history: every project and job type costs exactly what the ledger says it cost."""
    commented = other(tmp_path / "same", HISTORY + "\n# a remark\n")
    for policy in (past.policy, commented):
        found = replayed(past, policy)
        now = {
            (row["project"], row["job_type"]): (
                row["requests"],
                nano(row["replayed_route_usd"]),
                nano(row["replayed_internal_usd"]),
            )
            for row in found["rows"]
        }
        assert now == by_group(past)
        assert (found["moves"], found["denials"]) == ([], [])
        assert found["total"]["requests"] > 270
        assert found["total"]["difference_usd"] == "0.00"


def test_the_same_words_without_their_mark_give_them_back_too(past: Stack, tmp_path: Path) -> None:
    """A change that touches no request, an unused limit raised, decides each anew and comes to the same totals."""
    raised = other(tmp_path / "raised", HISTORY.replace('"1000"', '"1001"').replace('"5000"', '"5001"'))
    found = replayed(past, raised)
    assert {(row["project"], row["job_type"]): nano(row["replayed_route_usd"]) for row in found["rows"]} == {
        group: cost for group, (_, cost, _) in by_group(past).items()
    }
    assert found["moves"] == []
    assert found["total"]["estimated"] == 0


def test_another_policy_moves_refuses_and_costs_otherwise(past: Stack, tmp_path: Path) -> None:
    """A cheaper route first, a budget for the other team that runs out, and a project that is gone."""
    cheaper = HISTORY.replace("routes: [main/gpt-image-2, main/flare, main/mini]", "routes: [main/flare]")
    cheaper = re.sub(
        r"  other:\n.*?(?=^budgets)",
        '  other: {job_types: [draft], budgets: [{window: total, limit: "0.02"}]}\n',
        cheaper,
        flags=re.DOTALL | re.MULTILINE,
    )
    found = replayed(past, other(tmp_path / "cheaper", cheaper))
    rows = {(row["project"], row["job_type"]): row for row in found["rows"]}
    assert nano(rows["team", "draft"]["difference_usd"]) < 0
    assert rows["team", "draft"]["moved"] > 0
    assert {(move["from"], move["to"]) for move in found["moves"]} == {("main/gpt-image-2", "main/flare")}
    assert 0 < nano(rows["other", "draft"]["replayed_route_usd"]) <= nano("0.02")
    assert {(each["project"], each["code"]) for each in found["denials"]} == {("other", "project_spend_limit_exceeded")}
    assert rows["team", "unreachable_first"]["difference_usd"] == "0.00"
    gone = re.sub(r"  other:\n.*?(?=^budgets)", "", HISTORY, flags=re.DOTALL | re.MULTILINE)
    found = replayed(past, other(tmp_path / "gone", gone), "--project", "other")
    assert [each["code"] for each in found["denials"]] == ["project_not_found"]
    assert found["total"]["replayed_route_usd"] == "0.00"


def test_another_price_is_worked_out_from_usage(past: Stack, tmp_path: Path) -> None:
    """A route that costs half by the token costs half of what its usage came to, and nothing is an estimate."""
    halves = {"text_in": "2.5", "text_in_cached": "0.625", "image_in": "4", "image_in_cached": "1", "image_out": "15"}
    words = ", ".join(f'{name}: "{rate}"' for name, rate in halves.items())
    price = f"price: [{{from: 2026-05-01, tokens_per_million: {{{words}}}}}]"
    route = "{provider: spare, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21"
    found = replayed(past, other(tmp_path / "half", HISTORY.replace(route, f"{route}, {price}")))
    rows = {(row["project"], row["job_type"]): row for row in found["rows"]}
    row = rows["team", "unreachable_first"]
    assert row["repriced"] == row["requests"]
    # The one rounding of each request, up to a whole nano-dollar, may differ.
    assert abs(2 * nano(row["replayed_route_usd"]) - nano(row["recorded_route_usd"])) <= 2 * row["requests"]
    assert row["replayed_official_usd"] == row["recorded_official_usd"]


def test_another_multiplier_changes_what_projects_are_charged_alone(past: Stack, tmp_path: Path) -> None:
    """What is known stays known: official and route to the nano-dollar, and each request's charge is the new share."""
    assert 'multiplier: "1.15"' in HISTORY
    found = replayed(past, other(tmp_path / "dearer", HISTORY.replace('multiplier: "1.15"', 'multiplier: "2"')))
    for row in found["rows"]:
        for view in ("official", "route"):
            assert row[f"replayed_{view}_usd"] == row[f"recorded_{view}_usd"], row
        if row["project"] == "team":
            assert nano(row["replayed_internal_usd"]) == 2 * nano(row["recorded_route_usd"])
    assert found["total"]["estimated"] == 0


def test_table_and_page(past: Stack, tmp_path: Path) -> None:
    """People get a table that says what is left out, and a page with charts that needs nothing else."""
    chart = tmp_path / "replay.html"
    done = past.command("replay", "--policy", str(past.policy), "--chart", str(chart))
    assert done.returncode == 0, done.stderr
    assert "Requests that were denied left no entry" in done.stdout
    assert re.search(r"│ total +│", done.stdout)
    page = chart.read_text()
    assert page.count("<polyline") + page.count("<circle") == 2
    assert "unreachable_first" in page
    assert not re.search(r"https?://|<script", page)
    assert past.command("replay", "--policy", str(past.policy), "--format", "html").stdout.strip() == page.strip()
    refused = past.command("replay", "--policy", str(past.policy), "--since", "someday")
    assert (refused.returncode, "someday" in refused.stderr) == (2, True)


def test_what_is_not_there_is_said_in_one_line(past: Stack, tmp_path: Path) -> None:
    """A project that nobody knows, and a page that cannot be written, end in a line and exit status 2; so do arms."""
    replay = ("replay", "--policy", str(past.policy))
    for command, words in (
        (
            (*replay, "--project", "teem"),
            'there is no project "teem" in the policy or the records of this period (did you mean team?)',
        ),
        (("spend", "--project", "teem"), 'there is no project "teem" in the books, and none with a key (did you mean'),
        ((*replay, "--chart", str(tmp_path / "nowhere" / "page.html")), "nowhere is no directory"),
        ((*replay, "--chart", "/proc/page.html"), "cannot write /proc/page.html"),
        (("spend", "--experiment", "typo"), 'there is no experiment "typo" in the records'),
    ):
        done = past.command(*command)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_an_empty_period_is_said_in_words(past: Stack) -> None:
    """No table of zeros, but a sentence, in the table and on the page."""
    empty = ("--since", "2020-01-01", "--until", "2020-01-02")
    for form in ("table", "html"):
        done = past.command("replay", "--policy", str(past.policy), "--format", form, *empty)
        assert (done.returncode, "No requests in this period." in done.stdout) == (0, True), done.stderr
    for project in ((), ("--project", "team")):
        assert "No requests in this period." in past.command("spend", *empty, *project).stdout


MEANT = (
    PROVIDERS % {"timeout": "20s"}
    + ROUTES
    + """
job_types:
  draft:
    routes: [main/gpt-image-2]
    defaults: {quality: low}
    allow: {quality: [low, medium]}
projects:
  team: {job_types: [draft], budgets: [{window: month, limit: "1000"}]}
  old: {job_types: [draft], compatibility: legacy, budgets: [{window: month, limit: "1000"}]}
"""
)


@pytest.fixture(scope="module")
def meant(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that understands more than the words of the models it calls."""
    with running_gateway(tmp_path_factory.mktemp("meant"), MEANT, sandbox) as stack:
        yield stack


@pytest.mark.parametrize(
    ("project", "body"),
    [
        ("team", {"size": "16:9", "resolution": "4K", "quality": "medium"}),
        ("old", {"model": "dall-e-3", "quality": "hd"}),
        ("old", {"model": "dall-e-3"}),
        ("old", {"model": "dall-e-3", "size": "1792x1024"}),
    ],
    ids=["resolution", "word of old", "model of old", "size of old"],
)
def test_what_a_request_meant_is_played_again(meant: Stack, tmp_path: Path, project: str, body: Any) -> None:
    """A policy that says more, though nothing that matters here, leaves it as it was; the console says so too."""
    made = meant.post(PATH, {"prompt": "a lake", **body}, project=project)
    assert made.status == 200, made.body
    wait_until(lambda: meant.held() == 0, what="the end of its hold")
    stricter = "allow: {quality: [low, medium]}"
    text = MEANT.replace(stricter, f'{stricter}\n    max_cost_per_image: "0.9"')
    done = meant.command("replay", "--policy", str(other(tmp_path / "stricter", text)), "--format", "json")
    found = json.loads(done.stdout)["total"]
    assert (found["denied"], found["moved"], found["repriced"]) == (0, 0, 0)
    assert found["replayed_route_usd"] == found["recorded_route_usd"]

    address = f"http://127.0.0.1:{meant.admin_port}/console/api/request?id={made.headers['x-request-id']}"
    told = fetch(address).json
    attempt, now = told["request"]["attempts"][-1], told["now"]["candidates"][0]
    assert (now["size"], now["quality"]) == (attempt["size"], attempt["quality"])
    assert now["cost_estimate"] == attempt["cost_estimate"]

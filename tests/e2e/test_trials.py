"""Experiments and shadows with everything real: who pays, what is told, and what nobody notices."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, admin, billed, booked, crowd, nano, settled
from tests.e2e.books import SANDBOX_COLUMNS, sandbox_invoice
from tests.e2e.clients import picture
from tests.e2e.policies import PROVIDERS, ROUTES, lasting
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

PATH = "/v1/images/generations"
BODY = {"prompt": "a boat", "quality": "low", "size": "1024x1024"}
CONTROL, ON_TRIAL = "beta-trial=control", "beta-trial=trial/flare"
POLICY = (
    lasting("gpt-image-1-mini")
    + PROVIDERS % {"timeout": "20s"}
    + ROUTES
    + """  trial/flare: {provider: main, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare, lane: testing}
job_types:
  draft:
    routes: [main/gpt-image-2]
    experiment: {name: beta-trial, split: {trial/flare: 30%}, by: user}
  down:
    routes: [main/gpt-image-2]
    experiment: {name: down-trial, split: {trial/flare: 50%}}
  lane:
    routes: [main/gpt-image-2]
    experiment: {name: lane-trial, split: {trial/flare: 50%}}
  hero:
    routes: [main/gpt-image-2]
    shadow: {route: trial/flare, sample: 100%, budget: {window: total, limit: "100"}}
  poor:
    routes: [main/gpt-image-2]
    shadow: {route: trial/flare, sample: 100%, budget: {window: total, limit: "0.000001"}}
projects:
  team:
    job_types: [draft, down, lane, hero, poor]
    default_job_type: draft
    lanes: [production, testing]
    budgets: [{window: total, limit: "1000"}]
  other:
    job_types: [lane]
    budgets: [{window: total, limit: "1000"}]
"""
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that these tests share; each looks at an experiment or a job type of its stack."""
    with running_gateway(tmp_path_factory.mktemp("trials"), POLICY, sandbox) as running:
        yield running


def arm(reply: Reply) -> str:
    """What the client was told of the experiment; empty if nothing."""
    assert reply.status == 200, reply.body
    return reply.headers.get("x-gateway-experiment", "")


def spend(stack: Stack, *options: str) -> Any:
    """The report of all time as JSON."""
    done = stack.command("spend", "--format", "json", "--window", "total", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def asks(users: int, rounds: int = 1) -> list[Ask]:
    """Requests of so many users."""
    return [Ask({**BODY, "user": f"person-{user}"}) for _ in range(rounds) for user in range(users)]


async def test_an_experiment_of_thirty_per_cent_is_sticky_and_told_everywhere(stack: Stack, sandbox: Sandbox) -> None:
    """Over 200 users: the share is near 30 %, a second request meets the same arm, reports and metrics say the same."""
    first = await crowd(asks(200), [stack], at_once=16)
    again = await crowd(asks(40), [stack], at_once=16)
    found = [arm(reply) for reply in first]
    assert [arm(reply) for reply in again] == found[:40]
    assert set(found) == {CONTROL, ON_TRIAL}
    assert 40 <= found.count(ON_TRIAL) <= 80
    for reply in (*first, *again):
        assert reply.headers["x-gateway-route"] == ("trial/flare" if arm(reply) == ON_TRIAL else "main/gpt-image-2")
    settled(stack)

    every = Counter(arm(reply) for reply in (*first, *again))
    reported = spend(stack, "--experiment", "beta-trial")
    rows = {f"beta-trial={row['arm']}": row for row in reported["rows"]}
    assert {name: row["requests"] for name, row in rows.items()} == every
    assert reported == admin(stack, "spend?window=total&experiment=beta-trial")
    totals = {f"{row['experiment']}={row['arm']}": row for row in spend(stack, "--by", "experiment,arm")["rows"]}
    for name, count in every.items():
        labels = dict(zip(("experiment", "arm"), name.split("="), strict=True))
        assert stack.metric("experiment_requests_total", **labels, status="200") == count
        assert stack.metric("experiment_duration_seconds_count", **labels) == count
        cost = stack.metric("experiment_spend_usd_total", **labels)
        assert cost == pytest.approx(float(rows[name]["route_usd"]), rel=1e-9)
        assert totals[name]["route_usd"] == rows[name]["route_usd"]
        assert 0 < rows[name]["seconds_p50"] <= rows[name]["seconds_p95"]
        assert (rows[name]["failed_share"], rows[name]["elsewhere_share"]) == (0, 0)
    assert sum(nano(row["route_usd"]) for row in rows.values()) == billed(sandbox)

    one = stack.record(first[0].headers["x-request-id"])
    assert f"{one['experiment']['name']}={one['experiment']['arm']}" == found[0]
    assert "person-" not in json.dumps(one) + stack.log.read_text() + str(stack.metrics())
    table = stack.command("spend", "--window", "total", "--experiment", "beta-trial")
    assert "Experiment beta-trial, all time" in table.stdout


def test_an_arm_that_fails_falls_back_and_keeps_its_requests(stack: Stack, sandbox: Sandbox) -> None:
    """The arm's route is down: its callers are served by the job type's own, and the report says so."""
    sandbox.fault("status", status=500, times=None, match={"model": "gpt-image-2.5-flare"})
    header = {"x-gateway-job-type": "down"}
    replies = [stack.post(PATH, ask.body, headers=header) for ask in asks(8)]
    on_trial = [reply for reply in replies if arm(reply) == "down-trial=trial/flare"]
    assert on_trial
    assert {reply.headers["x-gateway-route"] for reply in on_trial} == {"main/gpt-image-2"}
    rows = {row["arm"]: row for row in admin(stack, "spend?window=total&experiment=down-trial")["rows"]}
    assert (rows["trial/flare"]["elsewhere_share"], rows["control"]["elsewhere_share"]) == (1, 0)


def test_who_lacks_the_lane_is_in_no_arm_and_a_dry_run_counts_for_none(stack: Stack) -> None:
    """A project without the testing lane is served as ever, unmarked; a dry run tells the arm and leaves no trace."""
    assert arm(stack.post(PATH, BODY, project="other")) == ""
    asked = {"x-gateway-job-type": "lane", "x-gateway-dry-run": "true"}
    dry = stack.post(PATH, BODY, headers=asked)
    assert arm(dry) in {"lane-trial=control", "lane-trial=trial/flare"}
    assert dry.json["experiment"]["name"] == "lane-trial"
    assert stack.metric("experiment_requests_total", experiment="lane-trial") == 0
    rows = admin(stack, "spend?window=total&by=experiment,arm&project=other")["rows"]
    assert [(row["experiment"], row["arm"], row["requests"]) for row in rows] == [("-", "-", 1)]
    wrong = stack.command("spend", "--experiment", "lane-trial", "--by", "route")
    assert (wrong.returncode, "a report of its own" in wrong.stderr) == (2, True)


def shadows_done(stack: Stack, job_type: str, number: int) -> None:
    """Wait until so many shadows of a job type have ended, and nothing is held."""
    wait_until(lambda: stack.metric("shadow_requests_total", job_type=job_type) >= number, 60, "the shadows")
    settled(stack)


def used(stack: Stack) -> dict[str, int]:
    """What each budget has used, nano-USD."""
    return {each["scope"]: nano(each["used_usd"]) for each in admin(stack, "budgets")}


def test_a_shadow_is_billed_on_its_own_budget_and_nowhere_else(stack: Stack, sandbox: Sandbox, tmp_path: Path) -> None:
    """JSON, a form and a stream are each sent twice and answered once; books, metrics, invoice and bill agree."""
    hero, before, seen = {"x-gateway-job-type": "hero"}, used(stack), booked(stack)
    metered = stack.metric("spend_usd_total", view="route")
    made = stack.post(PATH, BODY, headers=hero)
    send_form_and_stream(stack, hero)
    shadows_done(stack, "hero", 3)

    sent = sandbox.requests()
    models = Counter(request["fields"]["model"] for request in sent)
    assert models == {"gpt-image-2-2026-04-21": 3, "gpt-image-2.5-flare": 3}
    files = Counter(tuple(file["sha256"] for file in request["files"]) for request in sent)
    assert sorted(files.values()) == [2, 4]
    assert stack.metric("shadow_requests_total", job_type="hero", route="trial/flare", result="ok") == 3

    every = {
        row["shadow"]: row
        for row in spend(stack, "--shadow", "--by", "shadow,job_type")["rows"]
        if row["job_type"] == "hero"
    }
    ordinary, shadow = nano(every["no"]["route_usd"]), nano(every["yes"]["route_usd"])
    assert (ordinary + shadow, every["yes"]["requests"]) == (billed(sandbox), 3)
    assert (booked(stack) - seen).route == ordinary
    told = admin(stack, "spend?window=total&shadow=true")["total"]
    assert nano(told["route_usd"]) - booked(stack).route == shadow
    after = used(stack)  # a budget counts micro-USD, each request rounded up
    assert after["shadow:hero"] == pytest.approx(shadow, abs=3000)
    assert after["project:team"] - before["project:team"] == pytest.approx(ordinary, abs=3000)
    assert stack.metric("shadow_spend_usd_total") == pytest.approx(shadow / 10**9, rel=1e-6)
    assert stack.metric("spend_usd_total", view="route") - metered == pytest.approx(ordinary / 10**9, rel=1e-6)

    request_id = made.headers["x-request-id"]
    record = stack.record(f"{request_id}_shadow")
    assert (record["request"]["shadow_of"], record["route"]) == (request_id, "trial/flare")
    assert stack.command("ledger", "verify").returncode == 0
    assert reconciled(stack, sandbox, tmp_path)["matched"] == 6
    folders = list((stack.data / "assets" / "shadows").glob("*/*"))
    assert len(folders) == 3
    found = {file.name for folder in folders for file in folder.iterdir()}
    assert found == {"primary.json", "primary.body", "shadow.json", "shadow.body"}


def send_form_and_stream(stack: Stack, headers: dict[str, str]) -> None:
    """An edit as a form and a generation as a stream, by the SDK."""
    client = openai.OpenAI(base_url=stack.url, api_key=stack.key(), default_headers=headers, max_retries=0)
    image = ("a.png", picture(256, 256), "image/png")
    assert client.images.edit(model="gpt-image-2", image=[image], prompt="a hat", quality="low").data
    events = client.images.generate(model="gpt-image-2", stream=True, prompt="a hat", quality="low", size="1024x1024")
    assert [event.type for event in events] == ["image_generation.completed"]


def reconciled(stack: Stack, sandbox: Sandbox, folder: Path) -> dict[str, int]:
    """The provider's invoice beside the ledger: how many requests of each class."""
    sandbox_invoice(sandbox, folder / "bill.csv", ours=True)
    options = ["--provider", "main", "--columns", SANDBOX_COLUMNS, "--edge", "0s", "--since", "2h", "--format", "json"]
    until = f"{datetime.now(UTC) + timedelta(hours=1):%FT%T}"
    done = stack.command("reconcile", str(folder / "bill.csv"), *options, "--until", until)
    return {each["class"]: each["count"] for each in json.loads(done.stdout)["classes"]}


def test_a_shadow_without_money_is_denied_in_silence(stack: Stack, sandbox: Sandbox) -> None:
    """The caller is served as if there were none; nothing is sent, held or logged as a fault."""
    denied = stack.metric("denied_total")
    for _ in range(3):
        assert stack.post(PATH, BODY, headers={"x-gateway-job-type": "poor"}).status == 200
    shadows_done(stack, "poor", 3)
    assert stack.metric("shadow_requests_total", job_type="poor", result="denied") == 3
    assert len(sandbox.requests()) == 3
    assert stack.metric("denied_total") == denied
    assert '"level":"error"' not in stack.log.read_text()


async def test_shadows_under_way_end_with_the_gateway(tmp_path: Path, sandbox: Sandbox) -> None:
    """Their provider hangs: callers are answered all the same, and a shutdown books what was sent as presumed."""
    sandbox.fault("timeout", times=None, match={"model": "gpt-image-2.5-flare"})
    with running_gateway(tmp_path, POLICY, sandbox) as own:
        hero = {"x-gateway-job-type": "hero"}
        own.key()
        replies = await asyncio.gather(*(asyncio.to_thread(own.post, PATH, BODY, headers=hero) for _ in range(4)))
        assert [reply.status for reply in replies] == [200] * 4
        wait_until(lambda: len(sandbox.requests()) == 8, what="the shadows' calls")
        assert own.stop() == 0

        rows = {row["shadow"]: row for row in spend(own, "--shadow", "--by", "shadow")["rows"]}
        assert (rows["no"]["requests"], rows["yes"]["requests"]) == (4, 4)
        assert nano(rows["yes"]["unconfirmed_usd"]) == nano(rows["yes"]["route_usd"]) > 0
        assert nano(rows["no"]["unconfirmed_usd"]) == 0
        assert own.command("ledger", "verify").returncode == 0


def test_replay_leaves_shadows_out_as_spend_does(stack: Stack) -> None:
    """The policy over its own history with shadow requests in it: the totals of `spend`, and a line that says so."""
    assert stack.post(PATH, {**BODY, "model": "job:hero"}).status == 200
    settled(stack)
    totals, with_shadows = (spend(stack, *options)["total"] for options in ((), ("--shadow",)))
    assert with_shadows["requests"] > totals["requests"]
    done = stack.command("replay", "--policy", str(stack.policy), "--format", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["total"]
    assert (told["requests"], told["replayed_route_usd"]) == (totals["requests"], totals["route_usd"])
    assert "Shadow requests are left out" in done.stdout


def test_an_experiment_that_nobody_knows_is_a_mistake(stack: Stack) -> None:
    """The admin plane answers 400 and names the nearest; one that policy has without requests is an empty report."""
    wrong = fetch(f"http://127.0.0.1:{stack.admin_port}/admin/spend?experiment=beta-trail")
    assert (wrong.status, "did you mean beta-trial?" in wrong.json["error"]["message"]) == (400, True), wrong.body
    assert admin(stack, "spend?until=2020-01-01&experiment=lane-trial")["rows"] == []

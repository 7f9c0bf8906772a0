"""`image-gateway spend` and `/admin/spend`: the same figures by any dimension and period, and by other prices."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import admin, nano, settled
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Stack, fetch, running_gateway

PATH = "/v1/images/generations"
UNSENT = "{provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}"


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that has made images for two projects and two campaigns, one of them with its answer lost."""
    policy = ONE_ACCOUNT.replace("projects:\n", "projects:\n  idle: {job_types: [draft]}\n")
    with running_gateway(tmp_path_factory.mktemp("reports"), policy, sandbox) as stack:
        body = {"model": "gpt-image-2", "prompt": "a boat", "quality": "low", "size": "1024x1024"}
        for number in range(4):
            tags = {"x-gateway-tags": f"campaign={'spring' if number % 2 else 'autumn'}"}
            assert stack.post(PATH, {**body, "n": 1 + number}, headers=tags).status == 200
        assert stack.post(PATH, body, project="other").status == 200
        sandbox.fault("lost_response")
        assert stack.post(PATH, body).status == 502
        settled(stack)
        yield stack


def spend(stack: Stack, *options: str) -> Any:
    """The report as JSON."""
    done = stack.command("spend", "--format", "json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def other_policy(folder: Path, text: str) -> Path:
    """A policy directory with this text."""
    folder.mkdir()
    (folder / "policy.yaml").write_text(text)
    return folder


def test_tags_and_calendar_are_dimensions(spent: Stack) -> None:
    """By campaign and by month: each image in one row, and what carries no tag under a dash."""
    rows = spend(spent, "--by", "tag:campaign,month", "--since", "1d")["rows"]
    assert {row["tag:campaign"]: row["images"] for row in rows} == {"spring": 6, "autumn": 4, "-": 1}
    assert {row["month"] for row in rows} <= {f"{datetime.now(UTC) - timedelta(minutes=m):%Y-%m}" for m in (0, 30)}


def test_a_period_of_ones_own_takes_the_place_of_the_window(spent: Stack) -> None:
    """From a moment to another: everything, nothing before, nothing after."""
    every = spend(spent, "--window", "total")["total"]
    assert spend(spent, "--since", "2h")["total"] == every
    assert spend(spent, "--since", "2026-01-01", "--until", "0s")["total"] == every
    assert spend(spent, "--until", "2h")["total"]["requests"] == 0
    assert every["requests"] == 6
    assert nano(every["unconfirmed_usd"]) > 0


def test_the_admin_plane_tells_the_same(spent: Stack) -> None:
    """The same parameters give the same JSON, but for the moment that a span counts from."""
    since = f"{datetime.now(UTC) - timedelta(hours=2):%FT%T}"
    until = f"{datetime.now(UTC) + timedelta(hours=1):%FT%T}"
    told = admin(spent, f"spend?by=project,tag:campaign&since={since}&until={until}&project=team")
    options = ("--by", "project,tag:campaign", "--since", since, "--until", until, "--project", "team")
    assert told == spend(spent, *options)
    refused = fetch(f"http://127.0.0.1:{spent.admin_port}/admin/spend?since=someday")
    assert (refused.status, refused.error["param"]) == (400, "since")


@pytest.mark.parametrize(
    ("question", "param", "hint"),
    [
        ("spend?projcet=team", "projcet", "(did you mean project?)"),
        ("spend?window=day&since=2h", "window", "since and until"),
        ("spend?since=", "since", "not a day"),
        ("spend?until=", "until", "not a day"),
        ("spend?shadow=1", "shadow", "true or false"),
        ("spend?project=taem", "project", "(did you mean team?)"),
        ("spend?project=", "project", "no project"),
        ("spend?experiment=trial&by=route", "by", "neither by nor shadow"),
        ("budgets?window=day", "window", "takes none"),
        ("routes?x", "x", "takes none"),
        ("keys?project=team", "project", "takes none"),
        ("callbacks?limt=5", "limt", "(did you mean limit?)"),
    ],
)
def test_the_admin_plane_answers_no_other_question(spent: Stack, question: str, param: str, hint: str) -> None:
    """What it does not know, or cannot read, is refused by name; nothing is passed over."""
    refused = fetch(f"http://127.0.0.1:{spent.admin_port}/admin/{question}")
    assert (refused.status, refused.error["param"]) == (400, param)
    assert hint in refused.error["message"]


def test_a_project_of_the_policy_without_requests_is_an_empty_report(spent: Stack) -> None:
    """As is one that has some, in a period without any."""
    assert admin(spent, "spend?project=idle")["rows"] == []
    assert admin(spent, "spend?project=team&until=2020-01-01")["rows"] == []


def test_the_same_policy_reprices_to_what_was_booked(spent: Stack) -> None:
    """At the prices that were in force nothing changes, and nothing is without a price."""
    report = spend(spent, "--reprice", str(spent.policy), "--since", "2h", "--by", "project")
    assert report["without_price"] == {"requests": 0, "corrections": 0}
    for view in ("official", "route", "internal"):
        for row in report["rows"]:  # the prompt of what was presumed is in no record, so its text may count for less
            repriced, booked = nano(row[f"repriced_{view}_usd"]), nano(row[f"{view}_usd"])
            assert repriced <= booked if row["project"] == "team" else repriced == booked


def test_other_prices_and_multipliers_reprice_history(spent: Stack, tmp_path: Path) -> None:
    """Five cents an image and no surcharge: the route's images times the price, told beside what was booked."""
    flat = ONE_ACCOUNT.replace(UNSENT, UNSENT.replace("}", ', price: [{from: 2026-01-01, per_image: "0.05"}]}'), 1)
    assert flat != ONE_ACCOUNT
    folder = other_policy(tmp_path / "flat", flat.replace('multiplier: "1.15"', 'multiplier: "2"'))
    report = spend(spent, "--reprice", str(folder), "--since", "2h", "--by", "project")
    rows = {row["project"]: row for row in report["rows"]}
    assert (rows["team"]["images"], rows["team"]["repriced_route_usd"]) == (10, "0.55")
    assert (rows["team"]["repriced_internal_usd"], rows["other"]["repriced_internal_usd"]) == ("1.10", "0.05")
    for row in rows.values():
        assert nano(row["difference_usd"]) == nano(row["repriced_route_usd"]) - nano(row["route_usd"])

    table = spent.command("spend", "--reprice", str(folder), "--since", "2h")
    assert f"Spend and at policy {report['policy']}, since 2h, USD" in table.stdout
    lines = spent.command("spend", "--reprice", str(folder), "--since", "2h", "--by", "project", "--format", "csv")
    assert [row["repriced_route_usd"] for row in csv.DictReader(lines.stdout.splitlines())] == ["0.55", "0.05"]


def test_a_price_applies_from_its_day_on(spent: Stack, tmp_path: Path) -> None:
    """A price that begins tomorrow changes nothing of what was made until now."""
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%F}"
    prices = f'[{{from: 2020-01-01, per_image: "0.01"}}, {{from: {tomorrow}, per_image: "9"}}]'
    later = ONE_ACCOUNT.replace(UNSENT, UNSENT.replace("}", f", price: {prices}}}"), 1)
    report = spend(spent, "--reprice", str(other_policy(tmp_path / "later", later)), "--since", "2h", "--by", "project")
    assert report["total"]["repriced_route_usd"] == "0.12"


def test_a_policy_that_does_not_check_is_told(spent: Stack, tmp_path: Path) -> None:
    """Its problems are printed as `check` prints them."""
    done = spent.command(
        "spend", "--reprice", str(other_policy(tmp_path / "broken", "routes: {a: {provider: none}}\n"))
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "policy.yaml:1: routes.a" in done.stderr


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--since", "someday"], 2, "is not a day"),
        (["--since", "2026-11-02", "--until", "2026-11-01"], 2, "before it begins"),
        (["--since", "1d", "--window", "day"], 2, "--window is a period of its own"),
        (["--by", "colour"], 2, "cannot report by 'colour'"),
        (["--reprice", "nowhere"], 2, "does not exist"),
        (["--export", "nowhere"], 2, "does not exist"),
    ],
)
def test_what_is_asked_wrongly_is_told(spent: Stack, options: list[str], status: int, words: str) -> None:
    """A period that is none, two periods, or what does not exist: one clear line."""
    done = spent.command("spend", *options)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr


def test_trimmed_entries_are_missed_and_come_back_with_their_export(tmp_path: Path, sandbox: Sandbox) -> None:
    """The report says what it lacks; with the export it is what it was, each entry once, also of what is in both."""
    with running_gateway(tmp_path, ONE_ACCOUNT, sandbox) as stack:
        for _ in range(3):
            assert stack.post(PATH, {"prompt": "a boat", "quality": "low"}).status == 200
        settled(stack)
        before = spend(stack, "--window", "total")
        export = str(tmp_path / "export")
        assert stack.command("ledger", "export", "--to", export, "--trim", "--keep", "0s").returncode == 0
        lacking = stack.command("spend", "--window", "total", "--format", "json")
        assert json.loads(lacking.stdout)["total"]["requests"] == 0
        assert "were trimmed: add them with --export" in lacking.stderr
        assert stack.post(PATH, {"prompt": "a boat", "quality": "low"}).status == 200
        assert stack.command("ledger", "export", "--to", export).returncode == 0
        settled(stack)
        every = spend(stack, "--window", "total", "--export", export)
        assert every["total"]["requests"] == before["total"]["requests"] + 1
        assert "trimmed_until" not in every
        assert spend(stack, "--export", export, "--until", "1h")["total"]["requests"] == 0

"""A project and a job type at a time, in figures, lists and a real browser; and names that nobody should choose."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
import redis
from playwright.sync_api import Browser

from gateway.sandbox.client import Sandbox
from tests.console.conftest import POLICY, Look, look
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until
from tests.ledger.conftest import server  # noqa: F401 - a fixture of a real server

ENTRIES = "igw:{main}:entries"
OTHERS = [*(f"p{number:02}" for number in range(45)), "zz"]
WIDE = POLICY.replace(
    "  thrifty:",
    "".join(f"  {name}: {{job_types: [draft], budgets: [{{window: total, limit: '9'}}]}}\n" for name in OTHERS)
    + "  thrifty:",
)
MARKUP = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"


@dataclass
class Crowd:
    """A gateway that many projects share, and the store that it is on."""

    stack: Stack
    store: Any
    asked: int = 0

    @property
    def base(self) -> str:
        """Its admin plane."""
        return f"http://127.0.0.1:{self.stack.admin_port}"

    def ask(self, view: str) -> Any:
        """A view of the console, once everything that is in the ledger is in it."""
        entries = self.store.xlen(ENTRIES)

        def whole() -> bool:
            told = self._fresh("spend")
            return bool(told["entries"] >= entries and told["read"] == 1)

        wait_until(whole, 60, "the ledger to be read")
        return self._fresh(view)

    def _fresh(self, view: str) -> Any:
        """A view that nobody was shown a moment ago: each question has its own answer."""
        self.asked += 1
        return fetch(f"{self.base}/console/api/{view}{'&' if '?' in view else '?'}asked={self.asked}").json

    def book(self, project: str, job_type: str, number: int, nano: int = 1000, **facts: str) -> None:
        """Write an entry as a gateway does."""
        about = {"project": project, "key": "key_1", "job_type": job_type, "operation": "generate"}
        told = {"route": "main/gpt-image-2", "model": "gpt-image-2", "provider": "main", **facts}
        entry = {"kind": "settle", "request": f"req_{number}", "attempt": "1", "source": "usage", "images": "1"}
        entry |= {"about": json.dumps(about), "facts": json.dumps(told), "outcome": "{}", "lines": "[]"}
        self.store.xadd(ENTRIES, {**entry, "cost": f"{nano} {nano} {nano}"})


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox, server: str) -> Iterator[Crowd]:  # noqa: F811 - not the fixture
    """A gateway without a token, with bookings of a few projects that were made one by one."""
    environ = {"IMAGE_GATEWAY_STORE": server}
    with running_gateway(tmp_path_factory.mktemp("crowd"), WIDE, sandbox, environ=environ) as running:
        for job_type, project in (("draft", "team"), ("fallback", "team"), ("fallback", "team"), ("draft", "p07")):
            headers = {"x-gateway-job-type": job_type}
            made = running.post(
                "/v1/images/generations", {"prompt": "x", "quality": "low"}, project=project, headers=headers
            )
            assert made.status == 200, made.body
        store = redis.Redis.from_url(server, decode_responses=True)
        yield Crowd(running, store)
        store.close()


@pytest.fixture(scope="module")
def tab(browser: Browser, crowd: Crowd) -> Iterator[Look]:
    """A tab on the console, which needs no login here."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield look(context, crowd.base)
    context.close()


def test_spend_of_a_project_and_a_job_type_is_what_the_ledger_says(crowd: Crowd, tab: Look) -> None:
    """Chosen one after the other by keyboard, both stand in the address, and figures are those of both together."""
    crowd.ask("spend")
    rows = crowd.stack.spend("--by", "project,job_type,route,model", "--window", "month")
    [expected] = [row for row in rows if (row["project"], row["job_type"]) == ("team", "fallback")]
    tab.go("spend?by=route&range=month")
    tab.page.focus("#of-project")
    tab.page.select_option("#of-project", "team")
    tab.page.wait_for_function("() => location.hash.includes('project=team')")
    assert tab.page.evaluate("document.activeElement.id") == "of-project"
    tab.page.wait_for_selector("#of-job-type option[value=fallback]", state="attached")
    tab.page.select_option("#of-job-type", "fallback")
    tab.page.wait_for_function(
        "() => location.hash.includes('job_type=fallback') && location.hash.includes('project=team')"
    )
    tab.page.wait_for_selector(".page[data-ready] [data-figure=total]")
    for label in ("route", "model", "job_type", "project"):
        tab.page.get_by_role(
            "button", name=dict(route="Route", model="Model", job_type="Job type", project="Project")[label], exact=True
        ).click()
        tab.page.wait_for_function("label => location.hash.includes(`by=${label}`)", arg=label)
        tab.page.wait_for_selector(".page[data-ready] [data-figure=total]")
        cells = tab.page.locator("[data-figure]").all()
        found = {each.get_attribute("data-figure"): (each.get_attribute("title") or "").lstrip("$") for each in cells}
        amounts = {name: Decimal(text) for name, text in found.items()}
        assert amounts == dict.fromkeys(("total", expected[label]), Decimal(expected["route_usd"]))
    tab.page.select_option("#of-project", "p07")
    tab.shows("Nothing was spent in this time.")


def test_requests_are_found_behind_those_of_others(crowd: Crowd, tab: Look) -> None:
    """Bookings of a project and job type are shown though many newer ones are of others, and none of those are."""
    for number in range(600):
        crowd.book(f"p{number % 40 + 5:02}", "draft", number)
    told = crowd.ask("requests?project=team&job_type=fallback")
    assert [(each["project"], each["job_type"]) for each in told["ended"]] == [("team", "fallback")] * 2
    assert len(crowd.ask("requests?project=team")["ended"]) == 3
    assert len(crowd.ask("requests?job_type=fallback")["ended"]) == 2
    assert len(crowd.ask("requests")["ended"]) == 50
    tab.go("requests?project=team&job_type=fallback")
    assert tab.page.locator("[aria-label='Newest bookings'] tbody tr").count() == 2
    tab.page.select_option("#of-job-type", "")
    tab.page.wait_for_function(
        "() => document.querySelectorAll(\"[aria-label='Newest bookings'] tbody tr\").length == 3"
    )


def test_requests_under_way_are_found_behind_those_of_others(crowd: Crowd) -> None:
    """What is under way of one project is shown though the list of all is full with that of another."""
    made = crowd.ask("requests?project=p07")["ended"][-1]
    known = crowd.store.hgetall(f"igw:{{main}}:req:{made['id']}")
    far = int(time.time() * 1000) + 600_000  # leases that nobody ends meanwhile
    for number, project in enumerate(["team"] * 40 + ["p07"]):
        about = {**json.loads(known["about"]), "project": project}
        crowd.store.hset(f"igw:{{main}}:req:copy{number}", mapping={**known, "about": json.dumps(about)})
        crowd.store.zadd("igw:{main}:due", {f"copy{number}:1": far + number})
    try:
        told = crowd.ask("requests?project=p07&job_type=draft")
        assert [(each["id"], each["project"]) for each in told["running"]] == [("copy40", "p07")]
        assert crowd.ask("requests?project=p07&job_type=fallback")["running"] == []
        told = crowd.ask("requests")
        assert (len(told["running"]), told["looked_at"], told["in_all"]) == (30, 30, 41)
    finally:
        for number in range(41):
            crowd.store.zrem("igw:{main}:due", f"copy{number}:1")
            crowd.store.delete(f"igw:{{main}}:req:copy{number}")


def test_the_newest_tasks_are_those_of_every_project(crowd: Crowd) -> None:
    """A task of the last of many projects is the first in the list of all, and listed under its own."""
    for project in ("p01", "zz"):
        made = crowd.stack.post(
            "/v1/images/generations",
            {"prompt": "later", "quality": "low"},
            project=project,
            headers={"prefer": "respond-async"},
        )
        assert made.status == 202, made.body
    for view in ("tasks", "tasks?project=zz"):
        assert crowd.ask(view)["tasks"][0]["project"] == "zz"
    assert [each["project"] for each in crowd.ask("tasks")["tasks"]] == ["zz", "p01"]


def test_what_stands_in_the_address_breaks_no_page(tab: Look) -> None:
    """Nonsense in the address of a page shows the page as it is without."""
    for where in ("spend?by=nonsense", "spend?by=all&range=ever", "spend?by=constructor", "overview?by=__proto__"):
        tab.go(where)
        assert not tab.page.locator(".failure").count(), where
        tab.page.wait_for_selector(".legend li")


def test_names_and_texts_stay_texts(crowd: Crowd, tab: Look) -> None:
    """Markup in names of projects, job types, routes and models is shown letter by letter, and no script runs."""
    crowd.book(MARKUP, MARKUP, 9001, 10**10, route=MARKUP, model=MARKUP, size=MARKUP, quality=MARKUP)
    for name in ("__proto__", "constructor"):
        crowd.book(name, name, 9002, 10**10, route=name, model=name)
    crowd.ask("spend")
    for where in ("spend?by=project", "spend?by=route", "spend?by=model", "overview", "requests"):
        tab.go(where)
        tab.shows(MARKUP)
        tab.shows("constructor")
    assert tab.page.title().endswith("Image Gateway")
    assert not tab.page.locator("main img, main script").count()
    assert tab.said == []

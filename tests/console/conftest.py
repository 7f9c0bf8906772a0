"""A gateway with a token and some mixed traffic, and a real browser to look at its console with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from gateway.sandbox.client import Sandbox
from gateway.sandbox.server import running_sandbox
from tests.e2e.policies import PROVIDERS, ROUTES, lasting
from tests.e2e.stack import Stack, running_gateway

TOKEN = "a token of the admin plane"
CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 30_000
"""Milliseconds."""

POLICY = (
    lasting("gpt-image-1-mini")
    + PROVIDERS % {"timeout": "20s"}
    + ROUTES
    + """
job_types:
  draft:
    routes: [main/gpt-image-2, main/flare]
    defaults: {quality: high, size: 1024x1024}
    degrade: [{budget_used: 60%, set: {quality: low}}]
  fallback:
    routes: [main/gpt-image-2, spare/gpt-image-2]
    defaults: {quality: low}
projects:
  team:
    job_types: [draft, fallback]
    default_job_type: draft
    images: {store: always}
    budgets: [{window: day, limit: "1000"}, {window: month, limit: "5000"}]
    chargeback: {multiplier: "1.15"}
  thrifty:
    job_types: [draft]
    budgets: [{window: month, limit: "0.70"}]
  passing:
    job_types: [draft]
    passthrough: {provider: main, paths: [/v1/files], price_per_request: "0.01"}
budgets: [{window: month, limit: "5000"}]
"""
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A simulated provider without latency."""
    with running_sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway whose admin plane needs a token."""
    environ = {"IMAGE_GATEWAY_ADMIN_TOKEN": TOKEN}
    with running_gateway(tmp_path_factory.mktemp("console"), POLICY, sandbox, environ=environ) as running:
        yield running


@dataclass
class Traffic:
    """What was asked of a gateway: ids of requests by what became of them."""

    settled: list[str] = field(default_factory=list)
    fell_back: str = ""
    presumed: str = ""


@pytest.fixture(scope="module")
def traffic(stack: Stack, sandbox: Sandbox) -> Traffic:
    """Requests of every kind: settled, degraded, refused, sent elsewhere, and of unknown outcome."""
    made = Traffic()
    for number in range(6):
        answer = stack.post("/v1/images/generations", {"prompt": f"picture {number}", "quality": "low"})
        assert answer.status == 200, answer.body
        made.settled.append(answer.headers["x-request-id"])
    for _ in range(4):
        answer = stack.post("/v1/images/generations", {"prompt": "a picture"}, project="thrifty")
        assert answer.status == 200, answer.body
    never = {"x-gateway-degrade": "never"}
    answer = stack.post("/v1/images/generations", {"prompt": "a picture"}, project="thrifty", headers=never)
    assert answer.status == 402, answer.body
    sandbox.fault("status", status=500, times=1)
    answer = stack.post("/v1/images/generations", {"prompt": "elsewhere", "model": "job:fallback"})
    assert answer.headers["x-gateway-attempts"] == "2", answer.body
    made.fell_back = answer.headers["x-request-id"]
    sandbox.fault("reset", times=1)
    answer = stack.post("/v1/images/generations", {"prompt": "lost"})
    assert answer.status == 502, answer.body
    made.presumed = answer.headers["x-request-id"]
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium, without a window; its driver's event loop must end before tests that have loops of their own."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@dataclass
class Look:
    """A page of the console, with what the browser said and asked meanwhile."""

    page: Page
    base: str
    said: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def go(self, where: str) -> None:
        """Open a page by its name and wait until it shows its figures."""
        self.page.goto(f"{self.base}/console#/{where}")
        self.page.wait_for_selector(".page[data-ready]")

    def text(self) -> str:
        """What the page shows."""
        return self.page.inner_text("main")

    def shows(self, *words: str) -> None:
        """Wait until the page shows all of these."""
        for word in words:
            self.page.wait_for_function("word => document.body.innerText.includes(word)", arg=word)


def look(context: BrowserContext, base: str) -> Look:
    """Open a tab that notes what goes wrong in it and which hosts it asks."""
    context.set_default_timeout(PATIENCE)
    seen = Look(context.new_page(), base)

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            seen.said.append(message.text)

    def asked(request: Request) -> None:
        seen.hosts.add(request.url.split("/")[2])

    seen.page.on("console", said)
    seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
    seen.page.on("request", asked)
    return seen


def log_in(seen: Look) -> None:
    """Give the token on the login page."""
    seen.page.goto(f"{seen.base}/console")
    seen.page.fill("#token", TOKEN)
    seen.page.click("button[type=submit]")
    seen.page.wait_for_selector(".page[data-ready]")


@pytest.fixture(scope="module")
def seen(browser: Browser, stack: Stack, traffic: Traffic) -> Iterator[Look]:
    """A tab that is logged in, after the traffic."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    found = look(context, f"http://127.0.0.1:{stack.admin_port}")
    log_in(found)
    yield found
    context.close()

"""A real Prometheus scrapes a real gateway: every panel and rule finds what it asks for."""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.deploy.queries import RULE_FILES, alerts, asked, names, panel_queries, recorded
from tests.e2e.policies import PROVIDERS, ROUTES, lasting
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until
from tests.ports import free_port

PATH = "/v1/images/generations"
BODY = {"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}
UNMOVED = {
    "image_gateway_assets_failed_total": "needs a full disk",
    "image_gateway_batch_requests_total": "a batch takes longer than this test",
    "image_gateway_batches_total": "likewise",
    "image_gateway_shed_total": "needs a process at its limit",
    "image_gateway_replaced_total": "needs a model that is retired, which depends on the day",
}
"""Labelled counters that the traffic below leaves at nothing, so that they have no series."""
SHADOWS = 4
"""Requests of the job type that has shadows."""
POLICY = (
    lasting("gpt-image-1-mini")
    + "    retires: 2999-12-31\n    replacement: gpt-image-2\n"
    + PROVIDERS % {"timeout": "2s"}
    + ROUTES
    + """  main/waited:
    {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, limits: {concurrent: 1}}
  main/counted:
    {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, limits: {images_per_minute: 60}}
  main/trial: {provider: main, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare, lane: testing}
egress: {allow: ["127.0.0.0/8"]}
job_types:
  draft:
    routes: [main/counted]
    experiment: {name: trial, split: {main/trial: 50%}}
  hero:
    routes: [main/gpt-image-2]
    degrade: [{budget_used: 1%, set: {quality: low}}]
    shadow: {route: main/trial, sample: 100%, budget: {window: total, limit: "100"}}
  fallback: {routes: [closed/gpt-image-2, main/gpt-image-2]}
  waited: {routes: [main/waited], throttled: {wait: 20s}}
  cached: {routes: [main/gpt-image-2], cache: 24h}
projects:
  team:
    job_types: [draft, hero, fallback, waited, cached]
    default_job_type: draft
    lanes: [production, testing]
    budgets: [{window: day, limit: "1000"}, {window: month, limit: "5000"}]
    images: {store: always, keep: 7d}
  thrifty: {job_types: [hero], lanes: [production, testing], budgets: [{window: total, limit: "0.50"}]}
  poor: {job_types: [draft], budgets: [{window: total, limit: "0.000001"}]}
budgets: [{window: month, limit: "5000"}]
"""
)
CONFIGURATION = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [recording.yaml, alerts.yaml]
scrape_configs:
  - job_name: image-gateway
    static_configs: [{targets: ["127.0.0.1:%d"]}]
"""


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return fetch(f"{self.url}/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an expression now; it must be a good one."""
        reply = fetch(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        assert reply.status == 200, (expression, reply.json)
        found: list[dict[str, Any]] = reply.json["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with how it went."""
        groups = fetch(f"{self.url}/api/v1/rules").json["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Providers that take a moment, so that somebody waits."""
    with running_sandbox(SandboxOptions(latency=0.2)) as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway in front of them."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), POLICY, sandbox) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, stack: Stack) -> Iterator[Prometheus]:
    """A Prometheus with our rules that scrapes the gateway each second."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is needed")
    home, port = tmp_path_factory.mktemp("prometheus"), free_port()
    for path in RULE_FILES:  # a group that has an interval of its own is not waited for either
        (home / path.name).write_text(path.read_text().replace("interval: 30s", "interval: 1s"))
    (home / "prometheus.yaml").write_text(CONFIGURATION % stack.admin_port)
    options = (f"--config.file={home}/prometheus.yaml", f"--storage.tsdb.path={home}/data")
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
        try:
            running = Prometheus(port)
            wait_until(running.ready, 30, "prometheus")
            yield running
        finally:
            process.terminate()
            process.wait(timeout=30)


def ask(stack: Stack, job_type: str, **more: Any) -> int:
    """One request of a job type; returns its status."""
    project, body = more.pop("project", "team"), {**BODY, **more.pop("body", {})}
    return stack.post(PATH, body, project=project, headers={"x-gateway-job-type": job_type, **more}).status


def traffic(stack: Stack, sandbox: Sandbox) -> None:
    """Requests of every kind, so that what is counted moves."""
    stack.key("team")
    with ThreadPoolExecutor(6) as crowd:
        assert set(crowd.map(lambda _: ask(stack, "draft"), range(6))) == {200}
    assert [ask(stack, "hero", project="thrifty", body={"quality": "medium"}) for _ in range(3)] == [200] * 3
    assert [ask(stack, "cached") for _ in range(2)] == [200] * 2
    assert ask(stack, "draft", project="poor") == 402
    assert {ask(stack, "fallback") for _ in range(6)} == {200}
    with ThreadPoolExecutor(3) as crowd:
        assert set(crowd.map(lambda _: ask(stack, "waited"), range(3))) == {200}
    called = {"callback_url": f"{sandbox.url}/nowhere"}
    assert ask(stack, "hero", body=called, prefer="respond-async") == 202
    wait_until(lambda: stack.metric("tasks", status="completed") >= 1, 60, "the task")
    wait_until(lambda: stack.metric("callbacks_total") >= 1, 60, "the callback")
    wait_until(lambda: stack.metric("shadow_requests_total") >= SHADOWS, 60, "the shadows")
    sandbox.fault("lost_response")
    assert ask(stack, "waited") >= 500


def test_promtool_likes_what_is_scraped(stack: Stack) -> None:
    """The scrape of a gateway passes promtool's lint, but for the days until a retirement."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is needed")
    page = fetch(f"http://127.0.0.1:{stack.admin_port}/metrics").body
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, timeout=60, check=False)
    assert {line.split()[0] for line in done.stderr.decode().splitlines()} <= {"image_gateway_model_retires_in_days"}


def test_every_panel_and_rule_finds_what_it_asks_for(prometheus: Prometheus, stack: Stack, sandbox: Sandbox) -> None:
    """After traffic of every kind each panel's query returns data, each rule is evaluated and sees its series."""
    traffic(stack, sandbox)
    wait_until(lambda: prometheus.query("image_gateway_unconfirmed_total > 0"), 60, "a scrape after it")
    assert [ask(stack, name) for name in ("draft", "waited")] == [200] * 2  # rates need two scrapes
    wait_until(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()), 60, "the rules")

    absent = {name for name in UNMOVED if prometheus.query(name)}
    assert absent == set(), "these have moved after all"
    silent = []
    for title, expression in panel_queries():
        if names(expression) & UNMOVED.keys():
            prometheus.query(asked(expression))
        elif not wait_for(lambda expression=expression: prometheus.query(asked(expression))):
            silent.append((title, expression))
    assert silent == []
    assert [name for name in sorted(recorded()) if not wait_for(lambda name=name: prometheus.query(name))] == []
    for name, alert in alerts().items():
        prometheus.query(alert["expr"])
        missing = {each for each in names(alert["expr"]) - UNMOVED.keys() if not prometheus.query(each)}
        assert missing == set(), name
    assert {rule["name"] for rule in prometheus.rules()} == recorded() | alerts().keys()
    firing = {found["metric"]["alertname"] for found in prometheus.query('ALERTS{alertstate="firing"}')}
    assert {"ImageGatewayMoneyUnconfirmed", "ImageGatewayRouteEjected"} <= firing


def wait_for(check: Any, seconds: float = 30) -> bool:
    """Whether it comes true soon."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True

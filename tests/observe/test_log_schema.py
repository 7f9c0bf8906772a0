"""Logs against their published schema, and in a form for people."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from gateway.observe.event import RequestFinished
from gateway.observe.log import LogObserver, configure_logging
from gateway.sandbox.client import Sandbox
from gateway.sandbox.server import running_sandbox
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import fetch, running_gateway, wait_until
from tests.observe.log_schema import DOCS, of_events, wrong
from tests.observe.samples import ONE_OF_EACH

JOB = {"model": "job:only_main", "prompt": "a lighthouse", "quality": "low", "size": "1024x1024"}
RENAMED = {"duration": "duration_ms", "overhead": "overhead_ms", "waited": "waited_ms"}
IN_USD = {"estimate": "estimate_usd", "cost": "cost_usd"}


def logged(*, text: bool = False) -> list[str]:
    """The lines of one event of each kind, and of one with an exception."""
    stream, root = io.StringIO(), logging.getLogger()
    before = (root.level, root.handlers[:])
    root.handlers.clear()
    pipe = configure_logging("debug", stream, text=text)
    try:
        for event in ONE_OF_EACH:
            LogObserver().emit(event)
        try:
            raise ValueError("broken\nover two lines")
        except ValueError:
            logging.getLogger("gateway.sample").exception("request %s failed", "req_1")
    finally:
        pipe.stop()
        root.setLevel(before[0])
        root.handlers[:] = before[1]
        logging.captureWarnings(capture=False)
    return stream.getvalue().splitlines()


def test_a_line_of_each_event_is_valid() -> None:
    """Whatever the observer of events writes is what the schema says, and the schema takes nothing else for it."""
    lines = logged()
    request = next(json.loads(line) for line in lines if json.loads(line)["event"] == "request")

    assert wrong(lines) == []
    assert wrong([json.dumps({**request, "prompt": "a lighthouse"})])
    assert wrong([json.dumps({name: value for name, value in request.items() if name != "status"})])


def test_the_schema_has_each_field_of_a_request() -> None:
    """What is known of a request that ended is in the schema, field by field."""
    told = {item.name for item in dataclasses.fields(RequestFinished)}
    told -= {"at", "began", "error_type"}  # the line's time; for counting; for traces
    known = {(RENAMED | IN_USD).get(name, name) for name in told}

    assert set(of_events()["request"]["required"]) == known


def test_the_documentation_has_each_event_and_field() -> None:
    """The page lists what the schema does."""
    page = (DOCS / "logs.md").read_text()
    sections = dict(re.findall(r"^#{2,3} ([^\n]+)\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL))

    for event, told in of_events().items():
        assert re.findall(r"^\| `(\w+)` \|", sections[event], re.MULTILINE) == told["required"]


def test_lines_for_people_are_one_line_each() -> None:
    """With the text format an event is a line with its time, level, phrase and fields, whatever is in it."""
    lines = logged(text=True)
    [failed] = [line for line in lines if "request req_1 failed" in line]

    assert len(lines) == len(logged())
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z (?:debug|info|warning|error) [\w.]+ ", line) for line in lines)
    assert "broken" in failed


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A simulated provider."""
    with running_sandbox() as running:
        yield running


def test_every_line_under_a_mixed_load_is_valid(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> None:
    """A gateway that answers, fails, falls back, refuses, makes tasks and reloads writes only what the schema says."""
    with running_gateway(tmp_path_factory.mktemp("logging"), ONE_ACCOUNT, sandbox, "--log-level", "debug") as stack:
        images = "/v1/images/generations"
        assert stack.post(images, JOB).status == 200
        sandbox.fault("status", status=503, times=1)
        stack.post(images, {**JOB, "model": "job:fallback"})
        stack.post(images, {**JOB, "model": "job:unreachable_first"})
        stack.post(images, {**JOB, "stream": True, "partial_images": 1})
        stack.post(images, {**JOB, "n": "many"})
        stack.post(images, data=b"{")
        stack.post(images, JOB, headers={"authorization": "Bearer igw_wrong"})
        stack.post(images, JOB, headers={"x-gateway-max-cost": "0.000001"})
        stack.post(images, JOB, headers={"x-gateway-tags": "team=a,run=b"})
        assert stack.post(images, JOB, headers={"prefer": "respond-async"}).status == 202
        rules = (stack.policy / "policy.yaml").read_text()
        (stack.policy / "policy.yaml").write_text(rules + "\nnonsense: 1\n")
        fetch(f"http://127.0.0.1:{stack.admin_port}/admin/reload", method="POST")
        (stack.policy / "policy.yaml").write_text(rules)
        wait_until(lambda: stack.log.read_text().count('"event":"request"') >= 10, 60, "the lines")
        stack.stop()
        lines = stack.log.read_text().splitlines()

    assert wrong(lines) == []
    events = {json.loads(line)["event"] for line in lines if line.startswith("{")}
    assert {"request", "upstream failed", "fell back", "policy loaded"} <= events

"""The console of a gateway with workers and without a token: what all of them did, for this machine alone."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.sandbox.client import Sandbox
from tests.console.conftest import POLICY
from tests.console.test_sessions import ask
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until


@pytest.fixture(scope="module")
def open_stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway without a token, on loopback, with workers."""
    directory = tmp_path_factory.mktemp("open")
    with running_gateway(directory, POLICY, sandbox, "--workers", "2") as running:
        yield running


def test_without_a_token_only_this_machine_is_answered(open_stack: Stack) -> None:
    """A name that a stranger points at the loopback address gets nothing, neither views nor metrics nor the page."""
    port = open_stack.admin_port
    for path in ("/admin/budgets", "/metrics", "/console", "/console/api/keys"):
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
            assert ask(open_stack, path, host=host).status == 200, (path, host)
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "10.0.0.1", "["):
            assert ask(open_stack, path, host=host).status in (400, 403), (path, host)


def test_without_a_token_no_other_page_has_anything_done(open_stack: Stack) -> None:
    """A form or script of another site cannot reload the policy; a command line still can."""
    evil = ask(open_stack, "/admin/explain", "POST", {}, origin="https://evil.example")
    assert (evil.status, evil.error["code"]) == (403, "origin_not_allowed")
    asked = {"project": "team", "request": {"prompt": "x"}}
    assert ask(open_stack, "/admin/explain", "POST", asked).status == 200


def test_workers_are_shown_as_one_gateway(open_stack: Stack) -> None:
    """With the admin plane in a process of its own the console has what every worker did, booked and refused."""
    base = f"http://127.0.0.1:{open_stack.admin_port}/console/api"
    for number in range(4):
        made = open_stack.post("/v1/images/generations", {"prompt": f"picture {number}", "quality": "low"})
        assert made.status == 200, made.body
    refused = open_stack.post("/v1/images/generations", {"prompt": "x"}, headers={"x-gateway-max-cost": "0.0001"})
    assert refused.status == 402, refused.body
    wait_until(lambda: fetch(f"{base}/overview").json["sums"]["today"]["images"] == 4, 60, "four images")
    wait_until(lambda: fetch(f"{base}/overview").json["happened"]["denied"], 60, "the refusal")
    shown = fetch(f"{base}/spend?by=project&range=month").json["total"]
    [row] = open_stack.spend("--by", "project", "--window", "month")
    assert shown == {name.removesuffix("_usd"): value for name, value in row.items() if name != "project"}
    found = wait_until(lambda: _of_three(fetch(f"{base}/policy").json["processes"]), 60, "three processes")
    assert sorted(each["makes_calls"] for each in found) == [False, True, True]


def _of_three(processes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return processes if len(processes) == 3 else []


def test_an_open_console_holds_up_no_end(open_stack: Stack) -> None:
    """A stream of events, which no proxy is to keep back, ends as soon as the gateway is to stop, and that cleanly."""
    watching = http.client.HTTPConnection("127.0.0.1", open_stack.admin_port, timeout=60)
    watching.request("GET", "/console/events")
    events = watching.getresponse()
    assert events.readline().startswith(b"data: {")
    assert events.getheader("x-accel-buffering") == "no"
    assert open_stack.stop() == 0
    assert events.read() is not None
    watching.close()

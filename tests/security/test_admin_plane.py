"""The admin plane: on a port of its own, open to this machine alone or to whoever has its token."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gateway.sandbox.client import Sandbox
from tests.console.test_sessions import ASKED
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Reply, Stack, fetch, running_gateway
from tests.ports import free_port
from tests.security.conftest import TOKEN, Planes
from tests.security.description import admin_routes, data_routes

FREE = {"/healthz"}


@pytest.fixture(scope="module")
def open_stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway without an admin token, on the loopback address."""
    with running_gateway(tmp_path_factory.mktemp("open"), ONE_ACCOUNT, sandbox) as running:
        yield running


def asked(port: int, method: str, path: str, headers: Mapping[str, str]) -> Reply:
    """One request with exactly these headers, `Host` included."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host="host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("content-length", "0")
        connection.endheaders()
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gateway.example"])
def test_beyond_loopback_it_does_not_start_without_a_token(tmp_path: Path, host: str) -> None:
    """`serve` ends with one line that names the variable, before it opens any socket or store."""
    rules, data = tmp_path / "policy", tmp_path / "data"
    rules.mkdir()
    (rules / "policy.yaml").write_text(ONE_ACCOUNT)
    environ = {name: value for name, value in os.environ.items() if name != "IMAGE_GATEWAY_ADMIN_TOKEN"}
    command = [sys.executable, "-m", "gateway", "serve", "--policy", str(rules), "--data", str(data)]
    ended = subprocess.run(
        [*command, "--port", str(free_port()), "--admin-port", str(free_port()), "--admin-host", host],
        env={**environ, "SANDBOX_URL": "http://127.0.0.1:9", "SANDBOX_KEY": "none"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 1
    assert "IMAGE_GATEWAY_ADMIN_TOKEN" in ended.stderr.strip().splitlines()[-1]
    assert not data.exists()


@pytest.mark.parametrize("token", ["fifteen letters", " \n", "x" + " " * 40])
def test_a_short_token_is_none(tmp_path: Path, token: str) -> None:
    """`serve` ends with a line that says so: wrong tokens are slowed down, but nobody is locked out."""
    rules = tmp_path / "policy"
    rules.mkdir()
    (rules / "policy.yaml").write_text(ONE_ACCOUNT)
    command = [sys.executable, "-m", "gateway", "serve", "--policy", str(rules), "--data", str(tmp_path / "data")]
    environ = {"SANDBOX_URL": "http://127.0.0.1:9", "SANDBOX_KEY": "none", "IMAGE_GATEWAY_ADMIN_TOKEN": token}
    ended = subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 1
    assert "IMAGE_GATEWAY_ADMIN_TOKEN is too short" in ended.stderr.strip().splitlines()[-1]


def test_nothing_of_it_answers_on_the_data_port(planes: Planes) -> None:
    """Its paths are unknown there, with the admin token, with a project's key, and with both."""
    only = {route.path for route in admin_routes()} - {route.path for route in data_routes()}
    assert "/metrics" in only
    for path in sorted({*only, "/console", "/console/login", "/console/api/keys"}):
        for headers in (planes.client, planes.admin, {**planes.admin, "api-key": planes.stack.key()}):
            for method in ("GET", "POST"):
                answer = fetch(f"http://127.0.0.1:{planes.port}{path}", method=method, headers=headers)
                assert answer.status in (401, 404), (path, answer.body)


def test_without_the_token_there_is_nothing(planes: Planes) -> None:
    """No token, a wrong one, a project's key, a part of the token and its bytes changed: 401, the same each time."""
    wrong: tuple[dict[str, str], ...] = (
        {},
        {"authorization": "Bearer x"},
        dict(planes.client),
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN.upper()}"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"api-key": TOKEN},
        {"authorization": "Bearer \xe9\xff"},
        {"cookie": f"igw_console_{planes.admin_port}={TOKEN}"},
    )
    for route in admin_routes():
        if route.path in FREE:
            continue
        for method in sorted((route.methods or set()) - {"HEAD"}):
            bodies = set()
            for headers in wrong:
                answer = asked(planes.admin_port, method, route.path.replace("{id}", "x"), headers)
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), (method, route.path)
                bodies.add(answer.body)
            assert len(bodies) == 1
            assert TOKEN.encode() not in bodies.pop()


def test_the_consoles_own_paths_ask_for_a_session(planes: Planes) -> None:
    """Neither the bare token nor a project's key opens them, to read or to do anything."""
    for headers in ({}, planes.admin, planes.client):
        for name in ASKED:
            answer = asked(planes.admin_port, "GET", f"/console/api/{name}", headers)
            assert (answer.status, answer.error["code"]) == (401, "session_ended"), name
        assert asked(planes.admin_port, "GET", "/console/events", headers).status == 401
        made = asked(planes.admin_port, "POST", "/console/api/keys", {**headers, "x-console": "1"})
        assert made.status in (401, 405)


def test_an_id_that_is_there_is_as_one_that_is_not_to_whoever_has_no_token(planes: Planes) -> None:
    """Paths with an id, and paths that do not exist below one that does, are refused before anything is looked for."""
    for path in ("/admin/callbacks/cb_1/retry", "/admin/callbacks/cb_2/retry"):
        answer = asked(planes.admin_port, "POST", path, {})
        assert answer.status == 401
        assert b"cb_" not in answer.body


NAMES = ("evil.example", "evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0")


def test_a_page_under_a_name_of_its_own_is_refused(open_stack: Stack) -> None:
    """Without a token a `Host` that is not this machine gets 403 on every path that tells or does anything."""
    for route in admin_routes():
        if route.path in FREE:
            continue
        for method in sorted((route.methods or set()) - {"HEAD"}):
            for host in NAMES:
                answer = asked(open_stack.admin_port, method, route.path.replace("{id}", "x"), {"host": host})
                assert (answer.status, answer.error["code"]) == (403, "host_not_allowed"), (method, route.path, host)
    for host in ("localhost", f"127.0.0.1:{open_stack.admin_port}", "[::1]:9090", "127.1.2.3"):
        assert asked(open_stack.admin_port, "GET", "/admin/budgets", {"host": host}).status == 200


def test_what_changes_something_is_not_done_for_another_page(open_stack: Stack) -> None:
    """Without a token a POST from another origin, or that a browser calls cross-site, gets 403; our own does not."""
    own = f"127.0.0.1:{open_stack.admin_port}"
    others: tuple[dict[str, str], ...] = (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    )
    for headers in others:
        for path in (
            "/admin/reload",
            "/admin/explain",
            "/admin/callbacks/x/retry",
            "/admin/keys",
            "/admin/keys/x/rotate",
            "/admin/keys/x/revoke",
        ):
            answer = asked(open_stack.admin_port, "POST", path, headers)
            assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed"), (path, headers)
    assert asked(open_stack.admin_port, "POST", "/admin/reload", {"origin": f"http://{own}"}).status == 200


def test_no_answer_lets_other_pages_read_it(open_stack: Stack) -> None:
    """There are no headers that share an answer with other origins, on either plane."""
    for port in (open_stack.port, open_stack.admin_port):
        for path in ("/healthz", "/readyz", "/openapi.json"):
            for method in ("GET", "OPTIONS"):
                headers = {"origin": f"http://127.0.0.1:{port}", "access-control-request-method": "POST"}
                answer = asked(port, method, path, headers)
                assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_the_description_of_a_plane_names_nothing_of_this_one(planes: Planes) -> None:
    """The data plane's, which anybody may read, is the same whatever the policy."""
    answer = fetch(f"http://127.0.0.1:{planes.port}/openapi.json")
    text = json.dumps(answer.json)
    assert not [name for name in ("main/flare", "sandbox", "127.0.0.1", TOKEN) if name in text]

"""Bodies that were begun before a key was revoked or a budget cut: they are judged as if the request came now."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import booked, settled
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

POLICY = """
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  draft: {routes: [main], defaults: {size: 1024x1024, quality: low}}
projects:
  team:
    job_types: [draft]
    default_job_type: draft
    budgets: [{window: total, limit: "100"}]
    passthrough: {provider: main, paths: [/v1/embeddings], methods: [POST], price_per_request: "0.02"}
"""
GENERATE, PASSED = "/v1/images/generations", "/v1/embeddings"
BODY = json.dumps({"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}).encode()
HALF = len(BODY) // 2
AGED = 1.2
"""Seconds; a body that takes no longer than one is judged by what was asked when it began."""


@pytest.fixture
def own(tmp_path: Path, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway whose keys and policy this test may change."""
    with running_gateway(tmp_path, POLICY, sandbox) as running:
        yield running


@contextmanager
def begun(stack: Stack, key: str, path: str) -> Iterator[socket.socket]:
    """A request whose body was begun: the gateway knows the key, and has asked for the body."""
    fields = {"Host": "a", "Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\n{head}Content-Length: {len(BODY)}\r\n".encode())
        sock.sendall(b"Expect: 100-continue\r\n\r\n")
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(BODY[:HALF])
        yield sock


def ended(sock: socket.socket) -> Reply:
    """The answer, once the other half was sent."""
    sock.sendall(BODY[HALF:])
    answer = http.client.HTTPResponse(sock)
    answer.begin()
    return Reply(answer.status, dict(answer.headers), answer.read())


@pytest.mark.parametrize("path", [GENERATE, PASSED])
def test_a_revoked_key_does_not_spend_through_what_it_had_begun(own: Stack, path: str) -> None:
    """Once a new request is refused, so is one whose body was under way: nothing is booked."""
    admin = f"http://127.0.0.1:{own.admin_port}/admin/keys"
    made = fetch(admin, body={"project": "team", "name": "stolen"}, method="POST").json
    with begun(own, made["key"], path) as sock:
        fetch(f"{admin}/{made['id']}/revoke", method="POST")
        headers = {"authorization": f"Bearer {made['key']}"}
        models = f"http://127.0.0.1:{own.port}/v1/models"
        wait_until(lambda: fetch(models, headers=headers).status == 401, what="the end of the key")
        time.sleep(AGED)
        reply = ended(sock)
    assert (reply.status, reply.error["code"]) == (401, "key_revoked")
    settled(own)
    assert booked(own).requests == 0


@pytest.mark.parametrize("path", [GENERATE, PASSED])
def test_a_budget_that_was_cut_binds_what_was_begun_before(own: Stack, path: str) -> None:
    """A body that was under way is judged by the policy that serves when it has come."""
    with begun(own, own.key(), path) as sock:
        rules = own.policy / "policy.yaml"
        rules.write_text(rules.read_text().replace('limit: "100"', 'limit: "0.001"'))
        assert fetch(f"http://127.0.0.1:{own.admin_port}/admin/reload", method="POST").status == 200
        time.sleep(AGED)
        reply = ended(sock)
    assert reply.status == 402, reply.body
    settled(own)
    assert booked(own).requests == 0


def test_what_nobody_changed_is_served(own: Stack) -> None:
    """A slow body alone is no reason to refuse anything."""
    with begun(own, own.key(), GENERATE) as sock:
        time.sleep(AGED)
        assert ended(sock).status == 200

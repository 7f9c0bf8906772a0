"""Requests and tasks that wait, while keys are revoked and the policy changes: they are served by the rules of now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.receiver import receiving
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

POLICY = """
egress: {allow: ["127.0.0.0/8"]}
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
routes:
  daily: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, limits: {images_per_day: 1}}
  rare: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, limits: {requests_per_minute: 1}}
  wide: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  dear: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  later: {routes: [daily], defaults: {size: 1024x1024, quality: low}, allow: {quality: [low, medium]}}
  live:
    routes: [rare]
    defaults: {size: 1024x1024, quality: low}
    allow: {quality: [low, medium]}
    throttled: {wait: 90s}
projects:
  team: {job_types: [later, live], default_job_type: later, budgets: [{window: total, limit: "100"}]}
  gone: {job_types: [later], budgets: [{window: total, limit: "100"}]}
  poor: {job_types: [live], budgets: [{window: total, limit: "100"}]}
"""
GENERATE = "/v1/images/generations"
LIVE = {"x-gateway-job-type": "live"}
PATIENCE = 60.0
WIDE = POLICY.replace("routes: [daily]", "routes: [wide]").replace("routes: [rare]", "routes: [wide]")


@pytest.fixture
def stack(tmp_path: Path, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway whose routes are full: one for the rest of the day, one for a minute."""
    with running_gateway(tmp_path, POLICY, sandbox, "--lease", "6") as running:
        for headers in ({}, LIVE):
            assert running.post(GENERATE, {"prompt": "first"}, headers=headers).status == 200
        settled(running)
        yield running


def reload(stack: Stack, policy: str) -> None:
    """Serve by another policy."""
    (stack.policy / "policy.yaml").write_text(policy)
    reply = fetch(f"http://127.0.0.1:{stack.admin_port}/admin/reload", method="POST")
    assert reply.status == 200, reply.body


def task(stack: Stack, prompt: str, project: str = "team", **fields: object) -> str:
    """Make a task that waits for the full route."""
    made = stack.post(GENERATE, {"prompt": prompt, "async": True, **fields}, project=project)
    assert made.status == 202, made.body
    return str(made.json["id"])


def ended(stack: Stack, task_id: str) -> Any:
    """Wait until a task of the team's has ended."""

    def look() -> Any:
        told = stack.get(f"/v1/tasks/{task_id}").json
        return told if told["status"] in ("completed", "failed", "cancelled") else None

    return wait_until(look, PATIENCE, "the end of a task")


@contextmanager
def asking(stack: Stack, *asked: tuple[str, str, dict[str, object]]) -> Iterator[list[Future[Reply]]]:
    """Ask for images now, each in a thread (name of a key, prompt, fields), and wait until all of them wait."""
    for project, _, _ in asked:
        stack.key(project)
    with ThreadPoolExecutor(len(asked)) as pool:
        replies = [
            pool.submit(stack.post, GENERATE, {"prompt": prompt, **fields}, project=project, headers=LIVE, timeout=120)
            for project, prompt, fields in asked
        ]
        wait_until(lambda: stack.metric("in_flight") == len(asked), PATIENCE, "requests that wait")
        yield replies


def sent(sandbox: Sandbox) -> set[str]:
    """The prompts that the provider got."""
    return {each["fields"]["prompt"] for each in sandbox.requests() if each["fields"]}


def key_id(stack: Stack, name: str) -> str:
    """The public id of a key by its name."""
    listed = json.loads(stack.command("keys", "list", "--format", "json").stdout)
    return str(next(each["id"] for each in listed if each["name"] == name))


def test_what_waits_for_a_key_that_is_revoked_is_not_sent(stack: Stack, sandbox: Sandbox) -> None:
    """Its task fails with a callback and its money back, its request is refused; other keys' tasks wait on."""
    made = stack.command("keys", "create", "--project", "team", "--name", "leaked")
    stack.keys["leaked"] = made.stdout.strip()
    with receiving() as receiver, asking(stack, ("leaked", "leaked live", {})) as (reply,):
        mine = task(stack, "mine")
        held = stack.held()
        leaked = task(stack, "leaked later", "leaked", callback_url=receiver.url)
        assert stack.held() > held > 0
        assert stack.command("keys", "revoke", key_id(stack, "leaked")).returncode == 0
        wait_until(lambda: stack.get("/v1/models", project="leaked").status == 401, PATIENCE, "the end of the key")
        reload(stack, POLICY)
        refused = reply.result(timeout=PATIENCE)
        assert (refused.status, refused.error["code"]) == (401, "key_revoked")

        told = ended(stack, leaked)
        assert (told["status"], told["error"]["code"]) == ("failed", "key_revoked")
        wait_until(lambda: stack.held() == held, PATIENCE, "the money back")
        wait_until(lambda: receiver.received, PATIENCE, "the callback")
        body = json.loads(receiver.received[0][1])
        assert (body["id"], body["status"]) == (leaked, "failed")
        assert stack.get(f"/v1/tasks/{mine}").json["status"] in ("pending", "processing")
        assert sent(sandbox) == {"first"}


def test_what_waits_for_a_project_that_is_removed_is_not_sent(stack: Stack, sandbox: Sandbox) -> None:
    """Its task fails, with a callback, its money back, and the reason in the books of whoever comes back."""
    with receiving() as receiver:
        removed = task(stack, "removed", "gone", callback_url=receiver.url)
        reload(stack, POLICY.replace("  gone:", "  come:"))
        wait_until(lambda: receiver.received, PATIENCE, "the callback")
        body = json.loads(receiver.received[0][1])
        assert (body["id"], body["status"], body["error"]["code"]) == (removed, "failed", "project_not_found")
        wait_until(lambda: stack.held() == 0, PATIENCE, "the money back")
        reload(stack, POLICY)
        wait_until(lambda: stack.held() == 0, PATIENCE, "the money back")
        assert stack.get(f"/v1/tasks/{removed}", project="gone").json["status"] == "failed"
        assert sent(sandbox) == {"first"}


def test_what_waits_is_served_by_the_policy_of_now(stack: Stack, sandbox: Sandbox) -> None:
    """A new route is taken at once, what is allowed no more is refused, and so is what a lower budget cannot pay."""
    asked: tuple[tuple[str, str, dict[str, object]], ...] = (
        ("team", "live", {}),
        ("team", "live fine", {"quality": "medium"}),
        ("poor", "live poor", {}),
    )
    with asking(stack, *asked) as (good, fine, poor):
        plain, finer = task(stack, "later"), task(stack, "later fine", quality="medium")
        assert sent(sandbox) == {"first"}
        narrower = WIDE.replace("quality: [low, medium]", "quality: [low]")
        reload(
            stack,
            narrower.replace(
                '  poor: {job_types: [live], budgets: [{window: total, limit: "100"}]}',
                '  poor: {job_types: [live], budgets: [{window: total, limit: "0.000001"}]}',
            ),
        )
        served = good.result(timeout=PATIENCE)
        assert (served.status, served.headers["x-gateway-route"]) == (200, "wide")
        refused = fine.result(timeout=PATIENCE)
        assert (refused.status, refused.error["param"]) == (400, "quality")
        assert poor.result(timeout=PATIENCE).status == 402
        assert ended(stack, plain)["status"] == "completed"
        told = ended(stack, finer)
        assert (told["status"], told["error"]["param"]) == ("failed", "quality")
    settled(stack)
    assert sent(sandbox) == {"first", "live", "later"}
    assert booked(stack).route == billed(sandbox)
    assert booked(stack).requests == 4


def test_a_task_costs_no_more_than_what_was_held_for_it(stack: Stack, sandbox: Sandbox) -> None:
    """Where policy leads to a dearer price meanwhile it fails, and is told so; the next one takes the price of now."""
    early = task(stack, "early")
    dearer = WIDE.replace("  wide: {", '  wide: {price: [{from: 2026-01-01, per_image: "9"}], ')
    reload(stack, dearer)
    told = ended(stack, early)
    assert (told["status"], told["error"]["code"]) == ("failed", "price_changed")
    wait_until(lambda: stack.held() == 0, PATIENCE, "the money back")
    assert sent(sandbox) == {"first"}
    assert ended(stack, task(stack, "next"))["status"] == "completed"
    settled(stack)

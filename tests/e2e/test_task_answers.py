"""Tasks whose images no storage takes, and tasks that a library's own retry of their creation finds again."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.stack import Reply, Stack, running_gateway, wait_until

POLICY = """
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  draft: {routes: [main], defaults: {size: 1024x1024, quality: low}}
projects:
  team: {job_types: [draft], budgets: [{window: total, limit: "100"}]}
"""
GENERATE = "/v1/images/generations"
BODY = {"prompt": "a lighthouse", "async": True}
LARGE = 3_000_000
RETRIES = "x-stainless-retry-count"


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway of its own."""
    with running_gateway(tmp_path_factory.mktemp("answers"), POLICY, sandbox) as running:
        yield running


def ended(stack: Stack, task_id: str) -> Any:
    """Wait for the end of a task, and return it."""

    def look() -> Any:
        told = stack.get(f"/v1/tasks/{task_id}").json
        return told if told["status"] in ("completed", "failed", "cancelled") else None

    return wait_until(look, 60, "the end")


def test_a_large_image_that_cannot_be_stored_is_not_lost(stack: Stack, sandbox: Sandbox) -> None:
    """It is found inline by whoever looks at the task, and left out of lists; it is paid for once."""
    sandbox.fault("pad", bytes=LARGE)
    sandbox.fault("slow", seconds=1)
    images = stack.data / "assets" / "images"
    task = stack.post(GENERATE, BODY).json["id"]
    shutil.rmtree(images, ignore_errors=True)
    images.write_text("in the way")  # no folder can be made by that name

    told = ended(stack, task)

    assert told["status"] == "completed", told
    [image] = told["data"]
    assert hashlib.sha256(base64.b64decode(image["b64_json"])).hexdigest() == sandbox.images()[-1]["sha256"]
    [listed] = stack.get("/v1/tasks").json["data"]
    assert (listed["status"], "b64_json" in listed["data"][0]) == ("completed", False)
    settled(stack)
    assert (booked(stack).route, booked(stack).unconfirmed) == (billed(sandbox), 0)
    assert billed(sandbox) > 0


def create(stack: Stack, retries: int, prompt: str = "a lighthouse") -> Reply:
    """Ask as a library does that repeats what was lost, without a key."""
    return stack.post(GENERATE, {**BODY, "prompt": prompt}, headers={RETRIES: str(retries)})


def left(stack: Stack, prompt: str, seconds: float) -> None:
    """Ask for a task and hang up so soon that there is hardly an answer."""
    body = json.dumps({**BODY, "prompt": prompt}).encode()
    head = (
        f"POST {GENERATE} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stack.key()}\r\n{RETRIES}: 0\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", stack.port)) as client:
        client.sendall(head.encode() + body)
        time.sleep(seconds)


def test_a_retry_finds_the_task_that_its_first_try_made(stack: Stack, sandbox: Sandbox) -> None:
    """A client that hung up and asks again, without a key, gets the same task, once; it is done once."""
    again: Reply | None = None
    known: list[str] = []
    prompt = ""
    for number in range(40):  # until one hangs up after its task was begun, and before it had the answer
        prompt = f"a lighthouse {number}"
        left(stack, prompt, number % 8 * 0.001)
        time.sleep(0.5)  # as long as libraries wait at least
        known = [each["id"] for each in stack.get("/v1/tasks").json["data"]]
        again = create(stack, 1, prompt)
        if "idempotent-replayed" in again.headers:
            break

    assert again is not None
    assert (again.status, again.headers["idempotent-replayed"]) == (202, "true")
    assert again.json["id"] in known
    other = create(stack, 1, prompt)
    assert other.json["id"] not in known
    for reply in (again, other):
        assert ended(stack, reply.json["id"])["status"] == "completed"
    settled(stack)
    assert [each["fields"]["prompt"] for each in sandbox.requests()].count(prompt) == 2


def test_alike_tasks_whose_clients_have_their_answers_stay_apart(stack: Stack) -> None:
    """Neither a second first try nor a retry of a request that never arrived gets somebody else's task."""
    made = [create(stack, 0).json["id"], create(stack, 0).json["id"], create(stack, 1).json["id"]]

    assert len(set(made)) == 3
    for task in made:
        assert ended(stack, task)["status"] == "completed"

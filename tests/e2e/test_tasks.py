"""Tasks: any request answered later, by its id: made, looked at, listed, cancelled, and paid for once."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from PIL import Image

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

POLICY = """
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
  narrow:
    {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", limits: {concurrent: 1}}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  narrow: {provider: narrow, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  draft: {routes: [main], defaults: {size: 1024x1024, quality: low}}
  narrow: {routes: [narrow], defaults: {size: 1024x1024, quality: low}}
projects:
  team: {job_types: [draft, narrow], default_job_type: draft, budgets: [{window: total, limit: "100"}]}
  other: {job_types: [draft], budgets: [{window: total, limit: "100"}]}
  poor: {job_types: [draft], budgets: [{window: total, limit: "0.000001"}]}
  rationed: {job_types: [draft], budgets: [{window: total, limit: "100"}], quotas: [{images: 1, per: minute}]}
  later: {job_types: [draft], asynchronous: always, budgets: [{window: total, limit: "100"}]}
"""
GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
BODY = {"prompt": "a lighthouse", "model": "gpt-image-2"}
ASYNC = {"prefer": "respond-async"}
ENDED = ("completed", "failed", "cancelled")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with projects of several kinds."""
    with running_gateway(tmp_path_factory.mktemp("tasks"), POLICY, sandbox) as running:
        yield running


def create(stack: Stack, body: Mapping[str, Any] | None = None, *, project: str = "team", **headers: str) -> Reply:
    """Make a task, by header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return stack.post(GENERATE, {**BODY, **(body or {})}, project=project, headers={**ASYNC, **named})


def ended(stack: Stack, task_id: str, *, project: str = "team", seconds: float = 60) -> Any:
    """Poll a task until it has ended."""

    def look() -> Any:
        reply = stack.get(f"/v1/tasks/{task_id}", project=project)
        assert reply.status == 200, reply.body
        over = reply.json["status"] in ENDED
        assert over or reply.headers["retry-after"]
        return reply.json if over else None

    return wait_until(look, seconds, f"the end of {task_id}")


def picture(url: str) -> tuple[str, tuple[int, int]]:
    """Download an image; its hash, and its size in pixels."""
    reply = fetch(url)
    assert reply.status == 200, reply.body
    image = Image.open(io.BytesIO(reply.body))
    image.load()
    return hashlib.sha256(reply.body).hexdigest(), image.size


def test_a_request_is_answered_by_a_task_and_the_task_by_links(stack: Stack, sandbox: Sandbox) -> None:
    """202 with all that a client needs to go on; then images, their cost, and a ledger that agrees with the bill."""
    before, bill = booked(stack), billed(sandbox)

    reply = create(stack, {"n": 2})

    assert reply.status == 202
    made = reply.json
    assert reply.headers["location"] == f"/v1/tasks/{made['id']}"
    assert reply.headers["preference-applied"] == "respond-async"
    assert reply.headers["x-request-id"] == made["request_id"]
    assert reply.headers["x-gateway-route"] == "main"
    assert float(reply.headers["x-gateway-cost-estimate"]) > 0
    assert float(reply.headers["x-gateway-budget-remaining"]) > 0
    assert (made["object"], made["type"], made["status"]) == ("image.generation.task", "image", "pending")
    assert made["task_info"]["can_cancel"] is True
    task = ended(stack, made["id"])
    assert (task["status"], task["progress"], task["task_info"]) == ("completed", 100, {"can_cancel": False})
    assert task["results"] == [item["url"] for item in task["data"]]
    assert [picture(url)[1] for url in task["results"]] == [(1024, 1024)] * 2
    settled(stack)
    assert float(task["cost"]["usd"]) > 0
    assert (booked(stack) - before).route == billed(sandbox) - bill > 0
    assert stack.record(made["request_id"])["cost"]["route"] == task["cost"]["usd"]


@pytest.mark.parametrize("field", [{"async": True}, {"callback_url": "https://example.com/hook"}])
def test_a_field_of_the_body_asks_for_a_task_too(stack: Stack, sandbox: Sandbox, field: Mapping[str, Any]) -> None:
    """`async` and `callback_url` make a task, and never reach the provider."""
    reply = stack.post(GENERATE, {**BODY, **field})

    assert reply.status == 202
    assert "preference-applied" not in reply.headers
    assert ended(stack, reply.json["id"])["status"] == "completed"
    [arrived] = [each for each in sandbox.requests() if "generations" in each["path"]]
    assert not {"async", "callback_url"} & set(arrived.get("fields", {}))


def test_an_uploaded_image_waits_with_its_task(stack: Stack) -> None:
    """A form's file reaches the provider from where the task's body was kept."""
    image = io.BytesIO()
    Image.new("RGB", (64, 64), "navy").save(image, "PNG")
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na boat\r\n',
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-image-2\r\n',
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n',
        image.getvalue(),
        b"\r\n--x--\r\n",
    ]

    reply = stack.post(EDIT, data=b"".join(parts), headers={**ASYNC, "content-type": "multipart/form-data; boundary=x"})

    assert reply.status == 202, reply.body
    assert picture(ended(stack, reply.json["id"])["results"][0])[1] == (1024, 1024)


def test_a_project_may_have_tasks_alone(stack: Stack) -> None:
    """With `asynchronous: always` a client of a task API works unchanged: 200, poll by the second, download."""
    made = stack.post(GENERATE, {"model": "gpt-image-2", "prompt": "a cat", "size": "1:1"}, project="later")

    assert made.status == 200
    task: Any = made.json
    deadline = time.monotonic() + 60
    while task["status"] in ("pending", "processing") and time.monotonic() < deadline:
        time.sleep(1)
        task = stack.get(f"/v1/tasks/{task['id']}", project="later").json
    assert task["status"] == "completed", task
    assert [picture(url)[1] for url in task["results"]] == [(1024, 1024)]


@pytest.mark.parametrize(
    ("body", "headers", "param"),
    [
        ({"stream": True}, {}, "stream"),
        ({"async": "maybe"}, {}, "async"),
        ({"callback_url": 7}, {}, "callback_url"),
        ({"callback_url": "ftp://example.com/"}, {}, "callback_url"),
        ({"callback_url": "http://127.0.0.1/hook"}, {}, "callback_url"),
        ({"callback_url": "https://example.com/" + "a" * 2048}, {}, "callback_url"),
        ({}, {"x_gateway_max_wait": "25h"}, "X-Gateway-Max-Wait"),
        ({}, {"x_gateway_max_wait": "soon"}, "X-Gateway-Max-Wait"),
    ],
)
def test_what_cannot_become_a_task_is_refused(
    stack: Stack, sandbox: Sandbox, body: Mapping[str, Any], headers: Mapping[str, str], param: str
) -> None:
    """400 that names the field, with nothing held and nothing sent."""
    reply = create(stack, body, **headers)

    assert (reply.status, reply.error["param"]) == (400, param)
    assert sandbox.requests() == []


def test_a_task_that_the_budget_does_not_allow_is_denied_at_once(stack: Stack) -> None:
    """The same 402 as for a request that is answered at once."""
    denied, at_once = create(stack, project="poor"), stack.post(GENERATE, BODY, project="poor")

    assert (denied.status, denied.error["code"]) == (402, "project_spend_limit_exceeded")
    assert denied.error == at_once.error
    assert stack.get("/v1/tasks", project="poor").json["data"] == []


def test_the_same_key_is_the_same_task(stack: Stack, sandbox: Sandbox) -> None:
    """A repeated creation answers by the first one's task, and another request under its key is refused."""
    first = create(stack, idempotency_key="once")
    again = create(stack, idempotency_key="once")

    assert (again.status, again.json["id"]) == (202, first.json["id"])
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert create(stack, {"prompt": "another"}, idempotency_key="once").status == 409
    assert stack.post(GENERATE, BODY, headers={"idempotency-key": "once"}).status == 409
    ended(stack, first.json["id"])
    assert create(stack, idempotency_key="once").json["status"] == "completed"
    assert len([each for each in sandbox.requests() if "generations" in each["path"]]) == 1


def test_tasks_of_others_are_unknown(stack: Stack) -> None:
    """Another project's task is the same 404 as one that never was, to look at and to cancel."""
    mine = create(stack).json["id"]
    never = f"task_{'0' * 32}"

    for name in (mine, never, "task_x"):
        for reply in (
            stack.get(f"/v1/tasks/{name}", project="other"),
            stack.post(f"/v1/tasks/{name}/cancel", project="other"),
            stack.get(f"/v1/tasks?after={name}", project="other"),
        ):
            assert (reply.status, reply.error["code"]) == (404, "task_not_found")
            assert reply.error["message"] == f"No task {name!r} is known for this project."
        assert reply.error["param"] == "after"
    assert ended(stack, mine)["status"] == "completed"
    assert fetch(f"http://127.0.0.1:{stack.port}/v1/tasks").status == 401


def test_tasks_are_listed_newest_first(stack: Stack) -> None:
    """Page by page, and by status."""
    made = [create(stack, project="other").json["id"] for _ in range(3)]
    for each in made:
        ended(stack, each, project="other")

    page = stack.get("/v1/tasks?limit=2", project="other").json
    rest = stack.get(f"/tasks?limit=2&after={page['last_id']}&status=completed", project="other").json

    assert ([each["id"] for each in page["data"]], page["has_more"]) == (made[:0:-1], True)
    assert rest["data"][0]["id"] == made[0]
    assert stack.get("/v1/tasks?status=pending", project="other").json["data"] == []
    assert stack.get("/v1/tasks?limit=0").error["param"] == "limit"
    assert stack.get("/v1/tasks?status=lost").error["param"] == "status"
    assert stack.get("/v1/tasks?order=desc&limit=2", project="other").json == page
    assert stack.get("/v1/tasks?order=asc").error["param"] == "order"


def test_what_the_provider_refuses_fails_the_task(stack: Stack, sandbox: Sandbox) -> None:
    """The provider's own error is the task's, and nothing is paid."""
    sandbox.fault("moderation")

    task = ended(stack, create(stack).json["id"])

    assert (task["status"], task["error"]["code"]) == ("failed", "moderation_blocked")
    assert (task["cost"], task.get("results")) == ({"usd": "0.00"}, None)
    settled(stack)


def test_a_waiting_task_is_cancelled_and_its_money_given_back(stack: Stack, sandbox: Sandbox) -> None:
    """What has not been sent costs nothing when it is cancelled; what has ended cannot be cancelled any more."""
    sandbox.fault("slow", seconds=4)
    first = create(stack, x_gateway_job_type="narrow").json["id"]
    wait_until(lambda: any("generations" in each["path"] for each in sandbox.requests()), what="the first call")
    second = create(stack, x_gateway_job_type="narrow").json["id"]

    dry = stack.post(f"/v1/tasks/{second}/cancel", headers={"X-Gateway-Dry-Run": "true"})
    assert (dry.status, dry.error["param"]) == (400, "X-Gateway-Dry-Run")
    reply = stack.post(f"/v1/tasks/{second}/cancel")

    assert (reply.status, reply.json["status"]) == (200, "cancelled"), reply.body
    assert reply.json["cost"] == stack.get(f"/v1/tasks/{second}").json["cost"] == {"usd": "0.00"}
    assert stack.post(f"/v1/tasks/{second}/cancel").json["status"] == "cancelled"
    busy = stack.post(f"/v1/tasks/{first}/cancel")
    assert (busy.status, busy.error["code"]) == (409, "not_cancellable")
    assert ended(stack, first)["status"] == "completed"
    assert stack.post(f"/v1/tasks/{first}/cancel").status == 409
    settled(stack)
    assert stack.get(f"/v1/tasks/{second}").json["status"] == "cancelled"
    assert len([each for each in sandbox.requests() if "generations" in each["path"]]) == 1


@pytest.mark.slow
def test_a_task_waits_for_its_projects_quota(stack: Stack, sandbox: Sandbox) -> None:
    """Where a request that is answered at once gets a 429, a task waits; it expires if it waits for too long."""
    first = create(stack, project="rationed").json["id"]
    assert ended(stack, first, project="rationed")["status"] == "completed"
    assert stack.post(GENERATE, BODY, project="rationed").status == 429

    late = create(stack, project="rationed", x_gateway_max_wait="2s")

    assert late.status == 202
    task = ended(stack, late.json["id"], project="rationed", seconds=90)
    assert (task["status"], task["error"]["code"]) == ("failed", "task_expired")
    settled(stack)
    assert len([each for each in sandbox.requests() if "generations" in each["path"]]) == 1


def test_a_dry_run_makes_no_task(stack: Stack) -> None:
    """The decision is answered, whatever asks for a task beside it."""
    reply = create(stack, x_gateway_dry_run="true", project="other")

    assert (reply.status, reply.json["chosen"]) == (200, 0)

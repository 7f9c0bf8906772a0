"""What a client, or its key, asked beside the request is heeded when its task is sent, however long it has waited."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import settled
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until
from tests.e2e.test_tasks import ASYNC, BODY, GENERATE, create, ended

POLICY = """
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
  narrow:
    {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", limits: {concurrent: 1}}
  slim:
    {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", limits: {concurrent: 1}}
routes:
  narrow: {provider: narrow, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  slim: {provider: slim, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  dear: {provider: main, model: gpt-image-1.5}
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  trial: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, lane: testing}
job_types:
  narrow: {routes: [narrow, dear], defaults: {size: 1024x1024, quality: low}}
  slim: {routes: [slim], defaults: {size: 1024x1024, quality: low}}
  draft: {routes: [main], defaults: {size: 1024x1024, quality: low}}
  trial: {routes: [trial, main], defaults: {size: 1024x1024, quality: low}}
  fine: {routes: [main], defaults: {size: 1024x1024, quality: high}}
  pressed:
    routes: [narrow, slim]
    defaults: {size: 1024x1024, quality: high}
    degrade: [{budget_used: 40%, set: {quality: low}}]
projects:
  team:
    job_types: [draft, narrow, slim, trial]
    default_job_type: draft
    lanes: [production, testing]
    budgets: [{window: total, limit: "100"}]
  stern: {job_types: [pressed, fine], budgets: [{window: total, limit: "0.90"}]}
  lenient: {job_types: [pressed, fine], budgets: [{window: total, limit: "0.90"}]}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with a provider that takes one call at a time, and routes beside it."""
    with running_gateway(tmp_path_factory.mktemp("wishes"), POLICY, sandbox) as running:
        yield running


def occupy(stack: Stack, sandbox: Sandbox, job_type: str = "narrow", seconds: float = 4) -> None:
    """Give the provider of a job type something to do for some seconds."""
    before = len(sandbox.requests())
    sandbox.fault("slow", seconds=seconds)
    create(stack, x_gateway_job_type=job_type)
    wait_until(lambda: len(sandbox.requests()) > before, what="the call that occupies it")


def route(stack: Stack, task_id: str, project: str = "team") -> str:
    """The route that served a task."""
    task = ended(stack, task_id, project=project)
    assert task["status"] == "completed", task
    return str(stack.record(task["request_id"], project=project)["route"])


def test_a_task_is_not_sent_where_it_costs_more_than_its_client_wants(stack: Stack, sandbox: Sandbox) -> None:
    """It waits for the route that is cheap enough; one without a maximum takes the dear one meanwhile."""
    dry = create(stack, x_gateway_job_type="narrow", x_gateway_dry_run="true").json["candidates"]
    cheap, dear = (float(each["cost_estimate"]["route"]) for each in dry)
    assert cheap < dear
    occupy(stack, sandbox)

    thrifty = create(stack, x_gateway_job_type="narrow", x_gateway_max_cost=f"{(cheap + dear) / 2:.6f}").json["id"]
    free = create(stack, x_gateway_job_type="narrow").json["id"]

    assert (route(stack, free), route(stack, thrifty)) == ("dear", "narrow")
    settled(stack)


def test_a_task_is_tried_where_its_client_wants_it_tried(stack: Stack) -> None:
    """A route of the testing lane serves whoever asks for that lane, later too."""
    tried = create(stack, x_gateway_job_type="trial", x_gateway_lane="testing").json["id"]
    plain = create(stack, x_gateway_job_type="trial").json["id"]

    assert (route(stack, tried), route(stack, plain)) == ("trial", "main")
    settled(stack)


@pytest.mark.parametrize(
    ("project", "wish", "served"),
    [("stern", {"x_gateway_degrade": "never"}, ("narrow", "high")), ("lenient", {}, ("slim", "low"))],
)
def test_a_task_is_not_degraded_against_its_clients_wish(
    stack: Stack, sandbox: Sandbox, project: str, wish: dict[str, str], served: tuple[str, str]
) -> None:
    """What its budget has gone on while it waited makes it cheaper on another route only where its client lets it."""
    occupy(stack, sandbox, seconds=5)
    occupy(stack, sandbox, "slim", seconds=2.5)
    waiting = create(stack, None, project=project, x_gateway_job_type="pressed", **wish).json
    for _ in range(2):
        spent = stack.post(GENERATE, BODY, project=project, headers={"x-gateway-job-type": "fine"})
        assert spent.status == 200, spent.body

    assert ended(stack, waiting["id"], project=project)["status"] == "completed"
    last = stack.record(waiting["request_id"], project=project)["attempts"][-1]
    assert (last["route"], last["quality"]) == served
    settled(stack)


def test_a_task_is_of_the_job_type_of_its_key(stack: Stack) -> None:
    """Of a key that names one, not of its project."""
    made = stack.command("keys", "create", "--project", "team", "--job-type", "trial")
    key = made.stdout.strip()

    reply = fetch(
        f"{stack.url}/images/generations", body=BODY, headers={**ASYNC, "authorization": f"Bearer {key}"}, method="POST"
    )

    assert reply.status == 202, reply.body
    ended(stack, reply.json["id"])
    assert stack.record(reply.json["request_id"])["job_type"] == "trial"
    settled(stack)

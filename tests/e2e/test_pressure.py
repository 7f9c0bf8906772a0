"""A ladder from end to end: as a budget is used up, what providers are asked for changes, and everybody is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, admin, booked, crowd, nano, settled
from tests.e2e.policies import PROVIDERS, ROUTES
from tests.e2e.stack import Stack, running_gateway

BODY = {"prompt": "a lighthouse", "quality": "high", "size": "1024x1024"}
NEVER = {"x-gateway-degrade": "never"}
LADDER = (
    PROVIDERS % {"timeout": "20s"}
    + ROUTES
    + """
job_types:
  hero:
    routes: [main/gpt-image-2, spare/gpt-image-2]
    degrade:
      - {budget_used: 80%, set: {quality: medium}}
      - {budget_used: 95%, set: {quality: low}}
  plain:
    routes: [main/gpt-image-2]
projects:
  team:
    job_types: [hero, plain]
    default_job_type: hero
    budgets: [{window: total, limit: "3.00"}]
"""
)
STEPS = {"high": (0, 80), "medium": (80, 95), "low": (95, 101)}


@pytest.fixture
def stack(tmp_path: Path, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway whose budget lasts for some twenty good pictures."""
    with running_gateway(tmp_path, LADDER, sandbox) as running:
        yield running


def used(stack: Stack) -> float:
    """Percent of the budget that is spent."""
    (budget,) = admin(stack, "budgets")
    return nano(budget["used_usd"]) * 100 / nano(budget["limit_usd"])


def spend_until(stack: Stack, percent: float) -> None:
    """Use the budget up to there, by pictures that policy leaves as they are."""
    while (before := used(stack)) < percent:
        body = {**BODY, "n": 4 if before + 30 < percent else 1}
        reply = stack.post("/v1/images/generations", body, headers={"x-gateway-job-type": "plain"})
        assert reply.status == 200, reply.json
        settled(stack)


def test_the_picture_becomes_cheaper_as_the_budget_is_used_up(stack: Stack) -> None:
    """At each share the provider is asked for what policy says; header, record, entry and metric say so too."""
    spend_until(stack, 70)
    seen, others = Counter[str](), booked(stack)
    for _ in range(200):
        before = used(stack)
        reply = stack.post("/v1/images/generations", BODY)
        if reply.status == 402:
            break
        assert reply.status == 200, reply.json
        quality = stack.sandbox.requests()[-1]["fields"]["quality"]
        seen[quality] += 1
        low, high = STEPS[quality]
        assert low <= before < high, (quality, before)
        changed = {} if quality == "high" else {"quality": quality}
        assert reply.headers.get("x-gateway-degraded", "") == ",".join(f"quality={word}" for word in changed.values())
        settled(stack)
        record = stack.record(reply.headers["x-request-id"])
        attempt = record["attempts"][0]
        assert attempt["quality"] == quality
        assert attempt.get("degraded", {}) == changed
        assert attempt.get("asked", {}) == dict.fromkeys(changed, "high")
        assert record["request"]["quality"] == "high"
    assert set(seen) == set(STEPS)
    assert (booked(stack) - others).requests == seen.total()
    for quality in ("medium", "low"):
        assert stack.metric("degraded_total", job_type="hero", change=f"quality={quality}") == seen[quality]
    seen["high"] += others.images
    by_quality = {row["quality"]: row["images"] for row in stack.spend("--by", "quality")}
    assert by_quality == seen


def test_whoever_forbids_the_change_gets_402_and_keeps_the_money(stack: Stack) -> None:
    """Below the step the header changes nothing; from there on the answer says what policy would have done."""
    assert stack.post("/v1/images/generations", BODY, headers=NEVER).status == 200
    spend_until(stack, 80)
    calls, spent = len(stack.sandbox.requests()), used(stack)
    reply = stack.post("/v1/images/generations", BODY, headers=NEVER)
    assert (reply.status, reply.error["code"]) == (402, "project_spend_limit_exceeded")
    assert (
        "from 80 % on policy changes quality to medium, which X-Gateway-Degrade: never forbids"
        in (reply.error["message"])
    )
    assert reply.headers["x-should-retry"] == "false"
    assert (len(stack.sandbox.requests()), used(stack)) == (calls, spent)
    assert stack.metric("degraded_total") == 0
    assert stack.post("/v1/images/generations", BODY).headers["x-gateway-degraded"] == "quality=medium"


def test_a_fallback_stays_on_the_rung_and_is_counted_once(stack: Stack) -> None:
    """A degraded request that fails over asks the next route for the same cheaper picture, and no route for another."""
    spend_until(stack, 80)
    stack.sandbox.reset()
    stack.sandbox.fault("status", status=503)
    reply = stack.post("/v1/images/generations", BODY)
    assert (reply.status, reply.headers["x-gateway-attempts"]) == (200, "2"), reply.json
    assert reply.headers["x-gateway-route"] == "spare/gpt-image-2"
    assert [arrived["fields"]["quality"] for arrived in stack.sandbox.requests()] == ["medium", "medium"]
    assert stack.metric("degraded_total", change="quality=medium") == 1


async def test_many_at_once_never_cross_the_budget_and_go_down_the_ladder(stack: Stack) -> None:
    """Two hundred on a budget for some twenty: good ones first, then cheaper, each counted; the rest gets 402."""
    replies = await crowd([Ask(BODY)] * 200, [stack], at_once=100)
    settled(stack)
    assert {reply.status for reply in replies} == {200, 402}
    served = Counter(
        reply.headers.get("x-gateway-degraded", "quality=high").removeprefix("quality=")
        for reply in replies
        if reply.status == 200
    )
    asked = Counter(arrived["fields"]["quality"] for arrived in stack.sandbox.requests())
    assert asked == served
    assert set(served) == set(STEPS)
    assert used(stack) <= 100
    for quality in ("medium", "low"):
        assert stack.metric("degraded_total", change=f"quality={quality}") == served[quality]

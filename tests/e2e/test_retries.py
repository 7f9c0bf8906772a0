"""Calls beyond the first: what is called again, where and when, how often in all, and at what cost."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, Totals, billed, booked, crowd, nano, nothing_held, settled
from tests.e2e.stack import Reply, Stack, running_gateway, wait_until

ACCOUNT = 'kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"'
NEXT = "on_unknown: next_route"
POLICY = f"""
providers:
  main: {{{ACCOUNT}}}
  spare: {{{ACCOUNT}}}
  stormy: {{{ACCOUNT}}}
  wet: {{{ACCOUNT}}}
  windy: {{{ACCOUNT}}}
  dry: {{{ACCOUNT}}}
  closed: {{kind: openai, base_url: "http://127.0.0.1:9/v1", api_key: "${{SANDBOX_KEY}}"}}
  linked: {{preset: evolink, base_url: "${{SANDBOX_URL}}/evolink/v1", api_key: "${{SANDBOX_KEY}}"}}
  named: {{preset: evolink, base_url: "${{SANDBOX_URL}}/evolink/v1", api_key: "${{SANDBOX_KEY}}"}}
routes:
  main: {{provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}}
  spare: {{provider: spare, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare}}
  stormy: {{provider: stormy, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}}
  wet: {{provider: wet, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}}
  windy: {{provider: windy, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}}
  dry: {{provider: dry, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare}}
  closed: {{provider: closed, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}}
  linked: {{provider: linked, offer: evolink/gpt-image-2}}
  named: {{provider: named, offer: evolink/gpt-image-2}}
job_types:
  alone: {{routes: [main]}}
  once: {{routes: [main], retry: {{attempts: 1}}}}
  thrice: {{routes: [main, spare], retry: {{attempts: 3}}}}
  next: {{routes: [main, spare], retry: {{attempts: 5, {NEXT}}}}}
  next_alone: {{routes: [main], retry: {{attempts: 5, {NEXT}}}}}
  stormy: {{routes: [stormy], retry: {{attempts: 4}}}}
  both: {{routes: [wet, windy], retry: {{attempts: 4}}}}
  refused_first: {{routes: [wet, dry]}}
  closed_first: {{routes: [closed, dry]}}
  links_first: {{routes: [linked, named, dry]}}
  links_alone: {{routes: [linked, named]}}
projects:
  team:
    job_types:
      [alone, once, thrice, next, next_alone, stormy, both, refused_first, closed_first, links_first, links_alone]
    budgets: [{{window: total, limit: "5000"}}]
  poor:
    job_types: [next]
    budgets: [{{window: total, limit: "0.012"}}]
  careful:
    job_types: [next]
    budgets: [{{window: total, limit: "5000"}}]
    quotas: [{{concurrent: 1}}]
"""
PATH = "/v1/images/generations"
BODY: dict[str, Any] = {"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}
MAIN = {"model": "gpt-image-2-2026-04-21"}
"""What a fault matches that shall strike at every provider but `spare` and `dry`."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with a provider for each storm, since each has a budget of its own."""
    with running_gateway(tmp_path_factory.mktemp("retries"), POLICY, sandbox) as running:
        yield running


@pytest.fixture(autouse=True)
def _forgetful(stack: Stack) -> None:
    """What one test did to a provider is not held against it in the next."""
    stack.forget()


class Story:
    """One request, told when nothing is held any more: its answer, calls, how each hold ended, and what was booked."""

    def __init__(self, stack: Stack, job_type: str, *, project: str = "team", body: object = BODY, **more: str) -> None:
        before = booked(stack)
        headers = {"x-gateway-job-type": job_type, **{name.replace("_", "-"): value for name, value in more.items()}}
        self.reply: Reply = stack.post(PATH, body, headers=headers, project=project)
        settled(stack)
        self.record = stack.record(self.reply.headers["x-request-id"], project=project)
        self.states = [attempt["state"] for attempt in self.record["attempts"]]
        self.routes = [attempt["route"] for attempt in self.record["attempts"]]
        self.calls = stack.sandbox.requests()
        self.cost: Totals = booked(stack) - before
        assert self.cost.route >= billed(stack.sandbox)


AGAIN: list[tuple[str, dict[str, Any]]] = [
    ("status", {"status": 500}),
    ("status", {"status": 502}),
    ("status", {"status": 503, "bare": True}),
    ("status", {"status": 529, "bare": True}),
    ("rate_limit", {"retry_after": 0.2}),
    ("rate_limit", {"retry_after": None}),
]


@pytest.mark.parametrize(("fault", "parameters"), AGAIN, ids=str)
def test_what_passes_by_itself_is_called_again(stack: Stack, fault: str, parameters: dict[str, Any]) -> None:
    """The only route is called twice: the first hold is given back, the second settled at the bill."""
    stack.sandbox.fault(fault, **parameters)
    fallbacks = stack.metric("fallbacks_total")
    story = Story(stack, "alone")
    assert (story.reply.status, len(story.calls), story.states) == (200, 2, ["void", "settled"])
    assert story.reply.headers["x-gateway-attempts"] == "2"
    assert story.cost.route == billed(stack.sandbox) == nano(story.reply.headers["x-gateway-cost"])
    assert stack.metric("fallbacks_total") == fallbacks


@pytest.mark.parametrize(("fault", "parameters"), AGAIN, ids=str)
def test_a_client_that_repeats_by_itself_gets_one_call_for_each_request(
    stack: Stack, fault: str, parameters: dict[str, Any]
) -> None:
    """Where an SDK counts its repeats they are its own, from the first request on."""
    stack.sandbox.fault(fault, **parameters)
    story = Story(stack, "alone", x_stainless_retry_count="0")
    assert (story.reply.status, len(story.calls)) == (429 if fault == "rate_limit" else 502, 1)
    assert story.reply.headers.get("x-should-retry") != "false"


@pytest.mark.parametrize(
    ("fault", "parameters", "status", "states"),
    [
        ("status", {"status": 401}, 502, ["void"]),
        ("status", {"status": 402}, 502, ["void"]),
        ("status", {"status": 403}, 502, ["void"]),
        ("status", {"status": 404}, 502, ["void"]),
        ("status", {"status": 429, "code": "insufficient_quota"}, 502, ["void"]),
        ("status", {"status": 302, "headers": {"location": "/"}}, 502, ["void"]),
        ("status", {"status": 400}, 400, ["void"]),
        ("status", {"status": 409}, 409, ["void"]),
        ("moderation", {}, 400, ["void"]),
        ("moderation", {"stage": "output"}, 400, ["presumed"]),
        ("rate_limit", {"retry_after": 30}, 429, ["void"]),
        ("reset", {}, 502, ["presumed"]),
        ("garbage", {}, 502, ["presumed"]),
        ("html", {}, 502, ["presumed"]),
        ("half_body", {}, 502, ["presumed"]),
        ("status", {"status": 502, "bare": True}, 502, ["presumed"]),
        ("status", {"status": 504}, 504, ["presumed"]),
    ],
    ids=str,
)
def test_everything_else_is_called_once(
    stack: Stack, fault: str, parameters: dict[str, Any], status: int, states: list[str]
) -> None:
    """A refused account, the caller's own fault, too long a wait, and above all what may have been billed."""
    stack.sandbox.fault(fault, times=None, **parameters)
    story = Story(stack, "alone")
    assert (story.reply.status, len(story.calls), story.states) == (status, 1, states)


@pytest.mark.parametrize(("wait", "told"), [("40", range(40, 45)), ("1000", range(60, 61)), (None, None)])
def test_a_client_is_told_how_long_the_provider_asked_to_wait(
    stack: Stack, wait: str | None, told: range | None
) -> None:
    """Too long to be waited for here, and no rate limit; a client without a hint keeps its own pace."""
    headers = {} if wait is None else {"retry-after": wait}
    stack.sandbox.fault("status", status=503, headers=headers, times=None)
    reply = Story(stack, "alone").reply
    said = reply.headers.get("retry-after")
    assert (reply.status, "x-should-retry" in reply.headers) == (502, False)
    assert said is None if told is None else int(said or "") in told


@pytest.mark.parametrize(("job_type", "calls"), [("once", 1), ("alone", 2), ("thrice", 3)])
def test_policy_bounds_the_calls_of_a_request(stack: Stack, job_type: str, calls: int) -> None:
    """Routes not tried come first, then the first in order again; all holds are void and nothing is booked."""
    stack.sandbox.fault("status", status=503, times=None)
    story = Story(stack, job_type)
    assert (story.reply.status, len(story.calls), story.cost.route) == (502, calls, 0)
    assert story.states == ["void"] * calls
    if job_type == "thrice":
        assert story.routes == ["main", "spare", "main"]


def test_the_providers_wait_is_kept_with_nothing_held(stack: Stack) -> None:
    """The second call comes no sooner than the provider said, and no hold is open in between."""
    stack.key()
    stack.sandbox.fault("rate_limit", retry_after=3)
    with ThreadPoolExecutor(1) as aside:
        asking = aside.submit(Story, stack, "alone")
        wait_until(stack.sandbox.requests, what="the first call")
        wait_until(lambda: nothing_held(stack), what="the hold given back")
        assert len(stack.sandbox.requests()) == 1
        assert stack.metric("in_flight") == 1
        story = asking.result(60)
    assert (story.reply.status, story.states) == (200, ["void", "settled"])
    first, second = story.calls
    assert second["at"] - first["at"] >= 3


def test_a_second_hold_pays_for_the_next_route(stack: Stack) -> None:
    """After an answer that was lost, where policy goes on: the image comes, and both calls are paid for and told."""
    lost: list[tuple[str, dict[str, Any]]]
    lost = [("reset", {}), ("status", {"status": 504}), ("half_body", {}), ("garbage", {})]
    for fault, parameters in lost:
        stack.sandbox.reset()
        stack.sandbox.fault(fault, match=MAIN, **parameters)
        story = Story(stack, "next")
        assert (story.reply.status, story.states) == (200, ["presumed", "settled"])
        assert story.routes == ["main", "spare"]
        assert story.reply.headers["x-gateway-route"] == "spare"
        assert story.reply.headers["x-gateway-attempts"] == "2"
        assert story.reply.json["data"]
        own = sum(line["nano_usd"] for line in stack.sandbox.bill()["lines"] if "flare" in line["model"])
        assert story.cost.unconfirmed > 0
        assert story.cost.route == story.cost.unconfirmed + own == nano(story.reply.headers["x-gateway-cost"])


def test_without_budget_for_a_second_hold_it_ends_at_the_first(stack: Stack) -> None:
    """The budget has room for one worst case: one call, and the error of an outcome that nobody knows."""
    stack.sandbox.fault("status", status=504)
    story = Story(stack, "next", project="poor")
    assert (story.reply.status, story.reply.error["code"]) == (504, "upstream_timeout")
    assert (len(story.calls), story.states) == (1, ["presumed"])
    assert story.reply.headers["x-should-retry"] == "false"
    assert story.reply.headers["x-gateway-attempts"] == "1"
    assert story.cost.route == story.cost.unconfirmed == nano(story.reply.headers["x-gateway-cost"]) > 0


def test_the_first_hold_has_ended_before_the_second(stack: Stack) -> None:
    """One request counts once among those in flight, however many routes it goes to."""
    stack.sandbox.fault("reset", match=MAIN)
    story = Story(stack, "next", project="careful")
    assert (story.reply.status, story.states) == (200, ["presumed", "settled"])


def test_without_another_route_it_ends_at_the_first(stack: Stack) -> None:
    """The route that may have billed is not called again, whatever number of calls policy allows."""
    stack.sandbox.fault("reset", times=None)
    story = Story(stack, "next_alone")
    assert (story.reply.status, len(story.calls), story.states) == (502, 1, ["presumed"])


@pytest.mark.parametrize(
    ("fault", "parameters", "states"),
    [
        ("status", {"status": 503}, ["presumed", "void"]),
        ("status", {"status": 401}, ["presumed", "void"]),
        ("rate_limit", {"retry_after": 1}, ["presumed", "void"]),
        ("reset", {}, ["presumed", "presumed"]),
        ("garbage", {}, ["presumed", "presumed"]),
    ],
    ids=str,
)
def test_once_anything_may_have_been_billed_no_failure_invites_a_repeat(
    stack: Stack, fault: str, parameters: dict[str, Any], states: list[str]
) -> None:
    """Whatever the second route answers, the error says what was booked in all, and SDKs leave it at that."""
    stack.sandbox.fault("status", status=504, match=MAIN)
    stack.sandbox.fault(fault, times=None, **parameters)
    story = Story(stack, "next")
    assert (len(story.calls), story.states, story.routes) == (2, states, ["main", "spare"])
    assert story.reply.status in (502, 504)
    assert story.reply.headers["x-should-retry"] == "false"
    assert "retry-after" not in story.reply.headers
    assert story.reply.headers["x-gateway-attempts"] == "2"
    assert story.cost.route == story.cost.unconfirmed == nano(story.reply.headers["x-gateway-cost"]) > 0
    assert "main" in story.reply.error["message"]


def test_a_refusal_after_a_lost_answer_tells_of_its_cost(stack: Stack) -> None:
    """The second provider's own 400 comes as it was, with what the first may have billed, and is not to be repeated."""
    stack.sandbox.fault("status", status=504, match=MAIN)
    stack.sandbox.fault("status", status=400, code="bad_size", message="no such size")
    story = Story(stack, "next")
    assert (story.reply.status, story.reply.error["code"]) == (400, "bad_size")
    assert story.states == ["presumed", "void"]
    assert story.reply.headers["x-should-retry"] == "false"
    assert nano(story.reply.headers["x-gateway-cost"]) == story.cost.route > 0


def test_what_the_client_has_seen_is_not_followed_by_another_answer(stack: Stack) -> None:
    """A stream that broke off after its first events ends there, although policy goes on."""
    stack.sandbox.fault("truncated_stream", match=MAIN)
    story = Story(stack, "next", body={**BODY, "stream": True, "partial_images": 2})
    assert (len(story.calls), story.states) == (1, ["presumed"])
    assert b"partial_image" in story.reply.body


@pytest.mark.parametrize("stage", ["input", "output"])
def test_a_refusal_is_never_taken_to_another_route(stack: Stack, stage: str) -> None:
    """Moderation is the caller's own fault, even where it may have been billed and policy goes on."""
    stack.sandbox.fault("moderation", stage=stage)
    story = Story(stack, "next")
    assert (story.reply.status, len(story.calls)) == (400, 1)


def an_upload(job_type: str, **headers: str) -> dict[str, Any]:
    """An edit of a file that is sent along, which routes cannot take that want links the gateway cannot make."""
    image = io.BytesIO()
    Image.new("RGB", (64, 64), "navy").save(image, "PNG")
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na boat\r\n',
        b'--x\r\nContent-Disposition: form-data; name="quality"\r\n\r\nlow\r\n',
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n',
        image.getvalue(),
        b"\r\n--x--\r\n",
    ]
    kind = {"content-type": "multipart/form-data; boundary=x", "x-gateway-job-type": job_type}
    return {"data": b"".join(parts), "headers": {**kind, **headers}}


def test_routes_that_an_upload_cannot_be_sent_to_use_up_no_call(stack: Stack) -> None:
    """Two want links that this gateway cannot make: the third is called, and it is the first call."""
    reply = stack.post("/v1/images/edits", **an_upload("links_first"))
    settled(stack)
    told = reply.status, reply.headers["x-gateway-route"], reply.headers["x-gateway-attempts"]
    assert told == (200, "dry", "1")
    assert len(stack.sandbox.requests()) == 1
    record = stack.record(reply.headers["x-request-id"])
    assert [each["state"] for each in record["attempts"]] == ["void", "void", "settled"]


def test_a_task_goes_on_to_the_route_that_can_take_its_upload(stack: Stack) -> None:
    """It comes to its end there, with nothing held besides."""
    reply = stack.post("/v1/images/edits", **an_upload("links_first", prefer="respond-async"))
    path = f"/v1/tasks/{reply.json['id']}"
    task = wait_until(
        lambda: found if (found := stack.get(path).json)["status"] in ("completed", "failed") else None, 60, "its end"
    )
    settled(stack)
    assert (task["status"], len(stack.sandbox.requests())) == ("completed", 1)


def test_where_no_route_can_take_an_upload_no_call_is_told_of(stack: Stack) -> None:
    """Both are named, nothing has left, and an SDK does not repeat it."""
    before = booked(stack)
    reply = stack.post("/v1/images/edits", **an_upload("links_alone"))
    settled(stack)
    assert (reply.status, reply.error["code"]) == (400, "unsupported_by_every_route")
    assert reply.headers["x-gateway-attempts"] == "0"
    assert "linked" in reply.error["message"]
    assert "named" in reply.error["message"]
    assert stack.sandbox.requests() == []
    assert (booked(stack) - before).route == 0


REQUESTS = 500
BURST = 20
"""Tokens of a full bucket; a few more come by the second."""


async def storm(stack: Stack, job_type: str, *, requests: int = REQUESTS, at_once: int = 25) -> list[Reply]:
    """Many requests of one job type."""
    stack.key()
    body = {**BODY, "model": f"job:{job_type}"}
    replies = await crowd([Ask(body)] * requests, [stack], at_once=at_once)
    await asyncio.to_thread(settled, stack)
    return replies


async def test_a_storm_is_not_made_worse(stack: Stack) -> None:
    """Each of 500 requests fails and might be repeated three times; the provider sees a burst more and not a fifth."""
    stack.sandbox.fault("status", status=503, times=None)
    before = booked(stack)
    replies = await storm(stack, "stormy")
    assert {reply.status for reply in replies} == {502}
    calls = len(stack.sandbox.requests())
    assert REQUESTS + BURST <= calls <= REQUESTS * 1.2
    assert (booked(stack) - before).route == 0


async def test_a_storm_over_every_route_is_not_made_worse(stack: Stack) -> None:
    """With two providers down it is bounded too: a burst at each of them, and what was under way when they fell."""
    stack.sandbox.fault("status", status=503, times=None)
    replies = await storm(stack, "both")
    assert {reply.status for reply in replies} == {502}
    assert REQUESTS < len(stack.sandbox.requests()) <= REQUESTS * 1.2 + BURST


@pytest.mark.parametrize("job_type", ["refused_first", "closed_first"])
async def test_a_dead_provider_costs_no_request(stack: Stack, job_type: str) -> None:
    """However many come at once, all are served by the healthy one, and each is paid for once."""
    before = booked(stack)
    stack.sandbox.fault("status", status=503, times=None, match=MAIN)
    replies = await storm(stack, job_type, requests=150, at_once=150)
    assert {(reply.status, reply.headers["x-gateway-route"]) for reply in replies} == {(200, "dry")}
    cost = booked(stack) - before
    assert (cost.requests, cost.images, cost.unconfirmed) == (150, 150, 0)
    assert cost.route == billed(stack.sandbox)

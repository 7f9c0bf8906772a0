"""Every way in which a provider or a client can fail: what the client sees, what was sent, and what it cost."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import NANO, Totals, billed, booked, nano, settled, upstream_id
from tests.e2e.policies import PROVIDERS, ROUTES
from tests.e2e.stack import Reply, Stack, running_gateway, wait_until

POLICY = (
    PROVIDERS % {"timeout": "4s"}
    + ROUTES
    + """
job_types:
  fallback: {routes: [main/gpt-image-2, spare/gpt-image-2]}
  alone: {routes: [main/gpt-image-2]}
  unreachable_first: {routes: [closed/gpt-image-2, spare/gpt-image-2]}
  unreachable: {routes: [closed/gpt-image-2]}
projects:
  team:
    job_types: [fallback, alone, unreachable_first, unreachable]
    default_job_type: fallback
    budgets: [{window: total, limit: "5000"}]
"""
)
PATH = "/v1/images/generations"
BODY: dict[str, Any] = {"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}
LARGE = {**BODY, "n": 6, "size": "2048x2048", "quality": "high"}
"""Its answer is larger than what is kept back until it is settled."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that waits four seconds for an answer, with a route to fall back to."""
    with running_gateway(tmp_path_factory.mktemp("faults"), POLICY, sandbox) as running:
        yield running


@pytest.fixture(autouse=True)
def _forgetful(stack: Stack) -> None:
    """What one test did to a provider is not held against it in the next."""
    stack.forget()


@dataclass
class Story:
    """What came of one request."""

    reply: Reply
    record: Any
    posts: int
    cost: Totals
    bill: int

    @property
    def states(self) -> list[str]:
        """How each hold ended."""
        return [attempt["state"] for attempt in self.record["attempts"]]


def tell(stack: Stack, body: Mapping[str, Any] = BODY, job_type: str = "fallback") -> Story:
    """Send a request, wait until every hold has ended, and gather what there is to know."""
    before = booked(stack)
    reply = stack.post(PATH, body, headers={"x-gateway-job-type": job_type})
    return follow(stack, reply, before)


def follow(stack: Stack, reply: Reply, before: Totals) -> Story:
    """Gather what came of a request that was answered; whatever it was, the ledger covers the bill."""
    settled(stack)
    story = Story(
        reply,
        stack.record(reply.headers["x-request-id"]),
        len(stack.sandbox.requests()),
        booked(stack) - before,
        billed(stack.sandbox),
    )
    assert story.cost.route >= story.bill
    assert all(attempt["ended_at"] for attempt in story.record["attempts"])
    return story


UNKNOWN: list[tuple[str, dict[str, Any], int, str]] = [
    ("reset", {}, 502, "upstream_error"),
    ("reset", {"billed": False}, 502, "upstream_error"),
    ("connection_closed", {}, 502, "upstream_error"),
    ("connection_closed", {"rst": True}, 502, "upstream_error"),
    ("lost_response", {}, 502, "upstream_error"),
    ("half_body", {}, 502, "upstream_error"),
    ("half_body", {"percent": 99, "rst": True}, 502, "upstream_error"),
    ("half_body", {"percent": 0}, 502, "upstream_error"),
    ("garbage", {}, 502, "upstream_error"),
    ("garbage", {"body": "", "billed": False}, 502, "upstream_error"),
    ("garbage", {"body": "[]"}, 502, "upstream_error"),
    ("garbage", {"body": "null"}, 502, "upstream_error"),
    ("garbage", {"body": '{"created": 1, "data": []}'}, 502, "upstream_error"),
    ("html", {}, 502, "upstream_error"),
    ("html", {"billed": True}, 502, "upstream_error"),
    ("status", {"status": 502, "bare": True}, 502, "upstream_error"),
    ("status", {"status": 504}, 504, "upstream_timeout"),
    ("status", {"status": 504, "bare": True}, 504, "upstream_timeout"),
    ("status", {"status": 520}, 502, "upstream_error"),
    ("status", {"status": 524}, 504, "upstream_timeout"),
]


@pytest.mark.parametrize(("fault", "parameters", "status", "code"), UNKNOWN, ids=str)
def test_an_unknown_outcome_is_booked_at_its_worst_case_and_never_repeated(
    stack: Stack, fault: str, parameters: dict[str, Any], status: int, code: str
) -> None:
    """One POST, no fallback, an error that SDKs do not retry; the hold ends presumed spent at its worst case."""
    unconfirmed = stack.metric("unconfirmed_total")
    stack.sandbox.fault(fault, **parameters)
    story = tell(stack)
    assert (story.posts, story.states) == (1, ["presumed"])
    assert story.reply.status == status
    if status != 200:
        assert story.reply.error["code"] == code
        assert story.reply.error["type"] == "server_error"
        assert story.reply.headers["x-should-retry"] == "false"
    worst = nano(story.record["cost_estimate"]["route"])
    assert story.cost.route == story.cost.unconfirmed == worst == nano(story.record["cost"]["route"]) > 0
    assert story.record["unconfirmed"] is True
    assert story.record["cost_source"] == "presumed"
    assert story.record["attempts"][0]["reason"] in ("reset", "garbage", "timeout", "status_5xx")
    assert stack.metric("unconfirmed_total") == unconfirmed + 1


def test_a_provider_that_hangs_gets_one_request_and_its_hold_stays_unconfirmed(stack: Stack) -> None:
    """Past its timeout: one POST although the SDK may retry, 504, presumed spent, counted and reported so."""
    unconfirmed, before = stack.metric("unconfirmed_total"), booked(stack)
    stack.sandbox.fault("timeout", times=None)
    client = openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=3)
    with client, pytest.raises(openai.InternalServerError) as caught:
        client.images.generate(model="gpt-image-2", **BODY)
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")
    headers = {name.lower(): value for name, value in caught.value.response.headers.items()}
    assert headers["x-should-retry"] == "false"
    story = follow(stack, Reply(504, headers, caught.value.response.content), before)
    assert (story.posts, story.states) == (1, ["presumed"])
    assert story.cost.route == story.cost.unconfirmed == nano(story.record["cost_estimate"]["route"])
    assert stack.metric("unconfirmed_total") == unconfirmed + 1
    assert stack.metric("upstream_errors_total", reason="timeout") >= 1


DECLINED: list[tuple[str, dict[str, Any]]] = [
    ("status", {"status": 401, "code": "invalid_api_key"}),
    ("status", {"status": 403}),
    ("status", {"status": 404, "code": "model_not_found"}),
    ("status", {"status": 429, "code": "insufficient_quota"}),
    ("status", {"status": 500}),
    ("status", {"status": 500, "bare": True}),
    ("status", {"status": 502}),
    ("status", {"status": 503}),
    ("status", {"status": 503, "bare": True}),
    ("status", {"status": 529, "bare": True}),
    ("status", {"status": 302, "bare": True, "headers": {"location": "http://127.0.0.1:9/"}}),
    ("rate_limit", {"retry_after": 1}),
    ("rate_limit", {"retry_after": None}),
]


@pytest.mark.parametrize(("fault", "parameters"), DECLINED, ids=str)
def test_a_declined_request_goes_to_the_next_route(stack: Stack, fault: str, parameters: dict[str, Any]) -> None:
    """Nothing was billed: the hold is given back, the next route serves, the ledger equals the bill."""
    fallbacks = stack.metric("fallbacks_total")
    stack.sandbox.fault(fault, **parameters)
    story = tell(stack)
    assert (story.reply.status, story.posts, story.states) == (200, 2, ["void", "settled"])
    assert story.reply.headers["x-gateway-route"] == "spare/gpt-image-2"
    assert story.reply.headers["x-gateway-attempts"] == "2"
    assert story.cost.route == story.bill > 0
    assert story.cost.unconfirmed == 0
    assert stack.metric("fallbacks_total") == fallbacks + 1


@pytest.mark.parametrize(("fault", "parameters"), DECLINED, ids=str)
def test_routes_that_all_decline_cost_nothing(stack: Stack, fault: str, parameters: dict[str, Any]) -> None:
    """Every hold is void, the error says whether to try again, and no credential of the provider shows."""
    stack.sandbox.fault(fault, times=None, **parameters)
    story = tell(stack)
    assert (story.posts, story.states) == (2, ["void", "void"])
    assert story.cost.route == story.bill == 0
    limited = fault == "rate_limit"
    assert stack.metric("denied_total") == 0  # neither policy nor a budget nor a quota refused it
    assert story.reply.status == (429 if limited else 502)
    assert story.reply.error["code"] == ("rate_limit_exceeded" if limited else "upstream_error")
    if limited:
        assert 1 <= int(story.reply.headers["retry-after"]) <= 60
        assert story.reply.headers["x-should-retry"] == "true"
    lasting = parameters.get("status") in (401, 403, 404) or parameters.get("code") == "insufficient_quota"
    if lasting:
        assert story.reply.headers["x-should-retry"] == "false"
    assert stack.sandbox.api_key.encode() not in story.reply.body


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
@pytest.mark.parametrize("bare", [False, True], ids=["json", "bare"])
def test_the_callers_own_fault_is_passed_on_as_it_came(stack: Stack, status: int, *, bare: bool) -> None:
    """The provider's refusal reaches the client, no other route is tried, and nothing is booked."""
    stack.sandbox.fault("status", status=status, message="no such size", type="image_error", code="bad_size", bare=bare)
    story = tell(stack)
    assert (story.reply.status, story.posts, story.states) == (status, 1, ["void"])
    if not bare:
        assert (story.reply.error["code"], story.reply.error["message"]) == ("bad_size", "no such size")
    assert story.reply.error["message"]
    assert story.cost.route == story.bill == 0
    assert nano(story.reply.headers["x-gateway-cost"]) == 0


@pytest.mark.parametrize("billed", [False, True], ids=["unbilled", "billed"])
def test_an_image_that_was_made_and_withheld_is_presumed_spent(stack: Stack, *, billed: bool) -> None:
    """Moderation of the output comes after the work; nobody says whether that is billed. Passed on, not repeated."""
    stack.sandbox.fault("moderation", stage="output", billed=billed)
    story = tell(stack)
    assert (story.reply.status, story.posts, story.states) == (400, 1, ["presumed"])
    assert story.reply.error["moderation_details"]["moderation_stage"] == "output"
    assert story.cost.route == story.cost.unconfirmed == nano(story.reply.headers["x-gateway-cost"]) > story.bill


def test_moderation_is_passed_on_with_its_details(stack: Stack) -> None:
    """The client sees which categories were blocked; no fallback, no cost."""
    stack.sandbox.fault("moderation", categories=["violence", "self-harm"])
    story = tell(stack)
    assert (story.reply.status, story.posts, story.states) == (400, 1, ["void"])
    assert story.reply.error["code"] == "moderation_blocked"
    details = story.reply.error["moderation_details"]
    assert details["categories"] == ["violence", "self-harm"]
    assert story.cost.route == story.bill == 0


def test_a_refused_connection_goes_to_the_next_route(stack: Stack) -> None:
    """Nothing listens at the first route: the second serves; if there is none it is tried again, and nothing booked."""
    story = tell(stack, job_type="unreachable_first")
    assert (story.reply.status, story.posts, story.states) == (200, 1, ["void", "settled"])
    assert story.cost.route == story.bill > 0
    stack.sandbox.reset()
    story = tell(stack, job_type="unreachable")
    assert (story.reply.status, story.posts, story.states) == (502, 0, ["void", "void"])
    assert story.cost.route == 0
    assert story.reply.headers.get("x-should-retry") != "false"


def test_a_rate_limit_without_another_route_says_when_to_come_again(stack: Stack) -> None:
    """429 with the provider's own wait where it is too long to wait here, and an SDK that retries is served."""
    stack.sandbox.fault("rate_limit", retry_after=20)
    story = tell(stack, job_type="alone")
    assert (story.reply.status, story.states) == (429, ["void"])
    assert 20 <= int(story.reply.headers["retry-after"]) <= 22  # a tenth is added by chance
    stack.sandbox.fault("rate_limit", retry_after=1)
    client = openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=2)
    with client:
        made = client.images.generate(extra_headers={"x-gateway-job-type": "alone"}, model="gpt-image-2", **BODY)
    assert made.data
    assert len(stack.sandbox.requests()) == 3


USAGES: list[tuple[str, dict[str, Any]]] = [
    ("no_usage", {}),
    ("zero_usage", {}),
    ("garbage_usage", {}),
    ("garbage_usage", {"usage": None}),
    ("garbage_usage", {"usage": []}),
    ("garbage_usage", {"usage": "many"}),
    ("garbage_usage", {"usage": {"input_tokens": 1e400, "output_tokens": 5}}),
    ("garbage_usage", {"usage": {"input_tokens": 5, "output_tokens": True}}),
    ("garbage_usage", {"usage": {"input_tokens": 9, "output_tokens": 10**8, "total_tokens": 10**8 + 9}}),
    ("garbage_usage", {"usage": {"input_tokens": 2**70, "output_tokens": 2**70}}),
    ("garbage_usage", {"usage": {"input_tokens": 3, "output_tokens": 0, "total_tokens": 3}}),
]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(("fault", "parameters"), USAGES, ids=str)
def test_unusable_usage_settles_at_the_estimate(
    stack: Stack, fault: str, parameters: dict[str, Any], *, stream: bool
) -> None:
    """The client gets its image; the cost is the estimate, marked so, and never nothing."""
    stack.sandbox.fault(fault, **parameters)
    story = tell(stack, {**BODY, "stream": True} if stream else BODY)
    assert (story.reply.status, story.posts, story.states) == (200, 1, ["settled"])
    assert story.record["cost_source"] == "estimate"
    assert story.cost.route == nano(story.record["cost_estimate"]["route"]) > 0
    assert story.cost.unconfirmed == 0
    assert story.cost.images == 1
    assert story.record["attempts"][0]["answer"]["usage_problem"]


def test_fewer_images_than_billed_settle_at_the_usage(stack: Stack) -> None:
    """An answer with one image too few costs what its usage says, and counts the images that came."""
    stack.sandbox.fault("wrong_count")
    story = tell(stack, {**BODY, "n": 3})
    assert (story.reply.status, story.states) == (200, ["settled"])
    assert story.cost.images == 2
    assert story.cost.route == story.bill


@pytest.mark.parametrize("rst", [False, True], ids=["fin", "rst"])
def test_half_a_large_answer_never_looks_whole(stack: Stack, *, rst: bool) -> None:
    """Once the status line is out, an answer that breaks off breaks the client's connection off; presumed spent."""
    before = booked(stack)
    stack.sandbox.fault("half_body", percent=80, rst=rst)
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=30)
    connection.request("POST", PATH, json.dumps(LARGE), _headers(stack))
    answer = connection.getresponse()
    assert answer.status == 200
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    connection.close()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    story = follow(stack, Reply(200, headers, b""), before)
    assert (story.posts, story.states) == (1, ["presumed"])
    assert story.cost.route == story.cost.unconfirmed == nano(story.record["cost_estimate"]["route"])


def _headers(stack: Stack) -> dict[str, str]:
    return {"authorization": f"Bearer {stack.key()}", "content-type": "application/json"}


def _last_event(body: bytes) -> Any:
    """The last event of a stream; the one before it may be broken off."""
    lines = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: ")]
    return json.loads(lines[-1])


@pytest.mark.parametrize(
    ("fault", "parameters", "n"),
    [
        ("truncated_stream", {}, 1),
        ("truncated_stream", {"billed": False}, 1),
        ("error_in_stream", {"code": "server_busy", "message": "too hot"}, 1),
        ("reset", {}, 1),
    ],
    ids=str,
)
def test_a_stream_that_fails_ends_in_an_error_event(
    stack: Stack, fault: str, parameters: dict[str, Any], n: int
) -> None:
    """The client learns it from the stream itself; the worst case is booked, whatever had arrived before."""
    stack.sandbox.fault(fault, **parameters)
    story = tell(stack, {**BODY, "n": n, "stream": True, "partial_images": 2})
    assert (story.posts, story.states) == (1, ["presumed"])
    assert story.cost.route == story.cost.unconfirmed == nano(story.record["cost_estimate"]["route"])
    if fault == "reset":
        assert (story.reply.status, story.reply.error["code"]) == (502, "upstream_error")
        return
    assert story.reply.status == 200
    error = _last_event(story.reply.body)["error"]
    if fault == "error_in_stream":
        assert (error["code"], error["message"]) == ("server_busy", "too hot")
    else:
        assert (error["type"], error["code"]) == ("server_error", "upstream_error")


@pytest.mark.parametrize(
    ("parameters", "n"), [({"percent": 50}, 1), ({"percent": 60, "rst": True}, 4), ({"percent": 90}, 4)], ids=str
)
def test_a_stream_torn_inside_an_event_breaks_the_connection(stack: Stack, parameters: dict[str, Any], n: int) -> None:
    """An error after half an event would read as part of it; the SDK sees a broken connection, and calls once."""
    stack.sandbox.fault("half_body", **parameters)
    before = booked(stack)
    client = openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=2)
    with client, pytest.raises(openai.APIConnectionError):
        for _ in client.images.generate(model="gpt-image-2", stream=True, partial_images=1, **{**BODY, "n": n}):
            pass
    settled(stack)
    cost = booked(stack) - before
    assert len(stack.sandbox.requests()) == 1
    assert cost.route == cost.unconfirmed >= billed(stack.sandbox)


def test_a_stream_with_an_image_missing_costs_its_worst_case(stack: Stack) -> None:
    """A stream reports usage image by image: where an image is missing, so is what it may have cost."""
    stack.sandbox.fault("wrong_count")
    story = tell(stack, {**BODY, "n": 3, "stream": True})
    assert story.reply.status == 200
    assert story.states == ["presumed"]
    assert story.cost.images == 2


def test_the_sdk_raises_when_a_stream_ends_in_an_error(stack: Stack) -> None:
    """The openai SDK turns the error event of a broken stream into an exception of its own."""
    stack.sandbox.fault("truncated_stream")
    client = openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=2)
    with client, pytest.raises(openai.APIError, match="not whole"):
        for _ in client.images.generate(model="gpt-image-2", stream=True, partial_images=1, **BODY):
            pass
    settled(stack)
    assert len(stack.sandbox.requests()) == 1


async def leave(stack: Stack, body: Mapping[str, Any], *, read: int) -> bytes:
    """Send a request, read so many bytes of the answer at least, and hang up; returns what was read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    content = json.dumps(body).encode()
    head = f"POST {PATH} HTTP/1.1\r\nhost: gateway\r\ncontent-length: {len(content)}\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in _headers(stack).items())
    writer.write(f"{head}{lines}\r\n".encode() + content)
    await writer.drain()
    seen = b""
    if read:
        while len(seen) < read and (chunk := await reader.read(4096)):
            seen += chunk
    else:
        await asyncio.to_thread(wait_until, stack.sandbox.requests, 20, "the request upstream")
    writer.transport.abort()
    return seen


@pytest.mark.parametrize(
    ("body", "fault", "parameters", "read"),
    [
        pytest.param(BODY, "slow", {"seconds": 1.5}, 0, id="before the headers"),
        pytest.param(LARGE, "slow_body", {"seconds": 3, "pieces": 30}, 20_000, id="in mid-body"),
        pytest.param(
            {**BODY, "n": 2, "stream": True, "partial_images": 3},
            "slow_body",
            {"seconds": 3, "pieces": 30},
            20_000,
            id="in mid-stream",
        ),
    ],
)
async def test_a_client_that_leaves_pays_for_its_image(
    stack: Stack, body: dict[str, Any], fault: str, parameters: dict[str, Any], read: int
) -> None:
    """The upstream answer is read to its end and settled by usage; record, spend and metrics show it."""
    before, spent = booked(stack), stack.metric("spend_usd_total", view="route")
    stack.sandbox.fault(fault, **parameters)
    seen = await leave(stack, body, read=read)
    request_id = upstream_id(stack.sandbox)
    if read:
        assert f"x-request-id: {request_id}".encode() in seen.lower()
    assert stack.record(request_id)["state"] == "sent"
    await asyncio.to_thread(wait_until, lambda: stack.record(request_id)["state"] == "settled", 30)
    settled(stack)
    record, cost = stack.record(request_id), booked(stack) - before
    assert record["cost_source"] == "usage"
    assert record["images"] == cost.images == body.get("n", 1)
    assert nano(record["cost"]["route"]) == cost.route == billed(stack.sandbox) > 0
    (arrived,) = stack.sandbox.requests()
    assert arrived["client_stayed"] is True
    assert round((stack.metric("spend_usd_total", view="route") - spent) * NANO) == cost.route


async def test_fifty_clients_that_leave_at_once_leave_nothing_held(stack: Stack) -> None:
    """All hang up while their images are made; all are paid for, nothing stays in flight."""
    before = booked(stack)
    stack.sandbox.fault("slow", seconds=1, times=None)
    await asyncio.gather(*(leave(stack, BODY, read=0) for _ in range(50)))
    await asyncio.to_thread(wait_until, lambda: len(stack.sandbox.bill()["lines"]) == 50, 30, "fifty images")
    await asyncio.to_thread(settled, stack)
    cost = booked(stack) - before
    assert (cost.requests, cost.images, cost.unconfirmed) == (50, 50, 0)
    assert cost.route == billed(stack.sandbox)


def _counted(stack: Stack) -> dict[str, float]:
    """Requests by the status they count under, and calls by how they ended."""
    return {
        "502": stack.metric("requests_total", status="502"),
        "200": stack.metric("requests_total", status="200"),
        "good": stack.metric("upstream_duration_seconds_count"),
        "garbage": stack.metric("upstream_errors_total", reason="garbage"),
        "error_in_answer": stack.metric("upstream_errors_total", reason="error_in_answer"),
    }


@pytest.mark.parametrize(
    ("fault", "reason"), [("truncated_stream", "garbage"), ("error_in_stream", "error_in_answer")], ids=str
)
def test_a_stream_without_an_image_counts_as_a_failure(stack: Stack, fault: str, reason: str) -> None:
    """Cut off or ended by the provider's error, its client has no image: call and request failed."""
    before = _counted(stack)
    stack.sandbox.fault(fault)
    assert stack.post(PATH, {**BODY, "stream": True, "partial_images": 1}).status == 200
    settled(stack)
    wait_until(lambda: sum(_counted(stack).values()) >= sum(before.values()) + 2, what="its count")
    after = _counted(stack)
    assert {name for name, count in after.items() if count != before[name]} == {"502", reason}

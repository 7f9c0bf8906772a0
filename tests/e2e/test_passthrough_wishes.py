"""What clients ask of the gateway itself, on paths that go through: prices, tags, dry runs, keys and retries."""

from __future__ import annotations

import http.client
import http.server
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import booked, reported, settled
from tests.e2e.fake_account import Request, serving_account
from tests.e2e.stack import Stack, running_gateway
from tests.ports import free_port

PORT = free_port()
POLICY = f"""
providers:
  main: {{kind: openai, base_url: "http://127.0.0.1:{PORT}/v1", api_key: "${{SANDBOX_KEY}}", timeout: 3s}}
routes:
  main/gpt-image-2: {{provider: main, model: gpt-image-2, upstream_model: gpt-image-2}}
job_types:
  draft: {{routes: [main/gpt-image-2]}}
projects:
  team:
    job_types: [draft]
    budgets: [{{window: total, limit: "10"}}]
    passthrough:
      - {{provider: main, paths: [/v1/audio], price_per_request: "0.003"}}
      - {{provider: main, paths: [/v1/files, /v1/chat]}}
"""
PRICED, FREE = "/audio/speech", "/files"
PRICE = 3_000_000
"""Nano-USD."""
SENT = b'{"input": "hello"}'
COUNT = "x-stainless-retry-count"


class Calls(list[str]):
    """The paths that reached the account, with their queries."""


@pytest.fixture(scope="module")
def account() -> Iterator[Calls]:
    """An account that does what a URL's query says: `silent`, `cut`, `events`, or a status to answer."""
    calls = Calls()

    def answer(request: Request) -> None:
        request.rfile.read(int(request.headers.get("content-length", 0)))
        calls.append(request.path)
        how = request.path.partition("?")[2].strip("=")
        if how == "silent":
            request.rfile.read(1)  # until its client has hung up
            request.close_connection = True
            return
        body = b'data: {"n": 1}\n\n' if how == "events" else b"{}"
        request.send_response(int(how) if how.isdecimal() else 200)
        request.send_header("Content-Type", "text/event-stream" if how == "events" else "application/json")
        request.send_header("Content-Length", str(len(body) + (how in {"cut", "events"})))
        request.end_headers()
        request.wfile.write(body)
        if how == "events":
            request.wfile.flush()
            request.rfile.read(1)
        request.close_connection = how in {"cut", "events"}

    with serving_account(PORT, answer):
        yield calls


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox, account: Calls) -> Iterator[Stack]:
    """A gateway that lets some paths through to it, one of them for a price."""
    assert not account
    with running_gateway(tmp_path_factory.mktemp("wishes"), POLICY, sandbox) as running:
        yield running


@pytest.fixture
def key(request: pytest.FixtureRequest) -> dict[str, str]:
    """An idempotency key of this test's own."""
    return {"Idempotency-Key": request.node.name}


@pytest.mark.parametrize("path", [PRICED, FREE])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Gateway-Dry-Run", "true"),
        ("X-Gateway-Max-Cost", "much"),
        ("X-Gateway-Jobtype", "draft"),
        ("X-Gateway-Tags", "a=b,a=c"),
        ("Idempotency-Key", ""),
    ],
)
def test_what_cannot_be_heeded_is_refused(stack: Stack, account: Calls, path: str, name: str, value: str) -> None:
    """Nothing is sent or booked, with a price or without."""
    before, arrived = booked(stack), len(account)
    reply = stack.post(f"/v1{path}", {}, headers={name: value})
    code = "unsupported_parameter" if value == "true" else "invalid_value"
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, code, name)
    assert len(account) == arrived
    assert booked(stack) == before


def test_a_price_above_the_clients_own_maximum_is_not_paid(stack: Stack, account: Calls) -> None:
    """402 before anything is sent; at the price itself, and where no price is known, the request goes through."""
    arrived = len(account)
    reply = stack.post(f"/v1{PRICED}", {}, headers={"X-Gateway-Max-Cost": "0.0029"})
    assert (reply.status, reply.error["code"]) == (402, "max_cost_exceeded")
    assert len(account) == arrived
    assert stack.post(f"/v1{PRICED}", {}, headers={"X-Gateway-Max-Cost": "0.003"}).status == 200
    assert stack.post(f"/v1{FREE}", {}, headers={"X-Gateway-Max-Cost": "0"}).status == 200


def test_tags_are_booked(stack: Stack) -> None:
    """What was spent for a campaign is found under it."""
    assert stack.post(f"/v1{PRICED}", {}, headers={"X-Gateway-Tags": "campaign=spring"}).status == 200
    settled(stack)
    rows, _ = reported(stack, "tag:campaign")
    assert [row["requests"] for row in rows if row["tag:campaign"] == "spring"] == [1]


@pytest.mark.parametrize("path", [PRICED, FREE])
def test_under_a_key_it_is_done_once(stack: Stack, account: Calls, key: dict[str, str], path: str) -> None:
    """No answer is kept, so who asks again is told which request it was; another body is a conflict."""
    before, arrived = booked(stack).route, len(account)
    first = stack.post(f"/v1{path}", {}, headers=key)
    again = stack.post(f"/v1{path}", {}, headers=key)
    other = stack.post(f"/v1{path}", {"other": 1}, headers=key)
    assert [first.status, again.status, other.status] == [200, 504, 409]
    assert first.headers["x-request-id"] in again.error["message"]
    assert again.headers["x-should-retry"] == "false"
    assert other.error["code"] == "idempotency_key_reused"
    assert len(account) == arrived + 1
    settled(stack)
    assert booked(stack).route - before == (PRICE if path == PRICED else 0)


def test_a_refusal_leaves_the_key_free(stack: Stack, account: Calls, key: dict[str, str]) -> None:
    """The SDK repeats what was refused for nothing, under the same key."""
    arrived = len(account)
    with (
        openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=1) as client,
        pytest.raises(openai.RateLimitError),
    ):
        client.post(f"{PRICED}?429", cast_to=object, body={}, options={"headers": key})
    assert len(account) == arrived + 2


@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with a key"])
@pytest.mark.parametrize("path", [PRICED, FREE])
@pytest.mark.parametrize("how", ["silent", "cut"])
def test_the_sdk_loses_its_answer_and_pays_once(
    stack: Stack, account: Calls, key: dict[str, str], how: str, path: str, *, keyed: bool
) -> None:
    """It is out of patience, or the answer breaks off: its retry is told that the work may have been done."""
    before, arrived = booked(stack).route, len(account)
    options: Any = {"headers": key} if keyed else {}
    with (
        openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=2, timeout=1) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.post(f"{path}?{how}", cast_to=object, body={}, options=options)
    assert caught.value.status_code == 504
    assert len(account) == arrived + 1
    settled(stack)
    assert booked(stack).route - before == (PRICE if path == PRICED else 0)


def test_an_upload_is_known_by_another_boundary_too(stack: Stack, account: Calls) -> None:
    """The SDK writes the form anew for its retry."""
    arrived = len(account)
    with (
        openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=2, timeout=1) as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.files.create(file=("a.txt", b"hello"), purpose="assistants", extra_query={"silent": ""})
    assert len(account) == arrived + 1


def test_what_only_reads_is_repeated(stack: Stack, account: Calls) -> None:
    """A GET without a price changes nothing, however often it is sent."""
    arrived = len(account)
    with (
        openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=1, timeout=1) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        client.get(f"{FREE}?silent", cast_to=object)
    assert len(account) == arrived + 2


def test_a_retry_of_another_request_goes_through(stack: Stack, account: Calls) -> None:
    """Nobody repeats a stream that he has the beginning of; other bodies, paths and refused requests are others."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=20)
    headers = {"authorization": f"Bearer {stack.key()}", "content-type": "application/json", COUNT: "0"}
    connection.request("POST", "/v1/chat/completions?events", SENT, headers)
    assert connection.getresponse().readline().startswith(b"data:")
    connection.close()
    settled(stack)
    arrived = len(account)
    again = {COUNT: "1"}
    connection.request("POST", "/v1/chat/completions?events", SENT, headers | again)
    answer = connection.getresponse()
    assert (answer.status, answer.readline()[:5]) == (200, b"data:")
    connection.close()
    assert stack.post(f"/v1{PRICED}?503", json.loads(SENT), headers={COUNT: "0"}).status == 503
    assert stack.post(f"/v1{PRICED}?503", json.loads(SENT), headers=again).status == 503
    assert len(account) == arrived + 3

"""Paths that go through to a provider: those that policy names and no others, whatever way they are written."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import http.server
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import openai
import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import booked, nano, settled
from tests.e2e.fake_account import Request, serving_account
from tests.e2e.stack import Reply, Stack, running_gateway, wait_until
from tests.ports import free_port

PORT = free_port()
POLICY = f"""
providers:
  main: {{kind: openai, base_url: "http://127.0.0.1:{PORT}/api/v1", api_key: "${{SANDBOX_KEY}}", timeout: 10s}}
  away: {{kind: openai, base_url: "http://127.0.0.1:9/v1", api_key: "${{SANDBOX_KEY}}"}}
routes:
  main/gpt-image-2: {{provider: main, model: gpt-image-2, upstream_model: gpt-image-2}}
job_types:
  draft: {{routes: [main/gpt-image-2]}}
projects:
  team:
    job_types: [draft]
    budgets: [{{window: total, limit: "10"}}]
    passthrough: {{provider: main, paths: [/v1/files, /v1/chat/completions]}}
  payer:
    job_types: [draft]
    budgets: [{{window: total, limit: "0.01"}}]
    passthrough: {{provider: main, paths: [/v1/embeddings], methods: [POST], price_per_request: "0.004"}}
  unlimited:
    job_types: [draft]
    passthrough: {{provider: main, paths: [/v1/embeddings], price_per_request: "0.003"}}
  refused:
    job_types: [draft]
    budgets: [{{window: total, limit: "0.01"}}]
    passthrough: {{provider: main, paths: [/v1/embeddings], price_per_request: "0.005"}}
  counted:
    job_types: [draft]
    quotas: [{{requests: 2, per: hour}}]
    budgets: [{{window: total, limit: "10"}}]
  frequent:
    job_types: [draft]
    quotas: [{{requests: 100, per: hour}}]
  open:
    job_types: [draft]
    passthrough: main
  reading:
    job_types: [draft]
    passthrough: {{provider: main, methods: [GET]}}
passthrough:
  - {{provider: main, paths: [/v1/moderations]}}
  - {{provider: away, paths: [/v1/vector_stores]}}
"""


@dataclass
class Upstream:
    """What reached the account."""

    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """An account that answers everything with what it got, and with headers that no client may see.

    `?status=429` in a URL is the status that is answered, and `?endless` has an answer without end.
    """
    found = Upstream()

    def answer(request: Request) -> None:
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in request.headers.items()}
        found.seen.append((request.command, request.path, headers, body))
        if request.path.endswith("?endless"):
            _endless(request)
            return
        told = json.dumps({"path": request.path, "bytes": len(body)}).encode()
        status = int(request.path.partition("?status=")[2] or 201)
        if not status:
            request.close_connection = True
            return
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(told)))
        request.send_header("Set-Cookie", "secret=1")
        request.send_header("OpenAI-Organization", "org-secret")
        request.send_header("X-Request-Id", f"theirs-{len(found.seen)}")
        request.end_headers()
        request.wfile.write(told)

    with serving_account(PORT, answer):
        yield found


def _endless(request: Request) -> None:
    request.send_response(200)
    request.send_header("Connection", "close")
    request.end_headers()
    request.close_connection = True
    with contextlib.suppress(OSError):
        while True:
            request.wfile.write(b"more")
            time.sleep(0.05)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox, upstream: Upstream) -> Iterator[Stack]:
    """A gateway that lets some paths through."""
    assert upstream.seen == []
    with running_gateway(tmp_path_factory.mktemp("through"), POLICY, sandbox) as running:
        yield running


def raw(stack: Stack, method: str, path: str, project: str = "team") -> tuple[int, bytes]:
    """Send a path as it is written, and return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        connection.putheader("authorization", f"Bearer {stack.key(project)}")
        connection.putheader("content-length", "0")
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_request_goes_through_under_the_accounts_own_secret(stack: Stack, upstream: Upstream) -> None:
    """Method, path, query, body and content type arrive; credentials, cookies and other headers do not, either way."""
    headers = {"cookie": "a=b", "openai-organization": "mine", "x-forwarded-for": "1.2.3.4", "api-key": "none"}
    reply = stack.post("/v1/files?purpose=a%20b&x=%2F", {"hello": 1}, headers=headers)
    assert reply.status == 201
    method, path, sent, body = upstream.seen[-1]
    assert (method, path, json.loads(body)) == ("POST", "/api/v1/files?purpose=a%20b&x=%2F", {"hello": 1})
    assert sent["authorization"] == f"Bearer {stack.sandbox.api_key}"
    assert sent["content-type"] == "application/json"
    assert not {"cookie", "openai-organization", "x-forwarded-for", "api-key"} & sent.keys()
    assert reply.headers["x-gateway-route"] == "passthrough:main"
    assert not {"set-cookie", "openai-organization"} & reply.headers.keys()
    assert stack.metric("requests_total", operation="passthrough", route="passthrough:main") == 1


def test_what_lies_below_a_path_goes_through_too(stack: Stack, upstream: Upstream) -> None:
    """Ids and methods below a named path pass, those of the top level for every project."""
    assert raw(stack, "DELETE", "/v1/files/file-abc123")[0] == 201
    assert raw(stack, "GET", "/v1/files/file-abc123/content")[0] == 201
    assert raw(stack, "POST", "/v1/moderations")[0] == 201
    assert [seen[1] for seen in upstream.seen[-3:]] == [
        "/api/v1/files/file-abc123",
        "/api/v1/files/file-abc123/content",
        "/api/v1/moderations",
    ]


def test_without_paths_all_that_may_go_through_does(stack: Stack, upstream: Upstream) -> None:
    """A provider's name alone opens every path and method, a map without paths those of its methods."""
    for path in ("/v1/embeddings", "/v1/audio/speech", "/v1/vector_stores/a/files"):
        made = stack.post(path, {"input": "x"}, project="open")
        assert (made.status, made.headers["x-gateway-route"]) == (201, "passthrough:main")
        assert upstream.seen[-1][:2] == ("POST", f"/api{path}")
    assert stack.get("/v1/embeddings", project="reading").status == 201
    assert stack.post("/v1/embeddings", {"input": "x"}, project="reading").status == 404


def test_a_large_body_arrives_whole(stack: Stack, upstream: Upstream) -> None:
    """Three megabytes arrive as they were sent."""
    body = bytes(range(256)) * 12_000
    reply = stack.post("/v1/files", data=body, headers={"content-type": "application/octet-stream"})
    assert reply.json["bytes"] == len(body)
    assert upstream.seen[-1][3] == body


def test_a_compressed_body_arrives_with_its_coding(stack: Stack, upstream: Upstream) -> None:
    """What the gateway does not open it does not strip of what says how to open it."""
    body = gzip.compress(b'{"hello": 1}')
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert stack.post("/v1/files", data=body, headers=headers).status == 201
    _, _, sent, arrived = upstream.seen[-1]
    assert (sent.get("content-encoding"), arrived) == ("gzip", body)


UNNAMED = (
    "/v1/embeddings", "/v1/file", "/v1/filesystem", "/v1/files-admin", "/v1/FILES", "/v1/Files/x", "/v1/chat",
    "/v1/chat/completion", "/v1/audio/speech", "/v1/fine_tuning/jobs",
)  # fmt: skip
NEVER = (
    # whatever policy says
    "/v1/organization", "/v1/organization/users", "/v1/organizations/x", "/v1/projects", "/v1/usage", "/v1/admin/x",
    "/v1/dashboard/billing", "/v1/billing", "/v1/batches", "/v1/batches/b", "/v1/conversations", "/v1/videos",
    # the gateway's own, by another way
    "/v1/files/../images/generations", "/v1/files/..%2fimages%2fgenerations", "/v1/files/%2e%2e/images/generations",
    "/v1/files/%2E%2E/images/edits", "/v1/files/.%2e/images/edits", "/v1/files/%252e%252e/images/generations",
    "/v1/files/..%252fimages", "/v1/files/..;/images/generations", "/v1/files;/../images/generations",
    "/v1/./files", "/v1/files/.", "/v1/files/..", "/v1/files/...", "/v1/files/./x", "/v1/files//x", "/v1//files",
    "//v1/files", "/v1/files/", "/v1/files/x/", "/v1/files/..\\images", "/v1/files\\..\\images",
    "/v1/files%2f..%2fimages%2fgenerations", "/v1%2ffiles", "/v1/files%00", "/v1/files/%00/x", "/v1/files%0a",
    "/v1/files%0d%0aX:1", "/v1/files/%c0%ae%c0%ae/images", "/v1/files/%u002e%u002e/images", "/v1/%66iles",
    "/v1/files/..%5cimages", "/v1/files/%5c..%5cimages", "/v1/files/x;y=1", "/v1/files/x%3Fy", "/v1/files/x%23y",
    "/v1/images", "/v1/images/", "/v1/images/generations/", "/v1/images/other", "/v1/IMAGES/generations",
    "/v1/images%2fgenerations", "/v1/Responses", "/v1/responses/", "/v1/responses/a/b/c", "/v1/hints", "/v1/assets/a/b",
    "/files", "/openai/v1/files", "/v2/files", "/V1/files", '/v1/files/"x"',
)  # fmt: skip


@pytest.mark.parametrize(
    ("project", "path"), [*(("team", path) for path in UNNAMED), *product(("team", "open"), NEVER)]
)
def test_nothing_else_goes_through(stack: Stack, upstream: Upstream, project: str, path: str) -> None:
    """No other path, and no other way to write one, reaches the account; the answer has the one shape of errors."""
    arrived = len(upstream.seen)
    status, body = raw(stack, "POST", path, project)
    assert status in {400, 404, 405, 415}, body
    assert {"message", "type", "param", "code"} <= set(json.loads(body)["error"])
    assert len(upstream.seen) == arrived


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_no_other_method_goes_through(stack: Stack, upstream: Upstream, method: str) -> None:
    """Methods that such APIs do not have are refused."""
    arrived = len(upstream.seen)
    assert raw(stack, method, "/v1/files")[0] in {400, 404, 405}
    assert len(upstream.seen) == arrived


def test_a_key_is_needed_and_its_project_counts(stack: Stack, upstream: Upstream) -> None:
    """Without a key 401; another project's own paths are unknown."""
    arrived = len(upstream.seen)
    anonymous = stack.post("/v1/files", {}, headers={"authorization": "Bearer igw_nobody"})
    assert anonymous.status == 401
    assert stack.post("/v1/files", {}, project="payer").status == 404
    assert stack.get("/v1/embeddings", project="payer").status == 404
    assert len(upstream.seen) == arrived


@pytest.mark.parametrize(
    ("path", "remedy"),
    [("/v1/batches", "X-Gateway-Max-Wait"), ("/v1/files", "Max-Wait"), ("/v1/chat/x", "`passthrough`")],
)
def test_what_policy_lets_nobody_ask_for_says_what_would_help(stack: Stack, path: str, remedy: str) -> None:
    """A client of the vendor's batches is told of tasks, any other of what policy lacks."""
    reply = stack.post(path, {}, project="payer")
    assert reply.status == 404
    assert remedy in reply.error["message"]


def test_a_price_is_held_and_booked(stack: Stack) -> None:
    """At $0.004 a request a budget of $0.01 lets two through, and books them."""
    before = booked(stack).route
    statuses = [stack.post("/v1/embeddings", {}, project="payer").status for _ in range(3)]
    assert statuses == [201, 201, 402]
    settled(stack)
    assert booked(stack).route - before == 8_000_000


def test_a_price_is_booked_where_nothing_limits_it(stack: Stack) -> None:
    """A project without any budget or quota pays its $0.003 a request all the same: the books have it."""
    before = booked(stack)
    assert [stack.post("/v1/embeddings", {}, project="unlimited").status for _ in range(2)] == [201, 201]
    settled(stack)
    after = booked(stack) - before
    assert (after.requests, after.route) == (2, 6_000_000)


@pytest.mark.parametrize("status", [201, 504])
def test_what_is_booked_has_the_accounts_own_id_of_the_request(stack: Stack, upstream: Upstream, status: int) -> None:
    """An invoice goes by it: whatever the answer is that may have been charged."""
    assert stack.post(f"/v1/embeddings?status={status}", {}, project="unlimited").status == status
    settled(stack)
    export = stack.command("ledger", "export")
    last = json.loads(export.stdout.splitlines()[-1])
    assert json.loads(last["fields"]["outcome"])["facts"] == {"upstream_request_id": f"theirs-{len(upstream.seen)}"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
def test_what_the_account_refused_costs_nothing(stack: Stack, status: int) -> None:
    """A refusal before any work gives the price back, however often: the answer passes, the budget stays whole.

    What refuses the account itself is the gateway's matter, and no word about the client's key.
    """
    before = booked(stack).route
    got = [stack.post(f"/v1/embeddings?status={status}", {}, project="refused").status for _ in range(4)]
    assert got == [502 if status in {401, 403} else status] * 4
    settled(stack)
    assert booked(stack).route == before


def test_what_may_have_been_done_is_booked(stack: Stack) -> None:
    """A 504 says nothing of the work behind it: its price is booked."""
    before = booked(stack).route
    assert stack.post("/v1/embeddings?status=504", {}, project="refused").status == 504
    settled(stack)
    assert booked(stack).route - before == 5_000_000


def lines(stack: Stack, replies: list[Reply]) -> list[dict[str, Any]]:
    """The log lines of requests, in their order, once all are there."""
    asked = [reply.headers["x-request-id"] for reply in replies]

    def found() -> list[dict[str, Any]] | None:
        read = [json.loads(line) for line in stack.log.read_text().splitlines() if line.startswith("{")]
        told = {line["request_id"]: line for line in read if line["event"] == "request"}
        return [told[each] for each in asked] if told.keys() >= set(asked) else None

    every: list[dict[str, Any]] = wait_until(found, what="the lines of all requests")
    return every


def test_headers_and_lines_tell_what_was_booked(stack: Stack) -> None:
    """Done, refused and perhaps done: each answer names its price and cost, and lines add up to what is booked."""
    before, price = booked(stack), "0.003"
    statuses = (201, 429, 504)
    replies = [stack.post(f"/v1/embeddings?status={status}", {}, project="unlimited") for status in statuses]
    told = lines(stack, replies)
    settled(stack)
    assert [reply.status for reply in replies] == [*statuses]
    assert [line["cost_usd"] for line in told] == [price, None, price]
    assert sum(nano(line["cost_usd"] or "0") for line in told) == (booked(stack) - before).route
    assert [line["source"] for line in told] == ["estimate", "", "estimate"]
    for line, reply in zip(told, replies, strict=True):
        assert (line["attempts"], line["estimate_usd"], line["bytes_out"]) == (1, price, len(reply.body))
        assert reply.headers["x-gateway-attempts"] == "1"
        assert reply.headers["x-gateway-cost-estimate"] == price
        assert nano(reply.headers["x-gateway-cost"]) == nano(line["cost_usd"] or "0")
        assert 0 < line["overhead_ms"] < line["duration_ms"]
        assert not line["client_gone"]


def test_what_costs_nothing_known_names_no_cost(stack: Stack) -> None:
    """Without a price there is no estimate; an account that is away is told with the call that was tried."""
    replies = [stack.post("/v1/files", {}), stack.get("/v1/vector_stores"), stack.post("/v1/files?status=204", {})]
    for line, reply in zip(lines(stack, replies), replies, strict=True):
        assert reply.headers["x-gateway-attempts"] == "1"
        assert not {"x-gateway-cost-estimate", "x-gateway-cost"} & reply.headers.keys()
        assert (line["cost_usd"], line["estimate_usd"], line["attempts"], line["client_gone"]) == (None, None, 1, False)


def test_a_path_that_nobody_serves_is_no_refusal(stack: Stack) -> None:
    """It counts among requests, and not in what policy, budgets and quotas refused."""
    before = stack.metric("denied_total")
    assert stack.post("/v1/nothing_of_the_kind", {}).status == 404
    wait_until(lambda: stack.metric("requests_total", operation="passthrough", status="404"), what="its count")
    assert stack.metric("denied_total") == before


def test_a_client_that_leaves_is_told(stack: Stack) -> None:
    """The line of an answer that nobody read to its end says so, with what was booked."""
    with socket.create_connection(("127.0.0.1", stack.port)) as client:
        client.sendall(
            f"GET /v1/embeddings?endless HTTP/1.1\r\nHost: x\r\nX-Request-Id: left\r\n"
            f"Authorization: Bearer {stack.key('unlimited')}\r\n\r\n".encode()
        )
        head = client.recv(4096)
    asked = re.search(rb"x-request-id: (\S+)", head, re.IGNORECASE)
    assert asked is not None, head
    [line] = lines(stack, [Reply(200, {"x-request-id": asked[1].decode()}, b"")])
    assert (line["client_gone"], line["cost_usd"], line["status"]) == (True, "0.003", 200)
    settled(stack)


@pytest.mark.parametrize(("project", "path"), [("unlimited", "/embeddings"), ("team", "/files")])
def test_what_may_have_been_done_is_not_repeated(stack: Stack, upstream: Upstream, project: str, path: str) -> None:
    """Each repeat might be billed again, priced here or not: SDKs are told to leave it. What only reads they repeat."""
    arrived = len(upstream.seen)
    with openai.OpenAI(base_url=stack.url, api_key=stack.key(project), max_retries=1) as client:
        with pytest.raises(openai.InternalServerError):
            client.post(f"{path}?status=504", cast_to=object, body={})
        assert len(upstream.seen) == arrived + 1
        with pytest.raises(openai.InternalServerError):
            client.post(f"{path}?status=503", cast_to=object, body={})
        assert len(upstream.seen) == arrived + 3
    assert "x-should-retry" not in stack.get("/v1/files?status=504").headers


def test_what_was_not_answered_is_not_repeated(stack: Stack, upstream: Upstream) -> None:
    """The connection broke off behind the request: the work may have been done."""
    arrived = len(upstream.seen)
    with (
        openai.OpenAI(base_url=stack.url, api_key=stack.key("unlimited"), max_retries=1) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.post("/embeddings?status=0", cast_to=object, body={})
    assert (caught.value.status_code, len(upstream.seen)) == (502, arrived + 1)


def test_requests_count_in_quotas(stack: Stack) -> None:
    """Of two requests an hour the third is refused with 429."""
    statuses = [stack.post("/v1/moderations", {}, project="counted").status for _ in range(3)]
    assert statuses == [201, 201, 429]


def test_a_path_without_a_price_leaves_no_money_unconfirmed(stack: Stack) -> None:
    """Its hold is there for a quota alone: a connection that broke off behind it concerns nobody's money."""
    before, logged = stack.metric("unconfirmed_total"), stack.log.read_text().count("hold presumed spent")
    reply = stack.post("/v1/moderations?status=0", {}, project="frequent")
    assert reply.status == 502
    [line] = lines(stack, [reply])
    settled(stack)
    assert (line["cost_usd"], line["source"], line["bytes_out"]) == (None, "", len(reply.body))
    assert stack.metric("unconfirmed_total") == before
    assert stack.log.read_text().count("hold presumed spent") == logged


def test_what_an_account_answers_is_counted_as_it_came(stack: Stack) -> None:
    """An account behind another server has a 5xx that no table knows, and failing it is all the same."""
    statuses = (201, 404, 520, 529, 204)
    before = {status: stack.metric("requests_total", status=str(status)) for status in statuses}
    told = lines(stack, [stack.post(f"/v1/files?status={status}", {}) for status in statuses])
    assert [line["code"] for line in told] == ["", "account", "status_5xx", "status_5xx", ""]
    wait_until(lambda: stack.metric("requests_total", status="204") > before[204], what="its count")
    assert [stack.metric("requests_total", status=str(each)) - before[each] for each in statuses] == [1] * 5


def test_an_account_that_is_away_is_told(stack: Stack) -> None:
    """502 in the one shape, and the gateway serves on."""
    reply = stack.get("/v1/vector_stores")
    assert (reply.status, reply.error["code"]) == (502, "upstream_error")

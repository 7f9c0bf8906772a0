"""Every endpoint of the data plane as plain HTTP, and what passes through it in both directions."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.clients import CLIENTS, decoded, logged, nothing_spent, picture
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until
from tests.providers.raw_server import Connection, RawServer, serving

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
LOW = {"prompt": "x", "model": "gpt-image-2", "quality": "low", "size": "1024x1024"}
SENT_UPSTREAM = {
    "host",
    "accept",
    "accept-encoding",
    "authorization",
    "content-length",
    "content-type",
    "user-agent",
    "x-client-request-id",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with several projects."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), CLIENTS, sandbox) as running:
        yield running


def image_of(answer: Reply) -> Any:
    """The first image of an answer, decoded."""
    assert answer.status == 200, answer.body[:500]
    return decoded(answer.json["data"][0]["b64_json"])


def test_liveness_and_readiness(stack: Stack) -> None:
    """Both answer without a key."""
    assert fetch(f"http://127.0.0.1:{stack.port}/healthz").json == {"status": "ok"}
    assert fetch(f"http://127.0.0.1:{stack.port}/readyz").json == {"status": "ready"}


@pytest.mark.parametrize("more", [{}, {"async": True}])
def test_a_generation_that_is_an_edit_ends_as_what_it_began(stack: Stack, more: dict[str, object]) -> None:
    """It counts as an edit among the requests, and leaves none in flight, of either kind."""
    edits = stack.metric("requests_total", operation="edit", status="200")
    body = {**LOW, **more, "image_urls": ["https://example.test/a.png"]}
    made = stack.post(GENERATIONS, body)
    assert made.status == (202 if more else 200), made.body[:500]
    wait_until(lambda: stack.metric("requests_total", operation="edit", status="200") > edits, 15, "its end")
    wait_until(lambda: not stack.metric("in_flight"), 15, "an empty gateway")
    assert [stack.metric("in_flight", operation=each) for each in ("generate", "edit")] == [0, 0]


REFUSED = [
    ({"n": 1}, {"X-Gateway-Max-Cost": "0.0001"}, 402, "max_cost_exceeded"),
    ({"size": "1024x1000000"}, {}, 400, "unsupported_by_every_route"),
]


@pytest.mark.parametrize(("body", "headers", "status", "code"), REFUSED)
def test_a_refusal_names_the_job_type_once_it_is_known(
    stack: Stack, body: dict[str, object], headers: dict[str, str], status: int, code: str
) -> None:
    """And says that no call was made."""
    told = stack.post(GENERATIONS, {**LOW, **body}, headers=headers)
    assert (told.status, told.error["code"]) == (status, code)
    assert told.headers.get("x-gateway-job-type"), told.headers
    assert told.headers["x-gateway-attempts"] == "0"


@pytest.mark.parametrize("prefix", ["/v1", "", "/openai/v1"])
def test_every_prefix(stack: Stack, prefix: str) -> None:
    """The same endpoints are found with /v1, without it, and below /openai/v1."""
    made = stack.post(f"{prefix}/images/generations", LOW)
    edit = {**LOW, "images": [{"image_url": "https://example.test/a.png"}]}
    assert image_of(made).size == (1024, 1024)
    assert image_of(stack.post(f"{prefix}/images/edits", edit)).size == (1024, 1024)
    assert stack.post(f"{prefix}/images/variations", {}).status == 410
    assert stack.get(f"{prefix}/models").status == 200
    assert stack.get(f"{prefix}/models/gpt-image-2").json["object"] == "model"
    assert stack.get(f"{prefix}/requests/{made.headers['x-request-id']}").json["state"] == "settled"


@pytest.mark.parametrize("place", ["/openai", "/openai/deployments/gpt-image-2"])
def test_variations_are_gone_where_deployments_are_asked_too(stack: Stack, place: str) -> None:
    """The same 410 as under `/v1`: it says since when, and what to call; a stranger gets 401."""
    path = f"{place}/images/variations?api-version=2025-04-01-preview"
    gone = stack.post("/v1/images/variations", {})
    told = fetch(f"http://127.0.0.1:{stack.port}{path}", body={}, headers={"api-key": stack.key()})
    assert (told.status, told.error) == (410, gone.error)
    assert fetch(f"http://127.0.0.1:{stack.port}{path}", body={}).status == 401


def test_deployment_paths(stack: Stack) -> None:
    """The deployment names the model where the body does not, and the key may come as `api-key`."""
    headers = {"api-key": stack.key()}
    for name, status in (("gpt-image-2", 200), ("job:only_main", 200), ("nope", 404)):
        answer = fetch(
            f"http://127.0.0.1:{stack.port}/openai/deployments/{name}/images/generations?api-version=2025-04-01-preview",
            body={"prompt": "x", "quality": "low"},
            headers=headers,
        )
        assert answer.status == status
    arrived = stack.sandbox.requests()
    assert [request["fields"]["model"] for request in arrived] == ["gpt-image-2-2026-04-21"] * 2
    assert {request["query"] for request in arrived} == {""}


def test_model_list(stack: Stack) -> None:
    """Each project sees its own models and job types, in OpenAI's shape."""
    listed = stack.get("/v1/models").json
    ids = [model["id"] for model in listed["data"]]
    assert listed["object"] == "list"
    assert ids == ["gpt-image-2", "gpt-image-2.5-flare", "job:draft", "job:only_main", "job:hasty"]
    assert all({"id", "object", "created", "owned_by", "shutdown_date"} <= set(model) for model in listed["data"])
    assert [model["id"] for model in stack.get("/v1/models", project="other").json["data"]][2:] == ["job:draft"]
    assert stack.get("/v1/models/job:only_main", project="other").error["code"] == "model_not_found"
    assert stack.get("/v1/models/job:only_main").json["id"] == "job:only_main"


def test_a_model_is_found_by_the_name_of_its_snapshot(stack: Stack) -> None:
    """Whoever may ask for images under that name finds it; it is the model in all but its name."""
    name = "gpt-image-2-2026-04-21"
    assert stack.post(GENERATIONS, {**LOW, "model": name}).status == 200
    assert stack.get(f"/v1/models/{name}").json == {**stack.get("/v1/models/gpt-image-2").json, "id": name}
    assert stack.get(f"/v1/models/{name}-1").error["code"] == "model_not_found"


def test_record_is_the_projects_own(stack: Stack) -> None:
    """A request's record tells cost and route to its own project, and is a 404 for any other."""
    made = stack.post(GENERATIONS, LOW, headers={"x-gateway-tags": "campaign=spring"})
    request_id = made.headers["x-request-id"]
    record = stack.record(request_id)
    assert record["cost"]["route"] == made.headers["x-gateway-cost"] == stack.sandbox.bill()["total_usd"]
    assert record["attempts"][0]["route"] == "main/gpt-image-2"
    assert record["tags"] == {"campaign": "spring"}
    assert "prompt" not in json.dumps(record)
    stranger = stack.get(f"/v1/requests/{request_id}", project="other")
    assert (stranger.status, stranger.error["code"]) == (404, "not_found")
    assert fetch(f"{stack.url}/requests/{request_id}").status == 401
    for unknown in ("req_0", "x" * 500, "%00", "*", "{}", request_id.upper()):
        assert stack.get(f"/v1/requests/{unknown}").status == 404


def test_log_line(stack: Stack) -> None:
    """A request leaves one line that tells how it was served, what it cost and how much was sent."""
    made = stack.post(GENERATIONS, LOW)
    request_id = made.headers["x-request-id"]
    [line] = [json.loads(line) for line in logged(stack, request_id).splitlines() if request_id in line]
    assert (line["status"], line["project"], line["route"]) == (200, "team", "main/gpt-image-2")
    assert line["cost_usd"] == made.headers["x-gateway-cost"]
    assert line["bytes_out"] == len(made.body)


def test_log_lines_of_what_came_to_no_call(stack: Stack) -> None:
    """An error and a dry run have a body too; a dry run holds nothing."""
    for body, headers, status in (({"prompt": ""}, {}, 400), (LOW, {"x-gateway-dry-run": "true"}, 200)):
        answer = stack.post(GENERATIONS, body, headers=headers)
        request_id = answer.headers["x-request-id"]
        [line] = [json.loads(line) for line in logged(stack, request_id).splitlines() if request_id in line]
        assert (line["status"], line["bytes_out"]) == (status, len(answer.body))
        assert line["estimate_usd"] is None


def test_log_line_of_a_refusal(stack: Stack) -> None:
    """A provider's refusal that is passed on is named by the provider's own word, as its client got it."""
    answer = stack.post(GENERATIONS, {**LOW, "prompt": "blocked-by-moderation"})
    request_id = answer.headers["x-request-id"]
    [line] = [json.loads(line) for line in logged(stack, request_id).splitlines() if request_id in line]
    assert (line["status"], line["code"]) == (400, answer.error["code"]) == (400, "moderation_blocked")


def test_dry_run(stack: Stack) -> None:
    """A dry run answers the decision and its price; nothing is held, sent or recorded."""
    with nothing_spent(stack):
        answer = stack.post(GENERATIONS, {**LOW, "n": 10, "quality": "high"}, headers={"x-gateway-dry-run": "true"})
    assert answer.status == 200
    assert answer.json["route"] == answer.headers["x-gateway-route"] == "main/gpt-image-2"
    assert float(answer.json["candidates"][0]["cost_estimate"]["route"]) >= 2.11
    assert answer.json["passed_over"] == [{"route": "main/flare", "reason": "the client asked for gpt-image-2"}]
    assert "x-gateway-cost" not in answer.headers
    assert stack.get(f"/v1/requests/{answer.headers['x-request-id']}").status == 404


def test_dry_run_of_a_refusal(stack: Stack) -> None:
    """A dry run is refused as the request itself would be."""
    with nothing_spent(stack):
        answer = stack.post(GENERATIONS, {**LOW, "size": "8x8"}, headers={"x-gateway-dry-run": "true"})
    assert (answer.status, answer.error["code"]) == (400, "unsupported_by_every_route")


def test_testing_lane(stack: Stack) -> None:
    """A testing route serves only a project that may use it, and then only when it is asked for."""
    asked = stack.post(GENERATIONS, LOW, project="tester", headers={"x-gateway-lane": "testing"})
    assert asked.headers["x-gateway-route"] == "trial/gpt-image-2"
    with nothing_spent(stack):
        unasked = stack.post(GENERATIONS, LOW, project="tester")
    assert (unasked.status, unasked.error["code"]) == (400, "unsupported_by_every_route")
    assert "X-Gateway-Lane: testing" in unasked.error["message"]


def test_max_cost(stack: Stack) -> None:
    """The client's own limit lets through what fits and refuses what does not, by the worst case."""
    estimate = stack.post(GENERATIONS, LOW, headers={"x-gateway-dry-run": "true"}).headers["x-gateway-cost-estimate"]
    assert stack.post(GENERATIONS, LOW, headers={"x-gateway-max-cost": estimate}).status == 200
    with nothing_spent(stack):
        less = str(Decimal(estimate) - Decimal("0.000001"))
        refused = stack.post(GENERATIONS, LOW, headers={"x-gateway-max-cost": less})
    assert (refused.status, refused.error["code"]) == (402, "max_cost_exceeded")


def data_url(content: bytes, kind: str = "png") -> str:
    """Return an image as a data URL."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def test_json_edit_with_data_urls(stack: Stack) -> None:
    """Images and mask in a JSON edit arrive unchanged, long ones too."""
    large = picture(64, 64) + bytes(3_000_000)
    body = {
        **LOW,
        "images": [{"image_url": data_url(large)}, {"image_url": data_url(picture(kind="WEBP"), "webp")}],
        "mask": {"image_url": data_url(picture(mode="RGBA"))},
    }
    answer = stack.post(EDITS, body)
    [arrived] = stack.sandbox.requests()
    assert image_of(answer).size == (1024, 1024)
    assert arrived["path"] == "/openai/v1/images/edits"
    assert [file["bytes"] for file in arrived["files"]] == [
        len(large),
        len(picture(kind="WEBP")),
        len(picture(mode="RGBA")),
    ]
    request = stack.record(answer.headers["x-request-id"])["request"]
    assert (request["references"], request["mask"]) == (2, True)


def test_json_edit_with_names(stack: Stack) -> None:
    """Images named by URL are left for the provider to fetch, and counted."""
    images = [{"image_url": "https://example.test/a.png"}, {"image_url": "https://example.test/b.png"}]
    answer = stack.post(EDITS, {**LOW, "images": images})
    assert image_of(answer).format == "PNG"
    assert stack.sandbox.requests()[0]["fields"]["images"] == images
    assert stack.record(answer.headers["x-request-id"])["usage"]["image_in"] == 2048


def test_image_urls_make_an_edit(stack: Stack) -> None:
    """`image_urls` on generations becomes an edit with those images."""
    urls = ["https://example.test/a.png", "https://example.test/b.png"]
    answer = stack.post(GENERATIONS, {**LOW, "image_urls": urls})
    [arrived] = stack.sandbox.requests()
    assert image_of(answer).size == (1024, 1024)
    assert arrived["path"] == "/openai/v1/images/edits"
    assert arrived["fields"]["images"] == [{"image_url": url} for url in urls]
    assert "image_urls" not in arrived["fields"]
    assert stack.record(answer.headers["x-request-id"])["operation"] == "edit"


def test_edit_without_images(stack: Stack) -> None:
    """A JSON edit that names no image is refused."""
    with nothing_spent(stack):
        answer = stack.post(EDITS, {**LOW, "images": []})
    assert (answer.status, answer.error["param"]) == (400, "image")


def test_unknown_fields_pass_through(stack: Stack) -> None:
    """Fields and numbers that the gateway does not know reach the provider as they were written."""
    own = '"shiny_new_field": {"a": [1.50, 1e3, "\\u00e9", null]}, "moderation": "low", "seed": 12345678901234567890'
    body = f'{{"prompt": "caf\\u00e9 \\ud83d\\ude00", "model": "gpt-image-2", "quality": "low", {own}}}'.encode()
    answer = stack.post(GENERATIONS, data=body)
    fields = stack.sandbox.requests()[0]["fields"]
    # Whether the provider takes the field is its own business; what counts is what arrived.
    assert answer.status in (200, 400)
    assert fields["shiny_new_field"] == {"a": [1.5, 1000.0, "é", None]}
    assert fields["seed"] == 12345678901234567890
    assert fields["moderation"] == "low"
    assert fields["prompt"] == "café 😀"


def test_unknown_quality_passes_through(stack: Stack) -> None:
    """A quality nobody has heard of is sent as it is; the provider's own refusal comes back and costs nothing."""
    answer = stack.post(GENERATIONS, {**LOW, "quality": "hyper"}, headers={"x-gateway-job-type": "only_main"})
    assert stack.sandbox.requests()[0]["fields"]["quality"] == "hyper"
    assert answer.status == 400
    assert "hyper" in answer.error["message"]
    assert answer.headers["x-gateway-route"] == "main/gpt-image-2"
    assert stack.held() == 0


def test_a_size_with_a_multiplication_sign_is_sent_with_an_x(stack: Stack) -> None:
    """EvoLink's clients may write either."""
    made = stack.post(GENERATIONS, {**LOW, "size": "1536\N{MULTIPLICATION SIGN}1024"})
    assert image_of(made).size == (1536, 1024)
    assert stack.sandbox.requests()[0]["fields"]["size"] == "1536x1024"


def test_unknown_form_fields_pass_through(stack: Stack) -> None:
    """A form keeps fields that the gateway does not know; what only the gateway understands stays here."""
    parts = {"prompt": "x", "model": "gpt-image-2", "quality": "low", "shiny[new]": "yes", "async": "false"}
    boundary = "b"
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in parts.items()
    )
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'.encode()
    body += head + picture() + f"\r\n--{boundary}--\r\n".encode()
    stack.post(EDITS, data=body, headers={"content-type": f"multipart/form-data; boundary={boundary}"})
    fields = stack.sandbox.requests()[0]["fields"]
    assert fields["shiny[new]"] == "yes"
    assert "async" not in fields


def test_client_headers_stay_here(stack: Stack) -> None:
    """Nothing that a client sends in its headers reaches the provider: no key, no cookie, no account, no address."""
    headers = {
        "cookie": "session=1",
        "openai-organization": "org-of-the-client",
        "openai-project": "proj-of-the-client",
        "x-forwarded-for": "10.0.0.1",
        "x-custom": "1",
        "user-agent": "the-client/1.0",
        "accept-encoding": "gzip, br",
        "proxy-authorization": "Basic x",
        "te": "trailers",
        "x-hop": "1",
        "connection": "x-hop",
        "x-stainless-retry-count": "0",
        "x-gateway-job-type": "only_main",
    }
    assert stack.post(GENERATIONS, LOW, headers={**headers, "api-key": stack.key()}).status == 200
    sent = dict(stack.sandbox.requests()[0]["headers"])
    assert set(sent) == SENT_UPSTREAM
    assert sent["authorization"].endswith(f"***{stack.sandbox.api_key[-4:]}")
    assert sent["user-agent"].startswith("image-gateway/")
    assert sent["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [200, 400])
def test_provider_headers_stay_there(stack: Stack, status: int) -> None:
    """Cookies, the account's name and the provider's own request id do not come back, in success or in error."""
    if status == 400:
        stack.sandbox.fault("status", status=400, headers={"x-powered-by": "secret"}, message="bad key sk-sandbox")
    answer = stack.post(GENERATIONS, LOW)
    assert answer.status == status
    assert not {"set-cookie", "openai-organization", "server", "x-powered-by"} & set(answer.headers)
    assert answer.headers["x-request-id"] != stack.sandbox.requests()[0]["request"]
    assert stack.sandbox.api_key.encode() not in answer.body
    assert "x-ratelimit-limit-requests" in answer.headers or status == 400


REVEALING = """\
Set-Cookie: a=b
Authorization: Bearer sk-sandbox
Api-Key: sk-sandbox
Openai-Organization: org-secret
Connection: close, X-Hop
X-Hop: 1
Keep-Alive: timeout=9
Proxy-Authenticate: Basic
Trailer: X-Late
Upgrade: h2c
Server: vendor/1
X-Gateway-Route: forged
X-Request-Id: req_forged
Www-Authenticate: Bearer
Location: https://elsewhere.test/
""".replace("\n", "\r\n")
IMAGE = base64.b64encode(picture()).decode()
ANSWER = {
    "created": 1,
    "data": [{"b64_json": IMAGE}],
    "usage": {
        "input_tokens": 1,
        "output_tokens": 196,
        "total_tokens": 197,
        "input_tokens_details": {"text_tokens": 1, "image_tokens": 0},
    },
}


@pytest.fixture
async def talkative() -> AsyncIterator[RawServer]:
    """A provider whose answers carry every header that they should not."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(json.dumps(ANSWER).encode(), headers=REVEALING)

    async with serving(script) as server:
        yield server


async def test_hop_by_hop_headers(
    talkative: RawServer, tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox
) -> None:
    """Hop-by-hop headers, credentials and forgeries of a provider are dropped, and none of ours is added upstream."""

    def run() -> Reply:
        directory = tmp_path_factory.mktemp("gateway")
        policy = CLIENTS.replace("${SANDBOX_URL}", talkative.url)
        with running_gateway(directory, policy, sandbox) as stack:
            return stack.post(GENERATIONS, LOW, headers={"x-hop": "1", "connection": "x-hop, close"})

    answer = await asyncio.to_thread(run)
    assert image_of(answer).size == (64, 64)
    assert set(answer.headers) <= {
        "date", "connection", "content-type", "content-length", "cache-control", "x-request-id", "x-gateway-route",
        "x-gateway-job-type", "x-gateway-attempts", "x-gateway-cost-estimate", "x-gateway-cost",
        "x-gateway-budget-remaining",
    }  # fmt: skip
    assert answer.headers["x-gateway-route"] == "main/gpt-image-2"
    assert answer.headers["x-request-id"] != "req_forged"
    [request] = talkative.requests
    assert {name for name, _ in request.headers} == SENT_UPSTREAM
    assert request.header("authorization") == f"Bearer {sandbox.api_key}"


async def test_a_stream_that_breaks_after_it_told_its_cost(
    tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox
) -> None:
    """What it reported is booked, not the worst case; within an event it can only be cut off."""
    event = {"type": "image_generation.completed", "b64_json": IMAGE, "usage": ANSWER["usage"]}
    data = f"data: {json.dumps(event)}\n\n".encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    torn = data + b'data: {"type": '

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"%s%x\r\n%s\r\n" % (head, len(torn), torn))

    def run(url: str) -> tuple[bytes, Any]:
        directory = tmp_path_factory.mktemp("gateway")
        with running_gateway(directory, CLIENTS.replace("${SANDBOX_URL}", url), sandbox) as stack:
            headers = {"authorization": f"Bearer {stack.key()}"}
            target, body = f"http://127.0.0.1:{stack.port}{GENERATIONS}", {**LOW, "stream": True}
            came: list[bytes] = []
            with httpx.stream("POST", target, json=body, headers=headers, trust_env=False) as answer:
                with pytest.raises(httpx.RemoteProtocolError):
                    came.extend(answer.iter_bytes())
                return b"".join(came), stack.record(answer.headers["x-request-id"])

    async with serving(script) as server:
        answer, record = await asyncio.to_thread(run, server.url)
    assert answer.startswith(data)
    assert (record["state"], record["cost_source"], record["unconfirmed"]) == ("settled", "usage", False)

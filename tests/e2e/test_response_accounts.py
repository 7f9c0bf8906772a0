"""What accounts say of responses when something went wrong, as it reaches clients and the ledger."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import booked, settled
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until
from tests.ports import free_port

PORT = free_port()
POLICY = f"""
text_models:
  gpt-5.2:
    context: 400000
    max_tokens_per_image: 1536
    price: [{{from: 2026-01-01, text_in: "1.75", text_in_cached: "0.175", text_out: "14"}}]
providers:
  main: {{kind: openai, base_url: "http://127.0.0.1:{PORT}/v1", api_key: "${{SANDBOX_KEY}}", timeout: 10s}}
routes:
  main/gpt-image-2: {{provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}}
  main/flare: {{provider: main, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare-2026-09-08}}
job_types:
  chat:
    routes: [main/gpt-image-2]
    defaults: {{quality: low, size: 1024x1024}}
    responses: {{provider: main, models: [gpt-5.2], max_images: 3, max_output_tokens: 2000}}
  trial:
    routes: [main/gpt-image-2]
    experiment: {{name: beta, split: {{main/flare: 100%}}}}
    responses: {{provider: main, models: [gpt-5.2], max_output_tokens: 2000}}
projects:
  team: {{job_types: [chat, trial], default_job_type: chat, budgets: [{{window: total, limit: "1000"}}]}}
passthrough: {{provider: main, paths: [/v1/files]}}
"""
CALL = {"type": "image_generation_call", "id": "ig", "status": "completed", "result": "AAAA", "size": "1024x1024"}
COST = 196 * 30_000 + 100 * 1_750 + 30 * 14_000
"""Of the response that `response` gives: the image of 196 tokens, and the text around it."""

Said = tuple[int, object]


class Events(bytes):
    """A stream that does not break off."""


def response(name: str, status: str = "completed") -> dict[str, Any]:
    """A response with one image, or without any while it goes on."""
    done = status == "completed"
    image = {"input_tokens": 0, "output_tokens": 196, "total_tokens": 196}
    return {
        "id": name,
        "object": "response",
        "status": status,
        "output": [CALL] if done else [],
        "usage": {"input_tokens": 100, "output_tokens": 30, "total_tokens": 130} if done else None,
        "tool_usage": {"image_gen": image} if done else None,
    }


def refusal(message: str, code: str | None = None) -> dict[str, Any]:
    """An error as the vendor has it."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


@dataclass
class Account:
    """What the account answers to each method, a document with its status or the bytes of a stream that breaks off."""

    answers: dict[str, Callable[[], Said]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """An account that answers as a test says."""
    found = Account()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, said = found.answers[self.command]()
            self.send_response(status)
            if isinstance(said, bytes):
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Content-Length", str(len(said) + (not isinstance(said, Events))))
                self.end_headers()
                self.wfile.write(said)
                self.close_connection = True
                return
            told = said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - names that the library looks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway in front of the account."""
    with running_gateway(tmp_path_factory.mktemp("accounts"), POLICY, sandbox) as running:
        yield running


def make(stack: Stack, account: Account, said: object, **fields: object) -> Reply:
    """Lead a conversation that is answered with this."""
    account.answers["POST"] = lambda: (200, said)
    body = {"model": "gpt-5.2", "input": "a lighthouse", "tools": [{"type": "image_generation"}], **fields}
    return stack.post("/v1/responses", body)


def event(kind: str, said: dict[str, Any]) -> bytes:
    """One event that carries a response."""
    data = {"type": kind, "sequence_number": 1, "response": said}
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def delete(stack: Stack, name: str) -> Reply:
    """Delete a response."""
    headers = {"authorization": f"Bearer {stack.key()}"}
    return fetch(f"{stack.url}/responses/{name}", headers=headers, method="DELETE")


SECRET = "Incorrect API key provided: {}."


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_of_the_account_is_no_word_about_the_clients_key(
    stack: Stack, account: Account, sandbox: Sandbox, status: int
) -> None:
    """Every way to it answers 502, and nobody learns the account's secret."""
    assert make(stack, account, response("resp_refused")).status == 200
    said = refusal(SECRET.format(sandbox.api_key), "invalid_api_key")
    account.answers = dict.fromkeys(("GET", "POST", "DELETE"), lambda: (status, said))
    replies = [
        stack.get("/v1/responses/resp_refused"),
        stack.get("/v1/responses/resp_refused/input_items"),
        stack.post("/v1/responses/resp_refused/cancel"),
        delete(stack, "resp_refused"),
        stack.get("/v1/files"),
        stack.post("/v1/files", {}),
    ]
    assert [reply.status for reply in replies] == [502] * 6
    for reply in replies:
        assert reply.error["code"] == "upstream_error"
        assert sandbox.api_key.encode() not in reply.body


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500])
def test_other_errors_keep_their_status_and_tell_no_secret(
    stack: Stack, account: Account, sandbox: Sandbox, status: int
) -> None:
    """In the shape of the API, also where the account has another; what is no error at all gets words."""
    assert make(stack, account, response("resp_errors")).status == 200
    for said in (refusal(SECRET.format(sandbox.api_key)), {"detail": SECRET.format(sandbox.api_key)}, "<html>no"):
        account.answers["GET"] = partial(lambda told: (status, told), said)
        for path in ("/v1/responses/resp_errors", "/v1/files/file-1"):
            reply = stack.get(path)
            assert reply.status == status
            assert reply.error["message"]
            assert said != "<html>no" or reply.error["type"] == (
                "server_error" if status == 500 else "invalid_request_error"
            )
            assert sandbox.api_key.encode() not in reply.body


@pytest.mark.parametrize("said", [{}, {"error": {"message": "x", "code": "oops"}}])
def test_a_success_that_holds_no_response_is_an_error(stack: Stack, account: Account, said: object) -> None:
    """As for images: 502, and the worst case is booked, since the work may have been done."""
    before = booked(stack)
    reply = make(stack, account, said)
    assert (reply.status, reply.error["code"]) == (502, "upstream_error")
    settled(stack)
    after = booked(stack) - before
    assert after.unconfirmed == after.route > COST


def test_a_stream_that_breaks_off_behind_its_end_is_settled_by_it(stack: Stack, account: Account) -> None:
    """Nothing is unknown that `response.completed` has said, and no error follows it."""
    before = booked(stack)
    stream = event("response.completed", response("resp_cut"))
    assert make(stack, account, stream, stream=True).body == stream
    settled(stack)
    after = booked(stack) - before
    assert (after.route, after.unconfirmed) == (COST, 0)


def test_a_stream_of_images_that_breaks_off_behind_its_end_is_whole(stack: Stack, account: Account) -> None:
    """`[DONE]` has said that nothing follows."""
    before = booked(stack)
    usage = {"input_tokens": 0, "output_tokens": 196, "total_tokens": 196}
    data = {"type": "image_generation.completed", "b64_json": "AAAA", "usage": usage}
    image = f"event: image_generation.completed\ndata: {json.dumps(data)}\n\n".encode()
    account.answers["POST"] = lambda: (200, image + b"data: [DONE]\n\n")
    assert stack.post("/v1/images/generations", {"prompt": "a lighthouse", "stream": True}).body == image
    settled(stack)
    after = booked(stack) - before
    assert (after.route, after.unconfirmed) == (196 * 30_000, 0)


def test_what_was_deleted_once_it_had_ended_is_settled_by_what_it_said(stack: Stack, account: Account) -> None:
    """The account is asked before it forgets: the follower may not have looked since."""
    before, state = booked(stack), ["in_progress"]
    account.answers["GET"] = lambda: (
        (404, refusal("not found")) if state[0] == "gone" else (200, response("resp_gone", state[0]))
    )

    def forget() -> Said:
        state[0] = "gone"
        return 200, {"deleted": True}

    account.answers["DELETE"] = forget
    make(stack, account, response("resp_gone", "queued"), background=True)
    state[0] = "completed"
    assert delete(stack, "resp_gone").status == 200
    settled(stack)
    after = booked(stack) - before
    assert (after.route, after.unconfirmed) == (COST, 0)


def test_one_answer_that_a_response_is_not_known_ends_nothing(stack: Stack, account: Account) -> None:
    """Just after it was made the account may not know it everywhere."""
    before, looks = booked(stack), iter([False, False])
    account.answers["GET"] = lambda: (200, response("resp_late")) if next(looks, True) else (404, refusal("not found"))
    make(stack, account, response("resp_late", "queued"), background=True)
    settled(stack)
    after = booked(stack) - before
    assert (after.route, after.unconfirmed) == (COST, 0)


def test_an_account_and_a_route_may_get_other_names_meanwhile(stack: Stack, account: Account) -> None:
    """Work that began under the old ones is asked after and settled by its own prices, and its client still sees it."""
    before, state = booked(stack), ["in_progress"]
    account.answers["GET"] = lambda: (200, response("resp_moved", state[0]))
    make(stack, account, response("resp_moved", "queued"), background=True)
    rules = stack.policy / "policy.yaml"
    rules.write_text(POLICY.replace("main/gpt", "acct/gpt").replace("main: {", "acct: {").replace(": main", ": acct"))
    try:
        assert fetch(f"http://127.0.0.1:{stack.admin_port}/admin/reload", method="POST").status == 200
        assert stack.get("/v1/responses/resp_moved").json["status"] == "in_progress"
        state[0] = "completed"
        settled(stack)
    finally:
        rules.write_text(POLICY)
        assert fetch(f"http://127.0.0.1:{stack.admin_port}/admin/reload", method="POST").status == 200
    after = booked(stack) - before
    assert (after.route, after.unconfirmed) == (COST, 0)


def test_an_account_that_loses_its_name_before_it_was_asked_is_known_still(
    tmp_path: Path, sandbox: Sandbox, account: Account
) -> None:
    """Under each of its names: what was made is found, and work in the background is settled by what it says."""
    with running_gateway(tmp_path, POLICY, sandbox) as own:
        for name, following in (("main", "acct"), ("acct", "third")):
            account.answers["GET"] = lambda: (500, refusal("come later"))
            make(own, account, response(f"resp_{name}"))
            make(own, account, response(f"resp_{name}_behind", "queued"), background=True)
            renamed = POLICY.replace("main: {kind", f"{following}: {{kind").replace(": main", f": {following}")
            (own.policy / "policy.yaml").write_text(renamed)
            assert fetch(f"http://127.0.0.1:{own.admin_port}/admin/reload", method="POST").status == 200
        account.answers["GET"] = lambda: (200, response("resp_behind"))
        for name in ("main", "acct"):
            assert own.get(f"/v1/responses/resp_{name}").status == 200
        settled(own)
        found = booked(own)
        assert (found.route, found.unconfirmed) == (4 * COST, 0)


def test_an_experiment_tells_of_conversations(stack: Stack, account: Account) -> None:
    """Header, record and metrics name the arm, also of work in the background."""
    reply = make(stack, account, response("resp_arm"), model="job:trial")
    assert reply.headers["x-gateway-experiment"] == "beta=main/flare"
    assert stack.record(reply.headers["x-request-id"])["experiment"] == {"name": "beta", "arm": "main/flare"}
    assert stack.metric("experiment_requests_total", arm="main/flare") == 1
    counted = stack.metric("experiment_spend_usd_total", arm="main/flare")
    account.answers["GET"] = lambda: (200, response("resp_behind"))
    make(stack, account, response("resp_behind", "queued"), background=True, model="job:trial")
    wait_until(lambda: stack.metric("experiment_spend_usd_total", arm="main/flare") > counted, what="its cost told")


def wordy(name: str) -> dict[str, Any]:
    """A response whose words come with twenty others each: megabytes."""
    one = {"token": " word", "bytes": list(b" word"), "logprob": -0.12345}
    logprobs = [{**one, "top_logprobs": [one] * 20}] * 1500
    text = {"type": "output_text", "text": "word " * 1500, "annotations": [], "logprobs": logprobs}
    said = response(name)
    return {**said, "output": [{"type": "message", "role": "assistant", "content": [text]}, *said["output"]]}


@pytest.mark.parametrize("way", ["document", "events", "background"])
def test_what_each_word_might_have_been_does_not_hide_what_it_cost(stack: Stack, account: Account, way: str) -> None:
    """However long the lists of it are, the answer passes whole and is booked by its usage."""
    before, said = booked(stack), wordy(f"resp_wordy_{way}")
    assert len(json.dumps(said)) > 2 * 1024 * 1024
    account.answers["GET"] = lambda: (200, said)
    if way == "document":
        assert make(stack, account, said).json == said
    elif way == "events":
        part = said["output"][0]["content"][0]
        done = {"type": "response.output_text.done", "text": part["text"], "logprobs": part["logprobs"]}
        stream = b"data: %s\n\n" % json.dumps(done).encode() + event("response.completed", said)
        assert make(stack, account, Events(stream), stream=True).body == stream
    else:
        assert make(stack, account, response(said["id"], "queued"), background=True).status == 200
    settled(stack)
    after = booked(stack) - before
    assert (after.route, after.unconfirmed) == (COST, 0)
    assert stack.get(f"/v1/responses/{said['id']}").json == said


@pytest.mark.parametrize("background", [False, True])
def test_an_answer_too_long_to_be_read_is_the_clients_all_the_same(
    stack: Stack, account: Account, background: bool
) -> None:
    """It was paid for: it passes, and is booked at its most, since nothing is known of what it took."""
    before, said = booked(stack), {**response("resp_long"), "tools": [{"name": "x" * 900}] * 1500}
    account.answers["GET"] = lambda: (200, said)
    if background:
        assert make(stack, account, response("resp_long", "queued"), background=True).status == 200
    else:
        assert make(stack, account, said).json == said
    settled(stack)
    after = booked(stack) - before
    assert after.unconfirmed == after.route > COST


def test_fewer_images_than_the_most_are_none_missing(stack: Stack, account: Account) -> None:
    """How many a response makes its text model decides; `max_images` is a bound and no wish."""
    assert "x-gateway-missing-images" not in make(stack, account, response("resp_one")).headers
    reply = make(stack, account, Events(event("response.completed", response("resp_one"))), stream=True)
    assert "x-gateway-missing-images" not in reply.headers


@pytest.mark.parametrize("long", [False, True])
def test_a_document_in_place_of_a_stream_is_told_as_its_last_event(stack: Stack, account: Account, long: bool) -> None:
    """SDKs take it for a stream without any event. One that holds no response is an error, as ever."""
    before, said = booked(stack), response("resp_document")
    said["output"] = [{**CALL, "result": "A" * (200_000 if long else 4)}]
    written = json.dumps(said, indent=1)
    reply = make(stack, account, written, stream=True)
    assert reply.headers["content-type"] == "text/event-stream"
    name, data, *rest = reply.body.decode().split("\n")
    assert (name, rest) == ("event: response.completed", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "response.completed",
        "sequence_number": 0,
        "response": said,
    }
    settled(stack)
    after = booked(stack) - before
    assert (after.route, after.unconfirmed) == (COST, 0)
    assert make(stack, account, refusal("no"), stream=True).status == 502


def test_events_in_place_of_a_document_are_told_as_their_response(stack: Stack, account: Account) -> None:
    """SDKs take them for a text. Where none of them holds the whole response it is an error."""
    before, said = booked(stack), response("resp_events")
    begun = event("response.created", response("resp_events", "in_progress"))
    reply = make(stack, account, Events(begun + event("response.completed", said) + b"data: [DONE]\n\n"))
    assert (reply.headers["content-type"], reply.json) == ("application/json", said)
    settled(stack)
    after = booked(stack) - before
    assert (after.route, after.unconfirmed) == (COST, 0)
    assert make(stack, account, begun + event("response.completed", said)).json == said
    assert make(stack, account, Events(begun)).status == 502
    settled(stack)

"""Traces of a running gateway, as a receiver of OTLP on a socket reads them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.sandbox.client import Sandbox
from gateway.sandbox.server import running_sandbox
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.receiver import receiving
from tests.e2e.stack import Reply, Stack, running_gateway, wait_until
from tests.observe.otlp import Collector, Received, collecting

POLICY = (
    ONE_ACCOUNT.replace(
        'main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1",',
        'main: {kind: openai, trace_context: true, base_url: "${SANDBOX_URL}/openai/v1",',
    )
    + '\negress: {allow: ["127.0.0.0/8"]}\n'
    + 'passthrough: {provider: main, paths: [/v1/files], price_per_request: "0.01"}\n'
)
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FROM_CLIENT = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1", "baggage": "user=alice"}
PROMPT = "a lighthouse that nobody may read about"
JOB = {"model": "job:only_main", "prompt": PROMPT, "quality": "low", "size": "1024x1024"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A simulated provider."""
    with running_sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where spans go."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox, collector: Collector) -> Iterator[Stack]:
    """A gateway that traces; one of its accounts is told of traces."""
    folder = tmp_path_factory.mktemp("traced")
    with running_gateway(folder, POLICY, sandbox, "--tracing", environ=collector.environ) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(sandbox: Sandbox, collector: Collector, stack: Stack) -> None:
    stack.key()
    sandbox.reset()
    collector.spans.clear()


def generate(stack: Stack, headers: dict[str, str] | None = None, **changes: object) -> Reply:
    """Ask for an image."""
    return stack.post("/v1/images/generations", {**JOB, **changes}, headers=headers or {})


def request_span(collector: Collector, reply: Reply, start: str = "request") -> Received:
    """The span of a request, once it is there."""

    def found() -> Received | None:
        mine = reply.headers["x-request-id"]
        return next((s for s in collector.named(start) if s.told["image_gateway.request_id"] == mine), None)

    span = wait_until(found, 60, f"the span {start}")
    assert isinstance(span, Received)
    return span


def lines(stack: Stack) -> list[dict[str, Any]]:
    """What the gateway has logged."""
    return [json.loads(line) for line in stack.log.read_text().splitlines() if line.startswith("{")]


def test_a_request_goes_on_with_the_trace_of_its_client(stack: Stack, sandbox: Sandbox, collector: Collector) -> None:
    """Its span is the child of the client's, has one for each part of the work, and tells project, route and money."""
    reply = generate(stack, FROM_CLIENT)
    assert reply.status == 200, reply.body
    server = request_span(collector, reply)
    children = {span.name: span for span in collector.spans if span.parent == server.id}
    call = children["generate_content gpt-image-2-2026-04-21"]
    told = server.told

    assert (server.trace, server.parent, server.span.kind) == (TRACE, PARENT, Span.SPAN_KIND_SERVER)
    assert {"choose route", "ledger hold", "ledger settle"} <= set(children)
    assert told["image_gateway.project"] == "team"
    assert told["image_gateway.job_type"] == "only_main"
    assert told["image_gateway.route"] == "main/gpt-image-2"
    assert told["image_gateway.outcome"] == "ok"
    assert told["image_gateway.cost_usd"] == pytest.approx(float(reply.headers["x-gateway-cost"]))
    assert told["image_gateway.estimate_usd"] >= told["image_gateway.cost_usd"]
    assert server.resource["service.name"] == "image-gateway"
    [event] = [event for event in server.span.events if event.name == "hold ended"]
    assert event.attributes
    assert call.span.kind == Span.SPAN_KIND_CLIENT
    asked = {"gen_ai.operation.name": "generate_content", "gen_ai.output.type": "image"}
    assert asked.items() <= call.told.items()
    assert call.told["gen_ai.request.model"] == "gpt-image-2-2026-04-21"
    assert call.told["gen_ai.usage.output_tokens"] > 0
    assert call.told["gen_ai.usage.input_tokens"] > 0


def test_what_goes_through_has_its_request_s_id_and_money(stack: Stack, collector: Collector) -> None:
    """Its span tells what was held and booked, and its log line names the span."""
    reply = stack.get("/v1/files")
    server = request_span(collector, reply, "request passthrough")
    mine = reply.headers["x-request-id"]
    line = wait_until(
        lambda: next((one for one in lines(stack) if one.get("request_id") == mine), None), 30, "its line"
    )

    assert reply.status == 200
    assert server.told["image_gateway.estimate_usd"] == server.told["image_gateway.cost_usd"] == pytest.approx(0.01)
    assert server.told["image_gateway.attempts"] == 1
    assert (line["trace_id"], line["span_id"]) == (server.trace, server.id)


def test_only_an_account_that_policy_names_is_told_of_the_trace(
    stack: Stack, sandbox: Sandbox, collector: Collector
) -> None:
    """It gets `traceparent` of the call, and `tracestate`, but never `baggage`; the other account gets nothing."""
    sandbox.fault("status", status=503, times=1)
    reply = generate(stack, FROM_CLIENT, model="job:fallback")
    server = request_span(collector, reply)
    wait_until(lambda: len(collector.named("generate_content")) >= 2, 60, "both calls")
    first, second = [dict(arrived["headers"]) for arrived in sandbox.requests()][:2]
    calls = {span.told["image_gateway.provider"]: span for span in collector.named("generate_content")}

    assert reply.status == 200
    assert first["traceparent"] == f"00-{TRACE}-{calls['main'].id}-01"
    assert first["tracestate"] == "vendor=1"
    assert "baggage" not in first
    assert not {"traceparent", "tracestate", "baggage"} & set(second)
    assert calls["main"].told["error.type"]
    assert {"upstream failed", "fell back"} <= {event.name for event in server.span.events}


def test_a_client_without_a_trace_begins_one_and_its_log_line_names_it(stack: Stack, collector: Collector) -> None:
    """The line of the request has the ids of its span, by which logs and traces are put together."""
    reply = generate(stack)
    server = request_span(collector, reply)
    mine = reply.headers["x-request-id"]
    line = wait_until(
        lambda: next((one for one in lines(stack) if one.get("request_id") == mine), None), 30, "its line"
    )

    assert server.parent == ""
    assert (line["trace_id"], line["span_id"]) == (server.trace, server.id)


def test_a_log_line_names_the_trace_of_its_own_request(stack: Stack) -> None:
    """Though many end in the same moment."""
    stack.key()

    def one(number: int) -> tuple[str, str]:
        trace = f"{number:032x}"
        reply = stack.post("/v1/images/generations", JOB, headers={"traceparent": f"00-{trace}-{PARENT}-01"})
        assert reply.status == 200, reply.body
        return reply.headers["x-request-id"], trace

    with ThreadPoolExecutor(16) as pool:
        sent = dict(pool.map(one, range(1, 17)))

    def told() -> dict[str, str]:
        asked = (line for line in lines(stack) if line.get("request_id") in sent)
        return {line["request_id"]: line.get("trace_id", "none") for line in asked}

    wait_until(lambda: len(told()) == len(sent), 10, "their lines")
    assert told() == sent


def test_a_trace_that_its_client_does_not_record_is_not_recorded_here(stack: Stack, collector: Collector) -> None:
    """Sampling goes by the parent, so a request that is sampled out leaves no span, while the next one does."""
    generate(stack, {"traceparent": f"00-{'a' * 32}-{PARENT}-00"})
    request_span(collector, generate(stack))

    assert not [span for span in collector.spans if span.trace == "a" * 32]


@pytest.mark.parametrize("header", ["nonsense", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", "\xe9" * 300])
def test_a_trace_that_cannot_be_read_is_none(stack: Stack, collector: Collector, header: str) -> None:
    """A request with a broken `traceparent` or `tracestate` is answered as any other, and begins a trace."""
    reply = generate(stack, {"traceparent": header, "tracestate": f"{header}=,,=;"})

    assert reply.status == 200
    assert request_span(collector, reply).parent == ""


def test_a_refused_request_says_why(stack: Stack, collector: Collector) -> None:
    """The span of a request that policy refuses has the error's code and the status that the client got."""
    reply = generate(stack, model="job:nothing")
    told = request_span(collector, reply).told

    assert told["http.response.status_code"] == reply.status
    assert told["error.type"] == reply.error["code"]
    assert told["image_gateway.outcome"] == "error"


def test_the_work_of_a_task_is_linked_to_the_request_that_made_it(stack: Stack, collector: Collector) -> None:
    """It is a trace of its own with a link to the other one, and the callback at its end has a span."""
    with receiving() as receiver:
        asked = {"callback_url": f"http://127.0.0.1:{receiver.port}/done"}
        made = generate(stack, {**FROM_CLIENT, "prefer": "respond-async"}, **asked)
        assert made.status == 202, made.body
        creator = request_span(collector, made)
        work = request_span(collector, made, "task")
        wait_until(lambda: collector.named("call back"), 60, "the call back's span")
    [link] = work.span.links

    assert work.span.kind == Span.SPAN_KIND_CONSUMER
    assert work.trace != creator.trace
    assert (link.trace_id.hex(), link.span_id.hex()) == (creator.trace, creator.id)
    assert [span for span in collector.named("generate_content") if span.parent == work.id]
    assert collector.named("call back")[0].told["http.response.status_code"] == 204


def test_no_prompt_no_key_and_no_host_leaves_in_a_span(stack: Stack, sandbox: Sandbox, collector: Collector) -> None:
    """Whatever was sent to the receiver in this module names neither what was asked for nor where it went."""
    request_span(collector, generate(stack, FROM_CLIENT))
    sent = b"".join(collector.raw)

    for secret in (PROMPT, stack.key(), sandbox.api_key, sandbox.url, "127.0.0.1", "alice"):
        assert secret.encode() not in sent


def test_a_gateway_that_does_not_trace_loads_nothing_for_it() -> None:
    """What `serve` imports by itself makes no spans and sends none; the store's library may import what it likes."""
    unwanted = ["gateway.observe.spans", "opentelemetry.sdk.trace", "opentelemetry.exporter"]
    script = f"import sys, gateway.cli.main, gateway.cli.serve; sys.exit(any(n in sys.modules for n in {unwanted}))"

    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("environ", "said"),
    [({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"), ({}, "image-gateway[tracing]")],
    ids=["protocol", "extra"],
)
def test_tracing_that_cannot_be_had_is_an_error_at_the_start(stack: Stack, environ: dict[str, str], said: str) -> None:
    """A protocol that is not spoken, or an extra that is not installed, ends `serve` with one line that says so."""
    hidden = "import sys; sys.modules['opentelemetry'] = None; " if not environ else ""
    script = f"{hidden}from gateway.__main__ import main; main()"
    arguments = ["serve", "--policy", str(stack.policy), "--tracing", "--port", "0", "--admin-port", "0"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**stack.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def away(how: str) -> Iterator[int]:
    """A port where no receiver of spans is: nobody listens, or somebody who never answers, or who answers nonsense."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        if how == "closed":
            listener.close()
        yield port


@pytest.mark.parametrize("how", ["closed", "silent"])
def test_a_receiver_that_is_away_holds_up_nothing(tmp_path: Path, sandbox: Sandbox, how: str) -> None:
    """Requests are answered as ever, the log says in a line what is wrong, and the gateway ends in order."""
    with away(how) as port:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_BSP_MAX_QUEUE_SIZE": "8",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
        }
        with running_gateway(tmp_path, POLICY, sandbox, "--tracing", environ=environ) as stack:
            assert {generate(stack).status for _ in range(20)} == {200}
            wait_until(lambda: [line for line in lines(stack) if "opentelemetry" in line["logger"]], 60, "the trouble")
            assert stack.stop() == 0
            told = stack.log.read_text()
            assert "Traceback" not in told


def test_a_code_that_a_provider_makes_up_is_told_as_a_word_of_ours(
    stack: Stack, sandbox: Sandbox, collector: Collector
) -> None:
    """What a provider calls its error may be anything, even the account's key, and is not passed on in a span."""
    sandbox.fault("error_in_stream", code=sandbox.api_key)
    reply = generate(stack, FROM_CLIENT, stream=True)
    span = request_span(collector, reply)
    calls = wait_until(
        lambda: [each for each in collector.named("generate_content") if each.parent == span.id], 60, "the call's span"
    )
    for failed in (calls[0], span):
        assert failed.told["error.type"] == "error_in_answer"
        assert failed.span.status.code == Status.STATUS_CODE_ERROR
    assert sandbox.api_key.encode() not in b"".join(collector.raw)

"""Each fault, seen from the wire or through the SDK, and what it does to the bill."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from openai import OpenAI

from gateway.sandbox.client import Sandbox, SandboxError
from gateway.sandbox.fault_catalog import FAULTS
from gateway.sandbox.server import running_sandbox
from tests.sandbox.conftest import decode, pictures, png, raw

DOCUMENT = Path(__file__).parents[2] / "docs" / "sandbox.md"


def charged(sandbox: Sandbox) -> int:
    """Return how many requests are on the bill."""
    return len(sandbox.bill()["lines"])


def generate(client: OpenAI, **more: Any) -> openai.types.ImagesResponse:
    """Ask for one cheap image."""
    wanted: dict[str, Any] = {"model": "gpt-image-2", "prompt": "cat", "size": "1024x1024", "quality": "low", **more}
    answer = client.images.generate(**wanted)
    assert isinstance(answer, openai.types.ImagesResponse)
    return answer


@pytest.mark.parametrize("billed", [True, False])
def test_reset(sandbox: Sandbox, billed: bool) -> None:
    """The connection is reset, a real RST, and charged or not as asked."""
    sandbox.fault("reset", billed=billed)
    with pytest.raises(ConnectionResetError):
        raw(sandbox)
    assert charged(sandbox) == int(billed)
    assert sandbox.requests()[0]["client_stayed"] is True


def test_lost_response(sandbox: Sandbox) -> None:
    """The request is charged and the connection closed without a byte."""
    sandbox.fault("lost_response")
    assert raw(sandbox) == b""
    assert charged(sandbox) == 1


def test_connection_closed_before_the_body_is_read(sandbox: Sandbox) -> None:
    """The connection ends as soon as the headers are in, with FIN or RST, uncharged; the other operation is not hit."""
    sandbox.fault("connection_closed", match={"operation": "edit"})
    sandbox.fault("connection_closed", match={"operation": "generate"})
    sandbox.fault("connection_closed", rst=True)
    parts = urlsplit(sandbox.url)
    assert parts.hostname is not None
    head = b"POST /openai/v1/images/generations HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(1) == b""
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=10) as connection:
        connection.sendall(head)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert charged(sandbox) == 0
    assert [fault["hits"] for fault in sandbox.faults()] == [0, 1, 1]


def test_timeout_hangs_until_the_client_leaves(sandbox: Sandbox) -> None:
    """No answer comes, the work is charged, and the request list shows that the client left."""
    sandbox.fault("timeout")
    with pytest.raises(TimeoutError):
        raw(sandbox, timeout=0.3)
    deadline = time.monotonic() + 10
    while sandbox.requests()[0]["client_stayed"] is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sandbox.requests()[0]["client_stayed"] is False
    assert charged(sandbox) == 1


def test_a_client_that_leaves_does_not_stop_the_work(sandbox: Sandbox) -> None:
    """Work that was begun is finished and charged though nobody waits for it, and the request list says so."""
    sandbox.fault("slow", seconds=1)
    with pytest.raises(TimeoutError):
        raw(sandbox, timeout=0.05)
    deadline = time.monotonic() + 10
    while sandbox.requests()[0]["client_stayed"] is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert charged(sandbox) == 1
    assert sandbox.requests()[0]["client_stayed"] is False


@pytest.mark.parametrize("percent", [0, 1, 50, 99])
def test_half_body(sandbox: Sandbox, percent: int) -> None:
    """A 200 announces its length and delivers that share of it."""
    sandbox.fault("half_body", percent=percent)
    head, _, body = raw(sandbox).partition(b"\r\n\r\n")
    announced = re.search(rb"content-length: (\d+)", head)
    assert head.startswith(b"HTTP/1.1 200")
    assert announced is not None
    assert len(body) == int(announced[1]) * percent // 100
    assert charged(sandbox) == 1


def test_half_body_with_reset_and_in_a_stream(sandbox: Sandbox, client: OpenAI) -> None:
    """The cut can be a RST, and it can fall into a stream."""
    sandbox.fault("half_body", rst=True)
    with pytest.raises(ConnectionResetError):
        raw(sandbox)
    sandbox.fault("half_body")
    stream = client.images.generate(model="gpt-image-2", prompt="cat", stream=True, partial_images=3)
    with pytest.raises(openai.APIConnectionError):
        list(stream)
    assert charged(sandbox) == 2


def test_status(sandbox: Sandbox, client: OpenAI) -> None:
    """Any status in OpenAI's shape with headers of one's own, uncharged, as many times as asked."""
    sandbox.fault("status", times=2, status=503, code="overloaded", headers={"x-should-retry": "false"})
    for _ in range(2):
        with pytest.raises(openai.InternalServerError) as failed:
            generate(client)
        assert (failed.value.status_code, failed.value.code, failed.value.type) == (503, "overloaded", "server_error")
        assert failed.value.response.headers["x-should-retry"] == "false"
    generate(client)
    assert charged(sandbox) == 1


def test_status_as_a_bare_page(sandbox: Sandbox) -> None:
    """A proxy's error page instead of JSON."""
    sandbox.fault("status", status=502, bare=True, message="Bad gateway")
    answer = raw(sandbox)
    assert answer.startswith(b"HTTP/1.1 502")
    assert b"content-type: text/html" in answer
    assert b"Bad gateway" in answer


@pytest.mark.parametrize("wait", [7, 0.5, "Wed, 21 Oct 2026 07:28:00 GMT", "-3", None])
def test_rate_limit(sandbox: Sandbox, client: OpenAI, wait: float | str | None) -> None:
    """A 429 with the wait as seconds, as any text, or not at all."""
    sandbox.fault("rate_limit", retry_after=wait)
    with pytest.raises(openai.RateLimitError) as limited:
        generate(client)
    assert limited.value.code == "rate_limit_exceeded"
    expected = {7: "7", 0.5: "1"}.get(wait, wait) if isinstance(wait, int | float) else wait
    assert limited.value.response.headers.get("retry-after") == expected
    assert limited.value.response.headers["x-ratelimit-remaining-input-images"] == "0"
    assert charged(sandbox) == 0


def test_moderation(sandbox: Sandbox, client: OpenAI) -> None:
    """A refusal at the output stage may be charged."""
    sandbox.fault("moderation", stage="output", categories=["self-harm"], billed=True)
    with pytest.raises(openai.BadRequestError) as blocked:
        generate(client)
    assert blocked.value.code == "moderation_blocked"
    assert isinstance(blocked.value.body, dict)
    assert blocked.value.body["moderation_details"] == {"moderation_stage": "output", "categories": ["self-harm"]}
    assert charged(sandbox) == 1


def test_html_and_garbage(sandbox: Sandbox) -> None:
    """A page with status 200 is not charged, a broken JSON body is."""
    sandbox.fault("html")
    answer = raw(sandbox)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"text/html" in answer
    assert charged(sandbox) == 0
    sandbox.fault("garbage")
    with pytest.raises(json.JSONDecodeError):
        json.loads(raw(sandbox).partition(b"\r\n\r\n")[2])
    assert charged(sandbox) == 1


def test_usage_faults(sandbox: Sandbox, client: OpenAI) -> None:
    """Usage can be absent, all zero, or anything, NaN included, while the bill says what was really used."""
    sandbox.fault("no_usage")
    assert generate(client).usage is None
    sandbox.fault("zero_usage")
    zero = generate(client).usage
    assert zero is not None
    assert (zero.input_tokens, zero.output_tokens, zero.total_tokens) == (0, 0, 0)
    sandbox.fault("garbage_usage")
    assert (
        json.loads(raw(sandbox).partition(b"\r\n\r\n")[2])["usage"]
        == FAULTS["garbage_usage"].parameters["usage"].default
    )
    sandbox.fault("garbage_usage", usage={"output_tokens": float("nan")})
    assert b'"usage":{"output_tokens":NaN}' in raw(sandbox)
    amounts = [line["nano_usd"] for line in sandbox.bill()["lines"]]
    assert amounts[:2] == [196 * 30_000 + 5_000] * 2
    assert len(amounts) == 4
    assert min(amounts) > 0


def test_usage_faults_in_a_stream(sandbox: Sandbox, client: OpenAI) -> None:
    """The last event of a stream can lack its usage as well."""
    sandbox.fault("no_usage")
    [event] = client.images.generate(model="gpt-image-2", prompt="cat", stream=True)
    assert "usage" not in event.to_dict()


@pytest.mark.parametrize(("images", "delivered"), [(None, 3), (0, 0), (2, 2), (9, 4)])
def test_wrong_count(sandbox: Sandbox, client: OpenAI, images: int | None, delivered: int) -> None:
    """Fewer images than asked for and charged."""
    sandbox.fault("wrong_count", images=images)
    answer = generate(client, n=4)
    assert len(answer.data or []) == delivered
    assert sandbox.bill()["lines"][0]["images"] == 4


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_pad(sandbox: Sandbox, client: OpenAI, output_format: str) -> None:
    """An image grows by as much as asked and still decodes to the same pixels."""
    plain = generate(client, output_format=output_format)
    sandbox.fault("pad", bytes=2_000_000)
    padded = generate(client, output_format=output_format)
    [image], [small] = pictures(padded), pictures(plain)
    assert image.tobytes() == small.tobytes()
    assert padded.data is not None
    assert len(padded.data[0].b64_json or "") * 3 // 4 > 2_000_000


def test_truncated_stream(sandbox: Sandbox, client: OpenAI) -> None:
    """A stream ends in good order without `completed`; requests without stream are passed by."""
    sandbox.fault("truncated_stream")
    generate(client)
    events = list(client.images.generate(model="gpt-image-2", prompt="cat", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_generation.partial_image"]
    assert sandbox.faults()[0]["times"] == 0
    assert charged(sandbox) == 2


def test_truncated_stream_without_partials_is_an_empty_stream(sandbox: Sandbox, client: OpenAI) -> None:
    """With no partial image asked for, nothing but the headers comes."""
    sandbox.fault("truncated_stream")
    assert list(client.images.generate(model="gpt-image-2", prompt="cat", stream=True)) == []


def test_error_in_stream(sandbox: Sandbox, client: OpenAI) -> None:
    """An error event after the partials raises in the SDK."""
    sandbox.fault("error_in_stream", message="it broke", code="server_broke", billed=False)
    stream = client.images.generate(model="gpt-image-2", prompt="cat", stream=True, partial_images=1)
    assert next(stream).type == "image_generation.partial_image"
    with pytest.raises(openai.APIError, match="it broke"):
        next(stream)
    assert charged(sandbox) == 0


def test_slow_and_slow_body(sandbox: Sandbox, client: OpenAI) -> None:
    """A late answer and a dripping one both arrive whole and are charged."""
    sandbox.fault("slow", seconds=0.2)
    assert pictures(generate(client))[0].size == (1024, 1024)
    sandbox.fault("slow_body", seconds=0.2, pieces=4)
    assert pictures(generate(client))[0].size == (1024, 1024)
    sandbox.fault("slow_body", seconds=0.1)
    [event] = client.images.generate(model="gpt-image-2", prompt="cat", size="1024x1024", stream=True)
    assert decode(event.b64_json).size == (1024, 1024)
    assert charged(sandbox) == 3


def test_match_and_times(sandbox: Sandbox, client: OpenAI) -> None:
    """A fault hits what matches, so often as it says, and stops when taken back."""
    forever = sandbox.fault(
        "status",
        times=None,
        provider="openai",
        match={"model": "gpt-image-2", "prompt_contains": "dog", "operation": "generate", "stream": False},
    )
    generate(client, prompt="a cat")
    generate(client, prompt="a dog", model="gpt-image-2.5-flare")
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            generate(client, prompt="a dog")
    assert sandbox.faults()[0]["hits"] == 3
    assert sandbox.requests()[-1]["fault"] == "status"
    sandbox.remove_fault(forever)
    generate(client, prompt="a dog")
    with pytest.raises(SandboxError, match="no fault"):
        sandbox.remove_fault(forever)


@pytest.mark.parametrize(
    ("match", "other"),
    [
        ({"quality": "low"}, {"quality": "medium"}),
        ({"size": "1024x1024"}, {"size": "1024x1536"}),
        ({"n": 2}, {"n": 1}),
        ({"prompt": "a cat"}, {"prompt": "a cat and a dog"}),
    ],
    ids=["quality", "size", "n", "prompt"],
)
@pytest.mark.parametrize("operation", ["generate", "edit"])
def test_what_was_sent_is_matched(
    sandbox: Sandbox, client: OpenAI, operation: str, match: dict[str, Any], other: dict[str, Any]
) -> None:
    """Fields are compared as they were sent, in JSON and in forms; one that was not sent is no match."""

    def ask(**more: Any) -> None:
        wanted: dict[str, Any] = {"quality": "low", "size": "1024x1024", "prompt": "a cat", "n": 2, **more}
        if operation == "edit":
            client.images.edit(model="gpt-image-2", image=png(64, 64), **wanted)
        else:
            client.images.generate(model="gpt-image-2", **wanted)

    sandbox.fault("status", match=match)
    ask(**other)
    if "prompt" not in match:
        ask(**dict.fromkeys(match, openai.omit))
    with pytest.raises(openai.InternalServerError):
        ask()
    assert sandbox.faults()[0]["hits"] == 1


@pytest.mark.parametrize(
    ("provider", "fault", "lacks"),
    [
        ("openai", "stuck", "work that is answered later"),
        ("gemini", "expired_link", "work that is answered later"),
        ("azure", "batch_lost", "batches"),
        ("fal", "truncated_stream", "answers in streams"),
        ("openai", "batch_lost", None),
        ("azure", "truncated_stream", None),
        ("evolink", "stuck", None),
        ("bfl", "status", None),
        (None, "stuck", None),
    ],
)
def test_a_fault_that_its_provider_cannot_show_is_noted(
    sandbox: Sandbox, provider: str | None, fault: str, lacks: str | None
) -> None:
    """It is scripted all the same, for it is known; the answer says that it strikes nothing."""
    scripted = sandbox._call("POST", "/sandbox/faults", {"fault": fault, "provider": provider})
    assert scripted.get("note") == (lacks and f"it strikes nothing: {provider} has no {lacks}")
    assert sandbox.faults() == [scripted]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"fault": "gremlins"}, "there are: connection_closed, status"),
        ({"fault": ["status"]}, "unknown fault"),
        ({"fault": "status", "seconds": 3}, "its parameters: status, message"),
        ({"fault": "lost_response", "x": 3}, "its parameters: none"),
        ({"fault": "status", "status": "500"}, "an HTTP status from 200 to 599"),
        ({"fault": "status", "headers": {"a": "b\r\nc"}}, "an object of header names and texts"),
        ({"fault": "slow", "seconds": -1}, "a number of seconds from 0 on"),
        ({"fault": "half_body", "percent": 100}, "a whole number from 0 to 99"),
        ({"fault": "status", "times": 0}, "times is a whole number from 1 on"),
        ({"fault": "status", "times": True}, "times is a whole number from 1 on"),
        ({"fault": "status", "provider": "acme"}, "unknown provider 'acme'; there are: "),
        (
            {"fault": "status", "match": {"colour": 1}},
            "model, prompt, prompt_contains, operation, stream, quality, size, n",
        ),
        ({"fault": "status", "match": {"model": 1}}, "match.model is a str"),
        ({"fault": "status", "match": {"n": True}}, "match.n is a int"),
        ({"fault": "status", "match": "all"}, "match is an object"),
        ({"fault": "connection_closed", "match": {"model": "m"}}, "before the body is read"),
        ([], "a fault is a JSON object"),
    ],
)
def test_unknown_faults_are_refused_with_what_exists(sandbox: Sandbox, fault: object, message: str) -> None:
    """Each mistake in a fault is a 400 that helps, and scripts nothing."""
    with pytest.raises(SandboxError, match=re.escape(message)):
        sandbox._call("POST", "/sandbox/faults", fault)
    assert sandbox.faults() == []


def test_every_fault_and_parameter_is_documented() -> None:
    """The document's table has one row for each fault, naming each of its parameters, and no other."""
    table = DOCUMENT.read_text().partition("\n| fault |")[2]
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", table, re.MULTILINE))
    assert rows.keys() == FAULTS.keys()
    for name, spec in FAULTS.items():
        assert all(f"`{parameter}`" in rows[name] for parameter in spec.parameters), name


def test_a_sandbox_ends_while_a_request_hangs() -> None:
    """Leaving the context drops connections that would never be answered."""
    with running_sandbox() as sandbox:
        sandbox.fault("timeout")
        received: list[bytes] = []

        def hang() -> None:
            received.append(raw(sandbox, timeout=20))

        thread = threading.Thread(target=hang)
        thread.start()
        while not sandbox.bill()["lines"]:
            time.sleep(0.01)
    thread.join(timeout=20)
    assert received == [b""]

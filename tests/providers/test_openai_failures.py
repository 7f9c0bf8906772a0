"""A provider of kind `openai`: what each failure means, and what of it is shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import httpx
import pytest

from gateway.domain.job import Operation
from gateway.domain.route import ProviderConfig
from gateway.domain.settlement import Outcome
from gateway.http1.message import outgoing
from gateway.http1.transport import Transport
from gateway.ports.provider import Answer, Call, UpstreamFailure
from gateway.providers.answer import StreamedAnswer
from gateway.providers.endpoint import MAX_ERROR_BODY
from gateway.providers.registry import open_provider
from tests.providers.accounts import answering, failure_of, provider_of
from tests.providers.calls import SECRET, call, config, read_all
from tests.providers.raw_server import Connection, Script, forever, serving
from tests.providers.test_reading import READ_USAGE, document


def broken(rest: bytes) -> Script:
    """A script that promises 10,000 bytes of JSON, sends these, and hangs up."""

    async def script(connection: Connection) -> None:
        await connection.request()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n"
        await connection.send(head + rest)

    return script


@pytest.mark.parametrize("part", [1, 100, 4000])
async def test_half_an_answer(part: int) -> None:
    """An answer that breaks off may have been billed, wherever it breaks."""
    failure = await failure_of(broken(document()[:part]))
    assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "reset")


def torn(body: bytes) -> Script:
    """A script that sends JSON in chunks, and hangs up where the last chunk belongs."""

    async def script(connection: Connection) -> None:
        await connection.request()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        await connection.send(head + b"%x\r\n%b\r\n" % (len(body), body))

    return script


@pytest.mark.parametrize("length", [4, 300_000])
async def test_a_document_that_is_whole_but_for_its_last_chunk(length: int) -> None:
    """Its JSON proves that nothing of it is missing, as that of one does which ends with its connection."""
    body = document(data=[{"b64_json": "A" * length}])
    async with provider_of(torn(body)) as (provider, _):
        answer = await provider.send(call())
        assert await read_all(answer) == body
        await answer.aclose()
    assert (answer.reading().images, answer.reading().complete, answer.reading().usage) == (1, True, READ_USAGE)
    failure = await failure_of(torn(body[:-1]))
    assert failure.outcome is Outcome.UNKNOWN


async def test_a_document_shorter_than_it_was_said_to_be() -> None:
    """The client was told that length: it must not wait for what never comes."""
    failure = await failure_of(broken(document()))
    assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "reset")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<html>", "Content-Type: text/html\r\n"),
        (b"{}", "Content-Type: text/plain\r\n"),
        (b"\x89PNG", "Content-Type: image/png\r\n"),
        (b"{}", "Content-Type: application/json\r\nContent-Type: text/html\r\n"),
        (b"x", "Content-Type: application/json\r\nContent-Encoding: nonsense\r\n"),
    ],
)
async def test_garbage(body: bytes, headers: str) -> None:
    """A success that is neither JSON nor events, or is packed in an unknown way, may have been billed."""
    failure = await failure_of(answering(body, headers=headers))
    assert (failure.outcome, failure.reason, failure.status) == (Outcome.UNKNOWN, "garbage", 200)


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Type:\r\n",
        "Content-Type: application/json\r\n" * 2,
        "Content-Type: application/json\r\nContent-Type: Application/JSON; charset=utf-8\r\n",
        "Content-Type: application/json; charset=utf-8\r\nContent-Type: application/json\r\n",
    ],
    ids=["none", "twice", "twice, then a charset", "a charset, then twice"],
)
async def test_an_answer_is_read_as_json_without_a_type_or_with_one_said_twice(headers: str) -> None:
    """An image that was paid for is not thrown away over a header."""
    async with provider_of(answering(document(), headers=headers)) as (provider, _):
        answer = await provider.send(call())
        await read_all(answer)
    assert (answer.reading().complete, answer.reading().images) == (True, 1)


async def test_json_that_is_none_is_not_complete() -> None:
    """A body that only claims to be JSON is relayed, and the reading says that it is not complete."""
    async with provider_of(answering(b"<html>oops</html>")) as (provider, _):
        answer = await provider.send(call())
        assert await read_all(answer) == b"<html>oops</html>"
    assert not answer.reading().complete


async def test_an_error_within_a_success() -> None:
    """A 200 that holds an error and no image says so."""
    async with provider_of(answering(b'{"error": {"message": "m", "code": "oops"}}')) as (provider, _):
        answer = await provider.send(call())
        await read_all(answer)
    assert (answer.reading().error, answer.reading().images, answer.reading().complete) == ("oops", 0, True)


async def test_the_callers_fault() -> None:
    """A moderation error is passed on as it came, with its limits but those the gateway tells of itself."""
    body = b'{"error": {"code": "moderation_blocked", "message": "no", "type": "t", "param": null, "details": {}}}'
    headers = "X-RateLimit-Limit-Requests: 5\r\nX-RateLimit-Limit-Images: 5\r\nSet-Cookie: a=b\r\n"
    failure = await failure_of(answering(body, status="400 Bad Request", headers=headers))
    assert failure.pass_on
    assert (failure.outcome, failure.status, failure.body) == (Outcome.REJECTED, 400, body)
    assert failure.headers == [("content-type", "application/json"), ("x-ratelimit-limit-requests", "5")]


async def test_a_refusal_that_is_a_page_becomes_json_and_says_so() -> None:
    """The body that the caller gets is ours, and so must its type be."""
    script = answering(b"<html>", status="400 Bad Request", headers="Content-Type: text/html\r\n")
    failure = await failure_of(script)
    assert failure.pass_on
    assert "error" in json.loads(failure.body)
    assert failure.headers == [("content-type", "application/json")]


async def test_our_key_is_wrong() -> None:
    """A 401 is our own affair, and a provider that repeats the key does not leak it."""
    body = json.dumps({"error": {"message": f"Incorrect API key: {SECRET}", "code": "invalid_api_key"}}).encode()
    failure = await failure_of(answering(body, status="401 Unauthorized"))
    assert not failure.pass_on
    assert (failure.outcome, failure.reason) == (Outcome.REJECTED, "account")
    assert SECRET not in failure.message + failure.body.decode()


async def test_throttled() -> None:
    """A 429 says how long to wait."""
    failure = await failure_of(answering(b"{}", status="429 Slow Down", headers="Retry-After: 7\r\n"))
    assert (failure.outcome, failure.reason, failure.retry_after) == (Outcome.REJECTED, "status_429", 7.0)


async def test_a_redirect_is_not_followed() -> None:
    """Credentials do not travel to where a redirect points."""
    script = answering(b"", status="302 Found", headers="Location: /elsewhere\r\n")
    failure = await failure_of(script)
    assert (failure.outcome, failure.reason) == (Outcome.REJECTED, "redirect")


async def endless_error(connection: Connection) -> None:
    """Answer 500 with a body that never ends."""
    await connection.request()
    await connection.send(b"HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\nContent-Length: 99999999999\r\n\r\n")
    while True:
        await connection.send(b"x" * 65_536)


async def stuck_error(connection: Connection) -> None:
    """Answer 400 with a body that stops."""
    await connection.request()
    await connection.send(b"HTTP/1.1 400 Oops\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    await forever(connection)


@pytest.mark.parametrize(("script", "reason"), [(endless_error, "status_5xx"), (stuck_error, "status_4xx")])
async def test_an_error_that_does_not_end(script: Script, reason: str) -> None:
    """The status decides even if its body is endless or stops; no more than the limit is read."""
    failure = await failure_of(script, timeout=0.3)
    assert (failure.outcome, failure.reason) == (Outcome.REJECTED, reason)
    assert len(failure.body) <= MAX_ERROR_BODY


async def test_no_answer_in_time() -> None:
    """Silence may be billed, and is not asked twice."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await forever(connection)

    async with provider_of(script, timeout=0.2) as (provider, server):
        with pytest.raises(UpstreamFailure) as caught:
            await provider.send(call())
        assert (caught.value.outcome, caught.value.reason) == (Outcome.UNKNOWN, "timeout")
        assert len(server.requests) == 1


async def test_nobody_there() -> None:
    """A refused connection costs nothing."""
    provider = open_provider(config("http://127.0.0.1:1"))
    with pytest.raises(UpstreamFailure) as caught:
        await provider.send(call())
    assert (caught.value.outcome, caught.value.reason) == (Outcome.NOT_SENT, "connect")
    await provider.aclose()


async def test_an_operation_without_an_endpoint() -> None:
    """A variation is refused before anything is sent."""
    failure = await failure_of(answering(b"{}"), call(operation=Operation.VARIATION))
    assert (failure.outcome, failure.reason) == (Outcome.NOT_SENT, "unsupported")


@pytest.mark.parametrize(("limits", "reason"), [({"max_body": 1_000_000}, "too_large"), ({"max_wait": 0.1}, "timeout")])
async def test_an_answer_that_does_not_end(limits: dict[str, float], reason: str) -> None:
    """Neither an endless body nor an endless drip is read for ever."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while True:
            await connection.send(b" " * 65_536)
            await asyncio.sleep(0.02)

    async with serving(script) as server:
        transport = Transport()
        request = httpx.Request("POST", server.url, stream=httpx.ByteStream(b"x"), headers={"Content-Length": "1"})
        response = await transport.send(outgoing(request))
        answer = StreamedAnswer(response, event_stream=False, **limits)  # type: ignore[arg-type]  # one limit each
        with pytest.raises(UpstreamFailure) as caught:
            await read_all(answer)
        assert (caught.value.outcome, caught.value.reason) == (Outcome.UNKNOWN, reason)
        await transport.aclose()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "opanai"}, "kind 'opanai' is not one of gemini, openai, task"),
        ({"base_url": "api.openai.com/v1"}, "base_url must begin with https://"),
        ({"base_url": "file:///etc/passwd"}, "base_url must begin with https://"),
    ],
)
def test_a_configuration_that_cannot_work(changes: dict[str, object], words: str) -> None:
    """What cannot work is refused when it is set up, in words for the operator."""
    with pytest.raises(ValueError, match=words):
        open_provider(config("http://127.0.0.1:1", **changes))


def test_a_key_with_a_line_break() -> None:
    """A key that would forge a header is refused, and not shown."""
    bad: ProviderConfig = config("http://127.0.0.1:1", api_key=type(config("x").api_key)("sk-1\r\nX: y"))  # type: ignore[misc]
    with pytest.raises(ValueError, match="api_key has characters") as caught:
        open_provider(bad)
    assert "sk-1" not in str(caught.value)


async def test_cancelled_while_waiting() -> None:
    """A call that is cancelled lets go of its connection."""
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        arrived.set()
        await connection.reader.read()
        gone.set()

    async with provider_of(script) as (provider, _):
        sending: asyncio.Task[Answer] = asyncio.create_task(_send(provider.send))
        await arrived.wait()
        sending.cancel()
        await asyncio.wait_for(gone.wait(), 10)
        with pytest.raises(asyncio.CancelledError):
            await sending


async def _send(send: Callable[[Call], Awaitable[Answer]]) -> Answer:
    return await send(call())

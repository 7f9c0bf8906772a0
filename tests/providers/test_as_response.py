"""Conversations whose account answers in another form than was asked for: what breaks off, and what holds nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.domain.job import Operation
from gateway.ports.provider import Call, UpstreamFailure
from tests.providers.accounts import answering, provider_of
from tests.providers.calls import MemoryBody, call, read_all
from tests.providers.raw_server import Connection

RESPONSE = {
    "id": "resp_1",
    "status": "completed",
    "output": [{"type": "image_generation_call", "status": "completed", "result": "A" * 40_000}],
    "usage": {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13},
}
BEGUN = {"id": "resp_1", "status": "in_progress", "output": []}


def events(*responses: object) -> bytes:
    """Events that carry these."""
    return b"".join(b"event: x\ndata: " + json.dumps({"response": said}).encode() + b"\n\n" for said in responses)


def conversation(*, stream: bool = False) -> Call:
    """A call that leads one."""
    plain = call(MemoryBody({"input": "a cat", "stream": stream}), stream=stream)
    return replace(plain, job=replace(plain.job, operation=Operation.RESPOND))


@pytest.mark.parametrize(
    ("said", "known"),
    [
        (json.dumps(RESPONSE)[:-1], None),
        ('{"error": {"message": "no", "code": "oops"}}', None),
        (json.dumps({**RESPONSE, "status": "odd\\nevent: y"}), "resp_1"),
    ],
    ids=["cut", "error", "odd status"],
)
async def test_a_document_that_cannot_be_told_as_an_event(said: str, known: str | None) -> None:
    """Nothing of it reaches the client, so that an error can; what it said of itself is not forgotten."""
    async with provider_of(answering(said.encode())) as (provider, _):
        answer = await provider.send(conversation(stream=True))
        with pytest.raises(UpstreamFailure):
            await read_all(answer)
        reading = answer.reading()
        assert (reading.complete, reading.said and reading.said.id) == (False, known)
        await answer.aclose()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_breaks_off(stream: bool) -> None:
    """It is the failure that it would be in the form asked for, and is not asked for twice."""

    async def script(connection: Connection) -> None:
        await connection.request()
        kind, body = ("application/json", b"{") if stream else ("text/event-stream", events(BEGUN))
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n" % kind.encode())
        await connection.send(b"Content-Length: %d\r\n\r\n%s" % (len(body) + 1, body))

    async with provider_of(script) as (provider, server):
        answer = await provider.send(conversation(stream=stream))
        with pytest.raises(UpstreamFailure) as caught:
            await read_all(answer)
        assert (caught.value.reason, answer.reading().complete) == ("reset", False)
        assert len(server.requests) == 1
        await answer.aclose()


async def test_events_that_break_off_behind_their_end() -> None:
    """The last of them has said all."""

    async def script(connection: Connection) -> None:
        await connection.request()
        body = events(BEGUN, RESPONSE)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % (len(body) + 1)
        await connection.send(head + body)

    async with provider_of(script) as (provider, _):
        answer = await provider.send(conversation())
        assert json.loads(await read_all(answer)) == RESPONSE
        assert (answer.event_stream, answer.reading().complete, answer.reading().images) == (False, True, 1)
        await answer.aclose()


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CR LF", "CR"])
@pytest.mark.parametrize(
    ("indent", "after"),
    [(None, b""), (None, b'data: {"type": "keepalive"}\n\n'), (None, b'data: {"response": null}\n\n'), (1, b"")],
    ids=["the last", "another behind it", "an empty one behind it", "in several lines"],
)
async def test_the_last_response_is_the_document(indent: int | None, after: bytes, line_end: bytes) -> None:
    """Whatever follows it, however lines end, and wherever they are cut."""
    data = json.dumps({"response": RESPONSE}, indent=indent).replace("\n", "\ndata: ").encode()
    body = (events(BEGUN) + b"event: response.completed\ndata: " + data + b"\n\n" + after).replace(b"\n", line_end)

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        await connection.send(b"Content-Length: %d\r\n\r\n" % len(body))
        for piece in (body[:-1], body[-1:]):
            await connection.send(piece)

    async with provider_of(script) as (provider, _):
        answer = await provider.send(conversation())
        assert json.loads(await read_all(answer)) == RESPONSE
        assert (answer.event_stream, answer.reading().complete, answer.reading().images) == (False, True, 1)
        await answer.aclose()

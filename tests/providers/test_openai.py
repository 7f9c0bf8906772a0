"""A provider of kind `openai`: what it sends, what it passes on, and what it reads in passing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from gateway.domain.job import Operation
from gateway.ports import Rendered
from gateway.ports.preparing import is_preparing
from gateway.ports.provider import Call, Provider, UpstreamFailure
from gateway.providers.registry import open_provider
from tests.builders import job
from tests.providers.accounts import answering, provider_of
from tests.providers.calls import SECRET, MemoryBody, call, config, read_all
from tests.providers.raw_server import Connection, serving
from tests.providers.test_reading import READ_USAGE, USAGE, document, event

EVENT_STREAM = "Content-Type: text/event-stream; charset=utf-8\r\n"


async def test_generation_end_to_end() -> None:
    """A generation is sent as policy changed it, relayed byte for byte, and read in passing."""
    body = document(images=2)
    async with provider_of(answering(body)) as (provider, server):
        answer = await provider.send(call())
        assert (answer.status, answer.event_stream, answer.content_length) == (200, False, len(body))
        assert await read_all(answer) == body
        reading = answer.reading()
        await answer.aclose()
        await read_all(await provider.send(call()))
        assert server.accepted == 1
    assert (reading.usage, reading.images, reading.size, reading.complete) == (READ_USAGE, 2, "1024x1024", True)
    request = server.requests[0]
    assert request.line == "POST /v1/images/generations HTTP/1.1"
    assert json.loads(request.body) == {"prompt": "a cat", "model": "upstream-name", "quality": "low"}


class Rendering(MemoryBody):
    """A body that counts how often it is rendered."""

    times = 0

    def render(self, changes: Mapping[str, str | int | None]) -> Rendered:
        """Return the body with its changes."""
        self.times += 1
        return super().render(changes)


def readied(provider: Provider, job: Call) -> Call:
    """Return a call that was made ready, as far as its provider does so."""
    assert is_preparing(provider)
    provider.prepare(job)
    return job


async def test_a_call_made_ready_is_sent_as_any_other() -> None:
    """Its body is rendered once, nothing leaves before it is sent, and then the same bytes do."""
    body = Rendering({"prompt": "a cat"})
    async with provider_of(answering(document())) as (provider, server):
        ready = readied(provider, call(body))
        await asyncio.sleep(0)
        assert (server.accepted, body.times) == (0, 1)
        await read_all(await provider.send(ready))
        assert body.times == 1
        await read_all(await provider.send(call(Rendering({"prompt": "a cat"}))))
    first, second = server.requests
    assert (first.line, first.headers, first.body) == (second.line, second.headers, second.body)


async def test_what_is_wrong_with_a_call_is_told_when_it_is_sent() -> None:
    """Making it ready raises nothing: it may never be sent."""
    async with provider_of(answering(document())) as (provider, server):
        for wrong, told in (
            ({"request_id": "req_\u00e9"}, ValueError),
            ({"job": job(operation="paint")}, UpstreamFailure),
        ):
            unsound = replace(call(), **wrong)
            assert readied(provider, unsound).prepared is None
            with pytest.raises(told):
                await provider.send(unsound)
        assert server.accepted == 0


async def test_what_is_not_made_ready() -> None:
    """Several calls, an answer that is told as events, and requests that name the span they are sent in."""
    async with provider_of(answering(document())) as (provider, _):
        for other in (replace(call(), calls=2), replace(call(), as_events=True)):
            assert readied(provider, other).prepared is None
        assert replace(readied(provider, call()), changes={}).prepared is None, "it is another call"
    async with provider_of(answering(document()), trace_context=True) as (provider, _):
        assert readied(provider, call()).prepared is None


async def test_the_headers_sent() -> None:
    """The provider gets its own key and our name, and nothing that the client sent."""
    async with provider_of(answering(document())) as (provider, server):
        await read_all(await provider.send(call()))
    sent = dict(server.requests[0].headers)
    assert sent.pop("user-agent").startswith("image-gateway/")
    assert sent == {
        "host": f"127.0.0.1:{server.port}",
        "authorization": f"Bearer {SECRET}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": str(len(server.requests[0].body)),
        "x-client-request-id": "req_1",
    }


async def test_a_large_edit() -> None:
    """A multipart edit of 20 MB arrives whole, at the endpoint for edits."""
    body = MemoryBody({"prompt": "x"}, encoding="multipart", extra=bytes(range(256)) * 80_000)
    async with provider_of(answering(document())) as (provider, server):
        await read_all(await provider.send(call(body, operation=Operation.EDIT)))
    (request,) = server.requests
    assert request.line == "POST /v1/images/edits HTTP/1.1"
    assert request.header("content-type") == "multipart/form-data; boundary=b"
    assert request.body.endswith(bytes(range(256)) * 80_000)


async def test_a_short_answer_at_once() -> None:
    """A short answer that is here with its head is had without waiting; its connection is free for the next call."""
    body, usage = document(images=2), READ_USAGE
    async with provider_of(answering(body)) as (provider, server):
        for _ in range(2):
            answer = await provider.send(call())
            assert answer.at_once() == body
            assert (answer.reading().usage, answer.reading().images, answer.reading().complete) == (usage, 2, True)
            assert [chunk async for chunk in answer.chunks()] == [body]
        assert server.accepted == 1


async def test_what_does_not_come_at_once() -> None:
    """A long answer, a stream, and one of which a part is missing are read chunk by chunk."""
    stream = event("image_generation.completed", usage=USAGE)
    long = document(junk="x" * 20_000)
    for body, headers in ((long, ""), (stream, EVENT_STREAM)):
        async with provider_of(answering(body, headers=headers)) as (provider, _):
            answer = await provider.send(call(stream=body is stream))
            assert answer.at_once() is None
            assert await read_all(answer) == body
            assert answer.reading().complete

    async def halved(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{ ")
        await asyncio.sleep(0.2)
        await connection.send(b" }")

    async with provider_of(halved) as (provider, _):
        answer = await provider.send(call())
        assert answer.at_once() is None
        assert await read_all(answer) == b"{  }"


async def test_an_address_with_a_query() -> None:
    """A base URL with a slash at its end and a query keeps the query where it belongs."""
    async with serving(answering(document())) as server:
        provider = open_provider(config(server.url, base_url=f"{server.url}/azure/?api-version=1"))
        await read_all(await provider.send(call()))
        await provider.aclose()
    assert server.requests[0].line == "POST /azure/images/generations?api-version=1 HTTP/1.1"


async def test_the_headers_passed() -> None:
    """Limits and timings are passed to the client; cookies, our organization and the path of proxies are not."""
    secret = (
        "Set-Cookie: a=b\r\nOpenAI-Organization: org-1\r\nOpenAI-Project: p\r\nServer: x\r\nVia: y\r\nAlt-Svc: z\r\n"
        "Connection: keep-alive\r\nX-Request-Id: upstream\r\nStrict-Transport-Security: q\r\n"
    )
    public = "X-RateLimit-Limit-Input-Images: 5\r\nOpenAI-Processing-Ms: 12\r\nOpenAI-Version: 2020-10-01\r\n"
    async with provider_of(answering(b"{}", headers=secret + public)) as (provider, _):
        answer = await provider.send(call())
        await read_all(answer)
    assert dict(answer.headers) == {
        "content-type": "application/json",
        "content-length": "2",
        "x-ratelimit-limit-input-images": "5",
        "openai-processing-ms": "12",
        "openai-version": "2020-10-01",
    }


async def test_a_stream_is_relayed_as_it_comes() -> None:
    """The first event is passed on before the provider sends the next; usage comes from the completed one."""
    go_on = asyncio.Event()
    partial, completed = event("image_generation.partial_image"), event("image_generation.completed", usage=USAGE)

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(f"HTTP/1.1 200 OK\r\n{EVENT_STREAM}Transfer-Encoding: chunked\r\n\r\n".encode())
        await connection.send(b"%x\r\n%b\r\n" % (len(partial), partial))
        await go_on.wait()
        await connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(completed), completed))

    async with provider_of(script) as (provider, server):
        answer = await provider.send(call(stream=True))
        assert answer.event_stream
        chunks, received = answer.chunks(), b""
        while received != partial:
            received += await anext(chunks)
        assert not answer.reading().complete
        go_on.set()
        assert received + b"".join([chunk async for chunk in chunks]) == partial + completed
    reading = answer.reading()
    assert (reading.images, reading.usage, reading.complete) == (1, READ_USAGE, True)
    assert server.requests[0].header("accept") == "text/event-stream"


async def test_reading_goes_on_where_it_stopped() -> None:
    """When one reader leaves, another reads the rest, and nothing is lost or seen twice."""
    body = document() + b" " * 3_000_000
    async with provider_of(answering(body)) as (provider, _):
        answer = await provider.send(call())
        first = answer.chunks()
        received = await anext(first)
        del first
        assert received + await read_all(answer) == body
        assert await read_all(answer) == b""
    assert answer.reading().complete


async def test_an_answer_given_up_closes_its_connection() -> None:
    """Closing a half-read answer does not read on: the provider sees its connection go."""
    gone = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999999\r\n\r\n{")
        await connection.reader.read()
        gone.set()

    async with provider_of(script) as (provider, _):
        answer = await provider.send(call())
        await anext(answer.chunks())
        await answer.aclose()
        await asyncio.wait_for(gone.wait(), 10)
    assert not answer.reading().complete

"""A whole answer told as a stream of events."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.assets.converting import PillowConverter
from gateway.domain.settlement import Outcome, Usage
from gateway.ports.provider import Call, UpstreamFailure
from gateway.providers.as_events import as_told, shares
from gateway.providers.collected import MISSING, OUTPUT_FORMAT
from gateway.providers.picture import picture_of
from gateway.providers.reading import EventReader
from gateway.providers.usage import read_usage
from tests.e2e.clients import picture
from tests.providers.accounts import failure_of, provider_of
from tests.providers.calls import MemoryBody, read_all
from tests.providers.raw_server import Connection, Script
from tests.providers.test_fanout import READ, USAGE, by_turns, good, job, lost, refusal

TOKENS = st.integers(0, 10_000)
USAGES = st.builds(
    Usage,
    text_in=TOKENS, image_in=TOKENS, text_in_cached=TOKENS, image_in_cached=TOKENS,
    image_out=st.integers(20, 10_000), text_out=TOKENS,
)  # fmt: skip


def events(body: bytes) -> list[tuple[str, Any]]:
    """Name and data of each event."""
    assert body.endswith(b"\n\n")
    found = []
    for event in body.decode().removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def plain(n: int) -> Call:
    """A job for a provider that streams."""
    return replace(job(n, 1, n, stream=True), as_events=False)


def completed(image: str) -> bytes:
    """The event of a whole image."""
    about = {"type": "image_generation.completed", "b64_json": image, "usage": USAGE}
    return b"data: " + json.dumps(about).encode() + b"\n\n"


def sse(body: bytes, *, framing: str = "chunked", more: str = "") -> Script:
    """Answer with a stream of events, cut into small pieces."""

    async def script(connection: Connection) -> None:
        await connection.request()
        chunked = framing == "chunked"
        told = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{told}\r\n{more}\r\n"
        await connection.send(head.encode())
        for at in range(0, len(body), 7):
            piece = body[at : at + 7]
            await connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await asyncio.sleep(0.001)
        await connection.send(b"0\r\n\r\n" if chunked else b"")

    return script


@pytest.mark.parametrize("edit", [False, True])
@pytest.mark.parametrize("indent", [None, 2])
async def test_one_event_for_each_image(indent: int | None, *, edit: bool) -> None:
    """Every member that the vendor's event has, none that it has not, and the tokens divided among the images."""
    async with provider_of(by_turns(good("a\\n", "b", "c", indent=indent))) as (provider, server):
        answer = await provider.send(job(3, 1, 10, stream=True, edit=edit))
        body = await read_all(answer)
        await answer.aclose()
    name = "image_edit.completed" if edit else "image_generation.completed"
    about = {
        "type": name, "created_at": 7, "size": "1024x1024", "quality": "low", "background": "opaque",
        "output_format": "png",
    }  # fmt: skip
    told = events(body)
    usages = [data.pop("usage") for _, data in told]
    assert told == [(name, {**about, "b64_json": image}) for image in ("a\\n", "b", "c")]
    assert sum(usage["total_tokens"] for usage in usages) == USAGE["total_tokens"]
    assert {frozenset(usage) for usage in usages} == {frozenset(USAGE)}
    assert dict(answer.headers)["content-type"] == "text/event-stream"
    assert "content-length" not in dict(answer.headers)
    assert (answer.event_stream, answer.content_length) == (True, None)
    [request] = server.requests
    assert request.header("accept") == "application/json"
    assert "stream" not in json.loads(request.body)


async def test_the_client_s_own_stream_fields_do_not_go_upstream() -> None:
    """A provider that cannot stream is not asked to, nor for partial images."""
    body = MemoryBody({"prompt": "x", "stream": True, "partial_images": 2, "n": 1})
    async with provider_of(by_turns(good("a"))) as (provider, server):
        await (await provider.send(replace(job(1, 1, stream=True), body=body))).aclose()
    sent = json.loads(server.requests[0].body)
    assert "stream" not in sent
    assert "partial_images" not in sent


async def test_what_the_answer_does_not_say_is_said_as_it_was_asked_for() -> None:
    """Every member is there, since the vendor's types require them."""
    bare = good("a", created=None, size=None, quality=None, background=None, output_format=None, usage=None)
    async with provider_of(by_turns(bare)) as (provider, _):
        answer = await provider.send(job(1, 1, stream=True))
        [(_, data)] = events(await read_all(answer))
        await answer.aclose()
    assert data.pop("created_at") > 1_700_000_000
    assert (data["size"], data["quality"], data["background"]) == ("1024x1024", "auto", "auto")
    assert data["output_format"] == "png"
    assert "usage" not in data


async def test_several_calls_make_one_stream() -> None:
    """Images of all calls that succeeded, each with its own tokens; the header tells how many are missing."""
    async with provider_of(by_turns(good("a"), lost, good("b"))) as (provider, _):
        answer = await provider.send(job(3, 3, stream=True))
        told = events(await read_all(answer))
        await answer.aclose()
    assert sorted(data["b64_json"] for _, data in told) == ["a", "b"]
    assert [data["usage"] for _, data in told] == [USAGE, USAGE]
    assert dict(answer.headers)[MISSING] == "1"
    assert answer.reading().usage == READ + READ


@pytest.mark.parametrize(
    ("reply", "outcome", "reason"),
    [
        (refusal("400 Bad", "moderation_blocked"), Outcome.REJECTED, "status_4xx"),
        (lost, Outcome.UNKNOWN, "reset"),
        (good(), Outcome.UNKNOWN, "garbage"),
    ],
)
async def test_a_failure_is_no_stream(reply: Any, outcome: Outcome, reason: str) -> None:
    """Nothing is told before the answer is whole, so a failure keeps its own status, and no stream is empty."""
    failure = await failure_of(by_turns(reply), job(1, 1, stream=True))
    assert (failure.outcome, failure.reason) == (outcome, reason)


async def test_a_document_in_place_of_events_is_told_as_events() -> None:
    """A provider that knows no streams answers as one without: SDKs would find no event in it, and no error."""
    async with provider_of(by_turns(good("a", "b"))) as (provider, _):
        answer = await provider.send(plain(2))
        told = events(await read_all(answer))
        await answer.aclose()
    assert [(name, data["b64_json"]) for name, data in told] == [("image_generation.completed", "a"), (told[0][0], "b")]
    assert (answer.event_stream, answer.reading().images) == (True, 2)
    assert [part.reading.usage for part in answer.reading().parts] == [READ]


async def test_its_images_are_converted_where_policy_says_so() -> None:
    """As those of a route that is known not to stream: all of it is here before the first event goes out."""
    jpeg = base64.b64encode(picture(kind="JPEG")).decode()
    async with provider_of(by_turns(good(jpeg, output_format=None))) as (provider, _):
        answer = await provider.send(replace(plain(1), converter=PillowConverter()))
        [(_, data)] = events(await read_all(answer))
        await answer.aclose()
    assert (picture_of(base64.b64decode(data["b64_json"])), data["output_format"]) == (picture_of(picture()), "png")
    assert OUTPUT_FORMAT not in dict(answer.headers)


async def test_a_document_without_an_image_in_place_of_events_is_no_empty_stream() -> None:
    """What it says that it cost is still known."""
    async with provider_of(by_turns(good(usage={**USAGE}))) as (provider, _):
        answer = await provider.send(plain(1))
        with pytest.raises(UpstreamFailure, match="no image"):
            await read_all(answer)
        await answer.aclose()
    assert [part.reading.usage for part in answer.reading().parts] == [READ]


async def test_events_in_place_of_a_document_are_no_answer() -> None:
    """SDKs would hand them on as text. What they say that they cost is still known."""
    async with provider_of(sse(completed("a"))) as (provider, _):
        answer = await provider.send(job(1, 1))
        with pytest.raises(UpstreamFailure) as caught:
            await read_all(answer)
        await answer.aclose()
    assert (caught.value.outcome, caught.value.reason) == (Outcome.UNKNOWN, "garbage")
    assert [part.reading.usage for part in answer.reading().parts] == [READ]


@pytest.mark.parametrize("mark", [b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"data: [DONE]", b"data: [DONE] \n\n"])
@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_the_mark_after_which_sdks_stop_reading_is_not_passed_on(mark: bytes, framing: str) -> None:
    """An error may have to follow; so a length that the provider tells is not passed on either."""
    body = completed("a")
    async with provider_of(sse(body + mark, framing=framing)) as (provider, _):
        answer = await provider.send(plain(1))
        assert (await read_all(answer), answer.content_length) == (body, None)
        await answer.aclose()
    assert "content-length" not in dict(answer.headers)
    assert (answer.reading().images, answer.reading().complete) == (1, True)


async def test_an_empty_answer_still_says_what_it_cost() -> None:
    """Usage of an answer without an image is that of work done."""
    async with provider_of(by_turns(good(usage={**USAGE}))) as (provider, _):
        answer = await provider.send(job(1, 1, stream=True))
        with pytest.raises(UpstreamFailure):
            await read_all(answer)
        await answer.aclose()
    assert [part.reading.usage for part in answer.reading().parts] == [READ]


@given(usage=USAGES, images=st.integers(1, 10))
def test_shares_add_up_and_can_be_believed(usage: Usage, images: int) -> None:
    """The tokens of all events are those of the answer, kind by kind, and each event's add up for whoever reads it."""
    parts = shares(usage, images)
    assert len(parts) == images
    assert sum(parts, Usage()) == usage
    for part in parts:
        read = read_usage(as_told(part), images=1)
        assert isinstance(read, Usage)
        assert read.image_out == part.image_out + part.text_out


async def test_a_reader_of_streams_reads_it() -> None:
    """Another gateway behind this one finds the images and the whole usage."""
    async with provider_of(by_turns(good("a", "b", "c"))) as (provider, _):
        answer = await provider.send(job(3, 1, 10, stream=True))
        reader = EventReader()
        async for chunk in answer.chunks():
            reader.feed(chunk)
        reader.end(framed=True)
        await answer.aclose()
    assert (reader.reading().images, reader.reading().usage, reader.reading().complete) == (3, READ, True)

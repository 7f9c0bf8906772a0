"""One job as several calls: what succeeded is the answer, and what may have been billed is not forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.job import Operation
from gateway.domain.settlement import Outcome, PartReading, Reading, Usage
from gateway.observe.fanout import Observers
from gateway.ports.provider import Answer, Call, UpstreamFailure
from gateway.providers import part as part_module
from gateway.providers.collected import MISSING
from gateway.providers.fanout import calls_of
from gateway.routing.capacity import Capacity
from gateway.routing.health import Health
from gateway.routing.watched import WatchedProvider
from tests.builders import GPT_IMAGE_2
from tests.providers.accounts import provider_of
from tests.providers.calls import MemoryBody, call, read_all
from tests.providers.raw_server import Connection, RawServer, Request, forever

USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"image_tokens": 2, "text_tokens": 10},
    "output_tokens": 196,
    "total_tokens": 208,
}
READ = Usage(text_in=10, image_in=2, image_out=196)
Reply = Callable[[Connection, Request], Any]


def job(n: int, calls: int, most: int = 1, *, stream: bool = False, edit: bool = False) -> Call:
    """A job of `n` images in so many calls, on a route that makes `most` of them a call."""
    plain = call(MemoryBody({"prompt": "a cat", "n": n}), operation=Operation.EDIT if edit else Operation.GENERATE)
    route = replace(plain.route, capabilities=replace(GPT_IMAGE_2.capabilities, n=most))
    wanted = replace(plain.job, n=n, stream=stream, size="1024x1024")
    return replace(plain, route=route, job=wanted, calls=calls, as_events=stream)


def images(*names: str, usage: object = USAGE, indent: int | None = None, **fields: object) -> bytes:
    """An answer with images of these contents."""
    about = {"created": 7, "size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png"}
    told = {**about, "data": [{"b64_json": name} for name in names], "usage": usage, **fields}
    return json.dumps({name: value for name, value in told.items() if value is not None}, indent=indent).encode()


def good(*names: str, **fields: Any) -> Reply:
    """Answer with these images."""

    async def reply(connection: Connection, _: Request) -> None:
        await connection.answer(images(*names, **fields), headers="x-request-id: id-" + "-".join(names)[:20] + "\r\n")

    return reply


def refusal(status: str, code: str = "server_error", *, wait: int | None = None, **about: object) -> Reply:
    """Answer with an error, and perhaps with the seconds to wait."""
    said = "x-ratelimit-remaining-requests: 0\r\n" + (f"retry-after: {wait}\r\n" if wait is not None else "")

    async def reply(connection: Connection, _: Request) -> None:
        body = json.dumps({"error": {"message": "no", "type": "t", "param": None, "code": code, **about}}).encode()
        await connection.answer(body, status=status, headers=said)

    return reply


def withheld() -> Reply:
    """Answer as a provider does that made the image and then withholds it."""
    return refusal("400 Bad", "moderation_blocked", moderation_details={"moderation_stage": "output"})


async def lost(connection: Connection, _: Request) -> None:
    """Take the request and hang up."""
    connection.reset()


async def unclear(connection: Connection, _: Request) -> None:
    """Answer as a proxy does that has lost the answer."""
    await connection.answer(b"<html>", status="502 Bad Gateway", headers="Content-Type: text/html\r\n")


async def broken(connection: Connection, _: Request) -> None:
    """Promise an answer and break off in its first image."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n"
    await connection.send(head + images("half")[:90])
    connection.reset()


def by_turns(*replies: Reply) -> Callable[[Connection], Any]:
    """Treat the requests in the order of arrival, each by one of these."""
    left = list(replies)

    async def script(connection: Connection) -> None:
        request = await connection.request()
        await left.pop(0)(connection, request)

    return script


def asked(server: RawServer) -> list[int]:
    """How many images each call was for, most first."""
    return sorted((json.loads(request.body)["n"] for request in server.requests), reverse=True)


def names(document: Any) -> list[str]:
    """The contents of its images."""
    return sorted(item["b64_json"] for item in document["data"])


async def outcome_of(wanted: Call, *replies: Reply) -> tuple[Answer, Any]:
    """Send a job whose calls are treated so; returns the answer, closed, and its document."""
    async with provider_of(by_turns(*replies)) as (provider, _):
        answer = await provider.send(wanted)
        try:
            return answer, json.loads(await read_all(answer))
        finally:
            await answer.aclose()


@pytest.mark.parametrize(
    ("n", "calls", "most", "parts"),
    [(3, 3, 1, [1, 1, 1]), (10, 3, 4, [4, 3, 3]), (5, 2, 3, [3, 2]), (4, 2, 1, [1, 1, 1, 1]), (2, 5, 1, [1, 1])],
)
async def test_the_images_are_divided_evenly(n: int, calls: int, most: int, parts: list[int]) -> None:
    """Every call is for as many images as the route makes at most, all of them together for what was asked."""
    replies = [good(f"i{number}") for number in range(len(parts))]
    async with provider_of(by_turns(*replies)) as (provider, server):
        answer = await provider.send(job(n, calls, most))
        await answer.aclose()
        assert asked(server) == parts
        assert {request.header("x-client-request-id") for request in server.requests} == {"req_1"}


async def test_the_calls_go_out_at_the_same_time() -> None:
    """None is answered before the last one has arrived."""
    arrived = asyncio.Barrier(5)

    async def script(connection: Connection) -> None:
        await connection.request()
        async with asyncio.timeout(30):
            await arrived.wait()
        await connection.answer(images("x"))

    async with provider_of(script, timeout=60.0) as (provider, server):
        answer = await provider.send(job(5, 5))
        assert len(json.loads(await read_all(answer))["data"]) == 5
        await answer.aclose()
        assert server.accepted == 5


async def test_one_document_with_all_images_and_all_tokens() -> None:
    """Images in order, other fields as one call said them, tokens and their details added up, the length as it is."""
    answer, document = await outcome_of(job(5, 2, 3), good("a", "b", "c", indent=1), good("d", "e"))
    assert names(document) == ["a", "b", "c", "d", "e"]
    assert [item["b64_json"] for item in document["data"]] in (list("abcde"), list("deabc"))
    details = {"image_tokens": 4, "text_tokens": 20}
    whole = {"input_tokens": 24, "input_tokens_details": details, "output_tokens": 392, "total_tokens": 416}
    assert document.pop("usage") == whole
    document.pop("data")
    assert document == {
        "created": 7, "size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png",
    }  # fmt: skip
    headers = dict(answer.headers)
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) == answer.content_length
    assert MISSING not in headers
    assert set((answer.upstream_request_id or "").split(",")) == {"id-a-b-c", "id-d-e"}
    reading = answer.reading()
    assert (reading.images, reading.usage, reading.complete) == (5, READ + READ, True)
    assert sorted(part.n for part in reading.parts) == [2, 3]


async def test_what_failed_and_cost_nothing_is_left_out() -> None:
    """Two of three calls are refused: one image is the answer, two are missing, one call is to be paid."""
    answer, document = await outcome_of(job(3, 3), good("a"), refusal("429 Too Many"), refusal("500 Error"))
    assert names(document) == ["a"]
    assert dict(answer.headers)[MISSING] == "2"
    assert document["usage"] == USAGE
    assert [(part.n, part.reading.images) for part in answer.reading().parts] == [(1, 1)]
    assert answer.rate_limits["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("bad", [lost, broken, good(usage=None), unclear], ids=["lost", "half", "empty", "unclear"])
async def test_what_failed_and_may_have_been_billed_is_told(bad: Reply) -> None:
    """An answer that was lost, broke off or is empty is left out of the document, and is a part that says nothing."""
    answer, document = await outcome_of(job(2, 2), good("a"), bad)
    assert names(document) == ["a"]
    assert dict(answer.headers)[MISSING] == "1"
    parts = answer.reading().parts
    assert sorted((part.n, part.reading.images, part.reading.usage is not None) for part in parts) == [
        (1, 0, False),
        (1, 1, True),
    ]


async def test_a_wrong_number_of_images_is_told_too() -> None:
    """A call that brings fewer images than it was asked for leaves the rest missing."""
    answer, document = await outcome_of(job(4, 2, 2), good("a", "b"), good("c"))
    assert names(document) == ["a", "b", "c"]
    assert dict(answer.headers)[MISSING] == "1"


async def test_tokens_that_one_call_does_not_tell_are_not_made_up() -> None:
    """The sum of what is known is not what it cost: the document names no usage, and the parts tell one by one."""
    answer, document = await outcome_of(job(2, 2), good("a"), good("b", usage=None))
    assert "usage" not in document
    reading = answer.reading()
    assert (reading.usage, reading.usage_problem, reading.images) == (None, "missing", 2)
    assert {part.reading.usage for part in reading.parts} == {READ, None}


REJECTED, UNKNOWN = Outcome.REJECTED, Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("replies", "outcome", "reason"),
    [
        ((refusal("500 Error"), refusal("429 Too Many")), REJECTED, {"status_500", "status_5xx", "status_429"}),
        ((refusal("500 Error"), refusal("400 Bad", "moderation_blocked")), REJECTED, {"status_4xx"}),
        ((lost, lost), UNKNOWN, {"reset"}),
    ],
)
async def test_if_all_fail_the_worst_failure_is_raised(
    replies: Sequence[Reply], outcome: Outcome, reason: set[str]
) -> None:
    """What may have cost most stands for all, and among equals what is the caller's own fault."""
    with pytest.raises(UpstreamFailure) as caught:
        await outcome_of(job(2, 2), *replies)
    assert caught.value.outcome is outcome
    assert caught.value.reason in reason


async def test_if_all_fail_only_what_may_be_billed_counts() -> None:
    """One of three calls is lost and two are refused: an answer without a body, of which one image may be billed."""
    async with provider_of(by_turns(lost, refusal("500 Error"), refusal("500 Error"))) as (provider, _):
        answer = await provider.send(job(3, 3))
        with pytest.raises(UpstreamFailure) as caught:
            await read_all(answer)
        await answer.aclose()
    assert caught.value.outcome is Outcome.UNKNOWN
    reading = answer.reading()
    assert (reading.complete, reading.images, reading.parts) == (False, 0, (PartReading(1, Reading()),))


@pytest.mark.parametrize(
    ("replies", "billed"),
    [
        ([withheld(), refusal("429 Too Many"), refusal("429 Too Many"), refusal("500 Error")], 1),
        ([withheld(), lost, refusal("429 Too Many"), refusal("400 Bad")], 2),
        ([withheld(), withheld(), lost, lost], 4),
    ],
)
async def test_a_failure_that_is_shown_says_how_many_images_may_be_billed(
    replies: Sequence[Reply], billed: int
) -> None:
    """An image that was withheld is shown as it came, and calls that were surely refused are not billed with it."""
    with pytest.raises(UpstreamFailure) as caught:
        await outcome_of(job(4, 4), *replies)
    failure = caught.value
    assert (failure.outcome, failure.status, failure.pass_on, failure.images) == (UNKNOWN, 400, True, billed)
    assert len(failure.others) == 3


CALL = job(3, 3)
WAITS = [refusal("429 Too Many", wait=7), refusal("429 Too Many", wait=40)]


@pytest.mark.parametrize(
    "replies",
    [[good("a"), *WAITS], [withheld(), *WAITS], [lost, *WAITS], [refusal("400 Bad"), *WAITS]],
    ids=["good", "withheld", "lost", "refused"],
)
async def test_a_rate_limit_of_some_calls_is_learned(replies: Sequence[Reply]) -> None:
    """Whatever became of the other calls, the route rests as long as the strictest refusal says."""
    capacity = Capacity(lambda: 1000.0)
    async with provider_of(by_turns(*replies)) as (provider, _):
        with contextlib.suppress(UpstreamFailure):
            answer = await WatchedProvider(provider, Health(Observers([])), capacity).send(CALL)
            await answer.aclose()
            assert answer.rate_limits["retry-after"] == "40"
    assert capacity.rest_until(CALL.route.name) == 1040


async def test_a_plain_call_is_left_alone() -> None:
    """One call that needs nothing is answered as the provider answers it, before its body is in."""
    half_sent = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        body = images("a")
        half = body.index(b"}")
        await connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        await connection.send(body[:half])
        await half_sent.wait()
        await connection.send(body[half:])

    async with provider_of(script, timeout=30.0) as (provider, _):
        answer = await provider.send(job(1, 1))
        half_sent.set()
        assert await read_all(answer) == images("a")
        assert answer.reading().parts == ()
        await answer.aclose()


async def test_a_cancellation_ends_all_calls() -> None:
    """A request that is broken off leaves no connection and no task behind."""
    closed = 0
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(connection: Connection) -> None:
        nonlocal closed
        await connection.request()
        if len(connection.server.requests) == 1:
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        if len(connection.server.requests) == 3:
            arrived.set()
        await connection.reader.read()  # until the other side hangs up
        closed += 1
        if closed == 3:
            gone.set()

    async with provider_of(script, timeout=60.0) as (provider, _):
        sending = asyncio.create_task(provider.send(job(3, 3)))
        async with asyncio.timeout(30):
            await arrived.wait()
            sending.cancel()
            await asyncio.wait({sending})
            await gone.wait()
    assert sending.cancelled()


async def test_large_answers_lie_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond the room in memory is in a temporary file, comes out as it went in, and is gone afterwards."""
    monkeypatch.setattr(part_module, "IN_MEMORY", 10_000)
    large = ["A" * 700_000, "B" * 700_000]
    async with provider_of(by_turns(*(good(name) for name in large))) as (provider, _):
        answer = await provider.send(job(2, 2))
        assert names(json.loads(await read_all(answer))) == large
        await answer.aclose()
        with pytest.raises(ValueError, match="freed"):
            await read_all(answer)


async def test_uploaded_images_go_with_every_call() -> None:
    """An edit is rendered once for each of its calls."""
    async with provider_of(by_turns(good("a"), good("b"))) as (provider, server):
        wanted = job(2, 2, edit=True)
        wanted = replace(wanted, body=MemoryBody({"prompt": "x"}, encoding="multipart", extra=b"IMAGE" * 50_000))
        await (await provider.send(wanted)).aclose()
        assert [request.body.count(b"IMAGE") for request in server.requests] == [50_000, 50_000]
        assert {request.line.split()[1] for request in server.requests} == {"/v1/images/edits"}


def test_a_stream_in_several_calls_is_asked_for_as_documents() -> None:
    """Partial images of several streams could not be told apart, so there are none."""
    [one, two] = calls_of(replace(job(2, 2), job=replace(job(2, 2).job, stream=True, partial_images=3)))
    assert one == replace(two, number=0)
    assert (one.job.stream, one.job.partial_images, one.job.n) == (False, 0, 1)
    assert dict(one.changes) | {"stream": None, "partial_images": None, "n": 1} == dict(one.changes)


async def test_a_provider_that_never_answers_is_waited_for_no_longer_than_its_timeout() -> None:
    """The call that stalls is unknown; the one that was answered is the answer."""

    async def stall(connection: Connection, _: Request) -> None:
        await forever(connection)

    async with provider_of(by_turns(good("a"), stall), timeout=2.5) as (provider, _):
        answer = await provider.send(job(2, 2))
        assert names(json.loads(await read_all(answer))) == ["a"]
        await answer.aclose()
    assert sorted((part.n, part.reading.images) for part in answer.reading().parts) == [(1, 0), (1, 1)]


@pytest.mark.parametrize("image", ["eA==", "x" * 40_000], ids=["at once", "in pieces"])
@pytest.mark.parametrize(("came", "missing"), [(1, "2"), (3, None), (0, None)])
async def test_fewer_images_of_one_call_are_said(image: str, came: int, missing: str | None) -> None:
    """Where it is known before the answer goes on; an answer without any is an error."""
    answer, _ = await outcome_of(job(3, 1, 3), good(*[image] * came))
    assert dict(answer.headers).get(MISSING) == missing

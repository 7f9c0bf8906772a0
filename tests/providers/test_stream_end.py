"""The mark of a stream's end is taken off, wherever it stands and however it is cut, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.profile import Profile
from gateway.ports.provider import ProviderServices, UpstreamFailure
from gateway.providers.registry import open_provider
from gateway.providers.stream_end import StreamEnd
from tests.providers.accounts import provider_of
from tests.providers.calls import config, read_all
from tests.providers.raw_server import Connection, serving
from tests.providers.test_as_events import completed, plain, sse
from tests.providers.test_image_inspection import Taken

EVENT = b'event: image_generation.completed\ndata: {"b64_json": "dada"}\n\n'


def passed_on(body: bytes, cuts: Sequence[int]) -> bytes:
    """What goes on of a body that comes in these pieces, over and over."""
    end, out, at, turn = StreamEnd(), b"", 0, 0
    while at < len(body):
        size = cuts[turn % len(cuts)]
        out += end.without(body[at : at + size])
        at, turn = at + size, turn + 1
    return out + end.left()


@given(
    cuts=st.lists(st.integers(1, 40), min_size=1),
    mark=st.sampled_from(
        [
            *(b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n", b"data: [DONE]", b""),
            *(b"data: [DONE] \n\n", b"data: [DONE]\t \r\n\r\n", b"data:[DONE]        "),
        ]
    ),
    events=st.integers(0, 3),
)
def test_the_mark_goes_and_all_else_stays(cuts: list[int], mark: bytes, events: int) -> None:
    """Every byte of the events is there, and none of the mark."""
    assert passed_on(EVENT * events + mark, cuts) == EVENT * events


@given(
    cuts=st.lists(st.integers(1, 40), min_size=1),
    mark=st.sampled_from(
        [
            *(b"data: [DONE]\n\n", b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n", b"data: [DONE]\r\r"),
            *(b"data: [DONE] \n\n", b"data:[DONE]\t \r\r"),
        ]
    ),
    before=st.sampled_from([b"", EVENT, b": hi\n\n", b": hi\r\r", b"event: done\n", b"id: 7\r\n"]),
    after=st.sampled_from([EVENT, b": bye\n\n", b": bye\r\r", b"data: x"]),
)
def test_a_mark_that_more_follows_goes_too(cuts: list[int], mark: bytes, before: bytes, after: bytes) -> None:
    """SDKs stop reading there, and would miss an image, or the error that must follow."""
    assert passed_on(before + mark + after, cuts) == before + after
    assert passed_on(mark + before + mark + mark + after + EVENT + mark, cuts) == before + after + EVENT


@given(
    cuts=st.lists(st.integers(1, 30), min_size=1),
    body=st.lists(
        st.sampled_from([b"data", b":", b" ", b"[DONE]x", b"[DO", b"\n", b"\r\n", b"x", b"  ", b"{}", b"d"]),
        max_size=20,
    ).map(b"".join),
)
def test_what_only_looks_like_it_stays(cuts: list[int], body: bytes) -> None:
    """What follows shows that it is none."""
    assert passed_on(body + b"\n: more\n\n", cuts) == body + b"\n: more\n\n"


@pytest.mark.parametrize("chunk", [EVENT, b"x" * 70_000, b"\n\n", b"data: {}\n", b'data: {"a": "data: [DONE]'])
def test_an_event_is_not_delayed(chunk: bytes) -> None:
    """What cannot become the mark goes on at once."""
    assert StreamEnd().without(chunk) is chunk


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r", b"\n\ndata: [DONE]", b"\n\n", b"\r\n\r\n"])
async def test_an_image_whose_event_is_not_ended_reaches_its_client(end: bytes) -> None:
    """Clients pass over an event without its empty line, and it is booked: it gets one."""
    body = completed("a").rstrip(b"\n") + end
    async with provider_of(sse(body)) as (provider, _):
        answer = await provider.send(plain(1))
        got = await read_all(answer)
        await answer.aclose()
    assert got.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n") + b"\n\n" == completed("a")
    assert b"\n\n" in got.replace(b"\r\n", b"\n")
    assert (answer.reading().images, answer.reading().complete) == (1, True)


@pytest.mark.parametrize(("end", "lacks"), [(b"", b"\n\n"), (b"\n", b"\n"), (b"\r\n", b"\n"), (b"\r", b"\n\n")])
async def test_an_event_gets_no_more_than_it_lacks(end: bytes, lacks: bytes) -> None:
    """SDKs keep its `id`, and would take one more empty line for an event that is no JSON."""
    body = b"id: 1\n" + completed("a").rstrip(b"\n") + end
    async with provider_of(sse(body)) as (provider, _):
        answer = await provider.send(plain(1))
        assert await read_all(answer) == body + lacks
        await answer.aclose()


@pytest.mark.parametrize(
    "after", [b'data: {"x":\n\n', b'data: {"error": {"code": "late"}}\n\n', completed("b"), b"data: [DONE]\n\n", b""]
)
@pytest.mark.parametrize("pause", [False, True])
async def test_nothing_follows_the_mark_once_all_images_are_there(after: bytes, *, pause: bool) -> None:
    """SDKs that get the mark stop reading there: what is torn behind it, or an error, must not reach them without."""
    first, mark, second = completed("a"), b"data: [DONE]\n\n", completed("b")

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + first + mark)
        if pause:
            await begun.wait()
        await connection.send(second + mark + after)

    begun = asyncio.Event()
    async with serving(script) as server:
        provider = open_provider(config(server.url), ProviderServices())
        answer = await provider.send(plain(2))
        chunks = answer.chunks()
        got = await anext(chunks)
        begun.set()
        assert got + b"".join([chunk async for chunk in chunks]) == first + second
        await answer.aclose()
        await provider.aclose()
    assert answer.reading().complete


async def test_so_it_does_where_the_stream_ends_with_its_connection() -> None:
    """Its JSON is whole: no byte of it can be missing."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + completed("a")[:-1])

    async with serving(script) as server:
        provider = open_provider(config(server.url), ProviderServices())
        answer = await provider.send(plain(1))
        assert (await read_all(answer)).rstrip(b"\n") + b"\n\n" == completed("a")
        await answer.aclose()
        await provider.aclose()
    assert (answer.reading().images, answer.reading().complete) == (1, True)


async def test_half_an_event_is_not_ended() -> None:
    """It is no image, and the answer is not whole."""
    async with provider_of(sse(completed("a")[:-30])) as (provider, _):
        answer = await provider.send(plain(1))
        assert await read_all(answer) == completed("a")[:-30]
        await answer.aclose()
    assert not answer.reading().complete


@pytest.mark.parametrize("profile", [Profile(), Profile(drop=("style",))], ids=["plain", "profiled"])
@pytest.mark.parametrize(("asked", "came", "whole"), [(1, 1, True), (2, 2, True), (2, 1, False)])
async def test_a_stream_may_end_with_its_connection(profile: Profile, asked: int, came: int, *, whole: bool) -> None:
    """It is whole once all images are there that were asked for; between two of them it may have been cut."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + completed("a") * came)

    async with serving(script) as server:
        provider = open_provider(config(server.url, profile=profile), ProviderServices())
        answer = await provider.send(plain(asked))
        assert await read_all(answer) == completed("a") * came
        await answer.aclose()
        await provider.aclose()
    assert (answer.reading().images, answer.reading().complete) == (came, whole)


@pytest.mark.parametrize(("asked", "came", "whole"), [(1, 1, True), (2, 2, True), (2, 1, False)])
@pytest.mark.parametrize("mark", [b"", b"data: [DONE]\n\n"], ids=["no mark", "mark"])
async def test_a_stream_of_chunks_may_end_without_the_last_one(
    asked: int, came: int, mark: bytes, *, whole: bool
) -> None:
    """As one without chunks; images that are kept of it are kept, for the client has them."""
    body, taken = completed("AAAA") * came + mark, Taken()

    async def script(connection: Connection) -> None:
        await connection.request()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        await connection.send(head + b"%x\r\n%b\r\n" % (len(body), body))

    async with serving(script) as server:
        provider = open_provider(config(server.url), ProviderServices())
        answer = await provider.send(replace(plain(asked), archive=taken))
        if whole or mark:
            assert await read_all(answer) == completed("AAAA") * came
        else:
            with pytest.raises(UpstreamFailure):
                await read_all(answer)
        await answer.aclose()
        await provider.aclose()
    await asyncio.gather(*taken.work)
    assert (len(taken.images), taken.reasons) == (came if whole or mark else 0, [])

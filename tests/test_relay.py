"""Relay and delivery: a call never waits for a client that left, and a client never takes a part for the whole."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import ClassVar

import pytest

from gateway.domain.errors import InternalError, UpstreamError
from gateway.domain.settlement import Outcome, Reading
from gateway.ports import Headers, Outbound, Truncated
from gateway.ports.provider import UpstreamFailure
from gateway.request.delivery import SMALL, Delivery
from gateway.request.relay import CAPACITY, Relay
from gateway.tasks.flight import Gathered

PATIENCE = 20.0
"""Seconds after which something hangs for certain."""


async def rest(outbound: Outbound) -> bytes:
    """What the client still gets."""
    return b"".join([chunk async for chunk in outbound.chunks])


async def settle_down() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_body_arrives_in_order_and_ends() -> None:
    """What is written comes out, byte for byte, with status and headers; then the body ends."""
    relay = Relay()
    relay.open(200, [("a", "b")])
    outbound = await relay.head()
    assert (outbound.status, list(outbound.headers)) == (200, [("a", "b")])
    for chunk in (b"one", b"", b"two"):
        await relay.write(chunk)
    relay.close()
    assert await rest(outbound) == b"onetwo"
    assert relay.bytes_out == 6
    assert not relay.client_gone


async def test_a_slow_client_holds_the_writer_up_and_memory_down() -> None:
    """Nobody reads: after a bounded number of bytes the writer waits, and goes on once somebody does."""
    relay = Relay()
    relay.open(200, [])
    outbound = await relay.head()
    written = 0
    chunk = bytes(64 * 1024)

    async def write() -> None:
        nonlocal written
        for _ in range(100):
            await relay.write(chunk)
            written += len(chunk)
        relay.close()

    writer = asyncio.create_task(write())
    await settle_down()
    assert not writer.done()
    assert written <= CAPACITY + len(chunk)
    async with asyncio.timeout(PATIENCE):
        assert len(await rest(outbound)) == 100 * len(chunk)
        await writer


async def test_a_chunk_larger_than_the_room_still_passes() -> None:
    """One chunk beyond the capacity does not wait for room that can never be."""
    relay = Relay()
    relay.open(200, [])
    outbound = await relay.head()

    async def write() -> None:
        for _ in range(3):
            await relay.write(bytes(2 * CAPACITY))
        relay.close()

    writer = asyncio.create_task(write())
    async with asyncio.timeout(PATIENCE):
        assert len(await rest(outbound)) == 6 * CAPACITY
        await writer


async def test_a_client_that_leaves_while_the_writer_waits_sets_it_free() -> None:
    """The writer waits for a slow client; the client goes; every further byte is dropped without waiting."""
    relay = Relay()
    relay.open(200, [])
    outbound = await relay.head()

    async def write() -> None:
        for _ in range(1000):
            await relay.write(bytes(CAPACITY))
        relay.close()

    writer = asyncio.create_task(write())
    await settle_down()
    assert not writer.done()
    assert isinstance(outbound.chunks, Relay)
    await outbound.chunks.aclose()
    async with asyncio.timeout(PATIENCE):
        await writer
    assert relay.client_gone
    assert await rest(outbound) == b""


async def test_closing_before_anything_was_read_is_leaving() -> None:
    """A client that never starts to read is gone too, also when all was written already."""
    relay = Relay()
    relay.open(200, [])
    await relay.aclose()
    assert relay.client_gone
    await relay.write(b"nobody reads this")
    assert relay.bytes_out == 0
    late = Relay()
    late.open(200, [])
    await late.write(b"all of it")
    late.close()
    await late.aclose()
    assert late.client_gone


async def test_closing_after_the_end_is_not_leaving() -> None:
    """The server closes the iterator in any case; a client that got everything has not left."""
    relay = Relay()
    relay.open(200, [])
    await relay.write(b"all of it")
    relay.close()
    assert await rest(await relay.head()) == b"all of it"
    await relay.aclose()
    assert not relay.client_gone


async def test_bytes_that_were_fetched_are_not_yet_taken() -> None:
    """The last chunk may be on its way when the client leaves: only who asks for more and hears the end has it all."""
    relay = Relay()
    relay.open(200, [])
    await relay.write(b"all of it")
    relay.close()
    assert await anext(relay) == b"all of it"
    await relay.aclose()
    assert relay.client_gone


async def test_leaving_is_told_once() -> None:
    """Whoever wants to know hears of it when it happens, and hears nothing if the client stays to the end."""
    told: list[str] = []
    leaving, staying = Relay(), Relay()
    for relay, name in ((leaving, "leaving"), (staying, "staying")):
        relay.on_leave = lambda name=name: told.append(name)
        relay.open(200, [])
        await relay.write(b"one")
    await leaving.aclose()
    await leaving.aclose()
    staying.close()
    await rest(await staying.head())
    await staying.aclose()
    assert told == ["leaving"]


@pytest.mark.parametrize("kind", ["text/event-stream; charset=utf-8", "application/json"])
async def test_events_have_begun_once_the_client_has_taken_some(kind: str) -> None:
    """Bytes that only wait, or are on their way, have not gone out; what is no event stream never counts."""
    relay = Relay()
    assert not relay.streaming
    relay.open(200, [("content-type", kind)])
    for chunk in (b"one", b"two"):
        await relay.write(chunk)
    for _ in range(2):
        assert not relay.streaming
        assert await anext(relay)
    assert relay.streaming == kind.startswith("text/event-stream")
    relay.leave()
    assert relay.streaming == kind.startswith("text/event-stream")


@pytest.mark.parametrize("how", ["taken", "left", "failed"])
async def test_one_can_wait_until_the_client_has_everything(how: str) -> None:
    """The wait ends when the body was read to its end, when the client is gone, and when it got an error in place."""
    relay = Relay()
    waiting = asyncio.create_task(relay.until_taken())
    if how == "failed":
        relay.fail(InternalError("no"))
        with pytest.raises(InternalError):
            await relay.head()
    else:
        relay.open(200, [])
        await relay.write(b"all of it")
        relay.close()
        await settle_down()
        assert not waiting.done()
        await (rest(await relay.head()) if how == "taken" else relay.aclose())
    async with asyncio.timeout(PATIENCE):
        await waiting
    assert relay.client_gone is (how == "left")


async def test_leaving_before_the_headers_sets_the_writer_free() -> None:
    """The wait for the head is cancelled; the call goes on, opens, writes and ends without anybody."""
    relay = Relay()
    waiting = asyncio.create_task(relay.head())
    await settle_down()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert relay.client_gone
    relay.open(200, [])
    async with asyncio.timeout(PATIENCE):
        for _ in range(10):
            await relay.write(bytes(CAPACITY))
    relay.close()


async def test_an_aborted_body_raises_after_what_was_written() -> None:
    """The client gets what there is and then a break, never a proper end."""
    relay = Relay()
    relay.open(200, [])
    await relay.write(b"half")
    relay.abort()
    assert await anext(relay) == b"half"
    with pytest.raises(Truncated):
        await anext(relay)


async def test_an_abort_wakes_a_waiting_client() -> None:
    """A client that waits for the next bytes learns of the break at once."""
    relay = Relay()
    relay.open(200, [])
    reading = asyncio.create_task(rest(await relay.head()))
    await settle_down()
    relay.abort()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Truncated):
            await reading


async def test_a_failure_is_raised_before_the_head_and_breaks_off_after_it() -> None:
    """Before the status line the client gets the error itself; after it, nothing but a broken connection."""
    relay = Relay()
    relay.fail(InternalError("no"))
    with pytest.raises(InternalError):
        await relay.head()
    relay = Relay()
    relay.open(200, [])
    relay.fail(InternalError("no"))
    with pytest.raises(Truncated):
        await rest(await relay.head())


async def test_a_failure_that_nobody_hears_of_is_no_warning() -> None:
    """The client left before the error came; the event loop must not complain of an exception never retrieved."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    relay = Relay()
    waiting = asyncio.create_task(relay.head())
    await settle_down()
    waiting.cancel()
    await asyncio.wait({waiting})
    relay.fail(InternalError("no"))
    del relay, waiting
    await settle_down()
    assert complaints == []


async def test_an_error_that_was_given_leaves_no_garbage() -> None:
    """The error refers to where it was raised, and nothing there refers to it any more."""
    gc.collect()
    gc.disable()
    try:
        relay = Relay()
        relay.fail(InternalError("no"))
        with contextlib.suppress(InternalError):
            relay.outbound()
        del relay
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_an_answer_at_hand_is_given_whole_unless_it_is_not() -> None:
    """Only one that has ended well, for a client that is there, and of which nobody asks what becomes of it."""
    relays = {name: Relay() for name in ("whole", "asked for", "aborted", "open", "left")}
    for name, relay in relays.items():
        relay.open(200, [])
        await relay.write(b"all of")
        await relay.write(b" it")
        if name != "open":
            relay.close()
    relays["aborted"].abort()
    relays["left"].leave()
    whole = {name: relay.outbound(over=name != "asked for").whole for name, relay in relays.items()}
    assert whole == {"whole": b"all of it", "asked for": None, "aborted": None, "open": None, "left": None}


async def test_every_byte_is_recorded_before_it_is_passed_on() -> None:
    """The recording is given the whole body in order, and the headers are those that the client got."""
    relay = Relay()
    recorded: list[bytes] = []

    async def record(chunk: bytes) -> None:
        assert relay.bytes_out <= sum(map(len, recorded))
        recorded.append(chunk)

    delivery = Delivery(Chunks(LARGE), relay, head, record=record)
    pumping = asyncio.create_task(delivery.pump())
    outbound = await relay.head()
    reading = asyncio.create_task(rest(outbound))
    await pumping
    assert delivery.opened
    assert list(delivery.headers(7)) == list(outbound.headers)
    await delivery.finish(7)
    assert await reading == b"".join(recorded) == b"".join(LARGE)


async def test_the_headers_of_an_answer_that_waits_tell_the_cost() -> None:
    """Before anything is out they are those that will go out."""
    relay = Relay()
    delivery = Delivery(Chunks([b"{}"]), relay, head)
    await delivery.pump()
    assert not delivery.opened
    kept = delivery.headers(7)
    await delivery.finish(7)
    assert list((await relay.head()).headers) == list(kept)


@pytest.mark.parametrize("left", [False, True], ids=["there", "gone"])
@pytest.mark.parametrize("body", [[], [b"all"], [b"all of", b"", b" it"]], ids=["empty", "one", "pieces"])
async def test_an_answer_given_at_once_is_what_it_is_in_pieces(body: list[bytes], *, left: bool) -> None:
    """Whether its client is there or has left, and whoever waits for it is woken."""
    at_once, in_pieces = Relay(), Relay()
    if left:
        at_once.leave()
        in_pieces.leave()
    waiting = asyncio.create_task(at_once.head())
    await settle_down()
    at_once.give(201, [("a", "b")], body)
    in_pieces.open(201, [("a", "b")])
    for chunk in body:
        in_pieces.put(chunk)
    in_pieces.close()
    told = [
        (one.status, one.headers, one.whole) for one in (relay.outbound(over=True) for relay in (at_once, in_pieces))
    ]
    assert told[0] == told[1]
    assert (at_once.bytes_out, at_once.behind) == (in_pieces.bytes_out, in_pieces.behind)
    assert await rest(await waiting) == await rest(in_pieces.outbound())


async def test_only_the_first_head_counts() -> None:
    """Opening twice changes nothing."""
    relay = Relay()
    relay.open(200, [("first", "1")])
    relay.open(500, [])
    assert (await relay.head()).status == 200


class Chunks:
    """An answer made of chunks; `broken` is raised after the last one."""

    status = 200
    headers: Headers = (("content-type", "application/json"),)
    upstream_request_id = None
    rate_limits: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        chunks: Sequence[bytes],
        *,
        length: bool = True,
        event_stream: bool = False,
        broken: UpstreamFailure | None = None,
    ) -> None:
        self._chunks = chunks
        self._broken = broken
        self.content_length = sum(map(len, chunks)) if length else None
        self.event_stream = event_stream

    def at_once(self) -> bytes | None:
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            await asyncio.sleep(0)
            yield chunk
        if self._broken is not None:
            raise self._broken

    def reading(self) -> Reading:
        return Reading()

    async def aclose(self) -> None:
        """Nothing is open."""


def head(cost: int | None) -> Headers:
    """The gateway's own headers."""
    return [("x-cost", str(cost))]


def test_an_answer_that_nobody_waits_for_is_gathered_alike() -> None:
    """At once or in pieces it comes to the same, and to a flight it is a relay whose client stays and is never slow."""
    at_once, in_pieces = Gathered(), Gathered()
    at_once.give(201, [("a", "b")], [b"all of", b" it"])
    in_pieces.open(201, [("a", "b")])
    in_pieces.put(b"all of")
    in_pieces.put(b" it")
    in_pieces.close()
    assert at_once.outcome() == in_pieces.outcome()
    for relay in (at_once, in_pieces, Gathered()):
        assert not any((relay.behind, relay.client_gone, relay.answered, relay.bytes_out, relay.on_leave))


class Whole(Chunks):
    """An answer that is here already, which nobody need read."""

    def at_once(self) -> bytes | None:
        return b"".join(self._chunks)

    async def chunks(self) -> AsyncIterator[bytes]:
        raise AssertionError("it is here")
        yield b""


LARGE = [bytes([65 + number]) * 30_000 for number in range(6)]


async def test_a_small_answer_is_kept_back_until_it_is_settled() -> None:
    """Nothing goes out before `finish`, so that the headers can tell the cost."""
    relay = Relay()
    delivery = Delivery(Chunks([b"{", b"}"]), relay, head)
    await delivery.pump()
    waiting = asyncio.create_task(relay.head())
    await settle_down()
    assert not waiting.done()
    await delivery.finish(7)
    outbound = await waiting
    assert ("x-cost", "7") in outbound.headers
    assert await rest(outbound) == b"{}"


async def test_an_answer_that_is_here_is_taken_as_it_is() -> None:
    """It is kept back until it is settled, and is at hand then; its headers tell the cost."""
    relay = Relay()
    delivery = Delivery(Whole([b"{", b"}"]), relay, head)
    assert delivery.at_hand()
    assert not delivery.opened
    assert not relay.answered
    await delivery.finish(7)
    outbound = relay.outbound(over=True)
    assert outbound.whole == b"{}"
    assert ("x-cost", "7") in outbound.headers
    assert list(delivery.headers(8)) == list(outbound.headers)


async def test_an_answer_that_is_here_is_recorded_where_it_may_be_asked_for_again() -> None:
    """It is not at hand before its recording has it."""
    relay, recorded = Relay(), list[bytes]()

    async def record(chunk: bytes) -> None:
        recorded.append(chunk)

    delivery = Delivery(Whole([b"{", b"}"]), relay, head, record=record)
    assert not delivery.at_hand()
    assert await delivery.pump(held_back=True)
    await delivery.finish(7)
    assert recorded == [b"{}"]
    assert await rest(relay.outbound()) == b"{}"


@pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
async def test_a_large_answer_flows_but_for_its_last_bytes(*, length: bool) -> None:
    """The head goes out while the answer comes in; where its length is known, the end waits for the settlement."""
    relay = Relay()
    delivery = Delivery(Chunks(LARGE, length=length), relay, head)
    pumping = asyncio.create_task(delivery.pump())
    outbound = await relay.head()
    assert ("x-cost", "None") in outbound.headers
    reading = asyncio.create_task(rest(outbound))
    await pumping
    await settle_down()
    assert not reading.done()
    assert relay.bytes_out == sum(map(len, LARGE)) - (len(LARGE[-1]) if length else 0)
    await delivery.finish(7)
    assert await reading == b"".join(LARGE)


async def test_exactly_the_small_size_is_still_small() -> None:
    """The bound itself is inclusive."""
    relay = Relay()
    delivery = Delivery(Chunks([bytes(SMALL)]), relay, head)
    await delivery.pump()
    await delivery.finish(1)
    assert ("x-cost", "1") in (await relay.head()).headers


async def test_an_event_flows_at_once() -> None:
    """A stream's first event reaches the client before the second has come."""
    relay = Relay()
    delivery = Delivery(Chunks([b"data: 1\n\n", b"data: 2\n\n"], length=False, event_stream=True), relay, head)
    pumping = asyncio.create_task(delivery.pump())
    outbound = await relay.head()
    assert await anext(outbound.chunks) == b"data: 1\n\n"
    await pumping
    await delivery.finish(1)
    assert await rest(outbound) == b"data: 2\n\n"


FAILURE = UpstreamFailure(Outcome.UNKNOWN, "reset", "it broke")
ERROR = UpstreamError("it broke", should_retry=False)


async def test_a_small_answer_that_breaks_off_becomes_an_error() -> None:
    """Nothing was sent yet, so the client gets status and message, and no byte of the half answer."""
    relay = Relay()
    delivery = Delivery(Chunks([b"{"], length=False, broken=FAILURE), relay, head)
    with pytest.raises(UpstreamFailure):
        await delivery.pump()
    delivery.break_off(ERROR)
    with pytest.raises(UpstreamError):
        await relay.head()


async def test_a_large_answer_that_breaks_off_breaks_the_connection() -> None:
    """The status line is out: only a connection that ends early can say that the answer is not whole."""
    relay = Relay()
    delivery = Delivery(Chunks(LARGE, length=False, broken=FAILURE), relay, head)

    async def call() -> None:
        with pytest.raises(UpstreamFailure):
            await delivery.pump()
        delivery.break_off(ERROR)

    calling = asyncio.create_task(call())
    with pytest.raises(Truncated):
        await rest(await relay.head())
    await calling


async def broken_off(before: bytes) -> Relay:
    """What a client gets of a stream that broke off behind these bytes, and was ended with the error."""
    relay = Relay()
    delivery = Delivery(Chunks([before], length=False, event_stream=True, broken=FAILURE), relay, head)
    with pytest.raises(UpstreamFailure):
        await delivery.pump()
    delivery.break_off(ERROR)
    return relay


@pytest.mark.parametrize("before", [b'data: {"half', b"event: x\r\ndata: 1\r\n", b"event: x\rdata: 1\r", b"data: 1\n"])
async def test_a_stream_torn_inside_an_event_is_aborted(before: bytes) -> None:
    """What follows half an event would read as part of it."""
    relay = await broken_off(before)
    with pytest.raises(Truncated):
        await rest(await relay.head())


@pytest.mark.parametrize("before", [b"data: 1\n\n", b"event: x\r\ndata: 1\r\n\r\n", b"event: x\rdata: 1\r\r"])
async def test_a_stream_that_breaks_off_ends_in_an_error_event(before: bytes) -> None:
    """Between two events the error is an event of its own."""
    relay = await broken_off(before)
    body = await rest(await relay.head())
    assert body.startswith(before)
    event = body.removeprefix(before).removesuffix(b"\n\n").removeprefix(b"data: ")
    assert json.loads(event) == ERROR.body()


@pytest.mark.parametrize(
    "before", [b"data: 1\n\nevent: done\n", b"id: 7\r\nevent: x\r\n", b"id: 7\revent: x\r", b": ping\n"]
)
async def test_lines_without_data_do_not_keep_an_error_from_its_client(before: bytes) -> None:
    """They are all that is left of an event whose data was the end's mark: the error takes its name and its place."""
    relay = await broken_off(before)
    body = await rest(await relay.head())
    assert body == before + b"event: error\ndata: " + ERROR.written() + b"\n\n"


async def test_a_stream_that_has_ended_is_told_no_error_any_more() -> None:
    """Neither one that broke off and was told so, nor what goes wrong here once it was."""
    relay = Relay()
    delivery = Delivery(Chunks([b"data: 1\n\n"], length=False, event_stream=True, broken=FAILURE), relay, head)
    with pytest.raises(UpstreamFailure):
        await delivery.pump()
    delivery.break_off(ERROR)
    delivery.break_off(ERROR)
    assert await rest(await relay.head()) == b"data: 1\n\ndata: " + ERROR.written() + b"\n\n"


async def test_a_stream_that_is_cut_short_ends_in_words_though_its_client_is_behind() -> None:
    """Whoever cuts it short does not wait; what was read already goes out once, in its order, before the error."""
    relay, long = Relay(), b"data: " + bytes(CAPACITY) + b"\n\n"
    delivery = Delivery(Chunks([b"data: 1\n\n", long, b"data: 3\n\n"], length=False, event_stream=True), relay, head)
    pumping = asyncio.create_task(delivery.pump())
    await settle_down()
    assert relay.behind
    pumping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pumping
    delivery.break_off(ERROR)
    assert await rest(await relay.head()) == b"data: 1\n\n" + long + b"data: " + ERROR.written() + b"\n\n"


async def test_an_answer_is_read_to_its_end_though_nobody_listens() -> None:
    """The client is gone before the first byte: pump and finish end, and every byte was read."""
    relay = Relay()
    await relay.aclose()
    taken: list[int] = []

    class Counting(Chunks):
        async def chunks(self) -> AsyncIterator[bytes]:
            async for chunk in super().chunks():
                taken.append(len(chunk))
                yield chunk

    delivery = Delivery(Counting(LARGE * 20, length=False), relay, head)
    async with asyncio.timeout(PATIENCE):
        await delivery.pump()
        await delivery.finish(1)
    assert sum(taken) == 20 * sum(map(len, LARGE))
    assert relay.bytes_out == 0

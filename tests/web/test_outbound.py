"""Answers on their way out: whole, cut short, abandoned, and not read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.errors import ClientGone
from gateway.ports import Headers, Outbound, Truncated
from gateway.request import answer_head
from gateway.request.answer_head import end_to_end
from gateway.request.relay import Written
from gateway.web import outbound
from tests.web.forms import Item, write_form
from tests.web.raw import connection, post, read_reply
from tests.web.recording import RecordingGateway, serving_gateway

URL = "http://127.0.0.1:{}/v1/images/generations"


class Chunks(AsyncIterator[bytes]):
    """An answer's body that a test steers: gives chunks, then raises, ends or waits; notes that it was closed."""

    def __init__(self, *chunks: bytes, end: BaseException | None = None, forever: bool = False) -> None:
        self._chunks = list(chunks)
        self._end = end
        self._forever = forever
        self.given = 0
        self.closed = asyncio.Event()

    async def __anext__(self) -> bytes:
        if self._forever and len(self._chunks) == 1:
            self.given += 1
            return self._chunks[0]
        if self._chunks:
            self.given += 1
            return self._chunks.pop(0)
        if isinstance(self._end, asyncio.TimeoutError):
            await asyncio.Event().wait()
        if self._end is not None:
            raise self._end
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Note it."""
        self.closed.set()


WAITS = TimeoutError()


def answering(chunks: Chunks, *headers: tuple[str, str]) -> RecordingGateway:
    """A gateway that answers with these chunks."""
    return RecordingGateway(answer=lambda: Outbound(200, headers, chunks))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a client does to its connection is worth a warning."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_answer_is_relayed_chunk_by_chunk() -> None:
    """A chunk reaches the client while the next is not there yet; the end closes the iterator."""
    first, second = asyncio.Event(), asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        await first.wait()
        yield b"two"
        second.set()

    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    gateway = RecordingGateway(answer=lambda: Outbound(200, [("content-type", "text/event-stream")], chunks()))
    async with (
        serving_gateway(gateway) as port,
        httpx.AsyncClient() as client,
        client.stream("POST", URL.format(port), json={"prompt": "x"}) as answer,
    ):
        parts = answer.aiter_raw()
        assert await anext(parts) == b"one"
        assert not second.is_set()
        first.set()
        assert [part async for part in parts] == [b"two"]
    assert second.is_set()


async def test_a_client_that_leaves_closes_the_iterator() -> None:
    """A client that hangs up between two chunks is noticed at once, though nothing is being sent."""
    chunks = Chunks(b"data", end=WAITS)
    async with serving_gateway(answering(chunks)) as port:
        async with connection(port) as (reader, writer):
            writer.write(post())
            await reader.readuntil(b"data")
        async with asyncio.timeout(5):
            await chunks.closed.wait()


async def test_a_client_that_leaves_ends_a_waiting_generator() -> None:
    """An async generator that waits for more is ended too, by cancellation at the place where it waits."""
    ended = asyncio.Event()

    async def generate() -> AsyncIterator[bytes]:
        try:
            yield b"data"
            await asyncio.Event().wait()
        finally:
            ended.set()

    gateway = RecordingGateway(answer=lambda: Outbound(200, [], generate()))
    async with serving_gateway(gateway) as port:
        async with connection(port) as (reader, writer):
            writer.write(post())
            await reader.readuntil(b"data")
        async with asyncio.timeout(5):
            await ended.wait()


async def test_a_client_that_reads_nothing_is_cut_off() -> None:
    """A slow reader holds a bounded number of chunks, and loses its connection when it has stalled."""
    chunks = Chunks(b"x" * 65_536, forever=True)
    async with serving_gateway(answering(chunks), stall_seconds=0.3) as port, connection(port) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # the stream reader would read ahead
        writer.write(post())
        async with asyncio.timeout(10):
            await chunks.closed.wait()
    assert chunks.given < 1000


async def test_a_client_that_reads_too_slowly_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that keeps reading, so that no single write waits for long, may not go on like that for ever."""
    monkeypatch.setattr(outbound, "PACE", 2**40)  # what it takes counts for nothing, so that this takes seconds
    chunks = Chunks(b"x" * 16_384, forever=True)
    async with serving_gateway(answering(chunks), stall_seconds=2) as port, connection(port) as (reader, writer):
        writer.write(post())
        async with asyncio.timeout(60):
            while not chunks.closed.is_set():
                with contextlib.suppress(ConnectionError):
                    await reader.read(65_536)
                reader._transport.pause_reading()  # type: ignore[attr-defined]  # the stream reader would read ahead
                await asyncio.sleep(0.05)
                reader._transport.resume_reading()  # type: ignore[attr-defined]  # as above


@pytest.mark.parametrize("headers", [[], [("content-length", "4")]])
async def test_an_answer_at_hand_is_sent_at_once(headers: Headers) -> None:
    """Its bytes come as they would in chunks, with and without a length, and the connection goes on."""
    gateway = RecordingGateway(answer=lambda: Outbound(200, headers, Chunks(b"wh", b"le"), b"whle"))
    async with serving_gateway(gateway) as port, httpx.AsyncClient() as client:
        for _ in range(3):
            answer = await client.post(URL.format(port), json={"prompt": "x"})
            assert (answer.status_code, answer.content) == (200, b"whle")
            assert answer.headers.get("content-length") == (headers[0][1] if headers else None)


async def test_an_answer_at_hand_that_is_not_what_it_says_is_broken_off() -> None:
    """Headers that tell of more than there is are not made true by what is at hand."""
    gateway = RecordingGateway(answer=lambda: Outbound(200, [("content-length", "100")], Chunks(b"half"), b"half"))
    async with serving_gateway(gateway) as port, httpx.AsyncClient() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(URL.format(port), json={"prompt": "x"})


@pytest.mark.parametrize("headers", [[], [("content-length", "100")]])
async def test_a_truncated_answer_is_seen_as_such(headers: Headers) -> None:
    """The client gets what came, and an error in place of an end, with and without a length."""
    chunks = Chunks(b"half", end=Truncated())
    async with (
        serving_gateway(answering(chunks, *headers)) as port,
        httpx.AsyncClient() as client,
        client.stream("POST", URL.format(port), json={"prompt": "x"}) as answer,
    ):
        parts = answer.aiter_raw()
        assert await anext(parts) == b"half"
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(parts)
    assert chunks.closed.is_set()


async def test_a_client_that_knows_no_chunks_reads_to_the_end_of_the_connection() -> None:
    """HTTP/1.0 gets what has no length without chunks, and a reset where it broke off, so that it seems no whole."""
    old = post().replace(b"HTTP/1.1", b"HTTP/1.0")
    async with serving_gateway(answering(Chunks(b"one", b"two"))) as port, connection(port) as (reader, writer):
        writer.write(old)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert (body, b"transfer-encoding" in head) == (b"onetwo", False)
    broken = answering(Chunks(b"half", end=Truncated()))
    async with serving_gateway(broken) as port, connection(port) as (reader, writer):
        writer.write(old)
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_an_answer_shorter_than_it_says_is_broken_off() -> None:
    """A body that ends before its length is treated as truncated."""
    gateway = answering(Chunks(b"half"), ("content-length", "100"))
    async with serving_gateway(gateway) as port, httpx.AsyncClient() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(URL.format(port), json={"prompt": "x"})


async def test_answers_that_a_client_reads_late_come_whole_and_in_their_order() -> None:
    """What the connection does not take at once waits in it, and what follows waits behind that."""
    bodies = [bytes([number + 65]) * 60_000 for number in range(100)]
    left = list(bodies)

    def answer() -> Outbound:
        body = left.pop(0)
        return Outbound(200, [("content-length", str(len(body)))], Chunks(), body)

    async with serving_gateway(RecordingGateway(answer=answer)) as port, connection(port) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # the stream reader would read ahead
        for _ in bodies:
            writer.write(post())
            await asyncio.sleep(0.002)
        assert left
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(30):
            assert [(await read_reply(reader)).body for _ in bodies] == bodies


async def test_a_head_that_is_written_already_goes_out_as_it_is() -> None:
    """The client gets the lines, and the body that they tell of."""
    headers, body = [("content-length", "4"), ("x-first", "1")], b"body"

    def answer() -> Outbound:
        return Written(200, headers, Chunks(), body, *end_to_end(headers, "req_1"))

    async with serving_gateway(RecordingGateway(answer=answer)) as port, httpx.AsyncClient() as client:
        told = await client.post(URL.format(port), json={"prompt": "a lighthouse"})

    assert told.content == body
    assert (told.headers["x-first"], told.headers["x-request-id"]) == ("1", "req_1")


async def test_hop_by_hop_headers_stay_on_their_hop() -> None:
    """Connection, what it names, and the server's own headers are dropped; so are malformed ones; ours are added."""
    upstream = [
        ("Connection", "close, X-Private"),
        ("Keep-Alive", "timeout=5"),
        ("Transfer-Encoding", "chunked"),
        ("X-Private", "1"),
        ("Date", "yesterday"),
        ("Server", "upstream"),
        ("X-Bad", "a\r\nSet-Cookie: b"),
        ("Bad Name", "a"),
        ("X-Kept", "1"),
        ("X-Kept", "2"),
    ]

    assert end_to_end(upstream, "req_1") == (
        b"x-kept: 1\r\nx-kept: 2\r\nx-request-id: req_1\r\ncache-control: no-store\r\n",
        None,
    )
    own = [("X-Request-Id", "req_2"), ("Cache-Control", "private"), ("Content-Length", "12")]
    assert end_to_end(own, "req_1") == (
        b"x-request-id: req_2\r\ncache-control: private\r\ncontent-length: 12\r\n",
        12,
    )
    assert end_to_end([], "req_1") == (b"x-request-id: req_1\r\ncache-control: no-store\r\n", None)


PASSED = ["X-A", "x-b", "X-%s", "Cache-Control", "X-Request-Id", "Content-Length"]
NOT_PASSED = ["Date", "TE", "Bad Name", "", "X-Ä"]
VALUES = ["1", "12", "a\tb", "%s %d%%", "ä€", ""]
BROKEN = ["a\r\nx-c: d", "a\nb", "a\x00", "\x7f"]
HEADERS = st.lists(
    st.tuples(st.sampled_from(PASSED[:-1] + NOT_PASSED), st.sampled_from(VALUES + BROKEN))
    | st.tuples(st.just("Content-Length"), st.sampled_from(["1", "12"]))
    | st.tuples(st.just("Connection"), st.sampled_from(["close", "X-B", "close, x-a ,X-Request-Id"])),
    max_size=6,
)


@settings(max_examples=500, deadline=None)
@given(HEADERS)
def test_what_names_came_to_before_says_nothing_of_values(headers: list[tuple[str, str]]) -> None:
    """Each header is judged by itself, whether or not its names came before with values that were judged otherwise."""
    for value in ("1", "x-a, X-B", "2\r\n"):
        end_to_end([(name, "3" if name == "Content-Length" else value) for name, _ in headers], "req_0")
    named = {token.strip().lower() for name, value in headers if name == "Connection" for token in value.split(",")}
    passed = {name.lower() for name in PASSED} - named
    kept = [(name.lower(), value) for name, value in headers if name.lower() in passed and value not in BROKEN]
    always = [("x-request-id", "req_1"), ("cache-control", "no-store")]
    kept += [(name, value) for name, value in always if name not in dict(kept)]
    lines = "".join(f"{name}: {value}\r\n" for name, value in kept).encode("latin-1", "replace")
    length = dict(kept).get("content-length")
    assert end_to_end(headers, "req_1") == (lines, None if length is None else int(length))


async def test_names_of_headers_are_remembered_up_to_a_bound() -> None:
    """An upstream that names its headers anew with each answer fills no memory."""
    for number in range(2 * answer_head._MOST_FORMS):
        end_to_end([(f"x-{number}", "1")], "req_1")
    assert len(answer_head._forms) <= answer_head._MOST_FORMS


DESCRIPTORS = Path("/proc/self/fd")


def temporary_files() -> int:
    """How many deleted files this process holds open."""
    links = [link for link in DESCRIPTORS.iterdir() if link.is_symlink()]
    return sum("(deleted)" in str(link.readlink()) for link in links)


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts open files by /proc")
async def test_a_client_that_hangs_up_while_sending_leaves_nothing() -> None:
    """An upload that breaks off stops quietly: no log line, no open file."""
    gateway, before = RecordingGateway(), temporary_files()
    form = write_form([Item("image", b"x" * 3_000_000, "a.png")])
    head = b"POST /v1/images/edits HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b0undary\r\n"
    async with serving_gateway(gateway) as port:
        async with connection(port) as (_, writer):
            writer.write(head + b"Content-Length: %d\r\n\r\n" % len(form) + form[:2_000_000])
            await writer.drain()
        async with asyncio.timeout(5):
            await gateway.failed.wait()
    assert [type(error) for error in gateway.failures] == [ClientGone]
    assert temporary_files() == before


async def test_shutdown_cuts_off_what_outlasts_its_grace() -> None:
    """Requests that do not end in time are ended without a traceback, and their iterators closed."""
    chunks = Chunks(b"data", end=WAITS)
    logging.getLogger("uvicorn.error").disabled = True  # it counts the requests that it cancels, as an error
    try:
        async with serving_gateway(answering(chunks)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post())
            await reader.readuntil(b"data")
        assert chunks.closed.is_set()
        writer.close()
    finally:
        logging.getLogger("uvicorn.error").disabled = False


async def test_a_failure_after_the_first_byte_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in the middle of an answer is logged once with the request id, and the client sees a broken answer."""
    chunks = Chunks(b"half", end=ZeroDivisionError("a bug"))
    async with serving_gateway(answering(chunks)) as port, httpx.AsyncClient() as client:
        with pytest.raises(httpx.TransportError):
            await client.post(URL.format(port), json={"prompt": "x"})
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "req_" in record.getMessage()
    assert record.name == "gateway.web"
    caplog.clear()

"""Where an answer ends is no matter of opinion: what two readers could take differently is refused."""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.http1 import fields
from gateway.http1.fields import plain_head
from gateway.http1.received import Received
from gateway.http1.transport import Transport
from tests.providers.exchanges import JSON, exchange, failure, post
from tests.providers.raw_server import Connection, forever, serving


async def saying(connection: Connection, answer: bytes) -> None:
    """Answer the first request with these bytes and stay; all on later connections properly."""
    first = connection.server.accepted == 1
    while True:
        await connection.request()
        if first:
            await connection.send(answer)
            await forever(connection)
        await connection.answer(JSON.encode())


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x2",
        b"HTTP/1.1 200 OK\r\nContent-Length:",
        b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding:",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n folded",
        b"HTTP/1.1 200 OK\r\n Content-Length: 2",
        b"HTTP/1.1 200 OK\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 2",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2",
        b"HTTP/0.9 200 OK\r\nContent-Length: 2",
        b"HTTP/1.2 200 OK\r\nContent-Length: 2",
    ],
    ids=repr,
)
async def test_a_head_that_is_refused(transport: Transport, head: bytes) -> None:
    """What does not say plainly where its body ends is no answer."""
    async with serving(partial(saying, answer=head + b"\r\n\r\n{}")) as server:
        assert isinstance(await failure(transport, post(server.url, b"x")), httpx.RemoteProtocolError)
        assert await exchange(transport, post(server.url, b"x")) == (200, JSON.encode())
        assert server.accepted == 2


@pytest.mark.parametrize(
    "body",
    [
        b"2\r\n{}1\r\nx\r\n0\r\n\r\n",
        b"2 \r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"2\n{}\n0\n\n",
        b"10000000000000002\r\n{}\r\n0\r\n\r\n",
        b"\r\n2\r\n{}\r\n0\r\n\r\n",
        b"2; \r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nno colon\r\n\r\n",
    ],
    ids=repr,
)
async def test_chunks_that_are_refused(transport: Transport, body: bytes) -> None:
    """Chunks that are not cut plainly break the answer off."""
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    async with serving(partial(saying, answer=answer)) as server:
        assert isinstance(await failure(transport, post(server.url, b"x")), httpx.RemoteProtocolError)
        assert await exchange(transport, post(server.url, b"x")) == (200, JSON.encode())
        assert server.accepted == 2


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b"HTTP/1.1 200 OK\r\nX-Empty:\r\nContent-Length: 2\r\n\r\n{}"),
        (200, b"HTTP/1.1 200 OK\r\nX-Empty:  \r\nX-Other:\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
        (200, b"HTTP/1.1 100 Continue\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        (200, b"HTTP/1.1 102 Processing\r\n\r\n" * 500 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        (200, b"HTTP/1.1 200 OK\r\nUpgrade: h2\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\n{}"),
        (200, b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}"),
        (200, b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        (599, b"HTTP/1.1 599 What\r\nContent-Length: 2\r\n\r\n{}"),
        (200, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("cut", [1, 7, 100_000])
async def test_an_answer_that_is_plain(transport: Transport, status: int, answer: bytes, cut: int) -> None:
    """An answer is taken for the same however it is cut on its way, and its end is known."""

    async def script(connection: Connection) -> None:
        await connection.request()
        for at in range(0, len(answer), max(cut, len(answer) // 100)):
            await connection.send(answer[at : at + max(cut, len(answer) // 100)])
            await asyncio.sleep(0)
        await forever(connection)

    async with serving(script) as server:
        assert await exchange(transport, post(server.url, b"x")) == (status, b"{}")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX-Empty:\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    ],
    ids=repr,
)
@pytest.mark.parametrize("behind", [b"x", b"\0", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"], ids=repr)
async def test_what_stands_behind_an_answer_takes_nothing_from_it(
    transport: Transport, answer: bytes, behind: bytes
) -> None:
    """What came whole was paid for. The connection is not used again."""
    async with serving(partial(saying, answer=answer + behind)) as server:
        assert await exchange(transport, post(server.url, b"x")) == (200, b"{}")
        assert await exchange(transport, post(server.url, b"x")) == (200, JSON.encode())
        assert server.accepted == 2


@pytest.mark.parametrize(
    "head",
    [
        b"X-Empty:\r\nContent-Length: 100",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    ],
    ids=repr,
)
async def test_an_end_that_is_too_early(transport: Transport, head: bytes) -> None:
    """An answer that says how long it is does not end with its connection."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n2\r\n{}\r\n")

    async with serving(script) as server:
        assert isinstance(await failure(transport, post(server.url, b"x")), httpx.ReadError)


async def test_no_end_of_interim_answers(transport: Transport) -> None:
    """A server that says nothing but that it goes on is given up, however fast it says so."""

    async def script(connection: Connection) -> None:
        await connection.request()
        while True:
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    async with serving(script) as server:
        assert isinstance(await failure(transport, post(server.url, b"x", read=60.0)), httpx.RemoteProtocolError)


class Probe(Received):
    """What is known of one answer."""

    def of(self, *pieces: bytes) -> object:
        """Take an answer in these pieces; an error is what is known of it, too."""
        self.begin("POST")
        try:
            for piece in pieces:
                self._feed(piece)
        except httpx.RemoteProtocolError:
            return None
        body, reusable = b"".join(self._chunks), self._keep and not self._surplus
        return self.status, self.fields, self._left, self.idle, body, self.in_head, self._ended, reusable


NAMES = st.sampled_from(
    ["Content-Length", "Connection", "Keep-Alive", "X-Request-Id", "Set-Cookie", "Upgrade", "Transfer-Encoding", "a b"]
)
VALUES = st.sampled_from(
    ["2", "02", "2 ", " 2", "0", "close", "Keep-Alive", "timeout=7", "max=3, timeout=5", "chunked"]
)
FIELDS = st.lists(st.tuples(NAMES, VALUES | st.text(st.characters(codec="latin-1"), max_size=9)), max_size=5)
STATUS = st.sampled_from(["200 OK", "200 ", "204 No Content", "304 Not Modified", "429 Too Many", "599 A  b", "100 Go"])


@given(status=STATUS, said=FIELDS, body=st.sampled_from([b"", b"{", b"{}", b"{}HTTP/1.1 200 OK", b"0\r\n\r\n"]))
@example(status="200 OK", said=[("Content-Length", "2"), ("Connection", "keep-alive")], body=b"{}")
def test_a_head_read_at_once(status: str, said: list[tuple[str, str]], body: bytes) -> None:
    """What is read by one pattern is what the parser, which gets it in pieces, takes it for."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in said)]
    answer = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
    assert Probe().of(answer) == Probe().of(answer[:1], answer[1:])


@pytest.mark.parametrize(
    ("field", "plain"),
    [
        ("X-Plain: a b", True),
        ("Connection: Keep-Alive", True),
        ("Connection: close", False),
        ("Transfer-Encoding: identity", False),
        ("Content-Length: 2", False),
        ("X-Latin: \xe9", False),
        ("X-Long: " + "a" * 4096, False),
    ],
)
def test_which_heads_are_plain(field: str, plain: bool) -> None:
    """A pattern reads what leaves nothing to doubt; whatever else a head may say is left to the parser."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{field}\r\n\r\n".encode("latin-1")
    assert (plain_head(head) is not None) is plain


def test_heads_are_read_as_if_no_other_had_come() -> None:
    """What is remembered of lines is bounded, and what one head says is said of no other."""
    for number in range(3000):
        lines = f"HTTP/1.1 200 OK {number}", f"Content-Length: {number}", f"X: {'a' * (number % 400)}b"
        assert plain_head("\r\n".join([*lines, "", ""]).encode()) is not None
    assert len(fields._lines) <= fields._LINES_KEPT
    assert len(fields._statuses) <= fields._NAMES_KEPT
    assert max(map(len, (*fields._lines, *fields._statuses))) <= fields._LONGEST_KEPT
    for length, last, read in [(7, "Keep-Alive: timeout=9", 8.0), (8, "X: b", inf), (7, "Connection: close", None)]:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{last}\r\n\r\n".encode()
        for _ in range(2):
            found = plain_head(head + b"{}")
            assert (found and found[2:5]) == (None if read is None else (length, read, len(head)))

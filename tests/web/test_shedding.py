"""Load beyond what one process takes on is refused at the door, and nothing else is touched by it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import platform
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from gateway import spool
from gateway.domain.errors import Unavailable
from gateway.ports import Outbound
from gateway.process.memory import resident_bytes, usual_limit
from gateway.sandbox.server import running_sandbox
from gateway.spool import Spool
from gateway.web.app import create_app
from gateway.web.context import RequestContext
from gateway.web.shedding import BODIES, MEMORY, REQUESTS, ProcessLimits, Shedding
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import running_gateway, wait_until
from tests.web.malformed import LENGTH
from tests.web.malformed import post as image_request
from tests.web.raw import HOST, JSON_BODY, Reply, connection, post, read_reply
from tests.web.recording import RecordingGateway, serving

PATIENCE = 30
ASK_FIRST = b"Expect: 100-continue\r\n"


class Slow:
    """A gateway whose answers wait until `go_on` is set; counts those begun."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = asyncio.Semaphore(0)
        self.gateway = RecordingGateway(answer=lambda: Outbound(200, [], self._chunks()))

    async def _chunks(self) -> AsyncIterator[bytes]:
        self.begun.release()
        await self.go_on.wait()
        yield b"done"


@contextlib.asynccontextmanager
async def bounded(slow: Slow, capacity: ProcessLimits, resident: int = 0) -> AsyncIterator[tuple[int, list[str]]]:
    """Serve it with this capacity; gives the port, and the reasons of what was refused."""
    told: list[str] = []
    shedding = Shedding(capacity, told.append, lambda: resident)
    async with serving(create_app(slow.gateway, shedding=shedding)) as port:
        yield port, told


async def begin(stack: contextlib.AsyncExitStack, port: int, slow: Slow, request: bytes) -> asyncio.StreamReader:
    """Send a request on a connection of its own, and wait until its answer has begun."""
    reader, writer = await stack.enter_async_context(connection(port))
    writer.write(request)
    async with asyncio.timeout(PATIENCE):
        await slow.begun.acquire()
    return reader


async def ask(port: int, raw: bytes) -> Reply:
    """Send bytes and read the one answer to them."""
    async with connection(port) as (reader, writer):
        writer.write(raw)
        async with asyncio.timeout(PATIENCE):
            return await read_reply(reader)


async def room_again(port: int, raw: bytes) -> None:
    """Wait until a request is let in."""
    async with asyncio.timeout(PATIENCE):
        while (await ask(port, raw)).status == 503:  # noqa: ASYNC110 - a process tells nobody that it has room
            await asyncio.sleep(0.01)


def check_refused(reply: Reply) -> None:
    """It is a 503 that says when to come again."""
    assert (reply.status, reply.error["code"], reply.error["type"]) == (503, "overloaded", "server_error")
    assert reply.headers["retry-after"] == "1"


async def test_requests_beyond_the_limit_are_refused_unread(caplog: pytest.LogCaptureFixture) -> None:
    """The third of two gets 503 before it has sent its body; the process is alive, and goes on when there is room."""
    slow = Slow()
    async with bounded(slow, ProcessLimits(requests=2)) as (port, told), contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await begin(stack, port, slow, post())
        with caplog.at_level(logging.WARNING, "gateway.web"):
            check_refused(await ask(port, post(extra=ASK_FIRST)[: -len(JSON_BODY)]))
            check_refused(await ask(port, b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n"))
        assert (await ask(port, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")).status == 200
        assert told == [REQUESTS, REQUESTS]
        assert len(slow.gateway.seen) == 2
        (line,) = [record for record in caplog.records if record.getMessage() == "overloaded"]
        assert line.fields["reason"] == REQUESTS  # type: ignore[attr-defined]  # as our logging gives it
        slow.go_on.set()
        await room_again(port, b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n")
        reader = await begin(stack, port, slow, post())
        assert b"200" in await reader.readline()


async def test_all_that_was_refused_is_told_by_its_reason(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first at once, the others of a burst when some time is over, though nothing else is refused any more."""
    monkeypatch.setattr("gateway.web.shedding._LOG_SECONDS", 0.3)
    slow = Slow()

    def said() -> list[tuple[str, int]]:
        lines = [record.fields for record in caplog.records if record.getMessage() == "overloaded"]  # type: ignore[attr-defined]  # as our logging gives it
        return [(fields["reason"], fields["refused"]) for fields in lines]

    async def have_said(**refused: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while sum((Counter({reason: count}) for reason, count in said()), Counter[str]()) != refused:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    capacity = ProcessLimits(requests=2, bodies=2 * len(JSON_BODY) - 1, small=0)
    async with bounded(slow, capacity) as (port, told), contextlib.AsyncExitStack() as stack:
        with caplog.at_level(logging.WARNING, "gateway.web"):
            await begin(stack, port, slow, post(extra=b"api-key: another\r\n"))
            for _ in range(3):
                check_refused(await ask(port, post()))
            reader, writer = await stack.enter_async_context(connection(port))
            chunked = post(extra=ASK_FIRST + b"Transfer-Encoding: chunked\r\n", body=b"")
            writer.write(chunked.replace(b"Content-Length: 0\r\n", b""))  # it is let in, and has no body yet
            assert b"100 Continue" in await reader.readline()
            for _ in range(4):
                check_refused(await ask(port, post()))
            assert told == [BODIES] * 3 + [REQUESTS] * 4
            assert said()[0] == (BODIES, 1)
            await have_said(bodies=3, requests=4)
            await asyncio.sleep(0.7)  # until it may speak at once again
            check_refused(await ask(port, post()))
            assert said()[-1] == (REQUESTS, 1)
            assert sum(count for _, count in said()) == 8


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_beyond_the_limit_are_refused(chunked: bool) -> None:
    """A body that has no room beside those in flight gets 503, by its length at once, without one as it is read."""
    slow = Slow()
    size = len(JSON_BODY)
    second = post(extra=ASK_FIRST)[:-size]
    if chunked:
        chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (size, JSON_BODY)
        second = post(extra=b"Transfer-Encoding: chunked\r\n", body=b"").replace(b"Content-Length: 0\r\n", b"") + chunk
    capacity = ProcessLimits(bodies=2 * size - 1, small=0)
    async with bounded(slow, capacity) as (port, told), contextlib.AsyncExitStack() as stack:
        await begin(stack, port, slow, post(extra=b"api-key: another\r\n"))
        check_refused(await ask(port, second))
        assert told == [BODIES]
        slow.go_on.set()
        await room_again(port, post())


async def test_a_small_body_always_has_room() -> None:
    """Uploads that were announced and hardly come stand in the way of uploads alone; what comes unannounced counts."""
    slow = Slow()
    upload = post(extra=ASK_FIRST, body=b"").replace(b"Length: 0", b"Length: 1000")
    pieces = [b"%x\r\n%s\r\n" % (50, b"x" * 50) for _ in range(20)]
    chunked = post(extra=b"Transfer-Encoding: chunked\r\n", body=b"").replace(b"Content-Length: 0\r\n", b"")
    async with (
        bounded(slow, ProcessLimits(bodies=1000, small=100)) as (port, told),
        contextlib.AsyncExitStack() as stack,
    ):
        reader, writer = await stack.enter_async_context(connection(port))
        writer.write(upload)
        assert b"100 Continue" in await reader.readline()
        for _ in range(3):
            await begin(stack, port, slow, post())
        check_refused(await ask(port, post(body=JSON_BODY + b" " * 100)))
        check_refused(await ask(port, chunked + b"".join(pieces)))
        assert told == [BODIES, BODIES]


async def test_small_bodies_stand_in_nobodys_way() -> None:
    """However many a key has under way, and however they come, an upload has all the room there is."""
    slow, small = Slow(), JSON_BODY + b" " * 80
    chunked = post(extra=b"Transfer-Encoding: chunked\r\n", body=b"").replace(b"Content-Length: 0\r\n", b"")
    async with (
        bounded(slow, ProcessLimits(bodies=1000, small=100)) as (port, told),
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(15):
            await begin(stack, port, slow, post(body=small, extra=b"api-key: many\r\n"))
        await begin(stack, port, slow, post(body=JSON_BODY + b" " * 900))
        assert told == []
        check_refused(await ask(port, chunked + b"%x\r\n%s\r\n" % (120, JSON_BODY + b" " * 105)))
        assert told == [BODIES]
        slow.go_on.set()
        await room_again(port, post(body=JSON_BODY + b" " * 900))


async def test_what_is_too_large_is_told_so_whatever_else_is_under_way() -> None:
    """A body beyond the limit is a 413, not a 503 that asks its client to send it again: it never has room."""
    slow = Slow()
    async with bounded(slow, ProcessLimits(bodies=1, small=0)) as (port, _), contextlib.AsyncExitStack() as stack:
        await begin(stack, port, slow, post())
        upload = post(extra=ASK_FIRST, body=b"").replace(b"Length: 0", b"Length: 200000000")
        reply = await ask(port, upload)
        assert (reply.status, reply.error["code"]) == (413, "request_too_large")


async def test_json_that_stays_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text that has to be kept until its end has a bound over all bodies; who sends little of it is served on."""
    monkeypatch.setattr(spool, "TOGETHER", 1_000_000)
    monkeypatch.setattr(Spool, "held", 0)
    slow = Slow()
    slow.go_on.set()
    body = b'{"prompt": "x", "user": [' + b",".join([b'"' + b"x" * 200_000 + b'"'] * 9)
    head = post(body=body + b"]}")[: -len(body) - 2]
    async with bounded(slow, ProcessLimits()) as (port, _), contextlib.AsyncExitStack() as stack:
        kept = await stack.enter_async_context(connection(port))
        kept[1].write(head + body)
        async with asyncio.timeout(PATIENCE):
            while Spool.held < len(body):  # noqa: ASYNC110 - nobody tells when it was read
                await asyncio.sleep(0.01)
        check_refused(await ask(port, head + body))
        assert (await ask(port, post())).status == 200
        kept[1].write(b"]}")
        async with asyncio.timeout(PATIENCE):
            assert (await read_reply(kept[0])).status == 200
        assert Spool.held == 0


async def test_one_key_takes_half_of_the_room_for_bodies() -> None:
    """However much a key announces, another has room for its uploads, and itself again when one of them has ended."""
    slow, large = Slow(), JSON_BODY + b" " * 185
    mine, theirs = (b"Authorization: bearer  a\r\n", b"api-key: a \r\n"), b"Authorization: Bearer b\r\n"
    async with (
        bounded(slow, ProcessLimits(bodies=900, small=100)) as (port, told),
        contextlib.AsyncExitStack() as stack,
    ):
        for extra in mine:
            await begin(stack, port, slow, post(body=large, extra=extra))
        refused = await ask(port, post(body=large, extra=mine[0]))
        check_refused(refused)
        assert "half" in refused.error["message"]
        for _ in range(2):
            await begin(stack, port, slow, post(body=large, extra=theirs))
        assert told == [BODIES]
        slow.go_on.set()
        await room_again(port, post(body=large, extra=mine[0]))


async def test_one_body_alone_always_has_room() -> None:
    """A limit below a single body does not shut the gateway."""
    slow = Slow()
    slow.go_on.set()
    async with bounded(slow, ProcessLimits(bodies=1, small=0)) as (port, told):
        async with contextlib.AsyncExitStack() as stack:
            assert b"200" in await (await begin(stack, port, slow, post())).readline()
        assert told == []


async def test_short_of_memory_it_takes_on_only_a_few() -> None:
    """Above the limit of memory a few requests at once are served, so that a process that stays large recovers."""
    slow = Slow()
    async with (
        bounded(slow, ProcessLimits(memory=1000), resident=1000) as (port, told),
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(8):
            await begin(stack, port, slow, post())
        check_refused(await ask(port, post()))
        assert told == [MEMORY]
    async with (
        bounded(slow, ProcessLimits(memory=1001), resident=1000) as (port, told),
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(9):
            await begin(stack, port, slow, post())
        assert told == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="gives back what is free by itself, or never")
def test_memory_that_is_only_free_refuses_nobody() -> None:
    """What a busy time has left free in the heap is given back first: with nothing else in flight there is room."""
    done = subprocess.run([sys.executable, "-c", _AFTER_A_BUSY_TIME], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["kept", "nobody"], done.stderr


# In a process of its own: what another's heap keeps depends on all that it did before.
_AFTER_A_BUSY_TIME = """
from types import SimpleNamespace
from gateway.process import heap
from gateway.process.memory import resident_bytes
from gateway.web.shedding import ProcessLimits, Shedding

limit = resident_bytes() + 50_000_000
kept = [small for _, small in [(bytearray(b"x") * 100_000, bytes(1000)) for _ in range(1500)]]
print("kept" if resident_bytes() > limit else "gone")
told = []
shedding = Shedding(ProcessLimits(memory=limit), told.append, resident_bytes, heap.give_back)
for _ in range(9):
    shedding.enter(SimpleNamespace(received=0.0))
print(told or "nobody")
"""


def arriving(at: float) -> RequestContext:
    """A request of this time, as far as it is looked at."""
    return cast("RequestContext", SimpleNamespace(received=at))


async def test_memory_is_given_back_once_a_second_at_most() -> None:
    """Where it helps nothing, those who are refused do not each wait for it."""
    times = [0.0] * 8 + [10.0, 10.4, 10.8, 11.2, 11.6, 12.0, 12.4]
    clock: list[float] = []
    given: list[float] = []
    shedding = Shedding(ProcessLimits(memory=1), resident=lambda: 1, give_back=lambda: given.append(clock[-1]))
    refused = 0
    for now in times:
        clock.append(now)
        try:
            shedding.enter(arriving(now))
        except Unavailable:
            refused += 1
    assert refused == 7
    assert given == [10.0, 11.2, 12.4]


def test_the_memory_that_there_is_can_be_told() -> None:
    """This process has some, its usual limit is more than that, and processes share it."""
    assert 10_000_000 < resident_bytes() < usual_limit(1)
    assert usual_limit(4) == usual_limit(1) // 4


def test_a_gateway_that_is_full_says_so_and_spends_nothing(tmp_path: Path) -> None:
    """With room for one request, all others get 503 while the first is being sent; they are counted, and never made.

    The log tells of each of them by the time that it has stopped.
    """
    with (
        running_sandbox() as sandbox,
        running_gateway(tmp_path, ONE_ACCOUNT, sandbox, "--max-requests", "1") as stack,
        socket.create_connection(("127.0.0.1", stack.port), timeout=PATIENCE) as first,
    ):
        raw = image_request(LENGTH).replace(b"%(key)s", stack.key().encode())
        first.sendall(raw[:-1])
        wait_until(lambda: stack.metric("in_flight") == 1, PATIENCE, "the first request")
        for _ in range(3):
            reply = stack.post("/v1/images/generations", {"prompt": "a lighthouse"})
            assert (reply.status, reply.error["code"]) == (503, "overloaded")
        assert stack.metric("shed_total", reason=REQUESTS) == 3
        assert stack.held() == 0
        first.sendall(raw[-1:])
        assert first.recv(65_536).startswith(b"HTTP/1.1 200")
        wait_until(lambda: not stack.metric("in_flight") and not stack.held(), PATIENCE, "rest")
        assert len(sandbox.images()) == 1
        assert '"event":"overloaded"' in stack.log.read_text()
    lines = [json.loads(line) for line in stack.log.read_text().splitlines() if '"event":"overloaded"' in line]
    assert sum(line["refused"] for line in lines) == 3

"""The open-loop generator: when requests are due, and that a stalled server cannot hide behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from benchmarks.client import Connection, Target, closed_loop, once
from benchmarks.open_loop import BROKEN, Offered, Sample, due_times, offer
from benchmarks.samples import percentile

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
Answering = Callable[[int], tuple[float, bytes]]
"""By the number of a request, from 0: after how many seconds it is answered, and what with."""


@contextlib.asynccontextmanager
async def server(answering: Answering) -> AsyncIterator[Target]:
    """Serve requests as told, b"" closes the connection."""
    numbers = iter(range(10**6))
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while await reader.readuntil(b"{}"):
                delay, answer = answering(next(numbers))
                await asyncio.sleep(delay)
                writer.write(answer)
                if answer in {b"", REFUSED}:
                    break
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with running:
        port = cast("int", running.sockets[0].getsockname()[1])
        yield Target(port, "/v1/images/generations", b"{}")
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving)


def test_due_times_are_evenly_spaced_from_the_start() -> None:
    """Requests are due at a constant rate, the first at once, and as many as the rate says."""
    assert list(due_times(4, 1.5)) == [0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert list(due_times(10, 0)) == []


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (-1, 1), (1, -1)])
def test_a_rate_that_is_none_is_refused(rate: float, seconds: float) -> None:
    """No rate, or time that runs backwards, is an error and not an endless run."""
    with pytest.raises(ValueError, match="must be positive"):
        due_times(rate, seconds)


def test_latency_counts_from_when_a_request_was_due() -> None:
    """What had to wait before it was sent has waited; goodput counts what came before the last was due."""
    samples = [Sample(0.0, 0.0, 0.1, 200), Sample(0.5, 0.9, 1.2, 200), Sample(0.6, 0.6, 0.61, 503)]
    offered = Offered(2, 1.0, samples)
    assert offered.latencies(200) == pytest.approx([0.1, 0.7])
    assert offered.service_times(200) == pytest.approx([0.1, 0.3])
    assert offered.rate_of(200) == 1.0
    assert offered.statuses() == {200: 2, 503: 1}
    assert offered.lateness() == pytest.approx(1 / 3)


def test_a_percentile_is_a_value_that_was_seen() -> None:
    """Percentiles come from the sample itself, the last of them the largest; of nothing there is none."""
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [percentile(values, share) for share in (0, 0.5, 0.99, 1)] == [1, 3, 5, 5]
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


async def test_every_request_is_sent_and_told() -> None:
    """Answers with a length, in chunks, refusals that close and connections that break are each counted once."""
    answers = [OK, CHUNKED, REFUSED, b""]
    async with server(lambda number: (0, answers[number % 4])) as target:
        offered = await offer(target, 200, 0.2)
    assert offered.statuses() == {BROKEN: 10, 200: 20, 503: 10}


async def test_a_stall_delays_all_that_were_due_meanwhile() -> None:
    """Over one connection, a server that stalls for half a second is seen by each request that was due in it."""
    async with server(lambda number: (0.5 if number == 0 else 0, OK)) as target:
        offered = await offer(target, 20, 0.5, most=1)
    assert offered.statuses() == {200: 10}
    for sample in offered.samples:
        assert sample.latency >= 0.5 - sample.due - 0.01, "it waited for the stall to end"


async def test_nobody_there_is_told_as_broken() -> None:
    """Connections that are refused count as broken requests, and the run ends."""
    async with server(lambda _: (0, OK)) as target:
        pass
    assert (await offer(target, 100, 0.1)).statuses() == {BROKEN: 10}


async def test_the_closed_loop_counts_answers_and_failures() -> None:
    """Connections that a server closes are opened anew, and refusals are no goodput."""
    async with server(lambda number: (0, REFUSED if number % 10 == 0 else OK)) as target:
        load = await closed_loop(target, 2, 0.3)
        assert (await once(target)).status in {200, 503}
    assert load.answers > load.failed > 0
    assert load.p50 <= load.p99


async def test_a_client_can_stop_at_the_first_byte() -> None:
    """Told to, a connection stops reading once an answer began, and reads it whole when it goes on."""
    async with server(
        lambda _: (0, b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)
    ) as target:
        with await Connection.open(target.port, little=True) as connection:
            connection.begun = asyncio.Event()
            waiting = connection.send(target.request())
            await connection.begun.wait()
            await asyncio.sleep(0.1)
            assert not waiting.done()
            connection.resume()
            assert (await waiting).volume > 3_000_000

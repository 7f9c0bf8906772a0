"""An open-loop load generator: requests come at a constant rate, whether or not the answers keep up.

`python -m benchmarks.open_loop URL --rate 200 --seconds 10 --header 'Authorization: Bearer …' --body FILE` prints what
came of it. A closed loop waits for an answer before it asks again, so a server that stalls is asked less while it does,
and the stall counts once (coordinated omission). Here the time of each request is counted from the moment at which it
was due: whatever had to wait for a connection, or for this program, has waited.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from benchmarks.client import Answer, BrokenError, Connection, Target
from benchmarks.samples import percentile

BROKEN = 0
"""The status of a request whose connection ended before its answer, or could not be made."""
MOST_CONNECTIONS = 4_000
LATE = 0.001


def due_times(rate: float, seconds: float) -> Iterator[float]:
    """Yield the seconds after the start at which requests are due: `rate` a second, the first at once."""
    if rate <= 0 or seconds < 0:
        raise ValueError("the rate must be positive, and the seconds not negative")
    return (number / rate for number in range(round(rate * seconds)))


@dataclass(frozen=True)
class Sample:
    """One request: when it was due, left and was answered (seconds after the start), and its status."""

    due: float
    sent: float
    ended: float
    status: int

    @property
    def latency(self) -> float:
        """Seconds from when it was due to the end of its answer."""
        return self.ended - self.due


@dataclass
class Offered:
    """What came of offering a constant rate for some seconds."""

    rate: float
    seconds: float
    samples: list[Sample] = field(default_factory=list)

    def statuses(self) -> dict[int, int]:
        """Return how many requests got which status."""
        return dict(sorted(Counter(sample.status for sample in self.samples).items()))

    def latencies(self, *statuses: int) -> list[float]:
        """Return the seconds that requests with one of these statuses took, from when they were due."""
        return [sample.latency for sample in self.samples if sample.status in statuses]

    def service_times(self, *statuses: int) -> list[float]:
        """Return the seconds that requests with one of these statuses took, from when they left."""
        return [sample.ended - sample.sent for sample in self.samples if sample.status in statuses]

    def rate_of(self, *statuses: int) -> float:
        """Return answers a second with one of these statuses, until the last request was due."""
        within = sum(1 for each in self.samples if each.status in statuses and each.ended <= self.seconds)
        return within / self.seconds

    def lateness(self) -> float:
        """Return the share of requests that left more than a millisecond after they were due."""
        return sum(1 for sample in self.samples if sample.sent - sample.due > LATE) / max(len(self.samples), 1)


class _Generator:
    """Sends what is due over connections that are free, or made, up to a bound; beyond it requests queue here."""

    def __init__(self, target: Target, offered: Offered, most: int) -> None:
        self._port, self._request = target.port, target.request()
        self._offered, self._most = offered, most
        self._free: list[Connection] = []
        self._queue: deque[float] = deque()
        self._connections = 0
        self._left = 0
        self._done = asyncio.Event()
        self._opening: set[asyncio.Task[None]] = set()
        self._began = 0.0

    async def run(self) -> None:
        """Send all, and wait for all answers."""
        times = list(due_times(self._offered.rate, self._offered.seconds))
        self._left = len(times)
        if not times:
            return
        self._began = time.perf_counter()
        for due in times:
            if (ahead := due - self._now()) > 0:
                await asyncio.sleep(ahead)
            self._queue.append(due)
            self._dispatch()
            if self._now() - due > LATE:
                await asyncio.sleep(0)  # behind: let answers in all the same
        await self._done.wait()
        for connection in self._free:
            connection.close()

    def _now(self) -> float:
        return time.perf_counter() - self._began

    def _dispatch(self) -> None:
        while self._queue:
            while self._free and not self._free[-1].open_now:
                self._free.pop()
                self._connections -= 1
            if self._free:
                self._send(self._free.pop(), self._queue.popleft())
            elif self._connections + len(self._opening) < self._most and len(self._opening) < len(self._queue):
                task = asyncio.create_task(self._open())
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
            else:
                return

    async def _open(self) -> None:
        try:
            connection = await Connection.open(self._port)
        except OSError:
            if self._queue:
                due = self._queue.popleft()
                self._note(due, due, BROKEN)
            return
        self._connections += 1
        self._free.append(connection)
        self._dispatch()

    def _send(self, connection: Connection, due: float) -> None:
        sent = self._now()

        def answered(waiting: asyncio.Future[Answer]) -> None:
            broken = waiting.exception() is not None
            self._note(due, sent, BROKEN if broken else connection.status)
            if connection.open_now:
                self._free.append(connection)
            else:
                self._connections -= 1
            self._dispatch()

        try:
            connection.send(self._request).add_done_callback(answered)
        except BrokenError:
            self._connections -= 1
            self._queue.appendleft(due)

    def _note(self, due: float, sent: float, status: int) -> None:
        self._offered.samples.append(Sample(due, sent, self._now(), status))
        self._left -= 1
        if not self._left:
            self._done.set()


async def offer(target: Target, rate: float, seconds: float, *, most: int = MOST_CONNECTIONS) -> Offered:
    """Offer `rate` requests a second for `seconds`, over at most `most` connections, and wait for all answers."""
    offered = Offered(rate, seconds)
    await _Generator(target, offered, most).run()
    return offered


def main() -> None:
    """Offer a rate to a URL, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="http://127.0.0.1:PORT/path")
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
    parser.add_argument("--body", type=Path, help="a file with the request's body, JSON")
    parser.add_argument("--connections", type=int, default=MOST_CONNECTIONS)
    options = parser.parse_args()
    url = urlsplit(options.url)
    pairs = [header.partition(":") for header in options.header]
    headers = tuple((name.strip(), value.strip()) for name, _, value in pairs)
    target = Target(url.port or 80, url.path or "/", options.body.read_bytes() if options.body else b"{}", headers)
    offered = uvloop.run(offer(target, options.rate, options.seconds, most=options.connections))
    for status, count in offered.statuses().items():
        times = [f"p{share:g} {percentile(offered.latencies(status), share / 100) * 1000:.2f} ms" for share in (50, 99)]
        print(f"{status or 'broken'}: {count} ({', '.join(times)})")
    print(f"sent late by more than a millisecond: {offered.lateness():.1%}")


if __name__ == "__main__":
    main()

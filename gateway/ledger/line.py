"""Lines: connections on which several commands go in one write, and whoever asked is called with all their replies.

The client library opens a connection (TLS, users, databases) and is left out from then on: its way to send and read
takes many calls for each reply. Nothing runs in between: what arrives is parsed and handed over in the same turn.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError

from gateway.ledger.failures import failure_of
from gateway.ledger.stall_detector import StallDetector
from gateway.ports import LedgerUnavailable

Wire = Any
"""A connection of the client library, which has no types."""
Told = Callable[[list[Any] | LedgerUnavailable], None]
"""Whoever asked: hears the reply, or the error, of each command; or why there are none."""


class Losses:
    """How often a connection to a store was lost, by all that look at it."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


@dataclass(frozen=True, slots=True)
class Watch:
    """How long lines wait: `deadline` seconds for all replies, then it is `too_late`; `stall_detector` is told."""

    stall_detector: StallDetector
    deadline: float
    too_late: Callable[[], LedgerUnavailable]


class StoreLines:
    """The lines to one server. Any line in `free` may be used; taking it out of `free` reserves it.

    `on_broken` is called for one that was lost under way: with its generation, the error, how many replies are missing
    and who waits for them.
    """

    def __init__(self, watch: Watch, losses: Losses, on_broken: Callable[[int, Exception, int, Told], None]) -> None:
        self.watch = watch
        self.free: list[StoreLine] = []
        self._losses = losses
        self._on_broken = on_broken
        self._open: set[StoreLine] = set()

    def add(self, wire: Wire, generation: int, *, last: bool) -> StoreLine:
        """Return a line to ask, which has taken an open connection over; closed after its `last` question."""
        line = StoreLine(self, wire, generation, last=last)
        self._open.add(line)
        return line

    def drop(self) -> None:
        """Close them, those in use after their question."""
        for line in self._open:
            line.last = True
        while self.free:
            self.close(self.free.pop())

    def close(self, line: StoreLine) -> None:
        """Close one."""
        self._open.discard(line)
        line.hang_up()

    def end(self, error: LedgerUnavailable) -> None:
        """Close those in use; whoever waits hears why."""
        for line in list(self._open):
            line.give_up(error)

    def postpone(self, seconds: float) -> None:
        """This process stood still for so long, which does not count for what ran out meanwhile."""
        for line in self._open:
            line.postpone(seconds)

    def lost(self, line: StoreLine, error: Exception, told: Told | None, count: int) -> None:
        """Its other end is gone, or was given up."""
        self._losses.count += 1
        self.close(line)
        if told is None:
            if line in self.free:
                self.free.remove(line)
        elif isinstance(error, LedgerUnavailable):
            told(error)
        else:
            self._on_broken(line.generation, error, count, told)


class StoreLine(asyncio.Protocol):
    """An open connection that serves one request at a time. Closed on failure or timeout; late replies are lost."""

    __slots__ = (
        "_count",
        "_descriptor",
        "_due",
        "_lines",
        "_loop",
        "_parser",
        "_replies",
        "_strikes",
        "_timer",
        "_told",
        "_transport",
        "_wire",
        "generation",
        "last",
    )

    def __init__(self, lines: StoreLines, wire: Wire, generation: int, *, last: bool) -> None:
        self.generation = generation
        self.last = last
        self._lines = lines
        self._loop = asyncio.get_running_loop()
        self._wire = wire  # its stream would close the connection if nobody knew it any more
        self._parser = wire._parser._reader  # noqa: SLF001 - hiredis' own
        self._transport: Any = wire._writer.transport  # noqa: SLF001 - asyncio's
        self._transport.set_protocol(self)
        plain = self._transport.get_extra_info("ssl_object") is None
        self._descriptor = self._transport.get_extra_info("socket").fileno() if plain else None
        self._told: Told | None = None
        self._count = 0
        self._replies: list[Any] = []
        self._due = self._strikes = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, data: bytes, count: int, told: Told) -> None:
        """Send so many packed commands; `told` is called with their replies, never before this returns."""
        watch = self._lines.watch
        self._told, self._count = told, count
        watch.stall_detector.begin()
        self._due = self._loop.time() + watch.deadline
        if self._timer is None:
            self._wind(self._due)
        try:
            self._write(data)
        except (StoreConnectionError, OSError, RuntimeError) as error:
            self._loop.call_soon(self._fail, error)

    def _write(self, data: bytes) -> None:
        """Write past the transport, which would wait for the end of the loop's turn; it has nothing else to write."""
        transport, sent = self._transport, 0
        if transport.is_closing():  # its descriptor may be another's soon
            raise StoreConnectionError("the store closed the connection")
        if self._descriptor is not None:
            try:
                sent = os.write(self._descriptor, data)
            except BlockingIOError:
                sent = 0
        if sent < len(data):
            transport.write(data[sent:])

    def data_received(self, data: bytes) -> None:
        """Take what the store says; asyncio calls this."""
        told, parser, replies, stall_detector = (
            self._told,
            self._parser,
            self._replies,
            self._lines.watch.stall_detector,
        )
        parser.feed(data)
        try:
            while len(replies) < self._count:
                if (reply := parser.gets()) is NOT_ENOUGH_DATA:
                    stall_detector.heard()
                    return
                if isinstance(reply, StoreConnectionError):  # it says that it is loading, say
                    raise reply
                if isinstance(reply, RedisError) and failure_of(reply).moved:
                    self.last = True  # whoever says so has the data no more
                replies.append(reply)
        except (RedisError, ValueError) as error:  # garbled, or no text
            stall_detector.heard()
            self._fail(error)
            return
        if told is None or parser.has_data():
            self._fail(StoreConnectionError("the store said what nobody asked for"))
            return
        self._told, self._replies, self._count = None, [], 0
        stall_detector.answered()
        if self.last:
            self._lines.close(self)
        else:
            self._lines.free.append(self)
        told(replies)

    def eof_received(self) -> None:
        """The store closes the connection; asyncio calls this."""
        self._fail(StoreConnectionError("the store closed the connection"))

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; asyncio calls this."""
        self._fail(error or StoreConnectionError("the store closed the connection"))

    def give_up(self, error: LedgerUnavailable) -> None:
        """Close it if somebody waits, who hears why."""
        if self._told is not None:
            self._fail(error)

    def postpone(self, seconds: float) -> None:
        """Let what ran out by now have so much more time."""
        if self._due <= self._loop.time():
            self._due += seconds

    def hang_up(self) -> None:
        """Close it without waiting for the other end."""
        wire, self._wire = self._wire, None
        if wire is not None:
            self._transport.abort()
            wire._reader = wire._writer = None  # noqa: SLF001 - the library has nothing left to close
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: Exception) -> None:
        if self._wire is None:
            return
        told, self._told = self._told, None
        if told is not None:
            self._lines.watch.stall_detector.end()
        self._lines.lost(self, error, told, self._count)

    def _wind(self, when: float) -> None:
        self._strikes = when
        self._timer = self._loop.call_at(when, self._struck)

    def _struck(self) -> None:
        self._timer = None
        if self._told is None:
            return
        now = self._loop.time()
        late = now - self._strikes
        if late >= self._lines.watch.stall_detector.tick:  # this process stood still, and replies may lie unread
            self.postpone(late)
        if now < self._due:
            self._wind(self._due)
        else:
            self._fail(self._lines.watch.too_late())

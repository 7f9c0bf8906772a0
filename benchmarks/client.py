"""A client that costs little: keep-alive HTTP/1.1 over raw sockets, read by httptools."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import httptools

from benchmarks.samples import Load, percentile

LITTLE = 65_536
"""Bytes that the kernel keeps for a client that shall hold its peer back."""


class BrokenError(Exception):
    """A connection ended before its answer did."""


@dataclass(frozen=True)
class Target:
    """Where to POST a request to, on this machine, and what it says."""

    port: int
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"

    def fields(self) -> tuple[tuple[str, str], ...]:
        """Return all headers but those that frame the message."""
        return (("Content-Type", self.content_type), *self.headers)

    def request(self) -> bytes:
        """Return the whole request."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in self.fields()]
        return "\r\n".join([*lines, f"Content-Length: {len(self.body)}", "", ""]).encode() + self.body


@dataclass(frozen=True)
class Answer:
    """The status of an answer that was read to its end, and the bytes that came with it, head included."""

    status: int
    volume: int


class Connection(asyncio.Protocol):
    """One connection, used for one request after another; a server may close it in between."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._volume = 0
        self.begun: asyncio.Event | None = None
        """Set at the first byte of an answer, and reading stops; None reads on."""
        self.status = 0
        """Of the last answer that was read to its end."""

    @classmethod
    async def open(cls, port: int, *, little: bool = False) -> Self:
        """Connect; with `little` the kernel keeps few bytes for us, so that not reading holds the peer back."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        if little:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LITTLE)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        _, connection = await loop.create_connection(cls, sock=sock)
        return connection

    @property
    def open_now(self) -> bool:
        """Tell whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(BrokenError(f"connection lost: {error}"))

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._volume += len(data)
        if self.begun is not None and not self.begun.is_set():
            self.begun.set()
            self.pause()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        assert self._waiting is not None
        answer = Answer(self._parser.get_status_code(), self._volume)
        keep, self.status = self._parser.should_keep_alive(), answer.status
        self._volume = 0
        if not keep:
            self.close()
        if not self._waiting.done():
            self._waiting.set_result(answer)

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request; the future has its answer, or BrokenError."""
        if self._transport is None or not self.open_now:
            raise BrokenError("the connection is closed")
        self._parser = httptools.HttpResponseParser(self)
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiting

    def pause(self) -> None:
        """Read nothing until `resume`."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.open_now:
            assert self._transport is not None
            self._transport.resume_reading()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def closed_loop(target: Target, connections: int, seconds: float) -> Load:
    """Keep so many connections busy for a while, each with one request after another, and at least one."""
    request, until = target.request(), time.perf_counter() + seconds
    times: list[float] = []
    volume = refused = broken = 0

    async def one() -> None:
        nonlocal volume, refused, broken
        connection = await Connection.open(target.port)
        try:
            while True:
                if not connection.open_now:
                    connection = await Connection.open(target.port)
                began = time.perf_counter()
                try:
                    answer = await connection.send(request)
                except BrokenError:
                    broken += 1
                else:
                    times.append(time.perf_counter() - began)
                    volume += answer.volume
                    refused += answer.status >= 400
                if time.perf_counter() >= until:
                    return
        finally:
            connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    taken = time.perf_counter() - began
    if not times:
        raise RuntimeError(f"nothing was answered, {broken} connections broke")
    rates = (len(times) - refused) / taken, volume / taken
    return Load(*rates, percentile(times, 0.5), percentile(times, 0.99), refused + broken, len(times) + broken)


async def once(target: Target) -> Answer:
    """Send one request on a connection of its own."""
    with contextlib.closing(await Connection.open(target.port)) as connection:
        return await connection.send(target.request())

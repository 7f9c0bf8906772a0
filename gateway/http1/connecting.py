"""Connecting: open connections, and keep those that are idle for whoever calls next."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from functools import lru_cache

import aiohappyeyeballs

from gateway.http1.connection import Connection
from gateway.http1.message import Origin
from gateway.http1.resolving import Resolver

KEEPALIVE = 4.0
"""Seconds an idle connection is kept: less than the 5 s after which common servers hang up."""

_FALLBACK_DELAY = 0.25
"""Seconds after which the next address of a name is tried beside one that does not answer (RFC 8305, 8)."""
_NEXT_FAMILY = 1


class Pool:
    """Connections by origin; the one that was used last is used first. Belongs to the event loop that first uses it."""

    def __init__(self, ssl_context: ssl.SSLContext | None, keepalive: float, resolver: Resolver) -> None:
        self._ssl_context = ssl_context
        self._resolver = resolver
        self._keepalive = keepalive
        self._idle: dict[Origin, list[Connection]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._open: set[Connection] = set()

    def idle(self, origin: Origin) -> Connection | None:
        """Return a connection that is open and idle as far as is known; None if there is none."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.good_until > time.monotonic():
                return connection
            self.drop(connection)
        return None

    async def connect(self, origin: Origin, seconds: float | None) -> Connection:
        """Return a new connection within `seconds`; raises TimeoutError, OSError or UnicodeError."""
        async with asyncio.timeout(seconds):
            connection = await self._connect(origin)
        self._open.add(connection)
        return connection

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """Keep a connection that is done with if it can be used again, drop it otherwise."""
        seconds = min(connection.idle, self._keepalive)
        if not connection.reusable or seconds <= 0:
            self.drop(connection)
            return
        connection.idle_since = time.monotonic()
        connection.good_until = connection.idle_since + seconds
        if (idle := self._idle.get(origin)) is None:
            self._idle[origin] = idle = []
        idle.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(self._keepalive, self._sweep)

    def drop(self, connection: Connection) -> None:
        """Close a connection at once."""
        self._open.discard(connection)
        connection.abort()

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in [*self._open]:
            self.drop(connection)
        self._idle.clear()
        self._resolver.close()
        await asyncio.sleep(0)  # the event loop tells connections of their end in its next turn

    def _sweep(self) -> None:
        """Close what has been idle for long; the oldest come first."""
        oldest = time.monotonic() - self._keepalive
        for origin, idle in [*self._idle.items()]:
            fresh = [connection for connection in idle if connection.idle_since > oldest]
            for connection in idle[: len(idle) - len(fresh)]:
                self.drop(connection)
            if fresh:
                self._idle[origin] = fresh
            else:
                del self._idle[origin]
        left = [idle[0].idle_since for idle in self._idle.values()]
        self._sweeper = None
        if left:
            self._sweeper = asyncio.get_running_loop().call_later(min(left) - oldest, self._sweep)

    async def _connect(self, origin: Origin) -> Connection:
        loop = asyncio.get_running_loop()
        addresses = await self._resolver.resolve(origin.host, origin.port)
        opened = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_FALLBACK_DELAY, interleave=_NEXT_FAMILY
        )
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            below, connection = await loop.create_connection(Connection, sock=opened)
        except BaseException:
            opened.close()
            raise
        if not origin.tls:
            return connection
        try:
            above = await loop.start_tls(
                below, connection, self._ssl_context or _verified(), server_hostname=origin.host
            )
            if above is None:
                raise ConnectionResetError("the server hung up")
        except BaseException:
            below.abort()
            raise
        connection.secured(above)
        return connection


@lru_cache(1)
def _verified() -> ssl.SSLContext:
    """Return what trusts the machine's certificates; it takes some 10 ms and 1 MB to make."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context

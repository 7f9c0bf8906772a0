"""Connecting: open connections to providers, and keep those that are idle for whoever calls next."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import lru_cache

import aiohappyeyeballs

from gateway.providers.connection import Connection
from gateway.providers.message import Origin

KEEPALIVE = 4.0
"""Seconds an idle connection is kept: less than the 5 s after which common servers hang up."""

_NAMES_KEPT = 10.0
"""Seconds for which the addresses of a name are taken to be the same."""
_FALLBACK_DELAY = 0.25
"""Seconds after which the next address of a name is tried beside one that does not answer (RFC 8305, 8)."""
_NEXT_FAMILY = 1

_Address = tuple[str, int] | tuple[str, int, int, int]
_Addresses = list[tuple[int, int, int, str, _Address]]


class Pool:
    """Connections by origin; the one that was used last is used first. Belongs to the event loop that first uses it."""

    def __init__(self, ssl_context: ssl.SSLContext | None, keepalive: float) -> None:
        self._ssl_context = ssl_context
        self._keepalive = keepalive
        self._idle: dict[Origin, list[Connection]] = {}
        self._names: dict[tuple[str, int], tuple[float, asyncio.Task[_Addresses]]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._open: set[Connection] = set()

    async def take(self, origin: Origin, seconds: float | None) -> Connection:
        """Return a connection, a new one within `seconds`; raises TimeoutError, OSError or UnicodeError."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not connection.hung_up():
                return connection
            self.drop(connection)
        async with asyncio.timeout(seconds):
            connection = await self._connect(origin)
        self._open.add(connection)
        return connection

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """Keep a connection that is done with if it can be used again, drop it otherwise."""
        if not connection.reusable:
            self.drop(connection)
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(origin, []).append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._keepalive, self._sweep)

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
        for _, lookup in self._names.values():
            lookup.cancel()
        self._names.clear()
        await asyncio.sleep(0)  # the event loop tells connections of their end in its next turn

    def _sweep(self) -> None:
        """Close what has been idle for long; the oldest come first."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._keepalive
        for origin, idle in [*self._idle.items()]:
            fresh = [connection for connection in idle if connection.idle_since > oldest]
            for connection in idle[: len(idle) - len(fresh)]:
                self.drop(connection)
            if fresh:
                self._idle[origin] = fresh
            else:
                del self._idle[origin]
        left = [idle[0].idle_since for idle in self._idle.values()]
        self._sweeper = loop.call_at(min(left) + self._keepalive, self._sweep) if left else None

    async def _connect(self, origin: Origin) -> Connection:
        loop = asyncio.get_running_loop()
        addresses = await self._addresses(origin.host, origin.port)
        opened = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_FALLBACK_DELAY, interleave=_NEXT_FAMILY
        )
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made: list[Connection] = []

        def protocol() -> Connection:
            made.append(Connection())
            return made[0]

        context = (self._ssl_context or _verified()) if origin.tls else None
        try:
            _, connection = await loop.create_connection(
                protocol, sock=opened, ssl=context, server_hostname=origin.host if origin.tls else None
            )
        except BaseException:
            for connection in made:
                connection.abort()
            opened.close()
            raise
        return connection

    async def _addresses(self, host: str, port: int) -> _Addresses:
        """Return a name's addresses; whoever asks while it is being looked up waits for the same answer."""
        loop = asyncio.get_running_loop()
        until, lookup = self._names.get((host, port), (0.0, None))
        if lookup is None or loop.time() > until or (lookup.done() and (lookup.cancelled() or lookup.exception())):
            lookup = loop.create_task(_look_up(host, port))
            self._names[host, port] = loop.time() + _NAMES_KEPT, lookup
        return await asyncio.shield(lookup)


async def _look_up(host: str, port: int) -> _Addresses:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, kind, protocol, name, _where(address)) for family, kind, protocol, name, address in found]


def _where(address: tuple[int, bytes] | tuple[str, int] | tuple[str, int, int, int]) -> _Address:
    """Narrow an address: that of a Python built without IPv6 would have bytes in it."""
    if isinstance(address[0], int):
        raise OSError(f"not an address to connect to: {address}")
    return address


@lru_cache(1)
def _verified() -> ssl.SSLContext:
    """Return what trusts the machine's certificates; it takes some 10 ms and 1 MB to make."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context

"""Connections: opened as needed to whoever has the data just then, kept for the next call, closed when in doubt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ReadOnlyError, ResponseError

from gateway.ledger.address import Endpoint, StoreAddress
from gateway.ledger.line import Losses, StoreLine, StoreLines, Wire
from gateway.ledger.tls import TlsContext

Command = Sequence[str | int]


class Dialer:
    """Makes connections, not open yet, with the URL's credentials, and with one TLS context for all of them."""

    def __init__(self, address: StoreAddress, deadline: float) -> None:
        self._address = address
        self._common: dict[str, Any] = {
            "socket_timeout": None,  # the deadline of the call is its caller's business
            "socket_connect_timeout": deadline,
            "protocol": 2,
            "decode_responses": True,
        }
        self._options: dict[str, Any] = {}
        tls: dict[str, Any] = {}
        for name, value in address.options.items():
            (tls if name.startswith("ssl_") else self._options)[name] = value
        self._tls = TlsContext(tls, address.where) if address.tls else None

    def server(self, endpoint: Endpoint | None = None) -> Wire:
        """Return a connection to a server of the store; to the one of the URL unless another is given."""
        if self._address.path is not None:
            return UnixDomainSocketConnection(path=self._address.path, **self._common, **self._options)
        return self._tcp(endpoint or self._address.endpoints[0], self._options)

    def sentinel(self, endpoint: Endpoint) -> Wire:
        """Return a connection to a sentinel, which has users of its own."""
        return self._tcp(endpoint, self._address.sentinel_options)

    def _tcp(self, endpoint: Endpoint, options: Mapping[str, Any]) -> Wire:
        host, port = endpoint
        kind: Any = Connection if self._tls is None else SSLConnection
        wire = kind(host=host, port=port, **self._common, **options)
        if self._tls is not None:
            wire.ssl_context = self._tls.current()
        return wire


@dataclass(frozen=True, slots=True)
class Opening:
    """What a pool does to open a connection. `locate` tells where; None means the URL's own server.

    `primary` asks the server whether it is one, as what tells of it may be out of date.
    """

    dialer: Dialer
    locate: Callable[[], Awaitable[Endpoint]] | None = None
    primary: bool = False

    async def open(self) -> Wire:
        """Return an open connection; RedisError or OSError if there is none to be had."""
        wire = self.dialer.server(None if self.locate is None else await self.locate())
        try:
            await wire.connect()
            if self.primary:
                await wire.send_command("ROLE")
                if (await wire.read_response())[0] != "master":
                    raise ReadOnlyError("the server that the sentinels name is no primary")
        except BaseException:
            await hang_up(wire)
            raise
        return wire


class Connections:
    """Connections to one place. At most as many are open as calls ever were under way at once.

    `lines` are those that were taken over for commands that go together.

    `heard` is called whenever a reply has arrived. `losses` counts how often the other end was gone, or was given up:
    whoever answers next may be another server.
    """

    def __init__(self, opening: Opening, heard: Callable[[], None], losses: Losses, lines: StoreLines) -> None:
        self.lines = lines
        self._opening = opening
        self._heard = heard
        self._losses = losses
        self._idle: list[Wire] = []
        self._generation = 0
        self._replies: Any = Redis(protocol=2)  # knows the shape of each command's reply; it never connects

    async def take(self) -> tuple[Wire, int]:
        """Return a connection of the caller's own, and its generation; RedisError or OSError if there is none."""
        while self._idle:
            wire = self._idle.pop()
            if not _is_stale(wire):
                return wire, self._generation
            self._losses.count += 1
            await hang_up(wire)
        generation = self._generation
        wire = await self._opening.open()
        self._heard()
        return wire, generation

    async def call(self, wire: Wire, generation: int, *commands: Command) -> Any:
        """Send commands and return the last one's reply; then keep the connection, unless a reply may still come."""
        try:
            reply = None
            for command in commands:
                await wire.send_packed_command(packed([command]))
                reply = await self._replies.parse_response(wire, command[0])
                self._heard()
        except ResponseError:
            self._heard()
            await self._give_back(wire, generation)
            raise
        except BaseException:
            self._losses.count += 1
            await hang_up(wire)
            raise
        await self._give_back(wire, generation)
        return reply

    async def line(self) -> StoreLine:
        """Return a line of the caller's own; RedisError or OSError if there is none."""
        wire, generation = await self.take()
        return self.lines.add(wire, generation, last=generation != self._generation)

    async def redirected(self, endpoint: Endpoint, command: Command) -> Any:
        """Send one command to another server, which was told to expect it (`ASK`)."""
        wire = self._opening.dialer.server(endpoint)
        try:
            await wire.connect()
            return await self.call(wire, -1, ["ASKING"], command)
        except BaseException:
            await hang_up(wire)
            raise

    async def drop(self, generation: int | None = None) -> None:
        """Close all connections, those in use as soon as their calls end; none if the generation was dropped before."""
        if generation not in {None, self._generation}:
            return
        self._generation += 1
        self._losses.count += 1
        self.lines.drop()
        idle, self._idle = self._idle, []
        for wire in idle:
            await hang_up(wire)

    async def _give_back(self, wire: Wire, generation: int) -> None:
        if generation == self._generation and wire.is_connected:
            self._idle.append(wire)
        else:
            await hang_up(wire)


async def hang_up(wire: Wire) -> None:
    """Close a connection without waiting for the other end."""
    await wire.disconnect(nowait=True)


async def ask_once(wire: Wire, *command: str) -> Any:
    """Open a connection, send one command, return its reply as it came, and close; RedisError or OSError."""
    try:
        await wire.connect()
        await wire.send_command(*command)
        return await wire.read_response()
    finally:
        await hang_up(wire)


class _Lengths(dict[int, str]):
    """What stands between two words of a command, by the length of the second."""

    def __missing__(self, length: int) -> str:
        told = f"\r\n${length}\r\n"
        if length < _LONGEST_KEPT:
            self[length] = told
        return told


_LONGEST_KEPT = 4096
_lengths = _Lengths()


def packed(commands: Sequence[Command]) -> bytes:
    """Return commands as they are written; ValueError or TypeError for what is no text."""
    return _packed(commands[0]) if len(commands) == 1 else b"".join(map(_packed, commands))


def _packed(command: Any) -> bytes:
    """Return one command: plain words are put together here, in half the instructions that the library takes."""
    count = len(command)
    pieces = [f"*{count}", *[""] * (2 * count), "\r\n"]
    try:
        pieces[1:-1:2] = map(_lengths.__getitem__, map(len, command))
        pieces[2:-1:2] = command
        text = "".join(pieces)
    except TypeError:  # it has a number, or what is no word
        return bytes(pack_command(tuple(command)))
    return text.encode() if text.isascii() else bytes(pack_command(tuple(command)))


def _is_stale(wire: Wire) -> bool:
    """Whether a kept connection was closed meanwhile, or has data that nobody asked for."""
    stream, parser = wire._reader, wire._parser._reader  # noqa: SLF001 - the library asks its stream, which may wait
    if stream is None or parser is None or stream._eof or stream._buffer:  # noqa: SLF001 - as the library looks
        return True
    return bool(wire._writer.is_closing() or parser.has_data())  # noqa: SLF001 - it takes no notice of a reset

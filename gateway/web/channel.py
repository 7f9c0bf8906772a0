"""One connection as the requests on it see it: a way to write, pressure in both directions, and who is at its ends."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import weakref
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from gateway.web.json_alike import Alike
from gateway.web.open_files import OpenFiles

CLOSE = (b"connection", b"close")
_RESET, _FLUSH = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
"""SO_LINGER: a close that throws away what is not sent yet and resets; one that sends it."""


class Preambles:
    """What answers begin with: a status line and the server's own headers, by status."""

    def __init__(self) -> None:
        self._own: list[tuple[bytes, bytes]] | None = None
        self._made: dict[int, bytes] = {}
        self.closing = False
        """Whether the server's own headers end each connection."""

    def of(self, status: int, own: list[tuple[bytes, bytes]]) -> bytes:
        """Return one; `own` is another list whenever the server's headers have changed."""
        if own is not self._own:
            self._own, self._made, self.closing = own, {}, CLOSE in own
        if status not in self._made:
            fields = b"".join(b"%s: %s\r\n" % field for field in own)
            self._made[status] = STATUS_LINE[status] + fields
        return self._made[status]


class Channel(asyncio.Protocol):
    """The connection's ends and its pressure; what is read from it is another class's."""

    transport: asyncio.Transport
    preambles = Preambles()
    open_files: OpenFiles | None = None
    like: weakref.ref[Alike] | None = None
    """What the last short body was like, as long as that is remembered: connections keep nothing of bodies."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # noqa: ARG002 - the server's signature
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.app: Any = config.loaded_app
        self.loop = _loop or asyncio.get_running_loop()
        self.state = server_state
        self.server: tuple[str, int | None] | None = None
        self.client: tuple[str, int] | None = None
        self.scheme = "http"
        self.reading_paused = False
        self.writing_paused = False
        self._writable = asyncio.Event()
        self._descriptor: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # what servers are given
        """Take note of both ends."""
        self.transport = transport
        self.server, self.client = get_local_addr(transport), get_remote_addr(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        at_hand = transport.get_extra_info("socket")
        descriptor = None if at_hand is None else at_hand.fileno()
        if descriptor is not None and self.open_files is not None:
            self.open_files.note(descriptor)
        self._descriptor = None if is_ssl(transport) else descriptor

    def write_now(self, data: bytes) -> None:
        """Write past the transport, which would wait for the end of the loop's turn, where nothing waits in it.

        What the same turn of the loop wrote through the transport before comes after it: uvloop does not tell of that.
        """
        transport, sent = self.transport, 0
        if self._descriptor is not None and not (transport.get_write_buffer_size() or transport.is_closing()):
            try:
                sent = os.write(self._descriptor, data)
            except OSError:  # a full buffer, or a client that is gone: the transport sees to it
                sent = 0
        if sent < len(data):
            transport.write(data[sent:])

    def reset_on_close(self, *, yes: bool) -> None:
        """Have the connection end with a reset, so that nobody takes what was sent for whole, or as usual again."""
        at_hand = self.transport.get_extra_info("socket")
        if at_hand is not None:
            at_hand.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET if yes else _FLUSH)

    def pause_reading(self) -> None:
        """Take no more from the client for now."""
        if not self.reading_paused:
            self.reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Take more."""
        if self.reading_paused:
            self.reading_paused = False
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Note that the client is behind with reading."""
        self.writing_paused = True
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that it has caught up, or is gone."""
        self.writing_paused = False
        self._writable.set()

    async def writable(self) -> None:
        """Wait until the client has caught up, or is gone."""
        if self.writing_paused:
            await self._writable.wait()

    def answered(self) -> None:
        """Go on with what comes next; an answer is complete."""
        raise NotImplementedError

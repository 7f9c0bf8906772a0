"""The TCP connection below a request, so that a fault can close or reset it.

ASGI has no word for this. The protocol below is uvicorn's own, and leaves a handle in the scope's state besides.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_LINGER_ZERO = struct.pack("ii", 1, 0)


class Connection:
    """A handle on the socket that a request came in by."""

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._cycle = cycle
        self._closed_here = False

    @property
    def client_left(self) -> bool:
        """Whether the client closed the connection before the answer was complete."""
        return self._cycle.disconnected and not self._closed_here

    def close(self) -> None:
        """Send what is buffered, then FIN."""
        self._closed_here = True
        self._transport.close()

    def close_with_reset(self) -> None:
        """Hand what is buffered to the kernel, then send RST instead of FIN."""
        self._linger_zero()
        self.close()

    def reset(self) -> None:
        """Drop what is buffered and send RST."""
        self._linger_zero()
        self._closed_here = True
        self._transport.abort()

    def _linger_zero(self) -> None:
        """Make close() on the socket, if it is open still, answer RST: SO_LINGER with a time of zero."""
        if self._transport.is_closing():
            return
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)


class SandboxProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol that also puts a `Connection` into `scope["state"]["connection"]`."""

    def on_headers_complete(self) -> None:
        """Start the request, as uvicorn does; its task runs only after the handle is in place."""
        super().on_headers_complete()
        self.scope["state"]["connection"] = Connection(self.transport, self.cycle)


def connection_of(scope: Scope) -> Connection | None:
    """Return the handle, or None under a server that is not the sandbox's own."""
    found = scope.get("state", {}).get("connection")
    return found if isinstance(found, Connection) else None


async def client_gone(receive: Receive) -> None:
    """Return once the connection is gone, whoever closed it; an unread body is discarded."""
    while (await receive())["type"] != "http.disconnect":
        pass

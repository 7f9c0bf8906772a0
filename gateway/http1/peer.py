"""Peer: what the system already knows of the other end of a socket, ahead of the event loop."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Sequence

_HUNG_UP = getattr(select, "POLLRDHUP", 0)  # Linux alone can tell a half-closed connection by polling
_TURNS = 3
"""Of the event loop, within which it has read what the system has for it."""


def _nothing(_milliseconds: int) -> Sequence[tuple[int, int]]:
    return ()


class Peer:
    """The other end of a transport's socket."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.poll: Callable[[int], Sequence[tuple[int, int]]] = _nothing
        """Tells, within so many milliseconds, of anything that it did; nothing as long as it is quiet."""
        socket = transport.get_extra_info("socket")
        if socket is not None and _HUNG_UP:
            found = select.poll()
            found.register(socket.fileno(), _HUNG_UP | select.POLLIN)
            self.poll = found.poll

    def look(self) -> tuple[bool, bool]:
        """Tell whether it has closed or reset the connection, and whether it has sent what nobody has read yet."""
        found = self.poll(0)
        return (bool(found[0][1] & ~select.POLLIN), bool(found[0][1] & select.POLLIN)) if found else (False, False)

    async def heard(self) -> None:
        """Give the event loop the time to read what was sent."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            if not self.look()[1]:
                return

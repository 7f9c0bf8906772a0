"""Connections that were reset while nobody used them, on the event loop of the gateway and on Python's own."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable

ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset, as a firewall does that forgot the connection."""
TURNS = 8
"""Of the event loop, within which everything there is to know of a reset has arrived."""
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class ResettingServer:
    """Says OK to everything, and counts its connections."""

    def __init__(self) -> None:
        self.url = ""
        self.open: list[asyncio.StreamWriter] = []
        self.connections = 0

    def reset(self) -> None:
        """End the newest connection without a farewell."""
        writer = self.open.pop()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        self.connections += 1
        self.open.append(writer)
        while asked := await reader.read(65536):
            writer.write(b"+OK\r\n" * asked.count(b"*"))


@asynccontextmanager
async def resetting_server() -> AsyncIterator[ResettingServer]:
    """A running one."""
    server = ResettingServer()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listener:
        server.url = "redis://{}:{}".format(*listener.sockets[0].getsockname())
        yield server
        for writer in server.open:
            writer.close()
        await asyncio.sleep(0.01)  # they see their ends


async def _reset_when_idle(turns: int) -> tuple[bool, int]:
    """Return whether a call that must not be repeated went well `turns` after the reset, and how many connections."""
    async with resetting_server() as server:
        store = Store(server.url)
        await store.execute("SET", "x", "1")
        server.reset()
        for _ in range(turns):
            await asyncio.sleep(0)
        try:
            await store.execute("INCR", "x")
        except LedgerUnavailable:
            well = False
        else:
            well = True
        assert await store.execute("SET", "x", "1")
        await store.aclose()
        return well, server.connections


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_reset_while_idle_is_not_used_again(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Once the reset is known calls take another connection, even those that must not be repeated; before, they fail.

    uvloop raises RuntimeError where a connection is used that was reset, and the client library lets it through.
    """
    with asyncio.Runner(loop_factory=loop) as runner:
        told = [runner.run(_reset_when_idle(turns)) for turns in range(TURNS)]
    assert {connections for _, connections in told} == {2}
    assert told[-1][0]


def _reset_after_one_reply(listener: socket.socket) -> None:
    """Until the listener is closed: take a connection, answer it once, and reset it before the answer was read."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            connection.sendall(b"+OK\r\n")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)


async def _reset_in_the_handshake() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        told: list[str] = []
        serving = asyncio.create_task(asyncio.to_thread(_reset_after_one_reply, listener))
        store = Store("redis://:secret@{}:{}/1".format(*listener.getsockname()))
        for _ in range(15):
            with pytest.raises(LedgerUnavailable):
                await store._servers.send(["SET", "x", "1"], repeatable=True, on_away=told.append)
        assert len(told) == 15
        await store.aclose()
        listener.shutdown(socket.SHUT_RDWR)
        await serving


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_reset_in_its_handshake_is_an_unavailable_ledger(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Whatever the event loop and the client library call it, a call fails as it should, and with nothing else."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(_reset_in_the_handshake())

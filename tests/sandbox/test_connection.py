"""The handle on a request's connection: what a fault does to it, also where the client has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from gateway.sandbox.connection import Connection

NO_REQUEST = cast("Any", None)
"""Stands for the request on it, which nothing here asks."""


@pytest.fixture
async def accepted() -> AsyncIterator[asyncio.Transport]:
    """A server's side of a connection."""
    came: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _, writer: came.set_result(writer), "127.0.0.1", 0)
    _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
    ours = await came
    yield cast("asyncio.Transport", ours.transport)
    for writer in (client, ours):
        writer.transport.abort()
    server.close()


@pytest.mark.parametrize("fault", [Connection.reset, Connection.close_with_reset], ids=["reset", "close"])
async def test_nobody_is_left_to_be_reset(fault: Callable[[Connection], None], accepted: asyncio.Transport) -> None:
    """A reset that meets a connection which is gone does nothing, and raises nothing."""
    accepted.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the socket is closed in the loop's next round
    assert accepted.get_extra_info("socket").fileno() == -1
    fault(Connection(accepted, NO_REQUEST))

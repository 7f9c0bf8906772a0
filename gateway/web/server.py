"""Listening sockets, and applications served on them side by side in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import socket
from collections.abc import Iterator
from typing import Any, cast

import uvicorn

from gateway.web.boundary import ErrorBoundary
from gateway.web.channel import CLOSE
from gateway.web.limits import HeadLimits
from gateway.web.protocol import guarded

_BACKLOG = 2048
_CLEANUP_SECONDS = 5.0


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def listen(host: str, port: int, *, reuse_port: bool = False, option: str = "", host_option: str = "") -> socket.socket:
    """Return a listening TCP socket; OSError with one clear line if that cannot be. Port 0 takes a free one.

    `reuse_port` lets several processes share the port. `option` is how the port can be chosen, and
    `host_option` how the host, for the message.
    """
    host = host.removeprefix("[").removesuffix("]")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG, reuse_port=reuse_port)
    except OSError as error:
        raise OSError(_why(error, host, port, option, host_option)) from error


def _why(error: OSError, host: str, port: int, option: str, host_option: str) -> str:
    if error.errno == errno.EADDRINUSE:
        how = f" with {option}" if option else ""
        return f"port {port} on {host} is in use; stop what uses it or choose another port{how}"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs privileges; choose a port above 1023"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        named = f"{host_option}: {host!r}" if host_option else host
        return f"{named} is not an address of this machine"
    return f"cannot listen on port {port} of {host}: {error.strerror or error}"


async def serve_app(
    app: ErrorBoundary,
    sock: socket.socket,
    *,
    shutdown: asyncio.Event,
    grace: float,
    head_limits: HeadLimits | None = None,
    leaving: asyncio.Event | None = None,
) -> None:
    """Serve an application on a listening socket until `shutdown` is set; several may run in one loop.

    From `leaving` on each answer asks its client to connect anew. After `shutdown` no connection is accepted, requests
    in flight get `grace` seconds, and the socket is closed.
    """
    config = uvicorn.Config(
        cast("Any", app),  # our protocol calls it with a request of ours
        interface="asgi3",
        http=guarded(head_limits or HeadLimits()),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=math.ceil(grace),
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    stopping = asyncio.create_task(shutdown.wait())
    parting = asyncio.create_task(_part(server, leaving or shutdown))
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        parting.cancel()
        server.should_exit = True
        await serving
        if cancelled := set(server.server_state.tasks):
            await asyncio.wait(cancelled, timeout=_CLEANUP_SECONDS)


async def _part(server: uvicorn.Server, leaving: asyncio.Event) -> None:
    """From `leaving` on, end each connection with its next answer, so that no client finds it closed under its hand."""
    await leaving.wait()
    server.config.encoded_headers.append(CLOSE)
    state = server.server_state
    state.default_headers = [*state.default_headers, CLOSE]  # until the server makes them anew, each second

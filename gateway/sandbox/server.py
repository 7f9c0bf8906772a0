"""Serving a sandbox: inside an event loop, or in a thread for the length of a test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import uvicorn

from gateway.sandbox.app import create_sandbox
from gateway.sandbox.client import Sandbox
from gateway.sandbox.connection import SandboxProtocol
from gateway.sandbox.options import DEFAULT_KEY, SandboxOptions

_KEEP_ALIVE_SECONDS = 75
_PATIENCE_SECONDS = 10


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which belong to the process, and with a call once it listens."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()

    def stop(self) -> None:
        """End now: drop the connections, hanging answers included."""
        self.should_exit = self.force_exit = True
        for connection in list(self.server_state.connections):
            if isinstance(connection, SandboxProtocol):
                connection.transport.abort()


async def serve_sandbox(
    options: SandboxOptions | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    sock: socket.socket | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until cancelled. Port 0 takes a free one; `ready` is called with the base URL once it listens.

    OSError if the port is taken. A listening socket may be given instead of host and port; it is closed at the end.
    """
    listener = sock or socket.create_server((host, port), backlog=2048)
    name, number = listener.getsockname()[:2]
    url = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
    config = uvicorn.Config(
        create_sandbox(options),
        http=SandboxProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    server = _Server(config, lambda: ready(url) if ready else None)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.stop()
        await serving
        listener.close()


@contextlib.contextmanager
def running_sandbox(options: SandboxOptions | None = None, *, port: int = 0) -> Iterator[Sandbox]:
    """Run a sandbox in a thread with an event loop of its own; latency is 0 unless options say otherwise."""
    chosen = options or SandboxOptions(latency=0)
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    url: Future[str] = Future()
    stop: Future[Callable[[], object]] = Future()

    async def main() -> None:
        serving = asyncio.create_task(serve_sandbox(chosen, sock=listener, ready=url.set_result))
        loop = asyncio.get_running_loop()
        stop.set_result(lambda: loop.call_soon_threadsafe(serving.cancel))
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="sandbox", daemon=True)
    thread.start()
    try:
        yield Sandbox(url.result(timeout=_PATIENCE_SECONDS), chosen.api_key or DEFAULT_KEY)
    finally:
        stop.result(timeout=_PATIENCE_SECONDS)()
        thread.join(timeout=_PATIENCE_SECONDS)

"""A process of its own that serves a recording gateway under uvloop, for a test to watch its memory."""

from __future__ import annotations

import asyncio

import uvloop

from gateway.web.app import create_app
from gateway.web.server import listen, serve_app
from tests.web.recording import RecordingGateway


async def serve() -> None:
    """Print the port, and serve until killed."""
    sock = listen("127.0.0.1", 0)
    print(sock.getsockname()[1], flush=True)  # noqa: T201 - how the test learns the port
    gateway = RecordingGateway(keep_rendered=False)
    await serve_app(create_app(gateway), sock, shutdown=asyncio.Event(), grace=1)


if __name__ == "__main__":
    uvloop.run(serve())

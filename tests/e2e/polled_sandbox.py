"""A sandbox process that remembers when it was asked after each piece of work.

`python -m tests.e2e.polled_sandbox PORT WORK_SECONDS KEPT_REQUESTS`; `GET /polls` answers Unix times by the work's id.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections import defaultdict

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.sandbox.app import create_sandbox
from gateway.sandbox.connection import SandboxProtocol
from gateway.sandbox.options import SandboxOptions

WORK = "/evolink/v1/tasks/"


class Polled:
    """ASGI middleware around a sandbox."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._polls: dict[str, list[float]] = defaultdict(list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note a look at work, and pass everything on but the question for the notes."""
        path = scope["path"] if scope["type"] == "http" else ""
        if path == "/polls":
            await JSONResponse(self._polls)(scope, receive, send)
            return
        if path.startswith(WORK):
            self._polls[path.removeprefix(WORK)].append(time.time())
        await self._app(scope, receive, send)


async def serve(port: int, work_seconds: float, kept_requests: int) -> None:
    """Serve until killed."""
    options = SandboxOptions(latency=0, work_seconds=work_seconds, kept_requests=kept_requests)
    app = Polled(create_sandbox(options))
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    config = uvicorn.Config(
        app, http=SandboxProtocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False
    )
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))

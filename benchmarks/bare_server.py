"""The gateway's own server with the least there is to serve: `python -m benchmarks.bare_server PORT`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

import uvloop

from benchmarks.bare_apps import BODY, HEADERS
from gateway.request.answer_head import end_to_end
from gateway.web.context import RequestContext
from gateway.web.server import listen, serve_app


async def answer(request: RequestContext) -> None:
    """Read the body, answer."""
    try:
        while await request.read():
            pass
        lines, length = end_to_end(HEADERS, request.request_id)
        request.send_head(200, lines, length, whole=BODY)
    finally:
        request.finish()


async def main(port: int) -> None:
    """Serve until killed."""
    await serve_app(cast("Any", answer), listen("127.0.0.1", port), shutdown=asyncio.Event(), grace=1.0)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

"""A provider that does nothing but answer: canned images over raw asyncio, so that what is measured is the gateway.

Run as `python benchmarks/upstream.py`; prints the port it listens on. The first part of the path is the size of the
answer in bytes: `POST /2000000/v1/images/generations`.
"""

from __future__ import annotations

import asyncio
import json
from functools import cache
from typing import cast

import uvloop

USAGE = {
    "input_tokens": 12,
    "output_tokens": 196,
    "total_tokens": 208,
    "input_tokens_details": {"text_tokens": 12, "image_tokens": 0},
    "output_tokens_details": {"text_tokens": 0, "image_tokens": 196},
}


@cache
def answer(size: int) -> bytes:
    """Return a whole HTTP answer whose body has about `size` bytes."""
    facts = {"created": 1_795_000_000, "background": "opaque", "output_format": "png", "quality": "low"}
    image = "iVBORw0KGgo" + "A" * max(size - 400, 0)
    body = json.dumps({**facts, "size": "1024x1024", "data": [{"b64_json": image}], "usage": USAGE}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Canned(asyncio.Protocol):
    """One connection; requests come one after another and carry a Content-Length."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            lines = head.lower().split(b"\r\n")
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            assert self._transport is not None
            self._transport.write(answer(int(head.split(b"/", 2)[1])))


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())

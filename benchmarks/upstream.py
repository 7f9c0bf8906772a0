"""A provider that answers after a while, and counts: for what nginx cannot do, and where there is no nginx.

Run as `python -m benchmarks.upstream`; prints the port it listens on. `POST /small-250/v1/images/generations` answers
with the canned answer `small` after 250 ms, `/large/…` with `large` at once; `GET /served` tells how many answers of
each kind were given, and how many requests wait.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from functools import cache
from typing import cast

import httptools
import uvloop

from benchmarks.answers import answer

BACKLOG = 4096


def message(body: bytes) -> bytes:
    """Return a whole answer."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@cache
def canned(kind: str) -> bytes:
    """Return a whole answer of one of the canned kinds."""
    return message(answer(kind))


class Canned(asyncio.Protocol):
    """One connection; requests come one after another."""

    served: Counter[str] = Counter()
    waiting = 0

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Forget the request before."""
        self._path = b""

    def on_url(self, url: bytes) -> None:
        """Note the path."""
        self._path += url

    def on_message_complete(self) -> None:
        """Answer, now or later."""
        first = self._path.split(b"/")[1].decode()
        kind, _, delay = first.partition("-")
        if kind == "served":
            self._write(message(json.dumps({"served": Canned.served, "waiting": Canned.waiting}).encode()))
        elif delay:
            Canned.waiting += 1
            asyncio.get_running_loop().call_later(int(delay) / 1000, self._late, kind, first)
        else:
            self._serve(kind, first)

    def _late(self, kind: str, counted: str) -> None:
        Canned.waiting -= 1
        self._serve(kind, counted)

    def _serve(self, kind: str, counted: str) -> None:
        Canned.served[counted] += 1
        self._write(canned(kind))

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(data)


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0, backlog=BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())

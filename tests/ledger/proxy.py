"""A proxy in front of the store that can swallow replies: the command arrives, the answer does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

TURNS = 10
"""Of the loop, more than it takes to tell of a connection that was accepted, and for a transport to see its end."""


class Proxy:
    """Passes bytes on both ways; while `mute` is set, replies are dropped, and with `hold_back` requests wait."""

    def __init__(self, server: str) -> None:
        self._path = unquote(urlsplit(server).path)
        self.mute = False
        self.through = asyncio.Event()
        self.through.set()
        self.held_back = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()
        self._closed = False

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until it, or the proxy, ends."""
        if self._closed:  # it was accepted before the listener ended, and is only told of now
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        task.add_done_callback(lambda _: writer.close())  # one cancelled before its first step does not

    async def aclose(self) -> None:
        """End every connection, those too that are just being accepted."""
        self._closed = True
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self._path)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._requests(reader, upstream_writer))
                tasks.create_task(self._replies(upstream_reader, writer))
        finally:
            upstream_writer.close()

    async def _requests(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.through.is_set():
                self.held_back.set()
                await self.through.wait()
            upstream.write(data)
        await asyncio.sleep(0)
        upstream.write_eof()

    async def _replies(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await upstream.read(65536):
            if not self.mute:
                writer.write(data)


@asynccontextmanager
async def proxied(server: str, directory: Path) -> AsyncIterator[tuple[Proxy, str]]:
    """Yield a proxy and the URL at which it answers."""
    proxy = Proxy(server)
    path = directory / "proxy.sock"
    listener = await asyncio.start_unix_server(proxy.accept, path)
    try:
        yield proxy, f"unix://{path}"
    finally:
        await proxy.aclose()
        listener.close()  # last: a connection that it has accepted and not told of yet would be lost with it
        await asyncio.sleep(0)

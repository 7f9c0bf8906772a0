"""A server that does to each connection exactly what a test says, byte by byte."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

SELF_SIGNED = Path(__file__).parent / "self_signed.pem"
"""A key and certificate for localhost that nobody trusts; valid for a hundred years."""

Script = Callable[["Connection"], Awaitable[None]]


@dataclass
class Request:
    """A request as it arrived."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of a header, by lower-case name."""
        return next((value for key, value in self.headers if key == name), None)


class Connection:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: RawServer) -> None:
        self.reader, self.writer, self.server = reader, writer, server

    async def head(self) -> Request:
        """Read the request's line and headers."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in head[1:] if line)
        request = Request(head[0], [(name.lower(), value.strip()) for name, _, value in pairs], b"")
        self.server.requests.append(request)
        return request

    async def request(self) -> Request:
        """Read a whole request."""
        request = await self.head()
        if request.header("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                request.body += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        else:
            request.body = await self.reader.readexactly(int(request.header("content-length") or 0))
        return request

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes, *, status: str = "200 OK", headers: str = "") -> None:
        """Send a whole answer with its length; JSON, unless `headers` (lines with CRLF) say otherwise."""
        kind = "" if "content-type" in headers.lower() else "Content-Type: application/json\r\n"
        head = f"HTTP/1.1 {status}\r\n{kind}Content-Length: {len(body)}\r\n{headers}\r\n"
        await self.send(head.encode("latin-1") + body)

    def reset(self) -> None:
        """Close with a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class RawServer:
    """A listening socket, what arrived on it, and how many connections it accepted."""

    port: int = 0
    accepted: int = 0
    requests: list[Request] = field(default_factory=list)
    scheme: str = "http"

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"{self.scheme}://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(script: Script, *, tls: bool = False, host: str = "127.0.0.1") -> AsyncIterator[RawServer]:
    """Listen, and run the script on every connection; the connection is closed when the script returns."""
    server = RawServer(scheme="https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(Connection(reader, writer, server))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client hung up, which is what many tests are about
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            tasks.discard(task)
            writer.close()

    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(SELF_SIGNED)
    listening = await asyncio.start_server(accept, host, 0, ssl=context, backlog=2048)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


async def forever(connection: Connection) -> None:
    """Never do anything again."""
    await asyncio.get_running_loop().create_future()

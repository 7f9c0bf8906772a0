"""A server that says whatever a test wants it to, and counts what it was asked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

Command = list[str]
Reply = bytes | float | None
"""A reply; or seconds to wait before the usual one; or None, to close the connection."""
Answer = Reply | Callable[[Command], Reply]
"""What it says to everything, or to each command."""

OK = b"+OK\r\n"


def bulk(*words: str) -> bytes:
    """An array of texts."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)


class FakeServer:
    """Answers handshakes itself, and all else with `answer`. `asked` are all commands but handshakes.

    `usual` is what it says in the end where it takes its time.
    """

    def __init__(self, answer: Answer, usual: bytes) -> None:
        self.answer = answer
        self.usual = usual
        self.asked: list[Command] = []
        self.connections = 0
        self.port = 0
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://127.0.0.1:{self.port}"

    def names(self) -> list[str]:
        """The first word of each command."""
        return [command[0] for command in self.asked]

    def hang_up(self) -> None:
        """Close every connection."""
        for writer in self._open:
            writer.close()

    @contextmanager
    def saying(self, answer: Answer) -> Iterator[None]:
        """Let it answer otherwise meanwhile."""
        before, self.answer = self.answer, answer
        try:
            yield
        finally:
            self.answer = before

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while command := await read_command(reader):
                if command[0] == "CLIENT":
                    writer.write(OK)
                    continue
                self.asked.append(command)
                reply = self.answer(command) if callable(self.answer) else self.answer
                if isinstance(reply, float):
                    await asyncio.sleep(reply)
                    reply = self.usual
                if reply is None:
                    break
                writer.write(reply)
        finally:
            self._open.discard(writer)
            writer.close()


async def read_command(reader: asyncio.StreamReader) -> Command:
    head = await reader.readline()
    words = []
    for _ in range(int(head[1:] or 0)):
        length = int((await reader.readline())[1:])
        words.append((await reader.readexactly(length + 2))[:-2].decode())
    return words


@asynccontextmanager
async def fake_server(
    answer: Answer, *, usual: bytes = OK, tls: ssl.SSLContext | None = None
) -> AsyncIterator[FakeServer]:
    """A running one."""
    fake = FakeServer(answer, usual)
    async with await asyncio.start_server(fake._serve, "127.0.0.1", 0, ssl=tls) as listener:
        fake.port = listener.sockets[0].getsockname()[1]
        yield fake

"""A client that costs little: keep-alive HTTP/1.1 over raw asyncio streams."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

READ = 256 * 1024


@dataclass(frozen=True)
class Target:
    """Where to POST an image request to, and with which headers beside the usual ones."""

    port: int
    path: str
    headers: tuple[tuple[str, str], ...] = ()

    def request(self) -> bytes:
        """Return the whole request."""
        body = json.dumps(
            {"model": "gpt-image-2", "prompt": "a red bicycle", "n": 1, "size": "1024x1024", "quality": "low"}
        ).encode()
        lines = [f"POST {self.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


class Connection:
    """One connection to a target, used for one request after another."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._request = target.request()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._target.port, limit=READ)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._writer is not None
        self._writer.close()

    async def post(self) -> int:
        """Send one request, read its answer to the end, and return the bytes of its body."""
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(self._request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head[:15]:
            raise RuntimeError(f"{head.decode()}{(await self._reader.read(2000)).decode(errors='replace')}")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), None)
        if length is None:
            raise RuntimeError("the answer has no length")
        left = length
        while left:
            left -= len(await self._reader.read(min(left, READ)))
        return length


async def alternate(targets: list[Target], count: int) -> list[list[float]]:
    """Send `count` requests to each target in turn, one at a time; returns the seconds that each took."""
    connections = [Connection(target) for target in targets]
    times: list[list[float]] = [[] for _ in targets]
    for connection in connections:
        await connection.__aenter__()
    for _ in range(count):
        for connection, mine in zip(connections, times, strict=True):
            began = time.perf_counter()
            await connection.post()
            mine.append(time.perf_counter() - began)
    for connection in connections:
        await connection.__aexit__(None, None, None)
    return times


async def load(target: Target, connections: int, seconds: float) -> tuple[float, float]:
    """Keep so many connections busy for a while; returns requests and bytes per second."""
    until = time.perf_counter() + seconds
    requests = volume = 0

    async def one() -> None:
        nonlocal requests, volume
        async with Connection(target) as connection:
            while time.perf_counter() < until:
                volume += await connection.post()
                requests += 1

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    taken = time.perf_counter() - began
    return requests / taken, volume / taken

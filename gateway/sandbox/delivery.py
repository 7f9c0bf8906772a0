"""How an answer leaves: whole and in time, or as a fault wants it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.sandbox.connection import Connection, client_gone, connection_of
from gateway.sandbox.faults import Fault


class Delivery(Response):
    """A finished answer in one or more chunks, `pause` seconds before each; a fault may spoil it.

    With more than one chunk the length is not announced and the body goes out chunked.
    """

    def __init__(
        self,
        chunks: Sequence[bytes],
        *,
        media_type: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        pause: float = 0.0,
        fault: Fault | None = None,
    ) -> None:
        super().__init__(b"", status_code=status, headers=headers, media_type=media_type)
        self._chunks = chunks
        self._pause = pause
        self._fault = fault
        if len(chunks) == 1:
            self.headers["content-length"] = str(len(chunks[0]))
        else:
            del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, or do to the connection what the fault says."""
        match self._fault.name if self._fault else None:
            case "timeout":
                await client_gone(receive)
            case "lost_response" | "batch_lost":
                _connection(scope).close()
                await client_gone(receive)
            case "reset":
                _connection(scope).reset()
                await client_gone(receive)
            case "connection_closed":
                await self._drop(scope, receive)
            case "half_body":
                await self._send_part(scope, receive, send)
            case "slow_body":
                await self._send_slowly(send)
            case _:
                await self._send(self._chunks, send, self._pause)

    async def _send(self, chunks: Sequence[bytes], send: Send, pause: float) -> None:
        await self._send_head(send)
        for chunk in chunks:
            await asyncio.sleep(pause)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_head(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _send_slowly(self, send: Send) -> None:
        whole = b"".join(self._chunks)
        pieces = max(1, min(len(whole), self._number("pieces")))
        edges = [len(whole) * i // pieces for i in range(pieces + 1)]
        parts = [whole[a:b] for a, b in itertools.pairwise(edges)]
        await self._send(parts, send, self._seconds() / pieces)

    async def _send_part(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = b"".join(self._chunks)
        await self._send_head(send)
        part = whole[: len(whole) * self._number("percent") // 100]
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await self._drop(scope, receive)

    async def _drop(self, scope: Scope, receive: Receive) -> None:
        connection = _connection(scope)
        if self._fault is not None and self._fault.parameters["rst"]:
            connection.close_with_reset()
        else:
            connection.close()
        await client_gone(receive)

    def _number(self, name: str) -> int:
        return int(self._fault.parameters[name]) if self._fault else 0

    def _seconds(self) -> float:
        return float(self._fault.parameters["seconds"]) if self._fault else 0.0


def nonsense(fault: Fault, headers: Mapping[str, str]) -> Response:
    """A body that is no answer: broken JSON, or a page of some proxy in between."""
    html = fault.name == "html"
    return Delivery(
        [fault.parameters["body"].encode()],
        media_type="text/html" if html else "application/json",
        status=fault.parameters["status"] if html else 200,
        headers=headers,
    )


def _connection(scope: Scope) -> Connection:
    connection = connection_of(scope)
    if connection is None:
        raise RuntimeError("this fault closes sockets: run the sandbox by gateway.sandbox.server")
    return connection

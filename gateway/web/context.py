"""One request on its connection: what every endpoint needs of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.types import Message, Receive, Scope, Send

from gateway.domain.errors import ClientGone
from gateway.domain.fresh import fresh_hex

_ABORT_PATIENCE = 1.0
_NEVER_WAITED_FOR = 16 * 1024
"""Bytes not sent yet below which the server takes more without waiting: a quarter of asyncio's high-water mark."""


class RequestContext:
    """A request: its id, its headers, its way in and its way out.

    `received` is `time.monotonic()` at entry. A client's own request id is not trusted; this one is made here.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.request_id = f"req_{fresh_hex()}"
        self.received = time.monotonic()
        self.headers = _headers(scope)
        self.body_ended = False
        self.answer_started = False
        self.answer_ended = False
        self.claim: Callable[[int], None] | None = None
        """Asked for room for so many bytes of the body before they are kept; raises where there is none."""
        self.claimed = 0
        self._claims_as_read = False
        self._transport: asyncio.Transport | None = scope.get("state", {}).get("transport")
        self._receive = receive
        self._send = send

    @property
    def content_length(self) -> int | None:
        """Length of the body in bytes, if the client named it; the server has checked that it is a number."""
        value = self.headers.get("content-length")
        return int(value) if value is not None else None

    @property
    def path_params(self) -> Mapping[str, str]:
        """What the route's placeholders stand for."""
        params: Mapping[str, str] = self.scope.get("path_params", {})
        return params

    async def receive(self) -> Message:
        """Return the server's next message, noting the end of the body."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.body_ended = True
        if self._claims_as_read and not self.answer_started:
            self._claim(len(message.get("body", b"")))
        return message

    def expect_body(self) -> None:
        """Ask for room for the body, all at once or as it is read, by whether its length is known."""
        if self.content_length is None:
            self._claims_as_read = "transfer-encoding" in self.headers and self.claim is not None
        else:
            self._claim(self.content_length)

    def _claim(self, size: int) -> None:
        if self.claim is not None and size:
            self.claim(size)
            self.claimed += size

    async def send(self, message: Message) -> None:
        """Pass a message to the server, noting the start of the answer."""
        self.answer_started = True
        self.answer_ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def start(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Send the status line and headers."""
        raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
        await self.send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, chunk: bytes, *, more: bool) -> None:
        """Send some of the body."""
        await self.send({"type": "http.response.body", "body": chunk, "more_body": more})

    @property
    def client_behind(self) -> bool:
        """Whether the client has yet to take more than a little of an answer that goes on."""
        if self._transport is None or self.answer_ended:
            return False
        return self._transport.get_write_buffer_size() > _NEVER_WAITED_FOR

    async def write_within(self, seconds: float, chunk: bytes, *, more: bool) -> None:
        """Send some of the body; TimeoutError if the client has not taken what came before it in so many seconds.

        ClientGone if it has left, which the server takes no notice of.
        """
        if self._transport is not None:
            if self._transport.is_closing():
                raise ClientGone("The client hung up before its answer was complete.")
            if self._transport.get_write_buffer_size() <= _NEVER_WAITED_FOR:
                await self.write(chunk, more=more)  # at once: there is nothing to time
                return
        async with asyncio.timeout(seconds):
            await self.write(chunk, more=more)

    async def answer(self, status: int, body: bytes, content_type: str) -> None:
        """Send a whole answer that is at hand."""
        headers = [
            ("content-type", content_type),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            ("x-request-id", self.request_id),
        ]
        await self.start(status, headers)
        await self.write(body, more=False)

    async def answer_json(self, value: object, status: int = 200) -> None:
        """Send a whole JSON answer."""
        await self.answer(status, json.dumps(value).encode(), "application/json")

    async def client_gone(self) -> None:
        """Return once the connection is gone; what is left of the request's body is thrown away."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def break_off(self, patience: float) -> None:
        """End the connection without ending the answer: send what is buffered, or drop it after `patience` seconds."""
        if self._transport is None:
            return  # a server that is not ours closes the connection when the answer stays incomplete
        self._transport.close()
        try:
            async with asyncio.timeout(patience):
                await self.client_gone()
        except TimeoutError:
            await self.abort()

    async def abort(self) -> None:
        """Drop the connection and what is buffered for it."""
        if self._transport is not None:
            self._transport.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ABORT_PATIENCE):
                    await self.client_gone()


class Endpoint:
    """A handler that takes the request's context, as an ASGI application."""

    def __init__(self, handle: Callable[[RequestContext], Awaitable[None]]) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Find the context and run the handler."""
        context = scope["state"]["context"]
        assert isinstance(context, RequestContext)
        await self._handle(context)


def _headers(scope: Scope) -> dict[str, str]:
    """Return header values by lower-case name; those of a repeated header are joined, as RFC 9110 (5.3) says."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found

"""What every endpoint needs of a request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import weakref
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from starlette.types import Receive, Scope, Send

from gateway.domain.errors import RequestTooLarge
from gateway.ports import Headers, Outbound
from gateway.web.channel import Channel
from gateway.web.head import Head
from gateway.web.json_alike import Alike
from gateway.web.turn import Turn

_ABORT_PATIENCE = 1.0

_NOTHING: Mapping[str, str] = MappingProxyType({})

Handler = Callable[["RequestContext"], Awaitable[Outbound | None]]
"""Answers a request by itself, or returns what is to be sent."""


class RequestContext(Turn):
    """A request: its id, its headers, its way in and its way out."""

    __slots__ = ("_scope", "handler", "path_params")

    def __init__(self, channel: Channel, head: Head, body: bytes | None = None) -> None:
        super().__init__(channel, head, body)
        self.handler: Handler | None = None
        """Who answers it, if its path has placeholders."""
        self.path_params: Mapping[str, str] = _NOTHING
        """What they stand for."""
        self._scope: Scope | None = None

    @property
    def content_length(self) -> int | None:
        """Length of the body in bytes, if the client named it."""
        return self.head.length

    @property
    def scope(self) -> Scope:
        """The same as ASGI has it, for the router."""
        if self._scope is None:
            head, channel = self.head, self._channel
            self._scope = {
                "type": "http",
                "http_version": head.version,
                "method": head.method,
                "scheme": channel.scheme,
                "server": channel.server,
                "client": channel.client,
                "path": head.path,
                "raw_path": head.raw_path,
                "query_string": head.query,
                "root_path": "",
                "headers": [],  # by which nothing is routed
                "state": {"context": self},
                "app": self,  # makes the router raise what it refuses
            }
        return self._scope

    @property
    def like(self) -> Alike | None:
        """What the last short body on its connection was like; clients that keep one ask for much the same."""
        like = self._channel.like
        return None if like is None else like()

    @like.setter
    def like(self, alike: Alike) -> None:
        """Take note of it, for the next body."""
        self._channel.like = weakref.ref(alike)

    def check_length(self, most: int) -> None:
        """Raise RequestTooLarge if the body says that it has more bytes than this."""
        if (self.head.length or 0) > most:
            raise RequestTooLarge(f"The request's body is larger than the {most} bytes that are accepted.")

    def expect_body(self, most: int) -> None:
        """Ask for room for the body, all at once or as it is read, by whether its length is known.

        RequestTooLarge first, if it says that it has more than `most` bytes: there will never be room for it.
        """
        self.check_length(most)
        if self.claim is None:
            return
        length = self.head.length
        if length is None:
            self._claims_as_read = "transfer-encoding" in self.headers
        elif length:
            self.claim(self, length)

    async def start(self, status: int, headers: Headers) -> None:
        """Send the status line and headers, once the client has caught up."""
        await self._channel.writable()
        self.begin(status, headers)

    async def write(self, chunk: bytes, *, more: bool) -> None:
        """Send some of the body, once the client has caught up."""
        await self._channel.writable()
        self.put(chunk, more=more)

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

    async def answer_json(self, value: object) -> None:
        """Send a whole JSON answer."""
        await self.answer(200, json.dumps(value).encode(), "application/json")

    async def break_off(self, patience: float) -> None:
        """End the connection without ending the answer: send what is buffered, or drop it after `patience` seconds."""
        self.unwatch()
        self._channel.transport.close()
        try:
            async with asyncio.timeout(patience):
                await self.client_gone()
        except TimeoutError:
            await self.abort()

    async def abort(self) -> None:
        """Drop the connection and what is buffered for it."""
        self.unwatch()
        self._channel.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ABORT_PATIENCE):
                await self.client_gone()

    def forget_scope(self) -> None:
        """Let go of what the router had, which refers to this."""
        self._scope = None


def by_method(handlers: Mapping[str, Handler]) -> Handler:
    """Return what answers each method of a path, so that one route tells of all of them; HEAD is answered as GET."""

    async def answer(context: RequestContext) -> Outbound | None:
        return await (handlers.get(context.head.method) or handlers["GET"])(context)

    return answer


class Endpoint:
    """A handler of requests, as an ASGI application that takes note of it where a router leads to it."""

    def __init__(self, handle: Handler) -> None:
        self.handle = handle

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Tell the request who answers it, and what the path's placeholders stand for."""
        context = scope["state"]["context"]
        assert isinstance(context, RequestContext)
        context.handler, context.path_params = self.handle, scope.get("path_params", {})

"""Transport: HTTP/1.1, which says of every failure whether anything of the request was sent.

A failed POST is either harmless or money of unknown outcome, so the classes of the errors raised here are a promise:
`httpx.ConnectError`, `httpx.ConnectTimeout` and `httpx.UnsupportedProtocol` are raised if and only if no byte of the
request was handed to the socket; every other `httpx.TransportError` means that some may have left.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable
from functools import partial

import httpx

from gateway.http1.connecting import KEEPALIVE, Pool
from gateway.http1.connection import Connection
from gateway.http1.message import Incoming, Origin, Outgoing, outgoing
from gateway.http1.resolving import RememberingResolver, Resolver, configured_hosts
from gateway.http1.upload import Upload

_NEW_CONNECTIONS = 5
"""How many connections are made for one request while the server hangs up on them before anything is sent."""

AT_ONCE = 64 * 1024
"""Bytes; a body of this length or less is handed to the socket whole, before the answer is waited for."""


class Transport(httpx.AsyncBaseTransport):
    """A pool of connections. Bodies stream both ways as they come; no cookies, redirects, proxies or decompression.

    As httpx's transport it takes timeouts from `request.extensions["timeout"]` as httpx names them: `Timeouts`.
    A POST is written once at most. `resolver` finds what is connected to: by default it is that of configured hosts.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        keepalive: float = KEEPALIVE,
        resolver: Resolver | None = None,
    ) -> None:
        self._pool = Pool(ssl_context, keepalive, resolver or RememberingResolver(configured_hosts()))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return once the status line and headers are in; raise a `httpx.TransportError` as the module describes."""
        answer = await self.send(outgoing(request))
        return httpx.Response(answer.status_code, headers=answer.fields, stream=answer, request=request)

    async def send(self, request: Outgoing) -> Incoming:
        """Return once the status line and headers are in; raise a `httpx.TransportError` as the module describes."""
        made = 0
        while True:
            connection = self._pool.idle(request.origin)
            if connection is None:
                if made == _NEW_CONNECTIONS:
                    raise httpx.ConnectError("the server hung up before the request was sent")
                made += 1
                connection = await self._connect(request)
            answer: Incoming | None = None
            try:
                if not connection.quiet() and await connection.stale():
                    continue
                body, seconds = request.body, request.timeouts.read
                if body is None or isinstance(body, bytes):
                    await connection.ask(request.method, request.head + body if body else request.head, seconds)
                    if connection.in_head:
                        await connection.rest_of_head()
                    end = partial(self._pool.give_back, request.origin, connection)
                    answer = Incoming(connection, seconds, end)
                else:
                    answer = await self._streamed(connection, request, body)
            finally:
                if answer is None:
                    self._pool.drop(connection)
            if answer is not None:
                return answer

    async def _connect(self, request: Outgoing) -> Connection:
        try:
            return await self._pool.connect(request.origin, request.timeouts.connect)
        except TimeoutError as error:
            raise httpx.ConnectTimeout("the connection was not made in time") from error
        except Exception as error:
            raise httpx.ConnectError(f"{type(error).__name__}: {error}") from error

    async def _streamed(self, connection: Connection, request: Outgoing, body: AsyncIterable[bytes]) -> Incoming | None:
        """Write at most once; None if the connection turned out to be no good before a byte was written."""
        upload = Upload(connection, request.head, body, request.length, request.timeouts.write)
        answer: Incoming | None = None
        try:
            connection.begin(request.method)
            if request.length is not None and request.length <= AT_ONCE:
                await upload.run(wait=False)
            else:
                upload.start()
            await connection.head(upload.written, request.timeouts.read)
            end = partial(self._end, connection, upload, request.origin)
            answer = Incoming(connection, request.timeouts.read, end)
        except httpx.TransportError as error:
            if upload.error is not None or upload.sent:
                raise upload.error or error from None
        finally:
            if answer is None:
                upload.finish()
        return answer

    def _end(self, connection: Connection, upload: Upload, origin: Origin) -> None:
        if upload.finish():
            self._pool.give_back(origin, connection)
        else:
            self._pool.drop(connection)

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        await self._pool.aclose()

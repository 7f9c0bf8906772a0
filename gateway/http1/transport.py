"""Transport: HTTP/1.1, which says of every failure whether anything of the request was sent.

A failed POST is either harmless or money of unknown outcome, so the classes of the errors raised here are a promise:
`httpx.ConnectError`, `httpx.ConnectTimeout` and `httpx.UnsupportedProtocol` are raised if and only if no byte of the
request was handed to the socket; every other `httpx.TransportError` means that some may have left.
"""

from __future__ import annotations

import ssl
from functools import partial

import httpx

from gateway.http1.connecting import KEEPALIVE, Pool
from gateway.http1.connection import Connection
from gateway.http1.message import Incoming, Origin, Outgoing, outgoing
from gateway.http1.resolving import RememberingResolver, Resolver, configured_hosts
from gateway.http1.upload import Upload

_STALE_CONNECTIONS = 5
"""How many connections that the server had hung up on are dropped before giving up; each time nothing was sent."""

_AT_ONCE = 64 * 1024
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
        for _ in range(_STALE_CONNECTIONS):
            try:
                connection = await self._pool.take(request.origin, request.timeouts.connect)
            except TimeoutError as error:
                raise httpx.ConnectTimeout("the connection was not made in time") from error
            except Exception as error:
                raise httpx.ConnectError(f"{type(error).__name__}: {error}") from error
            answer = await self._exchange(connection, request)
            if answer is not None:
                return answer
        raise httpx.ConnectError("the server hung up before the request was sent")

    async def _exchange(self, connection: Connection, request: Outgoing) -> Incoming | None:
        """Write at most once; None if the connection turned out to be no good before a byte was written."""
        upload = Upload(connection, request.head, request.body, request.length, request.timeouts.write)
        answer: Incoming | None = None
        try:
            connection.begin(request.method)
            if request.body is None or (request.length is not None and request.length <= _AT_ONCE):
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
                self._pool.drop(connection)
        return answer

    def _end(self, connection: Connection, upload: Upload, origin: Origin) -> None:
        if upload.finish():
            self._pool.give_back(origin, connection)
        else:
            self._pool.drop(connection)

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        await self._pool.aclose()

"""Fetcher: one call to a URL that somebody else chose, over connections that lead only where they may."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urljoin

import httpx

from gateway import __version__
from gateway.domain.web_address import WebAddress
from gateway.egress.guard import UNREACHED, Guard
from gateway.egress.resolver import JudgingResolver
from gateway.http1.message import Incoming, Origin, Outgoing, Timeouts, written_head
from gateway.http1.resolving import Resolver, SystemResolver
from gateway.http1.transport import Transport
from gateway.ports.egress import Posted, Unfetchable

CONNECT_SECONDS = 10.0
"""For looking the host up, connecting and TLS."""
STALL_SECONDS = 15.0
"""For which an answer may say nothing, and within which its headers are in."""
REDIRECTS = 3
_MOVED = frozenset({301, 302, 303, 307, 308})
_LENGTH_DIGITS = 18
_ALWAYS_SENT = {"accept-encoding": "identity", "user-agent": f"image-gateway/{__version__}"}


class SafeFetcher:
    """Implements `ports.Fetcher`. `resolver` looks names up (the system's by default), `tls` is for https.

    Connections to trusted origins are kept apart: none of theirs is ever used for a URL that is not trusted.
    """

    def __init__(self, guard: Guard, *, resolver: Resolver | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._resolver = resolver or SystemResolver("lookup", socket.AI_ADDRCONFIG)
        self._transports = {
            trusted: Transport(ssl_context=tls, resolver=JudgingResolver(self._resolver, guard, trusted=trusted))
            for trusted in (False, True)
        }

    async def get(
        self,
        url: str,
        *,
        seconds: float,
        limit: int,
        trusted: Collection[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> FetchedAnswer:
        """Fetch a URL; raises Unfetchable before a status line is in."""
        budget = _Budget(asyncio.get_running_loop().time() + seconds, limit)
        sent = dict(headers or {})
        address, is_trusted = self._guard.admit(url, trusted)
        for _ in range(REDIRECTS + 1):
            answer = await self._request("GET", address, budget, headers=sent, trusted=is_trusted)
            location = _headers(answer).get("location")
            if answer.status_code not in _MOVED or location is None:
                return await _checked(answer, budget)
            await answer.aclose()
            following, is_trusted = self._guard.admit(_next(address, location), trusted)
            if address.scheme == "https" and following.scheme != "https":
                raise Unfetchable("redirect", "it leads from https to http")
            if following.origin != address.origin:
                sent = {}
            address = following
        raise Unfetchable("redirect", f"it leads on more than {REDIRECTS} times")

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, trusted: Collection[str] = ()
    ) -> Posted:
        """Post to a URL, follow nothing, and return what was answered; raises Unfetchable if nothing was."""
        budget = _Budget(asyncio.get_running_loop().time() + seconds, 0)
        address, is_trusted = self._guard.admit(url, trusted)
        answer = await self._request("POST", address, budget, headers=headers, trusted=is_trusted, body=body)
        await answer.aclose()  # whatever it goes on to say is nobody's to read
        return Posted(answer.status_code, _headers(answer))

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        for transport in self._transports.values():
            await transport.aclose()
        self._resolver.close()

    async def _request(
        self,
        method: str,
        address: WebAddress,
        budget: _Budget,
        *,
        headers: Mapping[str, str],
        trusted: bool,
        body: bytes | None = None,
    ) -> Incoming:
        try:
            request = _written(method, address, headers, body)
            async with asyncio.timeout_at(budget.deadline):
                return await self._transports[trusted].send(request)
        except (httpx.TransportError, TimeoutError, UnicodeError) as error:
            raise _failure(error) from error


@dataclass(frozen=True, slots=True)
class _Budget:
    """What one call may take: until when (the loop's seconds), and bytes of the body."""

    deadline: float
    limit: int


@dataclass(slots=True)
class FetchedAnswer:
    """Implements `ports.Fetched`."""

    _answer: Incoming
    _budget: _Budget
    headers: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = _headers(self._answer)

    @property
    def status(self) -> int:
        """The status code."""
        return self._answer.status_code

    @property
    def content_length(self) -> int | None:
        """Length of the body in bytes, if it was named."""
        named = self.headers.get("content-length", "")
        return int(named) if named.isascii() and named.isdigit() and len(named) <= _LENGTH_DIGITS else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body; raises Unfetchable if it breaks off, stalls, or goes on beyond the limit."""
        received = 0
        while True:
            try:
                async with asyncio.timeout_at(self._budget.deadline):
                    chunk = await self._answer.read()
            except (httpx.TransportError, TimeoutError) as error:
                await self._answer.aclose()
                raise _failure(error) from error
            if not chunk:
                return
            received += len(chunk)
            if received > self._budget.limit:
                await self._answer.aclose()
                raise _too_large(self._budget)
            yield chunk

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end and the connection is back in the pool."""
        await self._answer.aclose()


@dataclass(frozen=True, slots=True)
class _Bytes:
    """A body that is all here, as often as it is asked for."""

    content: bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content


async def _checked(answer: Incoming, budget: _Budget) -> FetchedAnswer:
    fetched = FetchedAnswer(answer, budget)
    if (fetched.content_length or 0) > budget.limit:
        await answer.aclose()
        raise _too_large(budget)
    if any(name == "content-encoding" and value.strip().lower() not in {"", "identity"} for name, value in answer.said):
        await answer.aclose()
        raise Unfetchable("encoding", "its answer is compressed, which was not asked for")
    return fetched


def _headers(answer: Incoming) -> dict[str, str]:
    return dict(answer.said)


def _too_large(budget: _Budget) -> Unfetchable:
    return Unfetchable("too_large", f"its answer is larger than {budget.limit} bytes")


def _next(address: WebAddress, location: str) -> str:
    """Return where an answer leads on to; what is wrong with it shows when it is read."""
    with suppress(UnicodeError):  # a header's bytes are UTF-8, or else nobody knows what
        location = location.encode("latin-1").decode("utf-8")
    try:
        return urljoin(str(address), location)
    except ValueError:
        return location


def _written(method: str, address: WebAddress, headers: Mapping[str, str], body: bytes | None) -> Outgoing:
    """Return a request for the very parts that were judged."""
    fields = {"host": address.authority} | _ALWAYS_SENT | dict(headers)
    if body is not None:
        fields["content-length"] = str(len(body))
    target = address.path + (f"?{address.query}" if address.query else "")
    pairs = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields.items()]
    return Outgoing(
        Origin(address.scheme == "https", address.host, address.port),
        method,
        written_head(method, target.encode("ascii"), pairs) + b"\r\n",
        None if body is None else _Bytes(body),
        None if body is None else len(body),
        Timeouts(CONNECT_SECONDS, STALL_SECONDS, STALL_SECONDS),
    )


def _failure(error: httpx.TransportError | TimeoutError | UnicodeError) -> Unfetchable:
    """Put a failure into a bounded word and a message that says nothing of addresses."""
    cause = error.__cause__
    match error:
        case httpx.ConnectError() if isinstance(cause, Unfetchable):
            word, text = cause.reason, cause.message
        case httpx.ConnectError() if isinstance(cause, ssl.SSLError):
            word, text = "tls", "its certificate is not good"
        case httpx.ConnectError() | httpx.ConnectTimeout():
            word, text = "connect", UNREACHED
        case httpx.UnsupportedProtocol() | UnicodeError():
            word, text = "url", "it, or a header for it, cannot be written"
        case httpx.TimeoutException() | TimeoutError():
            word, text = "timeout", "its host took too long to answer"
        case httpx.ProtocolError():
            word, text = "broken", "its answer is no HTTP"
        case _:
            word, text = "broken", "the connection broke off"
    return Unfetchable(word, text)

"""Fetcher: one call to a URL that somebody else chose, over connections that lead only where they may."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway import __version__
from gateway.domain.web_address import WebAddress
from gateway.egress.guard import UNREACHED, Guard
from gateway.egress.resolver import JudgingResolver, SystemResolver
from gateway.ports.egress import Posted, Unfetchable

CONNECT_SECONDS = 10.0
"""For looking the host up, connecting and TLS."""
STALL_SECONDS = 15.0
"""For which an answer may say nothing."""
REDIRECTS = 3
KEEPALIVE = 4.0
_READ_BUFFER = 256 * 1024
_MAX_HEADER_FIELD, _MAX_HEADER_FIELDS = 16 * 1024, 100
_MOVED = frozenset({301, 302, 303, 307, 308})
_USER_AGENT = f"image-gateway/{__version__}"
_ADDED_BY_AIOHTTP = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class SafeFetcher:
    """Implements `ports.Fetcher`. `resolver` looks names up (the system's by default), `tls` is for https.

    Connections to trusted origins are kept apart: none of theirs is ever used for a URL that is not trusted.
    """

    def __init__(
        self, guard: Guard, *, resolver: AbstractResolver | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._guard = guard
        self._resolver = resolver
        self._tls = tls
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

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
            if answer.status not in _MOVED or "location" not in answer.headers:
                return _checked(answer, budget)
            answer.close()
            following, is_trusted = self._guard.admit(_next(address, answer.headers["location"]), trusted)
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
        answer.close()  # whatever it goes on to say is nobody's to read
        return Posted(answer.status, _lowered(answer))

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        for session in self._sessions.values():
            await session.close()
        if self._resolver is not None:
            await self._resolver.close()

    async def _request(
        self,
        method: str,
        address: WebAddress,
        budget: _Budget,
        *,
        headers: Mapping[str, str],
        trusted: bool,
        body: bytes | None = None,
    ) -> aiohttp.ClientResponse:
        progress = SimpleNamespace(sent=False)
        try:
            async with asyncio.timeout_at(budget.deadline):
                return await self._session(trusted).request(
                    method,
                    _as_yarl(address),
                    headers={"accept-encoding": "identity", "user-agent": _USER_AGENT} | dict(headers),
                    data=body,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=STALL_SECONDS),
                    trace_request_ctx=progress,
                )
        except Unfetchable as refused:
            raise Unfetchable(refused.reason, refused.message) from refused.__cause__
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failure(error, sent=progress.sent) from error

    def _session(self, trusted: bool) -> aiohttp.ClientSession:
        if self._resolver is None:
            self._resolver = SystemResolver()
        if trusted not in self._sessions:  # made on first use, since it belongs to the running event loop
            self._sessions[trusted] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    keepalive_timeout=KEEPALIVE,
                    resolver=JudgingResolver(self._resolver, self._guard, trusted=trusted),
                    use_dns_cache=False,
                    ssl=True if self._tls is None else self._tls,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_ADDED_BY_AIOHTTP,
                auto_decompress=False,
                trust_env=False,
                read_bufsize=_READ_BUFFER,
                max_line_size=_MAX_HEADER_FIELD,
                max_field_size=_MAX_HEADER_FIELD,
                max_headers=_MAX_HEADER_FIELDS,
                trace_configs=[_tracing()],
            )
        return self._sessions[trusted]


@dataclass(frozen=True, slots=True)
class _Budget:
    """What one call may take: until when (the loop's seconds), and bytes of the body."""

    deadline: float
    limit: int


@dataclass(slots=True)
class FetchedAnswer:
    """Implements `ports.Fetched`."""

    _answer: aiohttp.ClientResponse
    _budget: _Budget
    headers: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = _lowered(self._answer)

    @property
    def status(self) -> int:
        """The status code."""
        return self._answer.status

    @property
    def content_length(self) -> int | None:
        """Length of the body in bytes, if it was named."""
        return self._answer.content_length

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body; raises Unfetchable if it breaks off, stalls, or goes on beyond the limit."""
        received = 0
        while True:
            try:
                async with asyncio.timeout_at(self._budget.deadline):
                    chunk = await self._answer.content.readany()
            except (aiohttp.ClientError, OSError) as error:
                self._answer.close()
                raise _failure(error, sent=True) from error
            if not chunk:
                return
            received += len(chunk)
            if received > self._budget.limit:
                self._answer.close()
                raise _too_large(self._budget)
            yield chunk

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end and the connection is back in the pool."""
        self._answer.close()


def _checked(answer: aiohttp.ClientResponse, budget: _Budget) -> FetchedAnswer:
    fetched = FetchedAnswer(answer, budget)
    if (fetched.content_length or 0) > budget.limit:
        answer.close()
        raise _too_large(budget)
    if answer.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        answer.close()
        raise Unfetchable("encoding", "its answer is compressed, which was not asked for", sent=True)
    return fetched


def _lowered(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _too_large(budget: _Budget) -> Unfetchable:
    return Unfetchable("too_large", f"its answer is larger than {budget.limit} bytes", sent=True)


def _next(address: WebAddress, location: str) -> str:
    """Return where an answer leads on to; what is wrong with it shows when it is read."""
    try:
        return urljoin(str(address), location)
    except ValueError:
        return location


def _as_yarl(address: WebAddress) -> URL:
    """Return the same parts as yarl has them, nothing read anew."""
    return URL.build(
        scheme=address.scheme,
        host=address.host,
        port=address.port,
        path=address.path,
        query_string=address.query,
        encoded=True,
    )


def _tracing() -> aiohttp.TraceConfig:
    """Return what notes, in a request's context, that it has a connection and its bytes may leave."""

    async def connected(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.sent = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(connected)
    tracing.on_connection_reuseconn.append(connected)
    return tracing


def _failure(error: Exception, *, sent: bool) -> Unfetchable:
    """Put a failure into a bounded word and a message that says nothing of addresses."""
    kinds: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
        (aiohttp.ClientConnectorDNSError, "dns", UNREACHED),
        (
            (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError),
            "tls",
            "its certificate is not good",
        ),
        (aiohttp.ClientConnectorError, "connect", UNREACHED),
        (aiohttp.ConnectionTimeoutError, "connect", UNREACHED),
        (TimeoutError, "timeout", "its host took too long to answer"),
        (aiohttp.ClientPayloadError, "broken", "its answer broke off"),
        (aiohttp.ClientResponseError, "broken", "its answer is no HTTP"),
    )
    found = next(((word, text) for kind, word, text in kinds if isinstance(error, kind)), None)
    word, text = found or ("broken", "the connection broke off")
    return Unfetchable(word, text, sent=sent)

"""Endpoint: one account's base URL, its credentials, and POSTs to it that are never repeated and never redirected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

import httpx

from gateway import __version__
from gateway.domain.profile import Auth
from gateway.domain.route import ProviderConfig
from gateway.http1.message import Incoming, Origin, Outgoing, Timeouts, head_of, outgoing
from gateway.http1.message import origin_of as origin_of_url
from gateway.http1.transport import AT_ONCE, Transport
from gateway.ports import Rendered
from gateway.ports.tracing import TRACE_HEADERS
from gateway.providers.answer import passed_headers, read_limited
from gateway.providers.masking import Mask
from gateway.providers.outcome import of_transport
from gateway.providers.text_decoding import decoded_text

MAX_ERROR_BODY: Final = 64 * 1024
_ERROR_BODY_SECONDS: Final = 10.0


class Target(NamedTuple):
    """Where POSTs go, and what their heads begin with."""

    origin: Origin
    head: bytes


class Endpoint:
    """Calls one account, with no header of the client's.

    Raises ValueError if the base URL is no http(s) URL or the key cannot stand in a header.
    """

    def __init__(self, config: ProviderConfig, auth: Auth | None = None) -> None:
        base = httpx.URL(config.base_url)
        if base.scheme not in ("http", "https") or not base.raw_host:
            raise ValueError(f"provider {config.name}: base_url must begin with https:// or http://")
        self.secret = None if config.api_key is None else config.api_key.reveal()
        if self.secret is not None and not (self.secret.isascii() and self.secret.isprintable()):
            raise ValueError(f"provider {config.name}: api_key has characters that cannot stand in a header")
        self.mask = Mask(self.secret)
        self._base = base
        self._variables = config.variables
        self.traced = config.trace_context
        """Whether its requests name the span that they are sent in."""
        self._headers = [("Accept-Encoding", "identity"), ("User-Agent", f"image-gateway/{__version__}")]
        if self.secret is not None:
            auth = auth or Auth()
            self._headers.append((auth.header, f"{auth.prefix}{self.secret}"))
        wait = config.timeout
        self._timeouts = Timeouts(config.connect_timeout, wait, wait)
        self._extensions = {"timeout": self._timeouts._asdict()}
        self._error_seconds = min(wait, _ERROR_BODY_SECONDS)
        self.transport = Transport()

    @property
    def origin(self) -> str:
        """Scheme, host and port, as `https://host:port`."""
        return origin_of(self._base)

    def url(self, path: str, query: Mapping[str, str] | None = None, *, model: str = "") -> httpx.URL:
        """Return a URL below the base: names in braces filled into the path and the query.

        They are policy's variables, `{model}`, and `{deployment}`, which is the model unless policy says otherwise.
        """
        names = {"deployment": model, **self._variables, "model": model}
        written, _, own_query = path.partition("?")
        for name, value in names.items():
            written = written.replace(f"{{{name}}}", quote(value, safe="/:@._-~"))
        base, _, base_query = self._base.raw_path.decode("ascii").partition("?")
        pairs = [pair for text in (base_query, own_query) for pair in parse_qsl(text, keep_blank_values=True)]
        pairs += [(name, _filled(value, names)) for name, value in (query or {}).items()]
        raw = base.rstrip("/") + written + (f"?{urlencode(pairs)}" if pairs else "")
        return self._base.copy_with(raw_path=raw.encode("ascii"))

    def resolve(self, link: str) -> httpx.URL | None:
        """Return the absolute form of a link that this provider told; None if it is no http(s) URL that can be read."""
        try:
            url = self._base.join(link)
            return url if url.scheme in ("http", "https") and url.host else None
        except (httpx.InvalidURL, ValueError):  # a host is decoded when it is asked for
            return None

    def target(self, url: httpx.URL) -> Target:
        """Return what every POST to a URL begins with, for those who make many."""
        fields = [(name.encode("ascii"), value.encode("ascii")) for name, value in self._headers]
        return Target(origin_of_url(url), head_of("POST", url, fields))

    async def post(self, url: httpx.URL | Target, body: Rendered, request_id: str, *, accept: str) -> Incoming:
        """Send a body; return once a status line is in, whatever it says, or raise UpstreamFailure."""
        to = url if isinstance(url, Target) else self.target(url)
        try:
            return await self.transport.send(self.posting(to, body, request_id, accept=accept))
        except httpx.TransportError as error:
            raise of_transport(error) from error

    def posting(self, to: Target, body: Rendered, request_id: str, *, accept: str) -> Outgoing:
        """Return the request that `post` makes."""
        values = f"{accept}{body.content_type}{request_id}"
        rest = (
            f"Accept: {accept}\r\nContent-Type: {body.content_type}\r\nContent-Length: {body.length}\r\n"
            f"X-Client-Request-Id: {request_id}\r\n"
        )
        if self.traced:
            for name, value in TRACE_HEADERS.get():
                rest += f"{name}: {value}\r\n"
                values += f"{name}{value}"
        if not values.isprintable():
            raise ValueError("a header has a line break in it")
        head = b"%s%s\r\n" % (to.head, rest.encode("ascii"))
        short = body.whole if body.length <= AT_ONCE else None
        content = BodyStream(body) if short is None else short
        return Outgoing(to.origin, "POST", head, content, body.length, self._timeouts)

    async def get(self, url: httpx.URL) -> Incoming:
        """Ask for something on the provider's own origin, credentials included; as `post` otherwise."""
        return await self._ask(httpx.Request("GET", url, headers=self._headers, extensions=self._extensions))

    async def ask(self, method: str, url: httpx.URL) -> Incoming:
        """Make a request without a body, credentials included; as `post` otherwise."""
        return await self._ask(httpx.Request(method, url, headers=self._headers, extensions=self._extensions))

    def raw_url(self, path: str, query: str) -> httpx.URL:
        """Return a URL below the base; path and query are sent as they are written."""
        base, _, base_query = self._base.raw_path.decode("ascii").partition("?")
        whole = "&".join(part for part in (base_query, query) if part)
        return self._base.copy_with(raw_path=f"{base.rstrip('/')}{path}{f'?{whole}' if whole else ''}".encode("ascii"))

    async def pass_on(
        self, method: str, url: httpx.URL, headers: list[tuple[str, str]], body: httpx.AsyncByteStream | None
    ) -> Incoming:
        """Make a request with these headers and the account's own; as `post` otherwise."""
        every = [(name.encode("ascii"), value.encode("latin-1")) for name, value in (*self._headers, *headers)]
        if body is None:
            return await self._ask(httpx.Request(method, url, headers=every, extensions=self._extensions))
        return await self._ask(httpx.Request(method, url, headers=every, stream=body, extensions=self._extensions))

    async def _ask(self, request: httpx.Request) -> Incoming:
        try:
            return await self.transport.send(outgoing(request))
        except httpx.TransportError as error:
            raise of_transport(error) from error

    async def error_body(self, response: Incoming) -> bytes:
        """Return the body of an answer that is no success, cut at a limit, in UTF-8 even where it came otherwise."""
        body = await read_limited(response, limit=MAX_ERROR_BODY, seconds=self._error_seconds)
        return decoded_text(body, response.named.get("content-encoding", ""), limit=MAX_ERROR_BODY)

    async def aclose(self) -> None:
        """Close connections."""
        await self.transport.aclose()


def origin_of(url: httpx.URL) -> str:
    """Return scheme, host and port of a URL, the port always written."""
    port = url.port or {"https": 443, "http": 80}.get(url.scheme, 0)
    return f"{url.scheme}://{url.raw_host.decode('ascii')}:{port}"


def shown_headers(response: Incoming) -> list[tuple[str, str]]:
    """Return the headers of an error that a client may see."""
    return [(name, value) for name, value in passed_headers(response) if name != "content-length"]


def _filled(text: str, names: Mapping[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text


class BodyStream(httpx.AsyncByteStream):
    """A rendered body as httpx wants it; it may be read again if a connection was dead before a byte was sent."""

    def __init__(self, body: Rendered) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body.chunks()

"""Task wire: requests to a provider that takes work on, with its credentials, to its own hosts and to no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, getcontext
from typing import Final
from urllib.parse import quote

import httpx

from gateway.domain.json_path import first
from gateway.domain.route import ProviderConfig
from gateway.domain.settlement import Outcome
from gateway.domain.task_profile import TaskProfile, UrlPurpose
from gateway.http1.message import Incoming
from gateway.ports import Headers, Rendered
from gateway.ports.provider import Call, Submitted, UpstreamFailure
from gateway.providers.answer import read_limited
from gateway.providers.endpoint import Endpoint, origin_of, shown_headers
from gateway.providers.profiled_body import path_of
from gateway.providers.text_decoding import decoded_text

MAX_DOCUMENT: Final = 8 * 1024 * 1024
"""Bytes of a document about work, beside what it repeats of its request; a longer one is cut, and is no JSON then."""
LOOK_SECONDS: Final = 15.0
"""The longest that one look at work may take, connecting included."""

_PORTS = {"http": 80, "https": 443}
getcontext()  # made here for all: whoever has none of its own when it meets a decimal would make one and keep it


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is whole. Header names are lower case; `document` is its JSON with exact numbers, None if none.

    `shown` are the headers that a client may see, should it be an error. `sent` is how many bytes the request had that
    it answers. `cut` tells that it is not whole after all: it is too long.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    document: object
    shown: Headers
    sent: int = 0
    cut: bool = False

    @property
    def success(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 - what HTTP calls success


class TaskWire:
    """One account. Raises ValueError as `Endpoint` does.

    All methods that call raise UpstreamFailure if no status line came.
    """

    def __init__(self, config: ProviderConfig, profile: TaskProfile) -> None:
        self._endpoint = Endpoint(config, profile.auth)
        self._profile = profile
        self._origin = httpx.URL(self._endpoint.origin)
        self._seconds = config.timeout

    @property
    def secret(self) -> str | None:
        """The account's secret, so that it can be left out of what is shown."""
        return self._endpoint.secret

    @property
    def origins(self) -> frozenset[str]:
        """All origins that policy names in full: the provider's own, and sister hosts with a port."""
        sisters = {f"{self._origin.scheme}://{host}" for host in self._profile.sister_hosts if ":" in host}
        return frozenset({self._endpoint.origin, *sisters})

    async def submit(self, call: Call, body: Rendered, query: Mapping[str, str]) -> Reply:
        """Post work."""
        profile = self._profile
        url = self._endpoint.url(path_of(profile, call), profile.query, model=call.route.upstream_model)
        if query:
            url = url.copy_merge_params(dict(query))
        response = await self._endpoint.post(url, body, call.request_id, accept="application/json")
        return await _whole(response, self._seconds, body.length)

    async def get(self, url: httpx.URL, sent: int = 0) -> Reply:
        """Read what lies at a URL that `url_of` or `below` returned; `sent` is how long the request was for it."""
        return await self._ask("GET", url, sent)

    async def cancel(self, url: httpx.URL) -> Reply:
        """Ask at such a URL for work to be given up."""
        return await self._ask(self._profile.cancel_method, url)

    async def _ask(self, method: str, url: httpx.URL, sent: int = 0) -> Reply:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await _whole(await self._endpoint.ask(method, url), LOOK_SECONDS, sent)
        except TimeoutError as error:
            raise UpstreamFailure(Outcome.UNKNOWN, "timeout", "the provider did not answer in time") from error

    def below(self, path: str) -> httpx.URL:
        """Return the URL of a path below the base URL."""
        return self._endpoint.url(path, self._profile.query)

    def url_of(self, purpose: UrlPurpose, submitted: Submitted, model: str) -> httpx.URL | None:
        """Return the URL for a purpose, the one that was told for preference; None if there is none to be trusted."""
        told = submitted.urls.get(purpose)
        if told is not None and (url := self.judged(told)) is not None:
            return url
        template = self._profile.urls.get(purpose)
        if template is None:
            return None
        filled = template.replace("{id}", quote(submitted.id, safe=""))
        return self._endpoint.url(filled, self._profile.query, model=model)

    def told_urls(self, document: object) -> dict[str, str]:
        """Return the URLs, by purpose, that an answer tells and that may be followed."""
        found = {purpose.value: first(document, path) for purpose, path in self._profile.told.items()}
        return {name: url for name, url in found.items() if isinstance(url, str) and self.judged(url) is not None}

    def judged(self, text: str) -> httpx.URL | None:
        """Return a URL if the account's secret may be sent there: the provider's own origin, or a sister host."""
        if not (text.isascii() and text.isprintable() and " " not in text and "\\" not in text):
            return None
        url = self._endpoint.resolve(text)
        if url is None or url.userinfo or url.scheme != self._origin.scheme:
            return None
        own = origin_of(url) == self._endpoint.origin
        return url if own or any(_is_sister(url, host) for host in self._profile.sister_hosts) else None

    async def aclose(self) -> None:
        """Close connections."""
        await self._endpoint.aclose()


async def _whole(response: Incoming, seconds: float, sent: int) -> Reply:
    limit = MAX_DOCUMENT + sent * 4 // 3  # it may repeat its input, and escape what was not
    try:
        content = await read_limited(response, limit=limit, seconds=seconds)
    finally:
        await response.aclose()
    headers = dict(reversed(response.headers.multi_items()))  # one that is there twice counts as first given
    if encoding := headers.get("content-encoding"):
        content = decoded_text(content, encoding, limit=limit)
    document, cut = parsed(content), len(content) >= limit
    return Reply(response.status_code, headers, content, document, shown_headers(response), sent, cut)


def _is_sister(url: httpx.URL, sister: str) -> bool:
    host, _, port = sister.lower().partition(":")
    if (url.port or _PORTS[url.scheme]) != (int(port) if port else _PORTS[url.scheme]):
        return False
    return url.host.endswith(host[1:]) if host.startswith("*.") else url.host == host


def parsed(content: bytes) -> object:
    """Return what JSON says, its fractions as exact decimals; None if it is none."""
    try:
        return json.loads(content, parse_float=Decimal, parse_constant=_refused)
    except (ValueError, RecursionError, ArithmeticError):  # the last by an exponent that no decimal has
        return None


def _refused(word: str) -> object:
    raise ValueError(f"{word} is no number")

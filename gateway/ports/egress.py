"""URLs that others chose, called safely: what is needed of the world beyond configured endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol


class Unfetchable(Exception):
    """A URL that was not fetched. `reason` is a bounded word for metrics, the message a clause that a caller may see.

    Words: url, scheme, credentials, host, port, address, own (refused); dns, connect, tls, timeout, broken (failed);
    redirect, too_large, encoding (the answer).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Fetched(Protocol):
    """An answer whose body is still on its way."""

    @property
    def status(self) -> int:
        """The status code; redirects were followed as far as they may be."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, names in lower case."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body; raises Unfetchable if it breaks off, stalls, or goes on beyond the limit."""

    async def aclose(self) -> None:
        """Give the connection back, or close it."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What a receiver answered: its status code and headers, names in lower case. Its body is not read."""

    status: int
    headers: Mapping[str, str]


class Fetcher(Protocol):
    """Calls URLs that a client or a provider chose, never one that leads inside.

    Only http and https, without credentials; every address that a name stands for is judged and the judged one is
    connected to; redirects are judged like the first URL. `trusted` are origins (`https://host:port`) that the operator
    configured and that may therefore lead anywhere. `seconds` bounds all of it, `limit` is bytes of the body.
    """

    async def get(
        self,
        url: str,
        *,
        seconds: float,
        limit: int,
        trusted: Collection[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Fetched:
        """Fetch a URL; raises Unfetchable before a status line is in."""

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, trusted: Collection[str] = ()
    ) -> Posted:
        """Post to a URL, follow nothing, and return what was answered; raises Unfetchable if nothing was."""

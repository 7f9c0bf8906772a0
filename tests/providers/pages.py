"""What is fetched by URL, in memory: the real fetcher refuses the loopback addresses of tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from http import HTTPStatus

from gateway.ports.egress import Fetched, Posted, Unfetchable


class Pages:
    """Implements `Fetcher`: `pages` are what each URL answers, with status 200 or another; all others lead inside."""

    def __init__(self, pages: Mapping[str, bytes | tuple[int, bytes]]) -> None:
        self._pages = pages
        self.asked: list[tuple[str, Mapping[str, str] | None]] = []

    async def get(
        self,
        url: str,
        *,
        seconds: float,
        limit: int,
        trusted: Collection[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Fetched:
        """Fetch one of them."""
        assert seconds > 0
        assert not trusted
        self.asked.append((url, headers))
        if url not in self._pages:
            raise Unfetchable("forbidden", "it leads inside")
        found = self._pages[url]
        status, body = (HTTPStatus.OK, found) if isinstance(found, bytes) else found
        assert limit >= len(body)
        return Page(status, body)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, trusted: Collection[str] = ()
    ) -> Posted:
        """Nothing here is posted to."""
        raise AssertionError((url, body, headers, seconds, trusted))


class Page:
    """Implements `Fetched`."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {"content-length": str(len(body))}
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces that no group of base64 fits."""
        for at in range(0, len(self._body), 100):
            yield self._body[at : at + 100]

    async def aclose(self) -> None:
        """Nothing to close."""

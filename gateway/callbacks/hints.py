"""Hints: unguessable URLs that providers call when work is done, so that somebody looks at it again."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping

PATH = "/v1/hints/"
MOST = 20_000
"""URLs open at once; beyond it work is found done by asking alone."""
_TOKEN_BYTES = 32

Take = Callable[[Mapping[str, str], bytes], bool]
"""Given the headers (names in lower case) and body of a call; tells whether it is one that was expected."""


class HintBoard:
    """Implements `ports.Hints`. `public_url` is the address under which providers reach the gateway, if there is one.

    It is each process's own: a call that arrives at another one is an unknown path there, and the work is found done
    by asking, as it would be without.
    """

    def __init__(self, public_url: str | None) -> None:
        self._base = None if public_url is None else public_url.rstrip("/") + PATH
        self._open: dict[bytes, Take] = {}

    def expect(self, take: Take) -> OpenHint | None:
        """Open a URL; None if there is no public address, or too many are open."""
        if self._base is None or len(self._open) >= MOST:
            return None
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._open[_digest(token)] = take
        return OpenHint(f"{self._base}{token}", lambda: self._close(token))

    def find(self, token: str) -> Take | None:
        """Return who waits for a call with a token. It is looked up by its hash, so timing tells nothing of others."""
        return self._open.get(_digest(token))

    def _close(self, token: str) -> None:
        self._open.pop(_digest(token), None)


class OpenHint:
    """Implements `ports.Expected`."""

    def __init__(self, url: str, close: Callable[[], None]) -> None:
        self._url = url
        self._close = close

    @property
    def url(self) -> str:
        """The URL, token included."""
        return self._url

    def close(self) -> None:
        """Stop listening; harmless when repeated."""
        self._close()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()

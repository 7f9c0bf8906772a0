"""Who may ask the admin plane: whoever has its token, or without one whoever is on this machine, and no web page.

A page of a stranger's, open in a browser on this machine, can reach the loopback address: by a name of its own that it
points there (which the Host header shows), and by forms and scripts (which the Origin header shows). Both are refused.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.domain.errors import Forbidden, InvalidApiKey
from gateway.web.context import RequestContext

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = frozenset({"same-origin", "none"})
"""What `Sec-Fetch-Site` says of the page's own requests, and of those that a person made by hand."""


class AdminGuard:
    """Judges requests by the token, None where there is none."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    @property
    def is_open(self) -> bool:
        """Whether no token is needed."""
        return self._token is None

    def check(self, context: RequestContext) -> None:
        """Raise InvalidApiKey without the right bearer, or Forbidden if a web page asks where no token is needed."""
        scheme, _, given = context.headers.get("authorization", "").partition(" ")
        if self.is_open:
            self.check_page(context)
        elif scheme.lower() != "bearer" or not self.has_token(given.encode("latin-1")):
            raise InvalidApiKey("The admin plane needs its token: Authorization: Bearer ….")

    def has_token(self, given: bytes) -> bool:
        """Tell whether this is the token in UTF-8, space around it aside, in a time that tells nothing."""
        return self._token is not None and hmac.compare_digest(given.strip(), self._token.encode())

    def check_page(self, context: RequestContext) -> None:
        """Raise Forbidden for a name that is not this machine's, where that is all the proof, or for another's page."""
        headers = context.headers
        if self.is_open and not is_local(headers.get("host", "")):
            raise Forbidden(
                "Without a token the admin plane answers to localhost and to loopback addresses alone.",
                code="host_not_allowed",
            )
        if context.scope["method"] not in SAFE and not is_own_page(headers):
            raise Forbidden(
                "Requests that change something must not come from another page.", code="origin_not_allowed"
            )


def is_local(host: str) -> bool:
    """Tell whether a Host header names this machine; a client that sends none is no browser."""
    if not host:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_own_page(headers: Mapping[str, str]) -> bool:
    """Tell whether a request comes from a page of the host that it goes to, or from no page at all."""
    origin = headers.get("origin")
    if origin is not None:
        scheme, _, host = origin.partition("://")
        return scheme in ("http", "https") and host.lower() == headers.get("host", "").lower()
    return headers.get("sec-fetch-site", "none") in _OWN

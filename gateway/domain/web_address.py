"""Web addresses: http and https URLs read once, strictly, so that what is judged is what is called.

Readers of URLs differ in what they make of backslashes, user info, control characters, numbers and Unicode in hosts;
whatever two of them could read differently is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

from gateway.domain.addresses import Address, Egress, is_host_name

LONGEST = 8 * 1024
PORTS = {"http": 80, "https": 443}
_FIRST_FREE_PORT = 1024
_LAST_PORT = 65535

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE | re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\\s\ud800-\udfff]")
_IN_PATH = "!$%&'()*+,-./:;<=>?@[]^_`{|}~\""

_LOCAL_NAMES = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home.arpa", "onion")
"""Names under which nothing public lies (RFC 6761, 6762, 7686, 8375, and ICANN's `internal`)."""

_OTHER_PROTOCOLS = frozenset(
    (1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6379, 6566, 6679, 6697, 10080, 11211)
).union(range(6665, 6670))
"""Ports above 1023 of protocols that an HTTP request may be taken for (WHATWG Fetch, "bad port"; Redis, memcached)."""


class BadUrl(ValueError):
    """A URL that is not called. `reason` is a bounded word: url, scheme, credentials, host, port or address.

    The message is a clause to follow a colon, fit for whoever gave the URL.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class WebAddress:
    """A URL in its parts: host in lower-case ASCII without brackets, `literal` if it is an address; no fragment."""

    scheme: str
    host: str
    port: int
    path: str
    query: str
    literal: Address | None = None

    @property
    def origin(self) -> str:
        """`scheme://host:port`, the port always named."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def authority(self) -> str:
        """Host and port, without a port that the scheme implies."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if PORTS[self.scheme] == self.port else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}" + (f"?{self.query}" if self.query else "")


def read_web_address(url: str) -> WebAddress:
    """Return the parts of an absolute http or https URL; raises BadUrl."""
    if len(url) > LONGEST:
        raise BadUrl("url", f"it is longer than {LONGEST} characters")
    if _FORBIDDEN.search(url):
        raise BadUrl("url", "it has a blank, a control character, half a character or a backslash in it")
    match = _URL.fullmatch(url)
    scheme = (match["scheme"] if match else _scheme_of(url)).lower()
    if scheme not in PORTS:
        raise BadUrl("scheme", "it must begin with https:// or http://")
    if match is None:
        raise BadUrl("url", "it has no host")
    authority, rest = match["authority"], match["rest"]
    if "@" in authority:
        raise BadUrl("credentials", "it must not hold a user or password")
    if rest and not rest.startswith("/"):
        raise BadUrl("url", "its host must be followed by a slash")
    host, port = _host_and_port(authority, PORTS[scheme])
    path, _, query = rest.partition("#")[0].partition("?")
    name, literal = _host(host)
    return WebAddress(scheme, name, port, quote(path or "/", _IN_PATH), quote(query, _IN_PATH), literal)


def _scheme_of(url: str) -> str:
    match = _SCHEME.match(url)
    return match[1] if match else ""


def _host_and_port(authority: str, default: int) -> tuple[str, int]:
    closing = authority.rfind("]")
    host, colon, digits = authority.rpartition(":")
    if not colon or len(host) < closing:
        return authority, default
    if not _PORT.fullmatch(digits) or int(digits) > _LAST_PORT:
        raise BadUrl("port", "its port must be a plain number from 1 to 65535")
    return host, int(digits)


def _host(text: str) -> tuple[str, Address | None]:
    """Return a host in one spelling, and the address that it is, if it is one."""
    wrong = BadUrl("host", "its host is neither a name nor an address in the usual form")
    try:
        if text.startswith("[") and text.endswith("]") and "%" not in text:
            address = IPv6Address(text[1:-1])
            return str(address), address
        name = text if text.isascii() else _to_ascii(text)
        name = name.lower().removesuffix(".")
        if name.replace(".", "").isdigit():
            return name, IPv4Address(name)
    except ValueError:
        raise wrong from None
    if not is_host_name(name):
        raise wrong
    return name, None


def _to_ascii(text: str) -> str:
    """Return an international name as DNS has it; ValueError if another reader might make another name of it."""
    encoded = text.encode("idna").decode("ascii")
    if encoded.encode("ascii").decode("idna") != text.lower() or text.count(".") != encoded.count("."):
        raise ValueError("more than one name could be meant")
    return encoded


def refusal(address: WebAddress, egress: Egress, *, trusted: bool = False) -> BadUrl | None:
    """Say why a URL is not called, from what is written in it alone; `trusted` if the operator configured its origin.

    A host by name is judged again by the addresses that it stands for.
    """
    opened = trusted or egress.opens_host(address.host, address.port)
    if address.literal is not None:
        word = egress.refusal(address.literal, address.host, address.port, trusted=trusted)
        if word is not None:
            return _not_called("address", address)
        opened = opened or egress.opens_address(address.literal)
    if opened:
        return None
    if address.literal is None and not _is_public_name(address.host):
        return _not_called("host", address)
    if (address.port < _FIRST_FREE_PORT and address.port not in PORTS.values()) or address.port in _OTHER_PROTOCOLS:
        return BadUrl("port", f"port {address.port} is not one that a URL from outside may name")
    return None


def _not_called(reason: str, address: WebAddress) -> BadUrl:
    return BadUrl(reason, f"the host {address.host} is not one that a URL from outside may name")


def _is_public_name(host: str) -> bool:
    return "." in host and not any(host == name or host.endswith(f".{name}") for name in _LOCAL_NAMES)


def check_url(url: str, egress: Egress) -> WebAddress:
    """Return the parts of a caller's URL; raises BadUrl if what is written in it keeps it from being called."""
    address = read_web_address(url)
    if (refused := refusal(address, egress)) is not None:
        raise refused
    return address


def is_among(address: WebAddress, trusted: Collection[str]) -> bool:
    """Tell whether a URL's origin is one of these, with or without the port that the scheme implies."""
    return address.origin in trusted or f"{address.scheme}://{address.authority}" in trusted

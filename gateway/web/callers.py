"""Callers: from which address a request comes, as far as it can be known.

What a client writes into a header is its own claim. Hops are believed only as far as proxies that the operator named
have written them: from the right, up to the first address that is none of theirs.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

from starlette.types import Scope

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN = "unknown"
_MOST_HOPS = 32
_SITE = 64
"""Bits of an IPv6 address that one household or machine is given at least: the rest is the caller's own choice."""
_PAIR = r'[!#$%&\'*+.^_`|~0-9A-Za-z-]+=(?:[!#$%&\'*+.^_`|~0-9A-Za-z-]+|"(?:[^"\\]|\\.)*")'
_ELEMENT = re.compile(rf"[ \t]*({_PAIR}(?:[ \t]*;[ \t]*{_PAIR})*)[ \t]*(?:,|\Z)")
"""One hop of a `Forwarded` header (RFC 7239, 4)."""
_FOR = re.compile(r'(?:\A|;)[ \t]*for=(?:"([^"\\]*)"|([^";, \t]*))', re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")


class Callers:
    """Tells addresses; `proxies` are networks whose machines are believed, none by default."""

    def __init__(self, proxies: Iterable[Network] = ()) -> None:
        self._proxies = tuple(proxies)

    def address(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """Return the address that a request is counted under, an IPv6 one as its network; `unknown` where none is."""
        client = scope.get("client")
        peer = _read(str(client[0])) if client else None
        if peer is None:
            return UNKNOWN
        found = peer
        if self._proxies and self._is_proxy(peer):
            told = {
                self._behind(peer, hops) for hops in (_forwarded_for(headers), _forwarded(headers)) if hops is not None
            }
            if len(told) == 1:  # where two headers differ, the client may have written one of them
                (found,) = told
        return _counted(found)

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._proxies)

    def _behind(self, peer: Address, hops: list[str]) -> Address:
        """Return the first address from the right that is no proxy's; the last proxy where that one is unreadable."""
        current = peer
        for hop in reversed(hops[-_MOST_HOPS:]):
            found = _read(hop)
            if found is None:
                return current
            current = found
            if not self._is_proxy(found):
                return found
        return current


def read_networks(text: str) -> tuple[Network, ...]:
    """Return the networks or addresses of a list separated by commas; ValueError names the one that is none."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def _forwarded_for(headers: Mapping[str, str]) -> list[str] | None:
    text = headers.get("x-forwarded-for")
    return None if text is None else [hop.strip() for hop in text.split(",")]


def _forwarded(headers: Mapping[str, str]) -> list[str] | None:
    """Return whom each hop of a `Forwarded` header was for; no hop at all where it is not well-formed."""
    text, hops, at = headers.get("forwarded"), [], 0
    if text is None:
        return None
    while at < len(text):
        element = _ELEMENT.match(text, at)
        if element is None:
            return []
        named = _FOR.search(element[1])
        hops.append((named[1] or named[2] or "") if named else "")
        at = element.end()
    return hops


def _read(text: str) -> Address | None:
    """Read an address, with or without brackets and a port, without a zone; None for anything else."""
    match = _WITH_PORT.fullmatch(text)
    plain = (match[1] or match[2]) if match else text
    try:
        address = ipaddress.ip_address(plain.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _counted(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, _SITE), strict=False))

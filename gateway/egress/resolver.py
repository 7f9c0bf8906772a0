"""Judging resolver: every address of a name is judged before one of them is connected to."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, ip_address

from gateway.egress.guard import UNREACHED, Guard
from gateway.http1.resolving import Addresses, Resolver
from gateway.ports.egress import Unfetchable


class JudgingResolver:
    """Passes on what another resolver finds, if every address of it may be called: one that may not refuses all.

    What it returns is connected to without a second lookup, and nothing of it is remembered: names are strangers'.
    """

    def __init__(self, inner: Resolver, guard: Guard, *, trusted: bool) -> None:
        self._inner = inner
        self._guard = guard
        self._trusted = trusted

    async def resolve(self, host: str, port: int) -> Addresses:
        """Return every address of a host; Unfetchable if one of them leads inside, or if there is none."""
        found = _written(host, port)
        if not found:
            try:
                found = await self._inner.resolve(host, port)
            except (OSError, UnicodeError) as error:
                raise Unfetchable("dns", UNREACHED) from error
        if not found:
            raise Unfetchable("dns", UNREACHED)
        for _, _, _, _, address in found:
            self._guard.judge(address[0], host, port, trusted=self._trusted)
        return found

    def close(self) -> None:
        """Leave the inner resolver to its owner."""


def _written(host: str, port: int) -> Addresses:
    """Return the address that a host is; none if it is a name."""
    try:
        literal = ip_address(host)
    except ValueError:
        return []
    if isinstance(literal, IPv4Address):
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]

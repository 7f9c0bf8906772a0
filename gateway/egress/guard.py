"""Guard: which URLs are called, and which of the addresses that their hosts stand for."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, ip_address

from gateway.domain.addresses import Address, Egress, forbidden
from gateway.domain.web_address import BadUrl, WebAddress, is_among, read_web_address, refusal
from gateway.ports.egress import Unfetchable

UNREACHED = "its host cannot be called"
"""Said of hosts that do not exist and of those that lead inside alike: whoever asks learns nothing of what is there."""


class Guard:
    """Judges a URL before it is called, and each address when it is.

    `egress` returns what policy opens now; `public_url` is the gateway's own.
    """

    def __init__(self, egress: Callable[[], Egress], *, public_url: str | None = None) -> None:
        self._egress = egress
        self._own_origin = None if public_url is None else read_web_address(public_url).origin
        self._own_ports: set[int] = set()

    def keep_from(self, ports: Collection[int]) -> None:
        """Never call these ports on this machine or inside: the gateway listens there itself."""
        self._own_ports.update(ports)

    def refusal(self, url: str) -> str | None:
        """Return why a URL will not be called, in words for a caller; None if nothing is known against it."""
        try:
            self.admit(url)
        except Unfetchable as refused:
            return refused.message
        return None

    def admit(self, url: str, trusted: Collection[str] = ()) -> tuple[WebAddress, bool]:
        """Return a URL in its parts, and whether its origin is trusted; Unfetchable if it is not called."""
        try:
            address = read_web_address(url)
        except BadUrl as error:
            raise Unfetchable(error.reason, error.message) from None
        is_trusted = is_among(address, trusted)
        refused = refusal(address, self._egress(), trusted=is_trusted)
        if refused is not None:
            raise Unfetchable(refused.reason, refused.message)
        if address.origin == self._own_origin or (
            address.literal is not None and self._is_own(address.literal, address.port)
        ):
            raise Unfetchable("own", "it leads to this gateway itself")
        return address, is_trusted

    def judge(self, text: str, host: str, port: int, *, trusted: bool) -> None:
        """Refuse one of the addresses that a host stands for: Unfetchable, in words that tell nothing of it."""
        try:
            address = ip_address(text)
        except ValueError:
            raise Unfetchable("address", UNREACHED) from None
        if self._egress().refusal(address, host, port, trusted=trusted) is not None:
            raise Unfetchable("address", UNREACHED)
        if self._is_own(address, port):
            raise Unfetchable("own", UNREACHED)

    def _is_own(self, address: Address, port: int) -> bool:
        return port in self._own_ports and (forbidden(address) is not None or is_here(address))


def is_here(address: Address) -> bool:
    """Tell whether an address is one of this machine's own: it alone can be bound here."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True

"""Addresses that a URL of somebody else's may lead to: global unicast alone, and what policy opens besides.

`ipaddress.is_global` is no such rule: it lets through NAT64, 6to4 and compatible forms of private addresses, site-local
and multicast ones. So the networks stand here, from the IANA registries of special-purpose addresses (RFC 6890 and its
updates) and the metadata services of clouds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

METADATA = "metadata"
NOT_GLOBAL = "not_global"

_METADATA = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # AWS, Azure, Google and most others
            "169.254.170.2",  # credentials of tasks on AWS
            "169.254.170.23",  # credentials of pods on AWS
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",  # Google
            "100.100.100.200",  # Alibaba
            "192.0.0.192",  # Oracle
            "168.63.129.16",  # Azure's own agent
        ),
    )
)

_V4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(network), word)
    for network, word in (
        ("0.0.0.0/8", "this_network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier_nat"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link_local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"),
        ("192.88.99.0/24", "6to4"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"),
        ("198.18.0.0/15", "benchmark"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
    )
)

_V6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(network), word)
    for network, word in (
        ("::/128", "this_network"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "ipv4_mapped"),
        ("::ffff:0:0:0/96", "ipv4_translated"),
        ("::/96", "ipv4_compatible"),
        ("64:ff9b::/96", "nat64"),
        ("64:ff9b:1::/48", "nat64"),
        ("100::/64", "reserved"),
        ("2001::/32", "teredo"),
        ("2001:2::/48", "benchmark"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "reserved"),
        ("3ffe::/16", "reserved"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link_local"),
        ("fec0::/10", "site_local"),
        ("ff00::/8", "multicast"),
    )
)
_LOW = 2**32 - 1
_GLOBAL_V6 = IPv6Network("2000::/3")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""The upper half of an interface identifier that ends in an IPv4 address (RFC 5214, 6.1)."""


_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_HOLD_V4 = tuple(map(IPv6Network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96")))
"""Networks whose addresses end in the IPv4 address that is reached by them."""


def _ways(address: Address) -> Iterator[Address]:
    """Yield what is reached by an address: itself without its zone, and each IPv4 address that it may lead to."""
    if isinstance(address, IPv4Address):
        yield address
        return
    number = int(address)
    yield IPv6Address(number)
    if any(address in network for network in _HOLD_V4) or number >> 32 & _LOW in _ISATAP:
        yield IPv4Address(number & _LOW)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address in _NAT64_LOCAL:  # whose operator chooses how long the prefix is (RFC 6052, 2.2)
        high, low = number >> 64, number
        yield IPv4Address((high & 0xFFFF) << 16 | low >> 40 & 0xFFFF)
        yield IPv4Address((high & 0xFF) << 24 | low >> 32 & 0xFFFFFF)
        yield IPv4Address(low >> 24 & _LOW)
        yield IPv4Address(low & _LOW)


def forbidden(address: Address) -> str | None:
    """Return the bounded word for why an address is not for strangers' URLs; None if it is global unicast."""
    if any(each in _METADATA for each in _ways(address)):
        return METADATA
    if isinstance(address, IPv4Address):
        return next((word for network, word in _V4 if address in network), None)
    return _forbidden_v6(address)


def _forbidden_v6(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "zone"
    word = next((word for network, word in _V6 if address in network), None)
    if word is None and address not in _GLOBAL_V6:
        return NOT_GLOBAL
    interface = int(address) & (2**64 - 1)
    if word is None and interface >> 32 in _ISATAP and forbidden(IPv4Address(interface & (2**32 - 1))):
        return "isatap"
    return word


@dataclass(frozen=True, slots=True)
class Egress:
    """What policy opens beyond global addresses: networks, and hosts by name or address, on one port or (None) all."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[tuple[str, int | None]] = frozenset()

    def opens_host(self, host: str, port: int) -> bool:
        """Tell whether a host was opened by its name, whatever addresses it has."""
        return (host, port) in self.hosts or (host, None) in self.hosts

    def opens_address(self, address: Address) -> bool:
        """Tell whether a network was opened that holds the address."""
        return any(address in network for network in self.networks)

    def refusal(self, address: Address, host: str, port: int, *, trusted: bool = False) -> str | None:
        """Return the word for why an address that `host` stands for is not called; None if it may be.

        Metadata services are opened by nothing.
        """
        word = forbidden(address)
        if word is None or word == METADATA:
            return word
        return None if trusted or self.opens_host(host, port) or self.opens_address(address) else word


def parse_entry(text: str) -> Network | tuple[str, int | None]:
    """Read an entry of `egress.allow`: a network, an address, a host, or either of the last two with a port.

    Raises ValueError with what is wrong.
    """
    if "://" in text:
        raise ValueError("is a URL: name its host alone, or host:port")
    if "/" in text:
        return _network(text)
    host, port = _split(text)
    literal = _literal(host.strip("[]"))
    if literal is None:
        host = host.lower().removesuffix(".")
        if not is_host_name(host):
            raise ValueError("is neither a network such as 10.1.0.0/16 nor a host such as hooks.internal:8443")
        return host, port
    return (str(literal), port) if port is not None else _network(str(literal))


def _network(text: str) -> Network:
    try:
        return IPv6Network(text) if ":" in text else IPv4Network(text)
    except ValueError as error:
        raise ValueError(f"is not a network: {error}") from None


_PORT_DIGITS = 5


def _split(text: str) -> tuple[str, int | None]:
    if text.count(":") > 1 and not text.startswith("["):
        return text, None
    host, separator, digits = text.rpartition("]:") if text.startswith("[") else text.rpartition(":")
    if not separator:
        return text, None
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _PORT_DIGITS and 0 < int(digits) < 2**16):
        raise ValueError("has a port that is none: 1 to 65535")
    return host, int(digits)


def _literal(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


_LONGEST_NAME, _LONGEST_LABEL = 253, 63
_IN_LABELS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


def is_host_name(text: str) -> bool:
    """Tell whether this is a host name in lower case, as DNS has them, that no reader takes for a number."""
    labels = text.split(".")
    return (
        len(text) <= _LONGEST_NAME
        and all(0 < len(label) <= _LONGEST_LABEL for label in labels)
        and all(_IN_LABELS.issuperset(label) and label[0] != "-" and label[-1] != "-" for label in labels)
        and not _is_number(labels[-1])
    )


def _is_number(label: str) -> bool:
    """Tell whether a reader of URLs takes a host that ends so for an IPv4 address (WHATWG URL, "ends in a number")."""
    return label.isdigit() or (label.startswith("0x") and set(label[2:]) <= set("0123456789abcdef"))

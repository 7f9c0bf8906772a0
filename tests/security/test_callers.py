"""From which address a request comes: what a client claims counts for nothing, what a named proxy adds does."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.callers import UNKNOWN, Callers, read_networks

PROXIES = Callers(read_networks("10.0.0.0/8, 2001:db8:a::/48"))
NONE = Callers()


def address(callers: Callers, peer: str | None, **headers: str) -> str:
    """The address of a request from a socket's peer with these headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return callers.address({"client": (peer, 4711) if peer else None}, named)


HOPS: tuple[tuple[str, dict[str, str], str], ...] = (
    ("10.0.0.1", {}, "10.0.0.1"),
    ("10.0.0.1", {"x_forwarded_for": "192.0.2.7"}, "192.0.2.7"),
    ("10.0.0.1", {"x_forwarded_for": "6.6.6.6, 192.0.2.7"}, "192.0.2.7"),
    ("10.0.0.1", {"x_forwarded_for": "6.6.6.6, 192.0.2.7, 10.2.3.4"}, "192.0.2.7"),
    ("10.0.0.1", {"x_forwarded_for": "10.0.0.9, 10.2.3.4"}, "10.0.0.9"),
    ("10.0.0.1", {"x_forwarded_for": "192.0.2.7:51234"}, "192.0.2.7"),
    ("10.0.0.1", {"x_forwarded_for": "[2001:db8:1:2::7]:51234"}, "2001:db8:1:2::/64"),
    ("10.0.0.1", {"x_forwarded_for": "192.0.2.7, unknown"}, "10.0.0.1"),
    ("10.0.0.1", {"x_forwarded_for": "192.0.2.7, nonsense, 10.2.3.4"}, "10.2.3.4"),
    ("10.0.0.1", {"x_forwarded_for": ""}, "10.0.0.1"),
    ("10.0.0.1", {"forwarded": "for=192.0.2.7"}, "192.0.2.7"),
    ("10.0.0.1", {"forwarded": 'for=6.6.6.6;proto=http, For="192.0.2.7:80";by=_a;host="x,y"'}, "192.0.2.7"),
    ("10.0.0.1", {"forwarded": 'for="[2001:db8:1:2:3::7]:4711"'}, "2001:db8:1:2::/64"),
    ("10.0.0.1", {"forwarded": "for=192.0.2.7, for=_hidden"}, "10.0.0.1"),
    ("10.0.0.1", {"forwarded": "for=192.0.2.7, proto=http"}, "10.0.0.1"),
    ("10.0.0.1", {"forwarded": 'for="192.0.2.7'}, "10.0.0.1"),
    ("10.0.0.1", {"forwarded": "for=192.0.2.7", "x_forwarded_for": "192.0.2.7"}, "192.0.2.7"),
    ("10.0.0.1", {"forwarded": "for=6.6.6.6", "x_forwarded_for": "192.0.2.7"}, "10.0.0.1"),
    ("2001:db8:a::1", {"x_forwarded_for": "192.0.2.7"}, "192.0.2.7"),
    ("::ffff:10.0.0.1", {"x_forwarded_for": "192.0.2.7"}, "192.0.2.7"),
    ("192.0.2.9", {"x_forwarded_for": "10.0.0.1"}, "192.0.2.9"),
    ("192.0.2.9", {"forwarded": "for=10.0.0.1"}, "192.0.2.9"),
    ("2001:db8:1:2:aaaa::1", {}, "2001:db8:1:2::/64"),
    ("2001:db8:1:2::1%eth0", {}, "2001:db8:1:2::/64"),
)


@pytest.mark.parametrize(("peer", "headers", "found"), HOPS)
def test_hops_are_believed_as_far_as_named_proxies_wrote_them(peer: str, headers: dict[str, str], found: str) -> None:
    """The first from the right that is no proxy's; where the chain is broken, or two headers differ, the last known."""
    assert address(PROXIES, peer, **headers) == found


@given(st.text(max_size=200), st.text(max_size=200), st.ip_addresses())
def test_without_named_proxies_headers_say_nothing(one: str, two: str, peer: ipaddress.IPv4Address) -> None:
    """Whatever they hold, the address is the connection's."""
    assert address(NONE, str(peer), x_forwarded_for=one, forwarded=two) == address(NONE, str(peer))


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_header_is_read(one: str, two: str) -> None:
    """What is no list of hops is passed over: there is always an address, and nothing is raised."""
    for headers in ({"x_forwarded_for": one}, {"forwarded": two}, {"x_forwarded_for": one, "forwarded": two}):
        found = address(PROXIES, "10.0.0.1", **headers)
        ipaddress.ip_network(found)


@given(st.lists(st.sampled_from(["6.6.6.6", "for=6.6.6.6", "10.9.9.9", '"', ";", ",", " ", "unknown"]), max_size=40))
def test_a_client_cannot_choose_what_it_is_counted_under(claims: list[str]) -> None:
    """Whatever it writes in front of what the proxy adds, it is counted under the address that the proxy saw."""
    claim = "".join(claims)
    assert address(PROXIES, "10.0.0.1", x_forwarded_for=f"{claim}, 192.0.2.7") == "192.0.2.7"


def test_a_connection_without_an_address() -> None:
    """A socket of this machine's file system has none."""
    assert address(PROXIES, None, x_forwarded_for="192.0.2.7") == UNKNOWN


@pytest.mark.parametrize("text", ["10.0.0.1/8", "example.com", "10.0.0.0/33", "*"])
def test_networks_are_read_strictly(text: str) -> None:
    """A name, a network with host bits, or anything else raises ValueError."""
    with pytest.raises(ValueError, match=r"10|example|\*"):
        read_networks(text)

"""Which URLs are called and which are not, each with its word, and that nothing is connected to for the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from ipaddress import ip_address

import pytest

from gateway.domain.addresses import Egress, forbidden, parse_entry
from gateway.egress.fetcher import SafeFetcher
from gateway.egress.guard import UNREACHED, Guard
from gateway.ports.egress import Unfetchable
from tests.egress.conftest import Target
from tests.egress.table import CALLED, NAMES, REFUSED, TableResolver


def guarding(*allowed: str, public_url: str | None = None, ports: tuple[int, ...] = ()) -> Guard:
    """A guard under a policy that opens these entries."""
    entries = [parse_entry(each) for each in allowed]
    egress = Egress(
        networks=tuple(each for each in entries if not isinstance(each, tuple)),
        hosts=frozenset(each for each in entries if isinstance(each, tuple)),
    )
    guard = Guard(lambda: egress, public_url=public_url)
    guard.keep_from(ports)
    return guard


@pytest.fixture
async def fetcher() -> AsyncIterator[SafeFetcher]:
    """A fetcher that resolves by the table."""
    fetcher = SafeFetcher(guarding(), resolver=TableResolver(NAMES))
    yield fetcher
    await fetcher.aclose()


async def refusal_of(fetcher: SafeFetcher, url: str, method: str) -> Unfetchable:
    """What fetching or posting to a URL raises."""
    call: Awaitable[object] = (
        fetcher.get(url, seconds=10, limit=1000) if method == "get" else fetcher.post(url, b"{}", {}, seconds=10)
    )
    with pytest.raises(Unfetchable) as caught:
        await call
    return caught.value


def test_the_table_is_long_enough() -> None:
    """The table holds at least 150 URLs that must be refused, none of them twice."""
    assert len(REFUSED) >= 150
    assert len({url for url, _ in REFUSED}) == len(REFUSED)


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize(("url", "word"), REFUSED)
async def test_a_refused_url_is_never_connected_to(
    fetcher: SafeFetcher, connections: list[Target], url: str, word: str, method: str
) -> None:
    """A URL of the table is refused with its word, and no connection was tried."""
    refused = await refusal_of(fetcher, url, method)

    assert refused.reason == word
    assert connections == []


@pytest.mark.parametrize(("url", "word"), [(url, word) for url, word in REFUSED if word not in ("address", "dns")])
def test_what_is_written_in_a_url_is_refused_without_a_lookup(url: str, word: str) -> None:
    """The synchronous check refuses, with words for the caller, all that can be told from the URL alone."""
    assert guarding().refusal(url), word


@pytest.mark.parametrize("url", CALLED)
async def test_a_public_url_is_called_where_it_leads(url: str) -> None:
    """A URL of the public kind passes, and so do the addresses that its host stands for."""
    guard = guarding()
    address, is_trusted = guard.admit(url)
    for each in [address.host] if address.literal else NAMES[address.host]:
        guard.judge(each, address.host, address.port, trusted=is_trusted)

    assert guard.refusal(url) is None
    assert not is_trusted


async def test_a_host_that_leads_inside_tells_as_little_as_one_that_does_not_exist(fetcher: SafeFetcher) -> None:
    """Whoever tries names learns from the words of the refusal nothing of what lies inside."""
    told = [
        (await refusal_of(fetcher, f"http://{host}/", "get")).message
        for host in ("ten.example.com", "nowhere.example.com")
    ]

    assert told == [UNREACHED, UNREACHED]


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("10.0.0.0/8", "http://10.0.0.1/"),
        ("10.0.0.1", "http://10.0.0.1:81/"),
        ("10.0.0.1:8443", "http://10.0.0.1:8443/"),
        ("fd12::/16", "http://[fd12::1]/"),
        ("[fd12::1]:8443", "http://[fd12::1]:8443/"),
        ("hooks.internal:8443", "http://hooks.internal:8443/"),
        ("hooks.internal", "http://HOOKS.internal.:25/"),
        ("hooks", "http://hooks/"),
    ],
)
def test_policy_opens_networks_and_hosts(entry: str, url: str) -> None:
    """What policy opens is called, on the port that it names or on all, and nothing beside it."""
    assert guarding().refusal(url) is not None
    assert guarding(entry).refusal(url) is None
    assert guarding("10.9.0.0/16", "hooks.internal:1", "other").refusal(url) is not None


def test_a_name_may_lead_where_a_network_was_opened() -> None:
    """Addresses behind a name are judged by the networks that policy opened, and a host opened by name has any."""
    guarding("10.0.0.0/8").judge("10.0.0.1", "ten.example.com", 80, trusted=False)
    guarding("ten.example.com").judge("10.0.0.1", "ten.example.com", 80, trusted=False)
    with pytest.raises(Unfetchable):
        guarding("ten.example.com").judge("10.0.0.1", "other.example.com", 80, trusted=False)


@pytest.mark.parametrize(
    "address",
    [
        *("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"),
        *("::ffff:169.254.169.254", "::ffff:0:a9fe:a9fe", "::a9fe:a9fe", "2002:a9fe:a9fe::1", "fd00:ec2::254%1"),
        *("64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::"),
        *("64:ff9b:1:0:a9:fea9:fe00:0", "2606:2800:21f::5efe:a9fe:a9fe", "fe80::200:5efe:a9fe:a9fe"),
    ],
)
def test_nothing_opens_metadata_services(address: str) -> None:
    """Neither a network, an address, a name nor trust leads to a metadata service, by any form of its address."""
    guard = guarding("0.0.0.0/0", "::/0", address, "name.example.com")
    host = f"[{address}]" if ":" in address else address

    assert guard.refusal(f"http://{host}/") is not None
    with pytest.raises(Unfetchable):
        guard.judge(address, "name.example.com", 80, trusted=True)


def test_the_gateways_own_ports_are_never_called() -> None:
    """The ports it listens on are refused on this machine and inside, by address, by name and by its public one."""
    guard = guarding("0.0.0.0/0", public_url="https://images.example.com", ports=(8080, 9090))

    assert guard.refusal("http://127.0.0.1:8080/") is not None
    assert guard.refusal("http://127.0.0.1:8081/") is None
    assert guard.refusal("http://10.0.0.1:9090/") is not None
    assert guard.refusal("http://93.184.216.34:8080/") is None
    assert guard.refusal("https://Images.example.com:443/v1/assets/x") is not None
    with pytest.raises(Unfetchable) as caught:
        guard.judge("127.0.0.1", "trusted.example.com", 9090, trusted=True)
    assert caught.value.reason == "own"


def test_trust_is_for_one_origin_and_opens_only_addresses() -> None:
    """A trusted origin may lead inside; its other ports and schemes may not, nor is anything else waived."""
    guard, trusted = guarding(), {"http://127.0.0.1:8081", "https://box:8443"}

    assert guard.admit("http://127.0.0.1:8081/x", trusted)[1]
    assert guard.admit("https://box:8443/x", trusted)[1]
    for url in ("http://127.0.0.1:8082/", "https://127.0.0.1:8081/", "http://box:8443/"):
        with pytest.raises(Unfetchable):
            guard.admit(url, trusted)
    with pytest.raises(Unfetchable):
        guard.admit("http://user@127.0.0.1:8081/", trusted)


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("127.0.0.1", "loopback"),
        ("224.0.0.1", "multicast"),
        ("64:ff9b::a9fe:a9fe", "metadata"),
        ("64:ff9b::a00:1", "nat64"),
        ("2002:7f00:1::", "6to4"),
        ("::127.0.0.1", "ipv4_compatible"),
        ("fec0::1", "site_local"),
        ("168.63.129.16", "metadata"),
        ("8.8.8.8", None),
        ("2606:4700:4700::1111", None),
        ("2606:2800:21f::5efe:8.8.8.8", None),
    ],
)
def test_what_the_standard_library_calls_global_is_told_by_its_kind(address: str, word: str | None) -> None:
    """Addresses that `ipaddress` takes for global are refused by their own networks, and real ones are not."""
    assert forbidden(ip_address(address)) == word

"""Store URLs and servers that won't do: one clear line each, and no password in it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gateway.ledger.address import StoreAddress, Topology, without_secrets
from gateway.ledger.errors import StoreError
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store, store_url
from gateway.ports import LedgerUnavailable
from tests.ledger.fake_server import OK, Command, bulk, fake_server


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://user:hunter2@h", "must be redis://"),
        ("", "must be redis://"),
        ("redis", "must be redis://"),
        ("redis:h", "must be redis://"),
        ("redis+sentinels://h/m", "must be redis://"),
        ("redis://user:hunter2@[h", "malformed"),
        ("redis://user:hun/ter2@h", "in a password as %40"),
        ("redis://user:hunter2@h:port", "HOST:PORT"),
        ("redis://user:hunter2@h:70000", "HOST:PORT"),
        ("redis://user:hunter2@h:0", "HOST:PORT"),
        ("redis://:hunter2@", "HOST:PORT"),
        ("redis://h1,h2", "several hosts"),
        ("redis://h/mymaster", "database must be a number"),
        ("redis://h/1/2", "database must be a number"),
        ("redis://h?db=-1", "db must be a number"),
        ("redis://h?db=1#x", "must have no #"),
        ("redis://h?max_connections=3", "no option 'max_connections'"),
        ("redis://h?sentinel_password=hunter2", "no option 'sentinel_password'"),
        ("redis://h?ssl_cert_reqs=none", "needs TLS"),
        ("rediss://h?ssl_cert_reqs=maybe", "none, optional or required"),
        ("rediss://h?ssl_check_hostname=maybe", "true or false"),
        ("rediss://h?ssl_ca_certs=/nowhere.pem", "no file /nowhere.pem"),
        (f"rediss://h?ssl_keyfile={__file__}", "needs ssl_certfile"),
        ("unix://run/x.sock", "absolute path"),
        ("unix://", "absolute path"),
        ("redis+sentinel://u:hunter2@h1:1,h2:2", "name of the service"),
        ("redis+sentinel://h1,/mymaster", "HOST:PORT"),
        ("redis+sentinel://h1/mymaster/zero", "database must be a number"),
        ("redis+cluster://h1,h2/1", "database 0 alone"),
        ("redis+cluster://h1?db=1", "no option 'db'"),
    ],
)
def test_an_unusable_url_is_one_clear_line(url: str, words: str, tmp_path: Path) -> None:
    """What is wrong is said; a password, or a part of one, is not."""
    with pytest.raises(StoreError, match=words) as caught, store_url(url, tmp_path):
        pass
    assert "\n" not in str(caught.value)
    assert "hun" not in str(caught.value)
    assert caught.value.__cause__ is None or "hun" not in str(caught.value.__cause__)


def test_a_usable_url_passes_unchanged(tmp_path: Path) -> None:
    """Servers of one's own need no data directory."""
    for url in ("redis://h:1/0", "rediss://u:p@h", "unix:///run/x.sock", "redis+sentinel://h/m", "redis+cluster://h"):
        with store_url(url, tmp_path / "none") as passed:
            assert passed == url
    assert not (tmp_path / "none").exists()


def test_every_part_of_a_url_is_understood() -> None:
    """Users, passwords with any character, hosts of all kinds, defaults, services, databases and options."""
    one = StoreAddress.parse("redis://:p%40s%2Fs@[::1]/3")
    assert (one.topology, one.endpoints, one.options) == (
        Topology.SINGLE,
        [("::1", 6379)],
        {"db": 3, "password": "p@s/s"},
    )
    socket = StoreAddress.parse("unix:///run/my%20redis.sock?db=2&password=x+%2B")
    assert (socket.path, socket.options) == ("/run/my redis.sock", {"db": 2, "password": "x++"})
    trio = StoreAddress.parse("rediss+sentinel://u:p@h1:1,h2,[fe80::1]:3/my%2Fmaster/4?sentinel_password=s")
    assert (trio.topology, trio.tls, trio.service) == (Topology.SENTINEL, True, "my/master")
    assert trio.endpoints == [("h1", 1), ("h2", 26379), ("fe80::1", 3)]
    assert trio.options == {"db": 4, "username": "u", "password": "p"}
    assert trio.sentinel_options == {"password": "s"}
    nodes = StoreAddress.parse("redis+cluster://h1:7000,h2?client_name=igw")
    assert (nodes.topology, nodes.tls, nodes.endpoints) == (Topology.CLUSTER, False, [("h1", 7000), ("h2", 6379)])
    assert nodes.options == {"client_name": "igw"}


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:hunter2@h/0",
        "redis://u:hun@ter2@h",
        "redis://:hun/ter2@h?x=1",
        "unix:///s?password=hunter2&db=1",
        "redis+sentinel://h/m?db=1&sentinel_password=hunter2",
        "rediss://h?SSL_PASSWORD=hunter2",
    ],
)
def test_no_secret_is_shown(url: str) -> None:
    """However it was written, a password is not in what messages show."""
    assert "hun" not in without_secrets(url)
    assert "hunter" not in repr(StoreAddress(without_secrets(url), Topology.SINGLE, tls=False))


async def test_embedded_is_a_server_that_passes_the_check(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The default needs nothing but a directory, and nothing about it is unwise."""
    with store_url("embedded:", tmp_path) as url, caplog.at_level(logging.WARNING):
        store = Store(url)
        await store.check()
        await RedisLedger(store).ping()
        await store.aclose()
    assert caplog.text == ""


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@127.0.0.1:1/0",
        "unix:///nowhere.sock?password=hunter2",
        "redis+sentinel://:hunter2@127.0.0.1:1,127.0.0.1:2/m?sentinel_password=hunter2",
        "redis+cluster://:hunter2@127.0.0.1:1,127.0.0.1:2",
    ],
)
async def test_a_server_that_does_not_answer_is_one_clear_line(url: str) -> None:
    """The message says where and what to do, without the password."""
    store = Store(url)
    with pytest.raises(StoreError, match="embedded:") as caught:
        await store.check()
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(LedgerUnavailable):
        await RedisLedger(store).ping()
    await store.aclose()


async def test_a_wrong_option_in_the_url_is_refused() -> None:
    """An option that is not known is reported as a matter of the URL."""
    with pytest.raises(StoreError, match="store URL"):
        Store("redis://h/0?socket_timeout=soon")


async def test_an_unwise_server_is_warned_of_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """What may evict or lose the ledger is said at the start, a line for each matter."""
    await store.execute("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
    await store.execute("CONFIG", "SET", "appendfsync", "everysec")
    try:
        with caplog.at_level(logging.WARNING):
            await store.check()
        assert [record.getMessage().split(":", 2)[-1].split()[0] for record in caplog.records] == [
            "maxmemory-policy",
            "appendfsync",
        ]
        caplog.clear()
        await store.execute("CONFIG", "SET", "maxmemory", "0", "appendonly", "no")
        with caplog.at_level(logging.WARNING):
            await store.check()
        [record] = caplog.records
        assert "appendonly is off" in record.getMessage()
    finally:
        await store.execute("CONFIG", "SET", "appendonly", "yes", "appendfsync", "always", "maxmemory", "0")


async def test_a_server_too_old_is_refused() -> None:
    """A server that would ignore what a script may do is not used; both versions are named."""

    def old(command: Command) -> bytes:
        return bulk("redis_version:6.2.14")[4:] if command[0] == "INFO" else OK

    async with fake_server(old) as fake:
        store = Store(fake.url)
        with pytest.raises(StoreError, match=r"version 6\.2\.14; 7\.0 or newer is needed"):
            await store.check()
        await store.aclose()


async def test_the_check_is_patient() -> None:
    """A server that takes its time at the first meeting is not taken for one that is away."""
    async with fake_server(0.2) as fake:
        store = Store(fake.url)
        with pytest.raises(StoreError, match="is version 0;"):
            await store.check()
        await store.aclose()


@pytest.mark.parametrize("reply", ["BUSY a script runs.", "LOADING the dataset.", "CLUSTERDOWN a slot is nobody's."])
async def test_a_server_that_answers_is_not_to_be_started(reply: str) -> None:
    """It runs, and says what keeps it from doing what it was asked."""
    async with fake_server(b"-" + reply.encode() + b"\r\n") as fake:
        store = Store(fake.url)
        with pytest.raises(StoreError, match=f"{reply} It runs") as refused:
            await store.check()
        assert "Start it" not in str(refused.value)
        await store.aclose()


async def test_another_schema_is_refused(ledger: RedisLedger, store: Store) -> None:
    """A ledger written by a later version is not touched."""
    await store.execute("HSET", ledger._names.meta, "schema", "9")
    with pytest.raises(StoreError, match="schema 9, not 1: run the version that wrote it"):
        await ledger.open()

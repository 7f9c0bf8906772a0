"""Stores behind TLS and access control: who may use one, and what is said to whoever may not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.domain.settlement import SettleResult
from gateway.ledger.address import StoreAddress
from gateway.ledger.connections import Dialer, ask_once
from gateway.ledger.errors import LedgerRefused, StoreError
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.ledger.rules import budget, candidate, entries, hold, settlement
from tests.ledger.topologies import SERVICE, Server, knows_tls, make_certificates, running, until

RIGHTS = "~igw:* +@read +@write +@scripting +@connection -@dangerous +time +info +role +config|get +cluster|slots"
"""What docs/cli.md tells operators to grant."""

needs_tls = pytest.mark.skipif(
    shutil.which("openssl") is None or not knows_tls(), reason="this machine has no server with TLS, or no openssl"
)


async def life_of_a_request(store: Store, realm: str) -> None:
    """Check the store, hold, settle, and read what was booked."""
    await store.check()
    ledger, rule = RedisLedger(store, realm), budget(1000)
    await hold(ledger, "r", candidate((rule, 400)))
    assert await ledger.settle(settlement("r", 300_000)) is SettleResult.DONE
    [balance] = await ledger.balances([rule])
    assert (balance.used, balance.held) == (300, 0)
    assert len(await entries(store, realm)) == 1
    await ledger._leases.sweep()
    await ledger.ping()
    await ledger.aclose()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a user of limited rights, and one of none."""
    users = [f"user igw on >s3cr3t/@: {RIGHTS}", "user poor on >s3cr3t ~igw:* +ping +info +evalsha +eval"]
    server = Server(tmp_path_factory.mktemp("guarded") / "server", *users, "unixsocket s")
    with running(server):
        yield server


async def test_a_user_with_the_documented_rights_can_do_everything(
    guarded: Server, realm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No right is missing for the life of a request, and the check knows how the server is set."""
    store = Store(f"redis://igw:s3cr3t%2F%40%3A@127.0.0.1:{guarded.port}")
    await life_of_a_request(store, realm)
    assert caplog.text == ""
    for command in (("GET", "elsewhere"), ("FLUSHALL",), ("CONFIG", "SET", "appendonly", "no")):
        with pytest.raises(LedgerRefused, match="NOPERM"):
            await store.execute(*command)
    await store.aclose()


async def test_rights_that_are_missing_are_said(guarded: Server, realm: str) -> None:
    """A user who may do too little is refused with what he lacks, and nothing is held."""
    store = Store(f"redis://poor:s3cr3t@127.0.0.1:{guarded.port}")
    with pytest.raises(LedgerRefused, match=r"can't run this command|no permissions"):
        await hold(RedisLedger(store, realm), "r", candidate((budget(1000), 1)))
    assert guarded.call("KEYS", f"igw:{{{realm}}}:*") == []
    await store.aclose()


@pytest.mark.parametrize("by", ["tcp", "unix"])
async def test_a_wrong_password_is_said_without_it(guarded: Server, by: str, caplog: pytest.LogCaptureFixture) -> None:
    """The password is in no message and no log, whichever way it is wrong."""
    socket = (guarded.call("CONFIG", "GET", "dir")[1] + b"/s").decode()
    where = f"redis://igw:hunter2@127.0.0.1:{guarded.port}"
    store = Store(where if by == "tcp" else f"unix://{socket}?username=igw&password=hunter2")
    with pytest.raises(StoreError, match=r"invalid username-password pair.*Check the user") as caught:
        await store.check()
    with pytest.raises(LedgerRefused) as refused:
        await store.execute("PING", repeatable=True)
    assert "hunter2" not in f"{caught.value} {refused.value} {caplog.text}"
    await store.aclose()


async def test_a_password_that_is_missing_is_said(tmp_path: Path) -> None:
    """A server that wants a password, and a URL that has none."""
    server = Server(tmp_path / "server")
    with running(server):
        server.call("CONFIG", "SET", "requirepass", "s3cr3t")
        store = Store(server.url)
        with pytest.raises(StoreError, match=r"Authentication required.*Check the user, the password"):
            await store.check()
        with pytest.raises(LedgerUnavailable, match="Authentication required"):
            await store.execute("DEL", *map(str, range(20)))  # too long to be read before one is given
        await store.aclose()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of one authority, and another authority."""
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates")


def tls_options(certificates: Path) -> str:
    """What a URL says to trust the authority and to show the gateway's own certificate."""
    files = {"ca_certs": "ca.pem", "certfile": "client.pem", "keyfile": "client.key"}
    return "?" + "&".join(f"ssl_{name}={certificates / file}" for name, file in files.items())


@needs_tls
async def test_tls_with_certificates_of_both_sides(certificates: Path, tmp_path: Path, realm: str) -> None:
    """Each side proves who it is, and whoever does not is told in one line."""
    server = Server(tmp_path / "server", certificates=certificates)
    with running(server):
        url = f"rediss://127.0.0.1:{server.port}"
        store = Store(url + tls_options(certificates))
        await life_of_a_request(store, realm)
        await store.aclose()
        wrong = {
            url: "certificate verify failed.*Check the server's certificate",
            f"{url}?ssl_ca_certs={certificates / 'other-ca.pem'}": "certificate verify failed",
            f"{url}?ssl_ca_certs={certificates / 'ca.pem'}": "store",  # without a certificate of its own
            f"rediss://localhost:{server.port}{tls_options(certificates)}": "certificate",  # another name
            f"redis://127.0.0.1:{server.port}": "store",  # without TLS
        }
        for unfit, words in wrong.items():
            store = Store(unfit)
            with pytest.raises(StoreError, match=words) as caught:
                await store.check()
            assert "\n" not in str(caught.value)
            await store.aclose()


@needs_tls
async def test_renewed_certificates_are_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that is opened later uses the files as they are then; while they do not fit, those from before."""
    files, renewed = make_certificates(tmp_path / "files"), make_certificates(tmp_path / "renewed")
    server = Server(tmp_path / "server", certificates=files)
    dialer = Dialer(StoreAddress.parse(f"rediss://127.0.0.1:{server.port}{tls_options(files)}"), deadline=10.0)
    with running(server):
        assert await ask_once(dialer.server(), "PING") == "PONG"
        server.kill()
        for file in renewed.iterdir():
            shutil.copy(file, files)
        server.start()
        assert await ask_once(dialer.server(), "PING") == "PONG"
        assert not caplog.records
        (files / "client.key").write_text("half of a ke")
        for _ in range(2):
            assert await ask_once(dialer.server(), "PING") == "PONG"
        [warning] = caplog.messages
        assert "certificates from before are used on" in warning
        shutil.copy(renewed / "client.key", files)
        assert await ask_once(dialer.server(), "PING") == "PONG"


@needs_tls
async def test_files_that_are_no_certificates(certificates: Path) -> None:
    """What cannot be read as a certificate or key is said when the gateway starts."""
    good = certificates / "client.pem"
    for options in (f"ssl_ca_certs={__file__}", f"ssl_certfile={__file__}", f"ssl_certfile={good}&ssl_keyfile={good}"):
        with pytest.raises(StoreError, match="TLS"):
            Store(f"rediss://127.0.0.1?{options}")


@needs_tls
async def test_tls_through_sentinels(certificates: Path, tmp_path: Path, realm: str) -> None:
    """Sentinels and servers are both reached by TLS."""
    primary = Server(tmp_path / "primary", certificates=certificates)
    watch = f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1"
    sentinel = Server(tmp_path / "sentinel", watch, certificates=certificates, sentinel=True)
    with running(primary, sentinel):
        store = Store(f"rediss+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}{tls_options(certificates)}", silence=10.0)
        await life_of_a_request(store, realm)
        await store.aclose()


@needs_tls
async def test_tls_in_a_cluster(certificates: Path, tmp_path: Path, realm: str) -> None:
    """Nodes tell each other's TLS ports, and those are used."""
    node = Server(tmp_path / "node", "cluster-enabled yes", certificates=certificates)
    with running(node):
        node.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: b"cluster_state:ok" in node.call("CLUSTER", "INFO"))
        store = Store(f"rediss+cluster://127.0.0.1:{node.port}/{tls_options(certificates)}", silence=10.0)
        await life_of_a_request(store, realm)
        await store.aclose()


async def test_a_plain_url_at_something_else_entirely(certificates: Path, tmp_path: Path) -> None:
    """A port where nobody listens is an outage like any other."""
    store = Store(f"rediss://127.0.0.1:1{tls_options(certificates)}")
    with pytest.raises(LedgerUnavailable):
        await store.execute("PING")
    await store.aclose()

"""A primary and a replica under three sentinels: the ledger follows whoever is the primary."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.domain.settlement import SettleResult
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.ledger.fake_server import OK, Command, bulk, fake_server
from tests.ledger.load import RULE, load_on
from tests.ledger.rules import budget, candidate, entries, hold, settlement
from tests.ledger.topologies import SERVICE, Trio, sentinel_trio, until


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    """One formation for all tests of this module; each leaves it whole."""
    with sentinel_trio(tmp_path_factory.mktemp("trio")) as formation:
        yield formation


async def test_the_ledger_works_through_sentinels(trio: Trio, realm: str) -> None:
    """Every operation of a request's life, found through sentinels alone."""
    store = Store(trio.url, realm=realm)
    await store.check()
    ledger, rule = RedisLedger(store, realm), budget(1000)
    for request in ("a", "b"):
        await hold(ledger, request, candidate((rule, 400)))
    assert await ledger.settle(settlement("a", 300_000)) is SettleResult.DONE
    assert await ledger.void("b", 1, "refused") is SettleResult.DONE
    [balance] = await ledger.balances([rule])
    assert (balance.used, balance.held) == (300, 0)
    assert [entry.cost.route for entry in await entries(store, realm)] == [300_000]
    assert await ledger.request("a") is not None
    await ledger.aclose()
    await store.aclose()


@pytest.mark.slow
async def test_a_planned_failover_under_load(trio: Trio, realm: str) -> None:
    """A primary that was replaced goes on answering for a while: it is left long before it is told to stop."""
    store = Store(trio.url, realm=realm)
    before = trio.primary()
    async with load_on(RedisLedger(store, realm)) as load:
        trio.sentinels[0].call("SENTINEL", "FAILOVER", SERVICE)
        await asyncio.to_thread(until, lambda: trio.primary() is not before)
        await asyncio.to_thread(until, lambda: b"cmd=evalsha" in trio.primary().call("CLIENT", "LIST"))
        assert b"role:master" in before.call("INFO", "replication")
        await load.more()
        await asyncio.to_thread(trio.rejoin, before)
    assert trio.primary().call("HGET", f"igw:{{{realm}}}:bal", f"{RULE.meter}@total") is not None
    await store.aclose()


async def test_a_primary_demoted_by_hand(trio: Trio, realm: str) -> None:
    """A primary that turns read-only in the middle of its connections is an outage, and nothing worse."""
    store = Store(trio.url, realm=realm)
    primary = trio.primary()
    async with load_on(RedisLedger(store, realm)) as load:
        other = next(server for server in trio.servers if server is not primary)
        primary.call("REPLICAOF", "127.0.0.1", other.port)
        await load.refusal()
        primary.call("REPLICAOF", "NO", "ONE")
        await load.more()
    await asyncio.to_thread(trio.rejoin, other)
    await store.aclose()


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
async def test_a_lost_primary_under_load(trio: Trio, realm: str, how: signal.Signals) -> None:
    """Killed or frozen, the primary is replaced, and the same store finds its successor; nothing else is raised."""
    store = Store(trio.url, realm=realm)
    before = trio.primary()
    async with load_on(RedisLedger(store, realm)) as load:
        before.signal(how)
        await asyncio.to_thread(until, lambda: trio.primary() is not before)
        await load.more()
        assert load.refused
        if how is signal.SIGKILL:
            await asyncio.to_thread(before.start)
        else:
            before.signal(signal.SIGCONT)
        await load.more()
        await asyncio.to_thread(trio.rejoin, before)
        await load.more()
    await store.aclose()


async def test_most_sentinels_are_believed(trio: Trio, realm: str) -> None:
    """One that names a primary of old, one that hangs or one that is gone changes nothing."""
    old = next(server for server in trio.servers if server is not trio.primary())
    named = bulk("127.0.0.1", str(old.port))

    def astray(command: Command) -> bytes:
        return named if command[0] == "SENTINEL" else OK

    async with fake_server(astray) as stale, fake_server(3600.0) as hanging:
        one, other, *_ = trio.sentinels
        for odd in (stale.port, hanging.port, 1):
            store = Store(f"redis+sentinel://127.0.0.1:{odd},127.0.0.1:{one.port},127.0.0.1:{other.port}/{SERVICE}")
            await store.execute("SET", f"igw:{{{realm}}}:x", "1")
            await store.aclose()


async def test_a_replica_is_never_taken_for_the_primary(trio: Trio, realm: str) -> None:
    """Where sentinels are behind the times the server itself is asked, before anything is read from it."""
    old = next(server for server in trio.servers if server is not trio.primary())
    async with fake_server(bulk("127.0.0.1", str(old.port))) as stale:
        store = Store(f"redis+sentinel://127.0.0.1:{stale.port}/{SERVICE}")
        with pytest.raises(LedgerUnavailable, match="no primary"):
            await store.execute("GET", f"igw:{{{realm}}}:x")
        await store.aclose()


async def test_an_unknown_service_is_said(trio: Trio) -> None:
    """A typing error in the URL is told from servers that are away."""
    store = Store(trio.url.replace(SERVICE, "mymister"))
    with pytest.raises(LedgerUnavailable, match="knows no 'mymister'"):
        await store.execute("PING")
    await store.aclose()


async def test_sentinels_with_passwords_of_their_own(tmp_path: Path) -> None:
    """The server's password is not shown to sentinels, nor theirs to the server."""
    async with fake_server(OK) as server:
        named = bulk("127.0.0.1", str(server.port))

        def primary(command: Command) -> bytes:
            return b"*1\r\n$6\r\nmaster\r\n" if command[0] == "ROLE" else OK

        async with fake_server(lambda command: named if command[0] == "SENTINEL" else OK) as sentinel:
            with server.saying(primary):
                store = Store(
                    f"redis+sentinel://igw:top@127.0.0.1:{sentinel.port}/{SERVICE}"
                    "?sentinel_username=watch&sentinel_password=low"
                )
                await store.execute("SET", "x", "1")
                await store.aclose()
        assert sentinel.asked == [
            ["AUTH", "watch", "low"],
            ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE],
        ]
        assert server.asked == [["AUTH", "igw", "top"], ["ROLE"], ["SET", "x", "1"]]

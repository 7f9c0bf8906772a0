"""A cluster of three masters: each realm lies in one slot, and the ledger follows that slot wherever it goes."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from gateway.domain.settlement import SettleResult
from gateway.ledger.address import StoreAddress
from gateway.ledger.locate import slot_of
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.ledger.load import AMOUNT, RULE, Load, load_on
from tests.ledger.rules import ABOUT, budget, candidate, denied, entries, hold, settlement
from tests.ledger.topologies import Cluster, Server, node_id, redis_cluster, until


async def test_the_ledger_works_on_every_node(cluster: Cluster) -> None:
    """Realms of one store lie on all three masters, each whole on one of them."""
    store, used = Store(cluster.url), set()
    await store.check()
    for realm in ("main", "a", "b", "c", "d", "e"):
        used.add(cluster.serving(realm).port)
        ledger, rule = RedisLedger(store, realm), budget(1000)
        for request in ("x", "y"):
            await hold(ledger, request, candidate((rule, 400)))
        await denied(ledger, "z", candidate((rule, 400)))
        assert await ledger.settle(settlement("x", 300_000)) is SettleResult.DONE
        assert await ledger.void("y", 1, "refused") is SettleResult.DONE
        [balance] = await ledger.balances([rule])
        assert (balance.used, balance.held) == (300, 0)
        assert [entry.cost.route for entry in await entries(store, realm)] == [300_000]
        await ledger._leases.sweep()
        await ledger.ping()
        await ledger.aclose()
    assert len(used) == 3
    await store.aclose()


async def test_commands_without_a_name_go_where_the_realm_is(cluster: Cluster) -> None:
    """What concerns a server concerns the one that has the data; a pattern counts as a name."""
    for realm in ("main", "a", "b", "c"):
        store = Store(cluster.url, realm=realm)
        assert (await store.execute("INFO", "server"))["tcp_port"] == cluster.serving(realm).port
        await store.execute("SET", f"igw:{{{realm}}}:here", "1")
        assert await store.execute("DBSIZE") == cluster.serving(realm).call("DBSIZE")
        cursor, found = "0", []
        while True:
            cursor, names = await store.execute("SCAN", cursor, "MATCH", f"igw:{{{realm}}}:here")
            found += names
            if str(cursor) == "0":
                break
        assert found == [f"igw:{{{realm}}}:here"]
        await store.aclose()


async def test_any_node_will_do_to_find_the_others(cluster: Cluster, realm: str) -> None:
    """A URL may name nodes that are gone, as long as it names one that lives."""
    for master in cluster.masters:
        store = Store(f"redis+cluster://127.0.0.1:1,127.0.0.1:{master.port}")
        await store.execute("SET", f"igw:{{{realm}}}:x", "1")
        await store.aclose()


async def test_a_server_that_is_no_cluster_is_said(server: str) -> None:
    """A URL for a cluster that leads to a plain server fails in plain words."""
    path = StoreAddress.parse(server).path
    assert path is not None

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near, far = await asyncio.open_unix_connection(path)
        far.write(await reader.read(4096))
        writer.write(await near.read(4096))
        writer.close()
        far.close()

    async with await asyncio.start_server(pipe, "127.0.0.1", 0) as front:
        store = Store(f"redis+cluster://127.0.0.1:{front.sockets[0].getsockname()[1]}", silence=10.0)
        with pytest.raises(LedgerUnavailable, match="no node of the cluster tells who serves what"):
            await store.execute("PING")
        await store.aclose()


async def test_a_slot_that_moves_takes_the_ledger_along(cluster: Cluster) -> None:
    """While a realm is carried to another node key by key, under load, no operation is lost or done twice."""
    realm = "travels"
    store = Store(cluster.url, realm=realm)
    ledger = RedisLedger(store, realm)
    source = cluster.serving(realm)
    target = next(master for master in cluster.masters if master is not source)
    async with load_on(ledger, clients=4) as load:
        await asyncio.to_thread(carry, realm, source, target)
        await load.more()
        assert cluster.serving(realm) is target
        assert b"cmd=evalsha" in target.call("CLIENT", "LIST")
    await settle_everything(ledger, load)
    [balance] = await ledger.balances([RULE])
    assert balance.held == 0
    assert balance.used == AMOUNT * len(await entries(store, realm))
    await store.aclose()


def carry(realm: str, source: Server, target: Server) -> None:
    """Move a realm's slot as an operator does: keys first, then the word that it has moved."""
    slot = slot_of(realm)
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
    while names := source.call("CLUSTER", "GETKEYSINSLOT", slot, 5):
        source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names)
    for node in (target, source):
        node.call("CLUSTER", "SETSLOT", slot, "NODE", node_id(target))


async def settle_everything(ledger: RedisLedger, load: Load) -> None:
    """Settle what the store did not take in time, and give back what was held for answers that never came."""
    async with asyncio.timeout(10):
        while True:
            try:
                await load.settle_rest()
                await ledger._leases.sweep()
            except LedgerUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
async def test_a_lost_master_under_load(tmp_path: Path, how: signal.Signals) -> None:
    """Killed or frozen, the realm's master is replaced by its replica; nothing but LedgerUnavailable is raised."""
    with redis_cluster(tmp_path, replicas=True) as cluster:
        store = Store(cluster.url)
        lost = cluster.serving("main")
        async with load_on(RedisLedger(store)) as load:
            # A realm that the replica has nothing of yet would be one that was emptied.
            await asyncio.to_thread(until, lambda: cluster.replicas[cluster.masters.index(lost)].call("DBSIZE") > 0)
            lost.signal(how)
            await load.more()
            assert load.refused
            assert cluster.serving("main") is not lost
            if how is signal.SIGKILL:
                await asyncio.to_thread(lost.start)
            else:
                lost.signal(signal.SIGCONT)
            await asyncio.to_thread(until, lambda: b"role:slave" in lost.call("INFO", "replication"))
            await load.more()
        await store.aclose()


async def test_a_cluster_with_a_hole_is_away(tmp_path: Path) -> None:
    """With a master gone for good no realm is admitted anywhere, for the cluster says so; then it is whole again."""
    with redis_cluster(tmp_path) as cluster:
        lost = next(master for master in cluster.masters if master is not cluster.serving("main"))
        store = Store(cluster.url)
        ledger, rule = RedisLedger(store), budget(1000)
        await hold(ledger, "before", candidate((rule, 1)))
        lost.kill()
        until(lambda: b"cluster_state:fail" in cluster.serving("main").call("CLUSTER", "INFO"))
        with pytest.raises(LedgerUnavailable, match="CLUSTERDOWN"):
            await ledger.choose_and_hold("during", [candidate((rule, 1))], about=ABOUT)
        refused = store.execute("PING")
        with pytest.raises(LedgerUnavailable, match="CLUSTERDOWN"):
            refused.send(None)
        lost.start()
        async with asyncio.timeout(30):
            while True:
                try:
                    await hold(ledger, "after", candidate((rule, 1)))
                    break
                except LedgerUnavailable:
                    await asyncio.sleep(0.02)
        await ledger.aclose()
        await store.aclose()

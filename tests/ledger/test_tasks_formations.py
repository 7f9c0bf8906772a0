"""Tasks on a cluster and behind sentinels, and with workers that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.domain.task import TaskStatus, task_of
from gateway.ledger import replicas
from gateway.ledger.audit import audit
from gateway.ledger.callbacks import RedisCallbacks
from gateway.ledger.hints import RedisMailboxes
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks
from gateway.ports import LedgerUnavailable
from tests.ledger.mortal import DyingProcess
from tests.ledger.rules import balances
from tests.ledger.topologies import Cluster, Server, redis_cluster, running, sentinel_trio, until
from tests.ledger.work import fall_silent, queued, watchful


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three masters."""
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


async def live(store: Store, realm: str) -> None:
    """Let tasks of two projects go through all that can happen to one."""
    ledger, tasks = RedisLedger(store, realm), watchful(RedisTasks(store, realm))
    ids = [await queued(ledger, tasks, project, url="https://c.example/") for project in ("p", "q", "p")]
    cancelled = await tasks.cancel(ids[2], callback_body=b"{}")
    assert cancelled is not None
    assert cancelled.status is TaskStatus.CANCELLED
    taken = await tasks.take(9)
    assert [task_of(each.record.order.request_id) for each in taken] == ids[:2]
    assert await tasks.began(ids[0], taken[0].token, route="r", attempt=2)
    await tasks.submitted(ids[0], 0, {"id": "x"})
    await tasks.advanced(ids[0], 5)
    assert not (await tasks.keep({ids[0]: taken[0].token, ids[1]: taken[1].token})).lost
    await tasks.give_back(ids[1], taken[1].token)
    await fall_silent(store, realm)
    again = await tasks.take(9)
    assert {task_of(each.record.order.request_id): each.again for each in again} == {ids[1]: True, ids[0]: True}
    for each in again:
        task_id = task_of(each.record.order.request_id)
        assert await tasks.end(task_id, each.token, TaskStatus.COMPLETED, callback_body=b"{}")
    assert len(await tasks.listed("p")) == 2
    mailboxes, owner = RedisMailboxes(store, realm), "0123456789ab"
    for call in ("first", "second"):
        await mailboxes.leave(owner, call)
    assert list(await mailboxes.collect(owner)) == ["first", "second"]
    assert not await mailboxes.collect(owner)
    callbacks = RedisCallbacks(store, realm)
    messages = await callbacks.due(9)
    assert len(messages) == 3
    await callbacks.failed(messages[0], "no", None)
    assert await callbacks.revive(messages[0].id)
    for message in messages:
        await callbacks.delivered(message)
    assert await callbacks.callback_counts() == {"waiting": 0, "dead": 0}
    await ledger._leases.sweep()
    assert set((await balances(store, realm)).values()) == {(0, 0)}
    assert (await audit(store, realm)).agrees
    await ledger.aclose()


async def test_on_every_node_of_a_cluster(cluster: Cluster) -> None:
    """All that is kept of a realm's tasks lies in the realm's one slot."""
    store, used = Store(cluster.url, deadline=10), set()
    for realm in ("main", "a", "b", "c", "d", "e"):
        used.add(cluster.serving(realm).port)
        await live(store, realm)
    assert len(used) == 3
    await store.aclose()


async def test_behind_sentinels(tmp_path: Path, realm: str) -> None:
    """A primary that is killed takes no task along that its replica knew of."""
    with sentinel_trio(tmp_path) as trio:
        store = Store(trio.url, realm=realm, deadline=10)
        await live(store, realm)
        ledger, tasks = RedisLedger(store, realm), watchful(RedisTasks(store, realm))
        task_id = await queued(ledger, tasks)
        [taken] = await tasks.take(1)
        await asyncio.to_thread(trio.wait_until_whole)
        before = trio.primary()
        before.kill()
        kept = None
        async with asyncio.timeout(60):
            while kept is None:
                try:
                    kept = await tasks.keep({task_id: taken.token})
                except LedgerUnavailable:
                    await asyncio.sleep(0.05)
        assert not kept.lost
        assert await tasks.end(task_id, taken.token, TaskStatus.COMPLETED)
        await ledger.aclose()
        await store.aclose()


async def test_nobody_is_told_of_what_no_replica_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message is sent once a replica has the end of its task: a primary that dies then takes back nothing told."""
    monkeypatch.setattr(replicas, "PATIENCE", 60.0)
    primary = Server(tmp_path / "primary")
    replica = Server(tmp_path / "replica", f"replicaof 127.0.0.1 {primary.port}")
    with running(primary, replica):
        await asyncio.to_thread(until, lambda: "state=online" in str(primary.call("INFO", "replication")))
        store = Store(primary.url, deadline=10)
        ledger, tasks, callbacks = RedisLedger(store, "main"), RedisTasks(store, "main"), RedisCallbacks(store, "main")
        task_id = await queued(ledger, tasks, url="https://c.example/")
        with replica.frozen():
            assert await tasks.end(task_id, None, TaskStatus.COMPLETED, callback_body=b"{}")
            taking = asyncio.create_task(callbacks.due(9))
            await asyncio.wait({taking}, timeout=0.5)
            assert not taking.done()
        [message] = await taking
        assert message.task_id == task_id
        await ledger.aclose()
        await store.aclose()


@contextlib.asynccontextmanager
async def replicated(directory: Path) -> AsyncIterator[tuple[Server, Server, Store]]:
    """A primary, its replica, and the store that gateways see, which has nothing else to do."""
    primary = Server(directory / "primary")
    replica = Server(directory / "replica", f"replicaof 127.0.0.1 {primary.port}")
    with running(primary, replica):
        await asyncio.to_thread(until, lambda: "state=online" in str(primary.call("INFO", "replication")))
        store = Store(primary.url)
        yield primary, replica, store
        await store.aclose()


async def test_what_a_failover_took_away_has_not_begun(tmp_path: Path) -> None:
    """A replica that has just gone is waited for; if the store has lost the beginning by then, no call leaves.

    (What a failover takes away is taken away by hand here: it cannot be had to the millisecond.)
    """
    async with replicated(tmp_path) as (primary, replica, store):
        ledger, tasks = RedisLedger(store, "main"), RedisTasks(store, "main")
        task_id = await queued(ledger, tasks)
        [taken] = await tasks.take(1)
        replica.kill()
        await asyncio.to_thread(until, lambda: "connected_slaves:0" in str(primary.call("INFO", "replication")))
        beginning = asyncio.create_task(tasks.began(task_id, taken.token, route="r", attempt=1))
        await asyncio.wait({beginning}, timeout=0.5)
        assert not beginning.done()
        began_elsewhere = "other 1 1"  # the same attempt, of another worker
        primary.call("HSET", Names("main").task(task_id), "begun", began_elsewhere)
        with pytest.raises(LedgerUnavailable, match="does not know"):
            await beginning
        await ledger.aclose()


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "frozen"])
async def test_a_store_whose_replica_is_lost_is_not_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, gone: bool
) -> None:
    """It is waited for, two seconds; then the work goes on at the primary alone. What is announced waits on."""
    for chances in (2, 1, 0):  # a disk or a machine still for 0.075 s makes it one by rights, but not always
        try:
            await _lose_a_replica(tmp_path / str(chances), caplog, gone=gone)
        except LedgerUnavailable:
            if not chances:
                raise
            caplog.clear()
        else:
            return


async def _lose_a_replica(directory: Path, caplog: pytest.LogCaptureFixture, *, gone: bool) -> None:
    await asyncio.to_thread(directory.mkdir)
    async with replicated(directory) as (primary, replica, store):
        ledger, tasks = RedisLedger(store, "main"), RedisTasks(store, "main")
        task_id = await queued(ledger, tasks)
        [taken] = await tasks.take(1)
        with contextlib.nullcontext() if gone else replica.frozen():
            if gone:
                replica.kill()
                await asyncio.to_thread(until, lambda: "connected_slaves:0" in str(primary.call("INFO", "replication")))
            assert await tasks.began(task_id, taken.token, route="r", attempt=2)
            assert "no replica has caught up" in caplog.text
            announcing = asyncio.create_task(tasks.announced(task_id, taken.token, 0, {"id": "x"}, attempt=2))
            if gone:  # nobody is waited for any more
                assert await asyncio.wait_for(announcing, 1)
            else:
                with pytest.raises(LedgerUnavailable, match="caught up"):
                    await announcing
        assert await tasks.announced(task_id, taken.token, 0, {"id": "x"}, attempt=2)
        assert "away" not in caplog.text
        await ledger.aclose()


async def test_a_primary_that_is_none_any_more_knows_nothing(tmp_path: Path) -> None:
    """Where an address leads to a server that has become a replica, what was written to it is not taken for kept."""
    async with replicated(tmp_path) as (primary, replica, store):
        ledger, tasks = RedisLedger(store, "main"), RedisTasks(store, "main")
        task_id = await queued(ledger, tasks)
        [taken] = await tasks.take(1)
        with replica.frozen():
            beginning = asyncio.create_task(tasks.began(task_id, taken.token, route="r", attempt=1))
            await asyncio.wait({beginning}, timeout=0.3)
            primary.call("REPLICAOF", "127.0.0.1", replica.port)
            with pytest.raises(LedgerUnavailable):
                await beginning
        primary.call("REPLICAOF", "NO", "ONE")
        await ledger.aclose()


async def test_with_the_rights_that_the_manual_gives(tmp_path: Path) -> None:
    """The user whose rights docs/cli.md tells needs no others for tasks."""
    rights = "~igw:* +@read +@write +@scripting +@connection -@dangerous +time +info +role +config|get +cluster|slots"
    server = Server(tmp_path / "server", f"user igw on >secret {rights}")
    with running(server):
        store = Store(f"redis://igw:secret@127.0.0.1:{server.port}", deadline=10)
        await live(store, "main")
        await store.aclose()


async def work_and_die(url: str, realm: str, most: str) -> None:
    """Take tasks and end some; then die with the others in hand."""
    store = Store(url, deadline=10)
    tasks = RedisTasks(store, realm, silence=0.5)
    taken = await tasks.take(int(most))
    for each in taken[: len(taken) // 2]:
        task_id = task_of(each.record.order.request_id)
        assert await tasks.began(task_id, each.token, route="r", attempt=2)
        assert await tasks.end(task_id, each.token, TaskStatus.COMPLETED, callback_body=b"{}")
    os.kill(os.getpid(), signal.SIGKILL)


async def test_killed_workers_leave_nothing_undone(ledger: RedisLedger, store: Store, server: str, realm: str) -> None:
    """Processes are killed with tasks in hand: each task ends once, and is told of once."""
    tasks = RedisTasks(store, realm, silence=0.5)
    ids = {await queued(ledger, tasks, f"p{i % 3}", url="https://c.example/") for i in range(60)}
    for most in (20, 7, 1, 12):
        process = DyingProcess(__name__, "work_and_die", server, realm, str(most))
        await asyncio.to_thread(process.end)
    async with asyncio.timeout(60):
        while (await tasks.counts())[TaskStatus.COMPLETED] < len(ids):
            for each in await tasks.take(5):
                task_id = task_of(each.record.order.request_id)
                await tasks.end(task_id, each.token, TaskStatus.COMPLETED, callback_body=b"{}")
            await asyncio.sleep(0.01)
    counts = {status: count for status, count in (await tasks.counts()).items() if count}
    assert counts == {TaskStatus.COMPLETED: len(ids)}
    messages = await RedisCallbacks(store, realm).due(200)
    assert len(messages) == len(ids)
    assert {message.task_id for message in messages} == ids
    assert await store.execute("EXISTS", *(Names(realm).queue(f"p{i}") for i in range(3))) == 0
    await ledger._leases.sweep()
    assert set((await balances(store, realm)).values()) == {(0, 0)}

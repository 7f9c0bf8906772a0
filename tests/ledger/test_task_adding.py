"""Tasks whose making is not answered: there is one of each, or nothing of it stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.domain.task import TaskStatus, task_of
from gateway.ledger.audit import audit
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks
from gateway.ports import LedgerUnavailable
from gateway.tasks import adding
from gateway.tasks.adding import NOT_QUEUED, add, take_back, taken_back
from tests.ledger.proxy import Proxy, proxied
from tests.ledger.work import RULE, held_ahead, new_request, order, queued


@pytest.fixture
async def tasks(ledger: RedisLedger, store: Store, realm: str) -> RedisTasks:
    """The queue as any gateway sees it; the server knows how tasks are added."""
    tasks = RedisTasks(store, realm)
    name = await queued(ledger, tasks, "elsewhere")
    await tasks.end(name, None, TaskStatus.CANCELLED)
    await ledger._leases.sweep()
    return tasks


@pytest.fixture
async def wire(server: str, tmp_path: Path) -> AsyncIterator[tuple[Proxy, Store]]:
    """A connection that can be cut after a command has arrived."""
    async with proxied(server, tmp_path) as (proxy, url):
        store = Store(url, deadline=0.5, silence=None)
        await store.execute("PING")
        yield proxy, store
        await store.aclose()


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(60):
        while not await check():  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.02)


async def test_a_task_that_was_added_unheard_is_one(
    ledger: RedisLedger, tasks: RedisTasks, realm: str, wire: tuple[Proxy, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store took it and its answer is lost: asked again it says so, and the task is there once."""
    monkeypatch.setattr(adding, "PAUSES", (0.1,) * 100)
    (proxy, store), request = wire, new_request()
    made = order(request, hold=await held_ahead(ledger, request))
    proxy.mute = True
    adding_it = asyncio.create_task(add(RedisTasks(store, realm), made))

    async def there() -> bool:
        return await tasks.find(task_of(request)) is not None

    await until(there)
    proxy.mute = False
    await adding_it
    assert [record.order.request_id for record in await tasks.listed("p")] == [request]
    assert (await tasks.counts())[TaskStatus.PENDING] == 1


async def test_a_task_that_nobody_heard_of_leaves_nothing_behind(
    ledger: RedisLedger, tasks: RedisTasks, store: Store, realm: str, wire: tuple[Proxy, Store]
) -> None:
    """The store took it and never answers its maker: once it does, the task is unknown, and no worker gets it."""
    (proxy, cut), request = wire, new_request()
    made = order(request, hold=await held_ahead(ledger, request), url="https://example.com/")
    lonely = RedisTasks(cut, realm)
    proxy.mute = True
    with pytest.raises(LedgerUnavailable):
        await add(lonely, made)
    assert await tasks.find(task_of(request)) is not None
    take_back(lonely, made)
    await ledger.void(request, made.queued_hold, NOT_QUEUED)
    proxy.mute = False

    async def gone() -> bool:
        return await tasks.find(task_of(request)) is None

    await until(gone)
    assert (await tasks.take(10), await tasks.listed("p")) == ([], [])
    assert (await tasks.counts())[TaskStatus.PENDING] == 0
    [balance] = await ledger.balances([RULE])
    assert (balance.used, balance.held) == (0, 0)
    with pytest.raises(LedgerUnavailable, match="lapsed"):
        await tasks.add(made)
    assert (await audit(store, realm, thorough=True)).agrees


async def test_a_worker_that_has_it_already_loses_it(ledger: RedisLedger, tasks: RedisTasks) -> None:
    """Taken before it is taken back, it can neither be begun nor ended nor kept; others of its project go on."""
    name, other = await queued(ledger, tasks), await queued(ledger, tasks)
    first, second = await tasks.take(2)
    await tasks.undo(first.record.order)
    assert (await tasks.keep({name: first.token, other: second.token})).lost == (name,)
    assert not await tasks.began(name, first.token, route="r", attempt=2)
    assert not await tasks.end(name, first.token, TaskStatus.FAILED)
    await tasks.give_back(name, first.token)
    assert await tasks.find(name) is None
    assert await tasks.began(other, second.token, route="r", attempt=2)
    assert (await tasks.counts())[TaskStatus.PROCESSING] == 1


async def test_what_was_begun_or_has_ended_is_not_taken_back(ledger: RedisLedger, tasks: RedisTasks) -> None:
    """A call may have been sent, or a client may have seen the end: the task stays as it is."""
    name, other = await queued(ledger, tasks), await queued(ledger, tasks)
    first, second = await tasks.take(2)
    assert await tasks.began(name, first.token, route="r", attempt=2)
    assert await tasks.end(other, second.token, TaskStatus.FAILED)
    for each in (first, second):
        await tasks.undo(each.record.order)
    assert [record.status for record in await tasks.listed("p")] == [TaskStatus.FAILED, TaskStatus.PROCESSING]


async def test_whether_a_task_was_taken_back_is_told_by_its_hold(ledger: RedisLedger) -> None:
    """Its hold was given back for that reason; one that waits or ended otherwise is a task like any other."""
    every = [order(request, hold=await held_ahead(ledger, request)) for request in (new_request() for _ in range(3))]
    await ledger.void(every[0].request_id, 1, NOT_QUEUED)
    await ledger.void(every[1].request_id, 1, "cancelled")
    assert [await taken_back(ledger, each, within=0.3) for each in every] == [True, False, False]

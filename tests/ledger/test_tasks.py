"""The queue of tasks on a real server: fair, exclusive, and nothing in it is lost with whoever had it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from gateway.domain.budget import Held
from gateway.domain.settlement import SettleResult
from gateway.domain.task import TaskOrder, TaskStatus, request_of, task_of
from gateway.ledger import script
from gateway.ledger.audit import audit
from gateway.ledger.callbacks import RedisCallbacks
from gateway.ledger.contact import Contact
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.script import Script
from gateway.ledger.store import Store
from gateway.ledger.tasks import LOOKED_AT, RedisTasks
from gateway.ports import LedgerUnavailable
from gateway.ports.tasks import Taken
from tests.ledger.proxy import Proxy, proxied
from tests.ledger.rules import ABOUT, balances, candidate
from tests.ledger.work import AMOUNT, RULE, fall_silent, held_ahead, new_request, order, queued, watchful

DONE = TaskStatus.COMPLETED


@pytest.fixture
def tasks(store: Store, realm: str) -> RedisTasks:
    """One worker, in touch with the store for long enough to know who is silent."""
    return watchful(RedisTasks(store, realm))


@pytest.fixture
def other(store: Store, realm: str) -> RedisTasks:
    """Another worker."""
    return watchful(RedisTasks(store, realm))


async def one(tasks: RedisTasks) -> Taken:
    """Take one task, and be sure of it."""
    [taken] = await tasks.take(1)
    return taken


def id_of(taken: Taken) -> str:
    """The id of a task that was taken."""
    return task_of(taken.record.order.request_id)


async def status(tasks: RedisTasks, task_id: str) -> TaskStatus:
    """Where a task is."""
    record = await tasks.find(task_id)
    assert record is not None
    return record.status


async def some(tasks: RedisTasks) -> dict[str, int]:
    """How many there are by status, but for none."""
    return {str(status): count for status, count in (await tasks.counts()).items() if count}


async def test_a_task_from_order_to_result(ledger: RedisLedger, tasks: RedisTasks) -> None:
    """Everything that is said of it is found, by its id and in its project's list."""
    request = new_request()
    ordered = replace(
        order(request, "p", url="https://client.example/hook"), headers=MappingProxyType({"a": "é"}), max_wait=1.5, n=3
    )
    await held_ahead(ledger, request)
    await tasks.add(ordered)
    task_id = task_of(request)
    record = await tasks.find(task_id)
    assert record is not None
    assert replace(record.order, headers=ordered.headers) == ordered
    assert (record.status, record.order.headers) == (TaskStatus.PENDING, {"a": "é"})
    taken = await one(tasks)
    assert (id_of(taken), taken.again, taken.record.status) == (task_id, False, TaskStatus.PROCESSING)
    assert await tasks.began(task_id, taken.token, route="r/1", attempt=2)
    await tasks.submitted(task_id, 1, {"id": "x1", "none": None, "list": [], "big": 2**60}, attempt=2)
    await tasks.submitted(task_id, 0, {"id": "x0"})
    assert not await tasks.advanced(task_id, 140)
    assert not (await tasks.keep({task_id: taken.token})).lost
    assert await tasks.end(task_id, taken.token, DONE, result={"data": [{"url": "u"}], "created": 1}, cost=40_000_000)
    record = await tasks.find(task_id)
    assert record is not None
    assert (record.attempt, record.route, record.progress, record.cost) == (2, "r/1", 100, 40_000_000)
    assert record.submitted == {0: {"id": "x0"}, 1: {"id": "x1", "none": None, "list": [], "big": 2**60}}
    assert (record.result, record.error) == ({"data": [{"url": "u"}], "created": 1}, None)
    assert await tasks.listed("p") == [record]
    assert await some(tasks) == {"completed": 1}


async def test_ten_thousand_of_one_project_do_not_delay_another(
    ledger: RedisLedger, tasks: RedisTasks, store: Store, realm: str
) -> None:
    """Projects are served in turn, each in the order in which its tasks came."""
    first = [await queued(ledger, tasks, "busy") for _ in range(3)]
    queue = Names(realm).queue("busy")
    for _ in range(20):  # as many more as would take minutes to hold money for; their entries lead nowhere
        await asyncio.gather(*(store.execute("XADD", queue, "*", "task", "task_" + "0" * 32) for _ in range(500)))
    assert [id_of(each) for each in await tasks.take(1)] == first[:1]
    rare = [await queued(ledger, tasks, "rare") for _ in range(2)]
    rarer = await queued(ledger, tasks, "rarer")
    taken = await tasks.take(5)
    assert [id_of(each) for each in taken] == [first[1], rare[0], rarer, first[2], rare[1]]


async def test_projects_that_are_passed_over_keep_their_turns(ledger: RedisLedger, tasks: RedisTasks) -> None:
    """Nothing new of them is taken meanwhile, and what was given back is; then they come first again."""
    waits = [await queued(ledger, tasks, "full") for _ in range(3)]
    returned = await one(tasks)
    await tasks.give_back(id_of(returned), returned.token)
    free = [await queued(ledger, tasks, "free") for _ in range(2)]

    assert [id_of(each) for each in await tasks.take(9, passing=["full"])] == [waits[0], *free]
    assert await tasks.take(9, passing=["full"]) == []
    late = await queued(ledger, tasks, "free")
    assert [id_of(each) for each in await tasks.take(9)] == [waits[1], late, waits[2]]


async def test_each_task_goes_to_one_of_many_workers(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Twenty workers at once on a hundred tasks of seven projects: each task is taken once, none is left."""
    workers = [RedisTasks(store, realm) for _ in range(20)]
    wanted = await asyncio.gather(*(queued(ledger, workers[0], f"p{i % 7}") for i in range(100)))

    async def drain(worker: RedisTasks) -> list[str]:
        found: list[str] = []
        while taken := await worker.take(3):
            found += map(id_of, taken)
        return found

    taken = Counter(each for found in await asyncio.gather(*map(drain, workers)) for each in found)
    assert taken == Counter(wanted)


async def test_silent_workers_lose_their_tasks(
    ledger: RedisLedger, tasks: RedisTasks, other: RedisTasks, store: Store, realm: str
) -> None:
    """Another takes them over, told so; whoever had one can neither begin, keep, give back nor fail it any more."""
    task_id = await queued(ledger, tasks)
    lost = await one(tasks)
    assert await other.take(1) == []
    await fall_silent(store, realm)
    taken = await one(other)
    assert (id_of(taken), taken.again) == (task_id, True)
    assert (await tasks.keep({task_id: lost.token})).lost == (task_id,)
    assert not await tasks.began(task_id, lost.token, route="r", attempt=2)
    assert not await tasks.end(task_id, lost.token, TaskStatus.FAILED, error={"message": "m"})
    await tasks.give_back(task_id, lost.token)
    assert not (await other.keep({task_id: taken.token})).lost
    assert await other.began(task_id, taken.token, route="r", attempt=2)


async def test_even_its_own_when_it_was_silent_itself(
    ledger: RedisLedger, tasks: RedisTasks, store: Store, realm: str
) -> None:
    """A worker that lost sight of a task takes it again like any other, and the first taking is void."""
    task_id = await queued(ledger, tasks)
    first = await one(tasks)
    await fall_silent(store, realm)
    second = await one(tasks)
    assert second.again
    assert (await tasks.keep({task_id: first.token})).lost == (task_id,)
    assert (await tasks.keep({task_id: second.token})).lost == ()


async def test_work_that_was_done_counts_even_then(
    ledger: RedisLedger, tasks: RedisTasks, other: RedisTasks, store: Store, realm: str
) -> None:
    """A result that comes from whoever was believed dead is the task's; it ends once."""
    task_id = await queued(ledger, tasks)
    lost = await one(tasks)
    await fall_silent(store, realm)
    taken = await one(other)
    assert await tasks.end(task_id, lost.token, DONE, result={"by": "first"})
    assert not await other.end(task_id, taken.token, DONE, result={"by": "second"})
    assert (await other.keep({task_id: taken.token})).lost == (task_id,)
    record = await other.find(task_id)
    assert record is not None
    assert record.result == {"by": "first"}
    assert await some(tasks) == {"completed": 1}


async def test_takeover_by_the_clock(ledger: RedisLedger, store: Store, realm: str) -> None:
    """With nobody's help: whoever keeps its task has it on, whoever does not has lost it soon."""
    quick = [RedisTasks(store, realm, silence=0.4) for _ in range(2)]
    kept, lost = [await queued(ledger, quick[0]) for _ in range(2)]
    patient = watchful(RedisTasks(store, realm, silence=120))
    await queued(ledger, patient, "q")
    held = {id_of(each): each.token for each in await quick[0].take(3)}
    async with asyncio.timeout(60):
        while not (taken := await quick[1].take(9)):
            await quick[0].keep({kept: held[kept]})
            await asyncio.sleep(0.02)
    assert lost in [id_of(each) for each in taken]
    assert all(each.again for each in taken)
    assert await patient.take(9) == []


async def test_after_an_outage_nobody_is_called_silent_at_once(
    ledger: RedisLedger, tasks: RedisTasks, store: Store, realm: str
) -> None:
    """Who was cut off itself waits until the others could be heard again."""
    await queued(ledger, tasks)
    await one(tasks)
    await fall_silent(store, realm)
    fresh = RedisTasks(store, realm)
    assert await fresh.take(1) == []
    watchful(fresh)._contact.lost()
    assert await fresh.take(1) == []
    assert (await one(watchful(fresh))).again


def test_contact_is_steady_after_a_while_without_a_break() -> None:
    """It begins anew with every failure, and with every gap of half the time."""
    now = [1000.0]
    contact = Contact(10, clock=lambda: now[0])

    def made(*times: float) -> list[bool]:
        said = []
        for now[0] in times:
            contact.made()
            said.append(contact.steady)
        return said

    assert made(1004, 1008, 1009.9, 1010) == [False, False, False, True]
    now[0] = 1016
    assert not contact.steady
    assert made(1016, 1020, 1024, 1026) == [False, False, False, True]
    contact.lost()
    assert not contact.steady


async def test_given_back_is_had_by_the_next_at_once(ledger: RedisLedger, tasks: RedisTasks, other: RedisTasks) -> None:
    """It is pending again and comes before those that wait; nobody was silent."""
    first, second = [await queued(ledger, tasks) for _ in range(2)]
    taken = await one(tasks)
    await tasks.give_back(first, taken.token)
    await tasks.give_back(first, taken.token)
    assert await some(tasks) == {"pending": 2}
    assert (await tasks.keep({first: taken.token})).lost == (first,)
    again = await other.take(2)
    assert [(id_of(each), each.again) for each in again] == [(first, True), (second, False)]
    assert await some(tasks) == {"processing": 2}


async def test_given_back_after_it_was_sent_goes_on_where_it_was(
    ledger: RedisLedger, tasks: RedisTasks, other: RedisTasks
) -> None:
    """The next worker finds what was submitted; the client sees it under way all the time, and can ask to cancel."""
    task_id = await queued(ledger, tasks)
    taken = await one(tasks)
    assert await tasks.began(task_id, taken.token, route="r", attempt=2)
    await tasks.submitted(task_id, 0, {"id": "there"})
    await tasks.give_back(task_id, taken.token)
    record = await tasks.cancel(task_id)
    assert record is not None
    assert (record.status, record.cancel_asked) == (TaskStatus.PROCESSING, True)
    again = await one(other)
    assert (again.record.attempt, again.record.submitted) == (2, {0: {"id": "there"}})
    assert again.record.cancel_asked


async def test_another_attempt_forgets_what_the_one_before_submitted(ledger: RedisLedger, tasks: RedisTasks) -> None:
    """What a provider took on belongs to one attempt; what comes late for an earlier one is not noted."""
    task_id = await queued(ledger, tasks)
    taken = await one(tasks)
    assert await tasks.began(task_id, taken.token, route="r", attempt=2)
    for number in range(3):
        await tasks.submitted(task_id, number, {"id": "two"}, attempt=2)
    assert await tasks.began(task_id, taken.token, route="r", attempt=2)
    assert await tasks.began(task_id, taken.token, route="s", attempt=3)
    await tasks.submitted(task_id, 1, {"id": "late"}, attempt=2)
    await tasks.submitted(task_id, 0, {"id": "three"}, attempt=3)
    record = await tasks.find(task_id)
    assert record is not None
    assert (record.attempt, record.route, record.submitted) == (3, "s", {0: {"id": "three"}})


async def test_a_store_that_came_back_older_is_told_of_calls_under_way(
    ledger: RedisLedger, tasks: RedisTasks, store: Store, realm: str
) -> None:
    """By whoever made them, as long as it has the task: nobody takes it for one that never began."""
    task_id = await queued(ledger, tasks)
    taken = await one(tasks)
    assert await tasks.began(task_id, taken.token, route="r", attempt=2)

    async def told_again() -> tuple[str | None, int | None]:
        await store.execute("HDEL", Names(realm).task(task_id), "attempt", "route", "begun")
        await tasks.keep({task_id: taken.token})
        record = await tasks.find(task_id)
        assert record is not None
        return record.route, record.attempt

    assert await told_again() == ("r", 2)
    await tasks.give_back(task_id, taken.token)
    assert await told_again() == (None, None)


async def test_what_is_announced_is_there_before_it_is_done_or_must_not_be(
    ledger: RedisLedger, tasks: RedisTasks, other: RedisTasks
) -> None:
    """Whoever takes the task over finds it; whoever lost the task, or has begun another attempt, is refused."""
    task_id = await queued(ledger, tasks)
    taken = await one(tasks)
    assert await tasks.began(task_id, taken.token, route="r", attempt=2)
    assert not await tasks.announced(task_id, taken.token, 0, {"id": "early"}, attempt=1)
    assert await tasks.announced(task_id, taken.token, 0, {"id": "batch"}, attempt=2)
    await tasks.give_back(task_id, taken.token)
    assert not await tasks.announced(task_id, taken.token, 1, {"id": "late"}, attempt=2)
    again = await one(other)
    assert (again.record.attempt, again.record.submitted) == (2, {0: {"id": "batch"}})
    assert not await tasks.announced(task_id, taken.token, 1, {"id": "later"}, attempt=2)
    assert await other.began(task_id, again.token, route="r", attempt=3)
    assert await other.announced(task_id, again.token, 0, {"id": "other"}, attempt=3)
    record = await other.find(task_id)
    assert record is not None
    assert record.submitted == {0: {"id": "other"}}


async def test_cancelled_before_anybody_had_it(
    ledger: RedisLedger, tasks: RedisTasks, store: Store, realm: str
) -> None:
    """It ends at once with its callback, its money is free with the next sweep, and no worker gets it."""
    task_id = await queued(ledger, tasks, url="https://client.example/hook")
    record = await tasks.cancel(task_id, callback_body=b'{"status":"cancelled"}')
    assert record is not None
    assert record.status is TaskStatus.CANCELLED
    assert await tasks.take(1) == []
    [message] = await RedisCallbacks(store, realm).due(9)
    assert (message.task_id, message.body) == (task_id, b'{"status":"cancelled"}')
    await ledger._leases.sweep()
    assert set((await balances(store, realm)).values()) == {(0, 0)}
    again = await tasks.cancel(task_id)
    assert again == record
    assert await some(tasks) == {"cancelled": 1}
    assert (await audit(store, realm)).agrees


async def test_cancelling_what_is_under_way_reaches_its_worker(ledger: RedisLedger, tasks: RedisTasks) -> None:
    """Its worker hears of it by whatever it says next, and ends it as it can."""
    task_id = await queued(ledger, tasks)
    taken = await one(tasks)
    record = await tasks.cancel(task_id)
    assert record is not None
    assert (record.status, record.cancel_asked) == (TaskStatus.PROCESSING, True)
    assert (await tasks.keep({task_id: taken.token})).cancelled == (task_id,)
    assert await tasks.advanced(task_id, 10)
    assert not await tasks.began(task_id, taken.token, route="r", attempt=2)
    assert await tasks.end(task_id, taken.token, TaskStatus.CANCELLED)
    assert await some(tasks) == {"cancelled": 1}


async def test_whatever_ends_a_task_lets_its_waiting_hold_go(
    ledger: RedisLedger, tasks: RedisTasks, store: Store, realm: str
) -> None:
    """One that never began holds nothing any more; one that was sent is not touched: that is its worker's matter."""
    idle, sent = await queued(ledger, tasks), await queued(ledger, tasks)
    request = request_of(sent)
    assert request is not None
    answer = await ledger.choose_and_hold(request, [candidate((RULE, AMOUNT))], about=ABOUT, release=1)
    assert isinstance(answer, Held)
    assert await tasks.end(idle, None, TaskStatus.FAILED, error={"code": "expired"})
    assert await tasks.end(sent, None, TaskStatus.FAILED)
    await ledger._leases.sweep()
    assert set((await balances(store, realm)).values()) == {(0, 100)}
    assert await ledger.void(request, answer.attempt, "refused") is SettleResult.DONE
    assert not await tasks.end(idle, None, TaskStatus.FAILED)
    assert (await audit(store, realm)).agrees


async def test_a_hold_lasts_as_long_as_its_task_may_wait(
    ledger: RedisLedger, tasks: RedisTasks, store: Store, realm: str
) -> None:
    """Queueing moves its lapse to a minute after the last moment at which work may begin; never to an earlier one."""
    due = Names(realm).due
    task_id = await queued(ledger, tasks, waits=500)
    record = await tasks.find(task_id)
    assert record is not None
    lapses = float(await store.execute("ZSCORE", due, f"{request_of(task_id)}:1")) / 1000
    assert abs(lapses - record.order.not_after - 60) < 0.01
    request = new_request()
    await held_ahead(ledger, request, ahead=4000)
    before = await store.execute("ZSCORE", due, f"{request}:1")
    await tasks.add(order(request, waits=1))
    assert await store.execute("ZSCORE", due, f"{request}:1") == before


async def test_a_task_without_money_is_not_queued(ledger: RedisLedger, tasks: RedisTasks) -> None:
    """A hold that lapsed before the task was queued refuses it; nothing of it is left."""
    request = new_request()
    await held_ahead(ledger, request, ahead=0)
    await ledger._leases.sweep()
    with pytest.raises(LedgerRefused, match="its hold has lapsed"):
        await tasks.add(order(request))
    assert await tasks.find(task_of(request)) is None
    assert await some(tasks) == {}


async def test_queued_again_changes_nothing(ledger: RedisLedger, tasks: RedisTasks) -> None:
    """An order that is repeated because its answer was lost is one task, wherever that is by then."""
    request = new_request()
    await held_ahead(ledger, request)
    ordered = order(request)
    await tasks.add(ordered)
    await tasks.add(ordered)
    taken = await one(tasks)
    await tasks.add(ordered)
    assert await tasks.take(1) == []
    assert await tasks.end(task_of(request), taken.token, DONE)
    await tasks.add(ordered)
    assert await tasks.take(1) == []
    assert await some(tasks) == {"completed": 1}


async def test_it_is_forgotten_a_while_after_its_end(ledger: RedisLedger, store: Store, realm: str) -> None:
    """No record, no place in a list, no count: nothing of it is left in the store but the books."""
    brief, money = RedisTasks(store, realm, kept=0.05), await queued_keys(ledger, store, realm)
    ended = [await queued(ledger, brief, project, url="https://c.example/") for project in ("p", "q")]
    for taken in await brief.take(2):
        assert await brief.end(id_of(taken), taken.token, DONE)
    stays = await queued(ledger, brief)
    await asyncio.sleep(0.1)
    assert [id_of(each) for each in await brief.take(9)] == [stays]
    assert [await brief.find(each) for each in ended] == [None, None]
    assert (await brief.listed("q"), [task_of(each.order.request_id) for each in await brief.listed("p")]) == (
        [],
        [stays],
    )
    assert await some(brief) == {"processing": 1}
    assert await brief.end(stays, None, DONE)
    await asyncio.sleep(0.1)
    await brief.take(9)
    await ledger._leases.sweep()
    left = {name for name in await queued_keys(ledger, store, realm) if ":req:" not in name and ":took:" not in name}
    assert left - money == {Names(realm).task_counts, Names(realm).balances}


async def queued_keys(ledger: RedisLedger, store: Store, realm: str) -> set[str]:
    """All that a realm has in the store, once it has a ledger."""
    await ledger.open()
    return set(await store.execute("KEYS", f"igw:{{{realm}}}:*"))


async def test_lists_are_newest_first_by_page_and_status(ledger: RedisLedger, tasks: RedisTasks) -> None:
    """Pages join without gap or repetition, and a task of another project is nobody's cursor."""
    mine = [await queued(ledger, tasks, "p") for _ in range(7)]
    others = await queued(ledger, tasks, "q")
    await tasks.cancel(mine[2])
    await tasks.cancel(mine[5])

    async def ids(after: str | None, limit: int, status: TaskStatus | None = None) -> list[str]:
        found = await tasks.listed("p", after=after, limit=limit, status=status)
        return [task_of(each.order.request_id) for each in found]

    newest = mine[::-1]
    assert await ids(None, 20) == newest
    assert await ids(None, 3) == newest[:3]
    assert await ids(newest[2], 3) == newest[3:6]
    assert await ids(newest[5], 3) == newest[6:]
    assert await ids(newest[6], 3) == []
    assert await ids(None, 1, TaskStatus.CANCELLED) == [mine[5]]
    assert await ids(mine[5], 9, TaskStatus.CANCELLED) == [mine[2]]
    assert await ids(others, 9) == []
    assert await ids("task_unknown", 9) == []
    assert await ids(None, 0) == []


async def test_a_status_is_found_however_far_back(ledger: RedisLedger, tasks: RedisTasks) -> None:
    """Those of a rare status are found among more than one script looks at."""
    rare = await queued(ledger, tasks)
    await tasks.cancel(rare)
    await asyncio.gather(*(queued(ledger, tasks) for _ in range(LOOKED_AT + 10)))
    found = await tasks.listed("p", status=TaskStatus.CANCELLED)
    assert [task_of(each.order.request_id) for each in found] == [rare]
    assert len(await tasks.listed("p", limit=LOOKED_AT + 5)) == LOOKED_AT + 5


async def test_what_is_no_task_is_not_found(tasks: RedisTasks) -> None:
    """Unknown and malformed ids alike: nothing is found, ended or cancelled, and no key is touched."""
    for task_id in ("task_" + "0" * 32, "task_x", "x", "", "task_" + "0" * 32 + "}:bal"):
        assert await tasks.find(task_id) is None
        assert await tasks.cancel(task_id) is None
        assert not await tasks.end(task_id, None, DONE)
    with pytest.raises(ValueError, match="no token"):
        await tasks.give_back("task_" + "0" * 32, "junk")


async def test_sizes_are_bounded(ledger: RedisLedger, tasks: RedisTasks) -> None:
    """What is too large is refused before it leaves, in bytes; the task is as it was."""
    request = new_request()
    await held_ahead(ledger, request)
    with pytest.raises(ValueError, match="a task's order is larger"):
        await tasks.add(replace(order(request), headers={"h": "x" * 65_536}))
    await tasks.add(order(request))
    task_id, taken = task_of(request), await one(tasks)
    big = {"x": "é" * 600_000}
    with pytest.raises(ValueError, match="a task's result is larger"):
        await tasks.end(task_id, taken.token, DONE, result=big)
    with pytest.raises(ValueError, match="a task's error is larger"):
        await tasks.end(task_id, taken.token, TaskStatus.FAILED, error=big)
    with pytest.raises(ValueError, match="what was submitted is larger"):
        await tasks.submitted(task_id, 0, big)
    with pytest.raises(ValueError, match="a callback's body is larger"):
        await tasks.cancel(task_id, callback_body=b"x" * 1_048_577)
    assert await status(tasks, task_id) is TaskStatus.PROCESSING


async def test_an_order_of_a_newer_version_is_read(
    ledger: RedisLedger, tasks: RedisTasks, store: Store, realm: str
) -> None:
    """While gateways of two versions share a store, what one does not know it leaves out."""
    task_id = await queued(ledger, tasks)
    key = Names(realm).task(task_id)
    text = await store.execute("HGET", key, "order")
    await store.execute("HSET", key, "order", text[:-1] + ',"mood":"fine"}')
    assert isinstance((await one(tasks)).record.order, TaskOrder)


async def test_a_take_whose_answer_was_lost_is_answered_again(
    ledger: RedisLedger, server: str, realm: str, tmp_path: Path, other: RedisTasks
) -> None:
    """The worker's next call has the same tasks, not after anybody's silence; what it does not want goes to others."""
    ids = [await queued(ledger, other) for _ in range(3)]
    async with proxied(server, tmp_path) as (wire, url):
        store = Store(url, deadline=0.5)
        tasks = RedisTasks(store, realm)
        await tasks.counts()
        wire.mute = True
        with pytest.raises(LedgerUnavailable):
            await tasks.take(3)
        wire.mute = False
        assert await some(other) == {"processing": 3}
        assert await other.take(3) == []
        [taken] = await answered(lambda: tasks.take(1))
        assert (id_of(taken), taken.again) == (ids[0], False)
        assert {id_of(each) for each in await other.take(3)} == {*ids[1:]}
        assert not (await tasks.keep({ids[0]: taken.token})).lost
        await store.aclose()


async def answered(ask: Callable[[], Awaitable[Sequence[Taken]]]) -> Sequence[Taken]:
    """Ask until the store answers again."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await ask()
            except LedgerUnavailable:
                await asyncio.sleep(0.02)


@pytest.fixture
async def wire(server: str, tmp_path: Path) -> AsyncIterator[tuple[Proxy, Store]]:
    """Connections through a proxy that can swallow what comes back, or never pass on what goes out."""
    async with proxied(server, tmp_path) as (proxy, url):
        store = Store(url, deadline=0.5)
        for each in (each for each in vars(script).values() if isinstance(each, Script)):
            await store.execute("SCRIPT", "LOAD", each.source)  # a lost reply must be of the command, not that it lacks
        yield proxy, store
        proxy.through.set()
        await store.aclose()


STEPS = ("add", "take", "keep", "began", "announced", "submitted", "advanced", "end")


@pytest.mark.parametrize("arrives", [True, False], ids=["reply lost", "never arrived"])
@pytest.mark.parametrize("broken", STEPS)
async def test_a_worker_that_dies_at_any_step_loses_nothing(  # noqa: PLR0917 - fixtures
    broken: str,
    arrives: bool,
    wire: tuple[Proxy, Store],
    ledger: RedisLedger,
    other: RedisTasks,
    store: Store,
    realm: str,
) -> None:
    """Cut off before or after any of its commands, and then dead: the task ends once, its callback is there once,
    and nothing is held or left over.
    """
    proxy, behind = wire
    mine, request = RedisTasks(behind, realm), new_request()
    task_id, token = task_of(request), ""
    await held_ahead(ledger, request)
    steps: dict[str, Callable[[], Awaitable[object]]] = {
        "add": lambda: mine.add(order(request, url="https://c.example/")),
        "take": lambda: mine.take(1),
        "keep": lambda: mine.keep({task_id: token}),
        "began": lambda: mine.began(task_id, token, route="r", attempt=1),
        "announced": lambda: mine.announced(task_id, token, 0, {"id": "x"}, attempt=1),
        "submitted": lambda: mine.submitted(task_id, 0, {"id": "x"}),
        "advanced": lambda: mine.advanced(task_id, 5),
        "end": lambda: mine.end(task_id, token, DONE, callback_body=b"{}"),
    }
    for name in STEPS:
        if name == broken:
            await mine.counts()
            proxy.mute = arrives
            if not arrives:
                proxy.through.clear()
            with pytest.raises(LedgerUnavailable):
                await steps[name]()
            break
        answer = await steps[name]()
        if name == "take":
            assert isinstance(answer, list)
            token = answer[0].token
    if (record := await other.find(task_id)) is None:
        assert (broken, arrives) == ("add", False)
        await store.execute("ZADD", Names(realm).due, 1, f"{request}:1")
    elif not record.status.ended:
        if record.status is TaskStatus.PROCESSING:
            await fall_silent(store, realm)
        taken = await one(other)
        assert id_of(taken) == task_id
        assert await other.end(task_id, taken.token, DONE, callback_body=b"{}")
    await ledger._leases.sweep()
    assert await some(other) == ({} if record is None else {"completed": 1})
    assert len(await RedisCallbacks(store, realm).due(9)) == (record is not None)
    assert await other.take(9) == []
    assert await store.execute("EXISTS", Names(realm).queue("p"), Names(realm).task_turns, Names(realm).task_looks) == 0
    assert set((await balances(store, realm)).values()) == {(0, 0)}
    assert (await audit(store, realm, thorough=True)).agrees


async def test_names_of_workers_long_gone_are_forgotten(
    ledger: RedisLedger, tasks: RedisTasks, store: Store, realm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that never empties does not remember every process that ever worked on it, but whoever has a task."""
    monkeypatch.setattr("gateway.ledger.tasks.GONE", "0")  # the server's clock cannot be moved by an hour
    ids = [await queued(ledger, tasks) for _ in range(3)]
    gone = RedisTasks(store, realm, worker="gone")
    assert await gone.end(ids[0], (await one(gone)).token, DONE)
    await one(tasks)
    queue = Names(realm).queue("p")
    assert len(await store.execute("XINFO", "CONSUMERS", queue, "workers")) == 2
    await fall_silent(store, realm)
    later = watchful(RedisTasks(store, realm, worker="later"))
    await asyncio.sleep(0.01)
    await later.take(9)
    assert [each[1] for each in await store.execute("XINFO", "CONSUMERS", queue, "workers")] == ["later"]


async def test_a_look_that_a_clock_ahead_put_off_is_not_waited_for(
    ledger: RedisLedger, tasks: RedisTasks, other: RedisTasks, store: Store, realm: str
) -> None:
    """The store's clock was six hours ahead when the project's first task was taken; its worker is silent by now."""
    task_id = await queued(ledger, tasks)
    await one(tasks)
    await fall_silent(store, realm)
    seconds, _ = await store.execute("TIME")
    looks = Names(realm).task_looks
    await store.execute("ZADD", looks, (int(seconds) + 6 * 3600) * 1000, "p")
    assert id_of(await one(other)) == task_id
    assert int((await store.execute("ZRANGE", looks, 0, -1, "WITHSCORES"))[1]) < (int(seconds) + 3600) * 1000


async def test_whoever_hears_nothing_of_its_end_and_asks_again_has_ended_it(
    ledger: RedisLedger, tasks: RedisTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer was lost: it is told by the one that has ended it, and by nobody else."""
    task_id = await queued(ledger, tasks)
    taken, run = await one(tasks), tasks._calls.run

    async def unheard(*asked: Any) -> Any:
        await run(*asked)
        raise LedgerUnavailable("no answer")

    with monkeypatch.context() as lost:
        lost.setattr(tasks._calls, "run", unheard)
        with pytest.raises(LedgerUnavailable):
            await tasks.end(task_id, taken.token, TaskStatus.FAILED)
    assert await tasks.end(task_id, taken.token, TaskStatus.FAILED)
    assert not await tasks.end(task_id, taken.token, TaskStatus.FAILED)

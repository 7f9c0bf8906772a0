"""While a cluster moves a realm's slot, some keys of a queue are there and some are not: no task is lost by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from gateway.domain.task import TaskStatus, task_of
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks
from gateway.observe.event import LedgerFailed
from gateway.ports.tasks import Taken
from tests.ledger.test_moving_slots import Move, ledger, store
from tests.ledger.topologies import Cluster
from tests.ledger.work import fall_silent, queued, watchful
from tests.rig import Events

__all__ = ["ledger", "store"]  # fixtures


def ids(taken: Sequence[Taken]) -> set[str]:
    """The ids of what was taken."""
    return {task_of(each.record.order.request_id) for each in taken}


@dataclass
class Line:
    """A queue of a realm whose lists all exist, so that a slot on the move is not refused at once."""

    store: Store
    realm: str
    names: Names
    tasks: RedisTasks
    other: RedisTasks
    back: str
    new: list[str]
    silent: str

    @property
    def lists(self) -> list[str]:
        """The keys that taking names."""
        names = self.names
        lists = [names.task_turns, names.task_looks, names.tasks_returned, names.tasks_ended, names.task_counts]
        return [*lists, names.took("one")]

    @property
    def waiting(self) -> set[str]:
        """Every task that may be taken."""
        return {self.back, *self.new, self.silent}

    async def taken_afterwards(self) -> list[Taken]:
        """What another gateway gets; the silent worker was still not heard of."""
        await fall_silent(self.store, self.realm, "gone")
        return [*await self.other.take(9)]


@pytest.fixture
async def line(store: Store, realm: str, ledger: RedisLedger) -> Line:
    """One task has ended, one was given back, one is a silent worker's, and two nobody had yet."""
    names, tasks = Names(realm), watchful(RedisTasks(store, realm, worker="one"))
    gone = RedisTasks(store, realm, worker="gone")
    silent = await queued(ledger, gone)
    assert ids(await gone.take(1)) == {silent}
    await queued(ledger, tasks), await queued(ledger, tasks)
    done, back = await tasks.take(2)
    await tasks.end(task_of(done.record.order.request_id), done.token, TaskStatus.COMPLETED)
    await tasks.give_back(task_of(back.record.order.request_id), back.token)
    new = [await queued(ledger, tasks) for _ in range(2)]
    await fall_silent(store, realm, "gone")
    other = watchful(RedisTasks(store, realm, worker="two"))
    return Line(store, realm, names, tasks, other, task_of(back.record.order.request_id), new, silent)


async def test_tasks_whose_records_come_later_stay_in_their_queue(
    cluster: Cluster, store: Store, realm: str, line: Line
) -> None:
    """The lists are at the other node first: who asks there gets nothing, and everything afterwards."""
    move = Move(cluster, realm)
    move.begin()
    move.carry(*line.lists, line.names.queue("p"))
    assert await line.tasks.take(9) == []
    move.complete()
    assert ids(await line.taken_afterwards()) == line.waiting


async def test_projects_whose_queue_comes_later_keep_their_turn(
    cluster: Cluster, store: Store, realm: str, line: Line
) -> None:
    """A project whose turn was struck off would wait for somebody to make another task of it."""
    move = Move(cluster, realm)
    move.begin()
    move.carry(*line.lists, *(line.names.task(each) for each in line.waiting))
    assert await line.tasks.take(9) == []
    move.complete()
    assert ids(await line.taken_afterwards()) == line.waiting


@pytest.mark.parametrize("first", ["back", "silent", "new"])
async def test_a_task_that_has_gone_ahead_stops_no_other(
    cluster: Cluster, store: Store, realm: str, line: Line, first: str
) -> None:
    """Its record is at the other node already: the rest is taken in full, and it afterwards."""
    ahead = {"back": line.back, "silent": line.silent, "new": line.new[0]}[first]
    move = Move(cluster, realm)
    move.begin()
    move.carry(line.names.task(ahead))
    assert ids(await line.tasks.take(9)) == line.waiting - {ahead}
    move.complete()
    assert ids(await line.taken_afterwards()) == {ahead}


async def test_a_queue_that_has_gone_ahead_keeps_its_turn(
    cluster: Cluster, store: Store, realm: str, line: Line
) -> None:
    """What is still at the old node is left as it is."""
    move = Move(cluster, realm)
    move.begin()
    move.carry(line.names.queue("p"))
    assert await line.tasks.take(9) == []
    move.complete()
    assert ids(await line.taken_afterwards()) == line.waiting


async def test_what_was_taken_unheard_is_not_told_without_its_record(store: Store, line: Line) -> None:
    """A repeat of a question whose answer was lost finds one record gone: the others are told."""
    operation = line.tasks._operation
    taken = await line.tasks.take(9)
    line.tasks._operation = operation
    await store.execute("DEL", line.names.task(line.back))
    assert ids(await line.tasks.take(9)) == ids(taken) - {line.back}


async def test_what_lost_its_record_for_good_leaves_nothing_in_the_queue(store: Store, realm: str, line: Line) -> None:
    """Where nothing moves it is struck off, and what comes behind it is taken at once."""
    gone, names = {line.back, line.new[0], line.silent}, line.names
    await store.execute("DEL", *(names.task(each) for each in gone))
    assert ids(await line.tasks.take(9)) == {line.new[1]}
    await fall_silent(store, realm, "-")  # as what nobody has is after a while
    await line.tasks.take(9)
    assert await store.execute("XLEN", names.queue("p")) == 1
    assert await store.execute("EXISTS", names.tasks_returned) == 0


async def test_what_lost_its_queue_for_good_is_struck_off(store: Store, realm: str, line: Line) -> None:
    """Nobody looks for it again and again."""
    names = line.names
    await store.execute("DEL", names.queue("p"))
    assert await line.tasks.take(9) == []
    assert await store.execute("EXISTS", names.task_turns, names.task_looks, names.tasks_returned) == 0


async def many(ledger: RedisLedger, tasks: RedisTasks, project: str, count: int) -> list[str]:
    """So many new tasks of a project."""
    return [await queued(ledger, tasks, project) for _ in range(count)]


async def test_what_cannot_be_struck_off_costs_one_refusal_and_keeps_nothing_new_away(
    cluster: Cluster, store: Store, realm: str, ledger: RedisLedger, line: Line
) -> None:
    """However many tasks of silent workers have gone ahead: the store refuses each of them for as long as it moves."""
    events, gone = Events(), RedisTasks(store, realm, worker="gone")
    ahead = await many(ledger, gone, "q", 12)
    had = {task_of(each.record.order.request_id): each.token for each in await gone.take(20)}
    assert had.keys() == {line.back, *line.new, *ahead}
    await gone.give_back(line.back, had[line.back])
    here = await many(ledger, gone, "r", 3)
    await fall_silent(store, realm, "gone")
    tasks = watchful(RedisTasks(store, realm, worker="one", observer=events))
    move = Move(cluster, realm)
    move.begin()
    ahead += [*line.waiting - {line.back}]
    move.carry(*(line.names.task(each) for each in ahead))
    assert ids(await tasks.take(9)) == {line.back, *here}
    assert len([event for event in events.seen if isinstance(event, LedgerFailed)]) == 1
    move.complete()
    assert ids([*await line.taken_afterwards(), *await line.taken_afterwards()]) == {*ahead}


async def test_tasks_behind_many_that_have_gone_ahead_are_taken(
    cluster: Cluster, store: Store, realm: str, ledger: RedisLedger, line: Line
) -> None:
    """Those of a silent worker, and those that were given back: as many as a take may look at stand before them."""
    given_back, silent = await many(ledger, line.other, "q", 10), await many(ledger, line.other, "r", 10)
    for each in await line.other.take(30):
        name = task_of(each.record.order.request_id)
        if name in given_back:
            await line.other.give_back(name, each.token)
    await fall_silent(store, realm)
    await queued(ledger, line.tasks, "s")  # so that the list of turns is there
    move, last = Move(cluster, realm), {given_back[-1], silent[-1]}
    move.begin()
    ahead = {*line.waiting, *given_back, *silent} - last
    move.carry(*(line.names.task(each) for each in ahead))
    taken: set[str] = set()
    for _ in range(6):
        taken |= ids(await line.tasks.take(4, passing={"s"}))
        await store.execute("ZADD", line.names.task_looks, 1, "p", 1, "r")  # it is time to look again
    assert taken == last
    move.give_up()


async def test_a_queue_whose_tasks_have_gone_ahead_is_not_read_to_its_end_at_once(
    cluster: Cluster, store: Store, realm: str, ledger: RedisLedger, line: Line
) -> None:
    """The step is short for whoever waits for the store meanwhile, and other projects get their turns."""
    ahead, here = await many(ledger, line.tasks, "q", 130), await many(ledger, line.tasks, "r", 3)
    move = Move(cluster, realm)
    move.begin()
    move.carry(*(line.names.task(each) for each in ahead))
    assert ids(await line.tasks.take(9)) == {*line.waiting, *here}
    assert 0 < await store.execute("ZCARD", line.names.tasks_returned) < len(ahead)
    move.give_up()

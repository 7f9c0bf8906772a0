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
from gateway.ports.tasks import Taken
from tests.ledger.test_moving_slots import Move, ledger, store
from tests.ledger.topologies import Cluster
from tests.ledger.work import fall_silent, queued, watchful

__all__ = ["ledger", "store"]  # fixtures


def ids(taken: Sequence[Taken]) -> set[str]:
    """The ids of what was taken."""
    return {task_of(each.record.order.request_id) for each in taken}


@dataclass
class Line:
    """A queue of a realm whose lists all exist, so that a slot on the move is not refused at once."""

    store: Store
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
        """What another gateway gets; it is time to look for silent ones again."""
        await self.store.execute("ZADD", self.names.task_looks, 1, "p")
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
    return Line(store, names, tasks, other, task_of(back.record.order.request_id), new, silent)


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
    [taken] = await line.taken_afterwards()
    assert (ids([taken]), taken.again) == ({ahead}, first == "silent")


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

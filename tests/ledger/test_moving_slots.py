"""While a cluster moves a realm's slot, some keys are there and some are not: no script stops halfway for that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.domain.task import TaskStatus
from gateway.ledger import script
from gateway.ledger.audit import audit
from gateway.ledger.callbacks import RedisCallbacks
from gateway.ledger.locate import slot_of
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.responses import RedisResponses
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks, message_of
from gateway.ports.responses import Remembered
from tests.ledger.rules import ABOUT, budget, candidate, concurrent, hold, settlement
from tests.ledger.topologies import Cluster, Server, node_id
from tests.ledger.work import held_ahead, new_request, order, queued

RULE = budget(1000)
OFFER = candidate((RULE, 100), (concurrent(5), 1))


@pytest.fixture
async def store(cluster: Cluster, realm: str) -> AsyncIterator[Store]:
    """Connections to the cluster; patient, for a test machine may be busy."""
    store = Store(cluster.url, realm=realm, deadline=10.0, patience=30.0)
    yield store
    await store.aclose()


@pytest.fixture
async def ledger(store: Store, realm: str) -> AsyncIterator[RedisLedger]:
    """A ledger that has booked something, so that all keys are there that its scripts name."""
    ledger = RedisLedger(store, realm)
    await hold(ledger, "first", OFFER)
    await ledger.settle(settlement("first", 50_000))
    yield ledger
    await ledger.aclose()


class Move:
    """The slot of a realm on its way to another node."""

    def __init__(self, cluster: Cluster, realm: str) -> None:
        self.slot = slot_of(realm)
        self.source = cluster.serving(realm)
        self.target = next(master for master in cluster.masters if master is not self.source)
        self._masters: list[Server] = cluster.masters

    def begin(self) -> None:
        """Announce it, the first step of every move; no key has moved yet."""
        self.target.call("CLUSTER", "SETSLOT", self.slot, "IMPORTING", node_id(self.source))
        self.source.call("CLUSTER", "SETSLOT", self.slot, "MIGRATING", node_id(self.target))

    def carry(self, *names: str) -> None:
        """Move these keys, all that are left if none is named."""
        left = names or [name.decode() for name in self.source.call("CLUSTER", "GETKEYSINSLOT", self.slot, 1000)]
        self.source.call("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *left)

    def complete(self) -> None:
        """Move what is left, and tell everybody."""
        self.carry()
        for node in (self.target, self.source, *self._masters):
            node.call("CLUSTER", "SETSLOT", self.slot, "NODE", node_id(self.target))

    def give_up(self) -> None:
        """Let the slot stay where it is."""
        for node in (self.source, self.target):
            node.call("CLUSTER", "SETSLOT", self.slot, "STABLE")


@contextmanager
def about_to_move(cluster: Cluster, realm: str) -> Iterator[None]:
    """Meanwhile the slot moves and every key is still where it was; a key that is written anew would be refused."""
    move = Move(cluster, realm)
    move.begin()
    try:
        yield
    finally:
        move.give_up()


async def test_a_fallback_takes_the_only_hold_that_there_is(
    cluster: Cluster, store: Store, realm: str, ledger: RedisLedger
) -> None:
    """The list of live holds is never empty in between, for then it would be a key that is written anew."""
    await hold(ledger, "r", OFFER)
    with about_to_move(cluster, realm):
        held: Any = await ledger.choose_and_hold("r", [OFFER], about=ABOUT, release=1)
    assert held.attempt == 2
    assert await store.execute("ZRANGE", Names(realm).due, 0, -1) == ["r:2"]
    assert await store.execute("TTL", Names(realm).request("r")) == -1
    assert (await audit(store, realm, thorough=True)).agrees


async def test_a_lost_swap_of_the_only_hold_is_undone(
    cluster: Cluster, store: Store, realm: str, ledger: RedisLedger
) -> None:
    """What waited for a task is held again before that which nobody heard of is struck off."""
    request = new_request()
    await held_ahead(ledger, request, OFFER)
    await RedisTasks(store, realm).add(order(request))
    await ledger.choose_and_hold(request, [OFFER], about=ABOUT, release=1, only_if_held=True, token="lost")
    ledger._leases.drop("lost", request)
    with about_to_move(cluster, realm):
        await ledger._leases.give_back()
    assert await store.execute("ZRANGE", Names(realm).due, 0, -1) == [f"{request}:1"]
    assert await store.execute("TTL", Names(realm).request(request)) == -1
    assert (await audit(store, realm, thorough=True)).agrees


async def test_holds_are_listed_before_others_are_struck_off(
    cluster: Cluster, store: Store, realm: str, ledger: RedisLedger
) -> None:
    """A repair whose one listed hold has ended, and whose live one is not listed."""
    names = Names(realm)
    await hold(ledger, "r", OFFER)
    await store.execute("ZADD", names.due, 1, "first:1")
    await store.execute("ZREM", names.due, "r:1")
    keys = [names.due, names.request("first"), names.request("r")]
    with about_to_move(cluster, realm):
        assert await store.run(script.RELIST, keys, ["60000", "first:1", "r:1"]) == ["REMOVED", "LISTED"]
    assert await store.execute("ZRANGE", names.due, 0, -1) == ["r:1"]


async def test_the_base_is_replaced_while_it_is_there(
    cluster: Cluster, store: Store, realm: str, ledger: RedisLedger
) -> None:
    """Cells that an export does not have go after those that it has were written."""
    names = Names(realm)
    await store.execute("HSET", names.base, "gone", "1", "stays", "2")
    args = ["", "", "", "0-1", "hash", "digest", "", "stays", "3", "comes", "4"]
    with about_to_move(cluster, realm):
        assert await store.run(script.RESTORE_BASE, [names.meta, names.base, names.entries], args) == "DONE"
    assert await store.execute("HGETALL", names.base) == {"stays": "3", "comes": "4"}


async def test_a_message_whose_record_comes_later_stays_due(
    cluster: Cluster, store: Store, realm: str, ledger: RedisLedger
) -> None:
    """The lists are at the other node first: who asks there is told nothing, and the message is sent afterwards."""
    names, callbacks, tasks = Names(realm), RedisCallbacks(store, realm, away=0.0), RedisTasks(store, realm)
    messages = []
    for _ in range(2):
        task_id = await queued(ledger, tasks, url="https://client.example/hook")
        await tasks.end(task_id, None, TaskStatus.COMPLETED, callback_body=b"{}")
        messages.append(message_of(task_id))
    [refused, *_] = await callbacks.due(9)
    await callbacks.failed(refused, "410", None)  # so that there are messages that nobody takes any more
    [message] = {*messages} - {refused.id}
    move = Move(cluster, realm)
    move.begin()
    move.carry(names.callbacks_due, names.callbacks_dead)
    assert await callbacks.due(9) == []
    move.complete()
    found = [each.id for each in await callbacks.due(9)]
    assert found == [message]


async def test_a_response_whose_record_comes_later_stays_followed(cluster: Cluster, store: Store, realm: str) -> None:
    """The list is at the other node first: nobody follows it just then, and somebody does afterwards."""
    names, responses = Names(realm), RedisResponses(store, realm, silence=0.0)
    response = Remembered("resp_1", "team", "main", "draft", new_request(), {"a": 1})
    assert await responses.remember(response)
    move = Move(cluster, realm)
    move.begin()
    move.carry(names.responses_followed)
    assert await responses.lapsed(9) == []
    move.complete()
    assert await responses.lapsed(9) == [response]


async def test_what_lost_its_record_for_good_is_struck_off(store: Store, realm: str, ledger: RedisLedger) -> None:
    """Where nothing moves that is at once, and what comes behind it is told."""
    names, responses = Names(realm), RedisResponses(store, realm, silence=0.0)
    callbacks, tasks = RedisCallbacks(store, realm, away=0.0), RedisTasks(store, realm)
    task_id = await queued(ledger, tasks, url="https://client.example/hook")
    await tasks.end(task_id, None, TaskStatus.COMPLETED, callback_body=b"{}")
    for members in (names.callbacks_due, names.responses_followed):
        await store.execute("ZADD", members, 1, "lost")
    assert [each.id for each in await callbacks.due(9)] == [message_of(task_id)]
    assert await responses.lapsed(9) == []
    assert await store.execute("ZRANGE", names.callbacks_due, 0, -1) == [message_of(task_id)]
    assert await store.execute("EXISTS", names.responses_followed) == 0


async def test_a_redirection_without_a_host_leads_to_the_same_one(cluster: Cluster, store: Store, realm: str) -> None:
    """Behind a proxy nodes tell their ports alone: the host is that of whoever was asked."""
    name = f"igw:{{{realm}}}:x"
    for master in cluster.masters:
        master.call("CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint")
    try:
        await store.execute("SET", name, "1")
        move = Move(cluster, realm)
        move.begin()
        move.carry(name)
        assert await store.execute("GET", name) == "1"
        move.complete()
        assert await store.execute("GET", name) == "1"
    finally:
        for master in cluster.masters:
            master.call("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")

"""Messages to clients on a real server: due when they should be, never lost, never in two hands for long."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.domain.task import TaskStatus
from gateway.ledger.callbacks import RedisCallbacks
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks, message_of
from gateway.ports import LedgerUnavailable
from gateway.ports.tasks import Callback
from tests.ledger.proxy import proxied
from tests.ledger.work import queued

URL = "https://client.example/hook?x=é"
BODY = '{"status":"completed","é":1}'.encode()


@pytest.fixture
def callbacks(store: Store, realm: str) -> RedisCallbacks:
    """Messages of this realm."""
    return RedisCallbacks(store, realm)


@pytest.fixture
def tasks(store: Store, realm: str) -> RedisTasks:
    """The queue whose tasks they tell of."""
    return RedisTasks(store, realm)


async def told(ledger: RedisLedger, tasks: RedisTasks, project: str = "p") -> str:
    """End a task that somebody wants to hear of; returns the message's id."""
    task_id = await queued(ledger, tasks, project, url=URL)
    assert await tasks.end(task_id, None, TaskStatus.COMPLETED, callback_body=BODY)
    return message_of(task_id)


async def one(callbacks: RedisCallbacks) -> Callback:
    """Take one message, and be sure of it."""
    [message] = await callbacks.due(9)
    return message


async def now_due(store: Store, realm: str, message: str) -> None:
    """Let its time come."""
    await store.execute("ZADD", Names(realm).callbacks_due, "XX", 1, message)


async def test_a_tasks_end_is_told_once(ledger: RedisLedger, tasks: RedisTasks, callbacks: RedisCallbacks) -> None:
    """The message is there in the step that ends the task, byte for byte; delivered, nothing of it is left."""
    before = time.time()
    message = await told(ledger, tasks)
    found = await one(callbacks)
    assert (found.id, found.project, found.url, found.body, found.tries) == (message, "p", URL, BODY, 0)
    assert message_of(found.task_id) == message
    assert before - 60 < found.created < time.time() + 60
    assert await callbacks.due(9) == []
    await callbacks.delivered(found)
    await callbacks.delivered(found)
    assert await callbacks.callback_counts() == {"waiting": 0, "dead": 0}


async def test_no_message_without_a_url_or_a_body(
    ledger: RedisLedger, tasks: RedisTasks, callbacks: RedisCallbacks
) -> None:
    """Who gave no URL hears nothing, and a task that ends twice is told of by its first end."""
    quiet, dumb = await queued(ledger, tasks), await queued(ledger, tasks, url=URL)
    assert await tasks.end(quiet, None, TaskStatus.FAILED, callback_body=BODY)
    assert await tasks.end(dumb, None, TaskStatus.FAILED)
    assert not await tasks.end(dumb, None, TaskStatus.FAILED, callback_body=BODY)
    assert await callbacks.due(9) == []


async def test_whoever_takes_one_and_dies_leaves_it_to_another(
    ledger: RedisLedger, tasks: RedisTasks, callbacks: RedisCallbacks, store: Store, realm: str
) -> None:
    """After its time another has it; what the first says then changes nothing, but that it was delivered."""
    message = await told(ledger, tasks)
    first = await one(callbacks)
    due = int(float(await store.execute("ZSCORE", Names(realm).callbacks_due, message))) / 1000
    assert 0 < due - time.time() <= 60
    await now_due(store, realm, message)
    second = await one(callbacks)
    assert second.tries == 0
    await callbacks.failed(first, "too late", None)
    assert await callbacks.dead() == []
    await callbacks.failed(second, "500", None)
    assert [each.tries for each in await callbacks.dead()] == [1]
    await callbacks.delivered(first)
    assert await callbacks.callback_counts() == {"waiting": 0, "dead": 0}
    assert await callbacks.revive(message) is False


async def test_what_failed_comes_again_at_its_time(
    ledger: RedisLedger, tasks: RedisTasks, callbacks: RedisCallbacks, store: Store, realm: str
) -> None:
    """Each try counts once however often its failure is told, and says what it met."""
    message = await told(ledger, tasks)
    for tries in range(3):
        found = await one(callbacks)
        assert (found.tries, found.error) == (tries, f"HTTP 50{tries - 1}" if tries else "")
        await callbacks.failed(found, f"HTTP 50{tries}", 1000)
        await callbacks.failed(found, "said twice", None)
        due = float(await store.execute("ZSCORE", Names(realm).callbacks_due, message)) / 1000
        assert due == pytest.approx(time.time() + 1000, abs=5)
        assert await callbacks.due(9) == []
        await now_due(store, realm, message)
    await callbacks.failed(await one(callbacks), "x" * 5000, None)
    [dead] = await callbacks.dead()
    assert len(dead.error) == 1000


async def test_dead_ones_by_project_newest_first_and_back_to_life(
    ledger: RedisLedger, tasks: RedisTasks, callbacks: RedisCallbacks
) -> None:
    """They are listed apart, and sent again from the first try on; what is not dead cannot be revived."""
    messages = []
    for project in ("p", "q", "p"):
        messages.append(await told(ledger, tasks, project))
        await callbacks.failed(await one(callbacks), "410", None)
        await asyncio.sleep(0.002)
    assert [each.id for each in await callbacks.dead()] == messages[::-1]
    assert [each.id for each in await callbacks.dead("p")] == [messages[2], messages[0]]
    assert [each.id for each in await callbacks.dead("p", 1)] == [messages[2]]
    assert await callbacks.dead("r") == []
    assert await callbacks.revive(messages[0])
    assert not await callbacks.revive(messages[0])
    assert not await callbacks.revive("msg_" + "0" * 32)
    assert not await callbacks.revive("junk")
    found = await one(callbacks)
    assert (found.id, found.tries, found.error) == (messages[0], 0, "")
    assert [each.id for each in await callbacks.dead("p")] == [messages[2]]
    assert await callbacks.callback_counts() == {"waiting": 1, "dead": 2}


async def test_dead_ones_are_forgotten_in_time(
    ledger: RedisLedger, tasks: RedisTasks, store: Store, realm: str
) -> None:
    """What nobody revived leaves nothing behind."""
    brief = RedisCallbacks(store, realm, kept=0.05)
    message = await told(ledger, tasks)
    await brief.failed(await one(brief), "410", None)
    await asyncio.sleep(0.1)
    assert await brief.due(9) == []
    assert await brief.dead() == []
    assert await brief.dead("p") == []
    names = Names(realm)
    assert (
        await store.execute("EXISTS", names.callback(message), names.callbacks_dead, names.callbacks_dead_of("p")) == 0
    )


async def test_of_many_at_once_each_is_taken_by_one(
    ledger: RedisLedger, tasks: RedisTasks, store: Store, realm: str
) -> None:
    """Ten gateways share the messages that are due, longest ago first."""
    messages = [await told(ledger, tasks) for _ in range(40)]
    taken = await asyncio.gather(*(RedisCallbacks(store, realm).due(4) for _ in range(10)))
    assert sorted(each.id for some in taken for each in some) == sorted(messages)


async def test_a_lost_answer_loses_no_message(  # noqa: PLR0917 - fixtures
    ledger: RedisLedger, tasks: RedisTasks, callbacks: RedisCallbacks, server: str, realm: str, tmp_path: Path
) -> None:
    """One that was taken by a call whose answer never came is due again; one whose failure was noted counts once."""
    message = await told(ledger, tasks)
    async with proxied(server, tmp_path) as (wire, url):
        store = Store(url, deadline=0.5)
        hasty = RedisCallbacks(store, realm, away=0.05)
        await hasty.callback_counts()
        wire.mute = True
        with pytest.raises(LedgerUnavailable):
            await hasty.due(1)
        await asyncio.sleep(0.1)
        found = await one(callbacks)
        assert found.id == message
        with pytest.raises(LedgerUnavailable):
            await hasty.failed(found, "500", 0.0)
        await store.aclose()
    await callbacks.failed(found, "500", 0.0)
    assert (await one(callbacks)).tries == 1

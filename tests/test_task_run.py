"""A task that another worker has left behind: what is known of its call counts, whatever else is away for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.assets.blobs import BlobsOnDisk
from gateway.domain.budget import Held
from gateway.domain.task import TaskOrder, TaskStatus, task_of
from gateway.ledger.tasks import RedisTasks
from gateway.lifecycle import Setup
from gateway.ports.tasks import Taken
from gateway.tasks.ending import end
from gateway.tasks.past import recorded
from gateway.tasks.run import NotHere, TaskRun
from gateway.tasks.service import body_name
from gateway.tasks.shop import Workshop
from gateway.web.body import read_kept
from tests.ledger.rules import ABOUT, candidate
from tests.ledger.work import fall_silent, held_ahead, new_request, order, watchful
from tests.rig import BUDGET, PATIENCE, Rig, rigged

REALM = "main"
BODY = b'{"prompt": "a cat", "size": "1024x1024", "quality": "low"}'
WORST = 100


@dataclass
class Left:
    """A task whose call was about to leave when its first worker fell silent, and the second one that took it over."""

    order: TaskOrder
    first: Taken
    second: Taken
    shop: Workshop

    @property
    def name(self) -> str:
        """The task's id."""
        return task_of(self.order.request_id)


async def left(
    rig: Rig, blobs: BlobsOnDisk, route: str = "main", submitted: Mapping[str, object] | None = None
) -> Left:
    """Make a task, begin its call and fall silent; another worker has it then."""
    request = new_request()
    made = order(request, "team", hold=await held_ahead(rig.ledger, request, candidate((BUDGET, WORST))))

    async def body() -> AsyncIterator[bytes]:
        yield BODY

    await blobs.put(body_name(request), body())
    one, other = RedisTasks(rig.store, worker="one"), watchful(RedisTasks(rig.store, worker="other"))
    await one.add(made)
    [first] = await one.take(1)
    offered = candidate((BUDGET, WORST), route=route, worst=WORST * 1000)
    await rig.ledger.choose_and_hold(request, [offered], about=ABOUT, release=1)
    assert await one.began(task_of(request), first.token, route=route, attempt=2)
    if submitted is not None:
        await one.submitted(task_of(request), 0, submitted, attempt=2)
    await fall_silent(rig.store, REALM)
    [second] = await other.take(1)
    lifecycle = rig.lifecycle
    setup = Setup(rig.rules, {"acme": rig.painter})
    shop = Workshop(other, blobs, read_kept, lifecycle.understanding, lambda: setup, lifecycle.means)
    return Left(made, first, second, shop)


async def test_a_call_of_unknown_outcome_is_not_made_again_after_the_storage_was_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first try cannot read what was to be made; the next one still knows that the call may have been billed."""
    folder = tmp_path / "blobs"
    async with rigged(tmp_path / "gateway") as rig:
        rig.painter.go_on.set()
        task = await left(rig, BlobsOnDisk(folder))
        (folder / "tasks").rename(folder / "elsewhere")
        (folder / "tasks").write_bytes(b"no folder")
        running = asyncio.create_task(TaskRun(task.shop, task.second).run())
        async with asyncio.timeout(PATIENCE):
            while "cannot be read" not in caplog.text:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.02)
        (folder / "tasks").unlink()
        (folder / "elsewhere").rename(folder / "tasks")
        async with asyncio.timeout(PATIENCE):
            await running
        ended = await task.shop.tasks.find(task.name)
    assert ended is not None
    assert (rig.painter.calls, ended.status) == (0, TaskStatus.FAILED)
    assert ended.error is not None
    assert "may have been done and billed" in str(ended.error["message"])


async def test_a_task_that_cannot_be_followed_tells_what_is_held_for_it(tmp_path: Path) -> None:
    """Policy has no longer the route that took its work on: its worst case is what will be booked, and its cost."""
    async with rigged(tmp_path / "gateway") as rig:
        task = await left(rig, BlobsOnDisk(tmp_path / "blobs"), "gone", {"id": "work_1"})
        await TaskRun(task.shop, task.second).run()
        ended = await task.shop.tasks.find(task.name)
    assert ended is not None
    assert (rig.painter.calls, ended.status, ended.cost) == (0, TaskStatus.FAILED, WORST * 1000)


async def test_who_lost_a_task_leaves_its_body_to_whoever_has_it(tmp_path: Path) -> None:
    """A worker that comes back too late can neither fail the task nor take away what it is to make."""
    blobs = BlobsOnDisk(tmp_path / "blobs")
    async with rigged(tmp_path / "gateway") as rig:
        task = await left(rig, blobs)
        failed = replace(task.first.record, status=TaskStatus.FAILED, error={"message": "too late"})
        await end(task.shop, failed, task.first.token)
        assert await blobs.get(body_name(task.order.request_id)) is not None
        await end(task.shop, failed, task.second.token)
        assert await blobs.get(body_name(task.order.request_id)) is None


async def test_who_lost_a_task_while_it_looked_gives_nothing_back(tmp_path: Path) -> None:
    """A worker that stood still since it took a task leaves alone what the next one has sent, and that is booked."""
    async with rigged(tmp_path / "gateway") as rig:
        task = await left(rig, BlobsOnDisk(tmp_path / "blobs"))
        request = task.order.request_id
        third = watchful(RedisTasks(rig.store, worker="third"))
        await fall_silent(rig.store, REALM)
        [taken] = await third.take(1)
        shop = replace(task.shop, tasks=third)
        assert await recorded(shop, taken.record, taken.token, 0.0) is not None
        held = await rig.ledger.choose_and_hold(request, [candidate((BUDGET, WORST), worst=WORST)], about=ABOUT)
        assert isinstance(held, Held)
        assert await third.began(task.name, taken.token, route="main", attempt=held.attempt)
        with pytest.raises(NotHere):
            await recorded(task.shop, task.second.record, task.second.token, 0.0)
        known = await rig.ledger.request(request)
        assert known is not None
        attempts: Any = known["attempts"]
        states = {each["attempt"]: each["state"] for each in attempts}
    assert (held.attempt, states[held.attempt]) == (3, "sent")

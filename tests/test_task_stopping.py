"""A worker that stops: whatever it has not begun is another's at once, however its stop and the task's coming meet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gateway.ledger.tasks import RedisTasks
from gateway.observe.event import TaskRested
from gateway.ports import LedgerUnavailable
from tests.rig import PATIENCE
from tests.test_task_worker import BUSY, Desk, Told, desk


async def taken_by_another(at: Desk) -> list[str]:
    """Whose tasks another gateway gets now, without waiting until this one counts as silent."""
    return [each.record.order.request_id for each in await RedisTasks(at.rig.store, worker="other").take(9)]


async def test_a_task_that_comes_once_the_stop_has_begun_is_given_back(tmp_path: Path) -> None:
    """It was asked for before. Its call would be cut, and be paid for, as there is nobody who waits for it."""
    comes, goes = asyncio.Event(), asyncio.Event()

    class Late(Told):
        async def take(self, *asked: Any, **more: Any) -> Any:
            taken = await super().take(*asked, **more)
            comes.set()
            await goes.wait()
            return taken

    async with desk(tmp_path, queue=Late) as at:
        async with asyncio.timeout(PATIENCE):
            await comes.wait()
            closing = asyncio.create_task(at.worker.aclose(grace=PATIENCE))
            await asyncio.sleep(0)
            goes.set()
            await closing
        assert await taken_by_another(at) == [at.request_id]
    assert at.rig.painter.calls == 0


async def test_a_task_that_is_stopped_before_its_first_step_is_given_back(tmp_path: Path) -> None:
    """The stop begins in the turn of the loop in which it came: what gives it back must not be a step of its own."""
    comes = asyncio.Event()

    class Prompt(Told):
        async def take(self, *asked: Any, **more: Any) -> Any:
            taken = await super().take(*asked, **more)
            comes.set()
            return taken

    async with desk(tmp_path, queue=Prompt) as at:
        async with asyncio.timeout(PATIENCE):
            await comes.wait()
            await at.worker.aclose(grace=PATIENCE)
        assert await taken_by_another(at) == [at.request_id]
    assert at.rig.painter.calls == 0


async def test_without_any_grace_what_rests_is_given_back_all_the_same(tmp_path: Path) -> None:
    """Grace is for calls that are under way; giving back takes as long as the store does."""
    async with desk(tmp_path) as at:
        at.rig.painter.script += [BUSY, BUSY]
        at.rig.painter.go_on.set()
        await at.until(lambda: at.of(TaskRested))
        async with asyncio.timeout(PATIENCE):
            await at.worker.aclose(grace=0)
        assert await taken_by_another(at) == [at.request_id]


async def test_a_store_that_does_not_hear_of_it_holds_no_stop_up(tmp_path: Path) -> None:
    """The task is another's once this worker counts as silent; nothing is held for it meanwhile."""

    class Unheard(Told):
        async def give_back(self, *_: str) -> None:
            raise LedgerUnavailable("away")

    async with desk(tmp_path, queue=Unheard) as at:
        at.rig.painter.script += [BUSY, BUSY]
        at.rig.painter.go_on.set()
        await at.until(lambda: at.of(TaskRested))
        async with asyncio.timeout(PATIENCE):
            await at.worker.aclose(grace=PATIENCE)
            other = RedisTasks(at.rig.store, worker="other", silence=0.3)
            while not (taken := await other.take(9)):  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.05)
        assert [each.record.order.request_id for each in taken] == [at.request_id]
        assert set(await at.states()) == {"void"}

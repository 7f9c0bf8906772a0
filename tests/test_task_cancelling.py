"""A task that never began costs nothing once it is cancelled; a call that has begun is nobody's to give back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.budget import Held
from gateway.domain.errors import NotCancellable
from gateway.domain.route import Route
from gateway.domain.task import TaskRecord, TaskStatus, task_of
from gateway.domain.task_profile import TaskProfile, UrlPurpose
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.names import Names
from gateway.ledger.tasks import RedisTasks
from gateway.ports.provider import Submitted
from gateway.ports.tasks import Taken
from gateway.tasks.cancelling import Cancelling
from tests.builders import PROVIDER, route
from tests.ledger.rules import ABOUT, candidate, settlement
from tests.ledger.work import held_ahead, new_request, order
from tests.rig import BUDGET, Rig, rigged

WORST = 100
OFFERED = candidate((BUDGET, WORST), worst=WORST * 1000)


@dataclass
class Waiting:
    """A task that a worker has taken and not begun, the attempt that it holds on, and who cancels it elsewhere."""

    rig: Rig
    tasks: RedisTasks
    taken: Taken
    attempt: int
    cancelling: Cancelling

    @property
    def request_id(self) -> str:
        """The task's request."""
        return self.taken.record.order.request_id

    async def began(self) -> bool:
        """Ask as the worker does before its call leaves."""
        name = task_of(self.request_id)
        return await self.tasks.began(name, self.taken.token, route="r", attempt=self.attempt)

    async def lapse(self) -> None:
        """Let the hold's lease end."""
        name = f"{self.request_id}:{self.attempt}"
        await self.rig.store.execute("ZADD", Names("main").due, "XX", 1, name)
        await self.rig.ledger._leases.sweep()

    async def cancel(self) -> TaskRecord:
        """Cancel it as a client does who has just looked."""
        record = await self.tasks.find(task_of(self.request_id))
        assert record is not None
        return await self.cancelling.cancel(record)

    async def states(self) -> list[str]:
        """How its attempts stand."""
        known: Any = await self.rig.ledger.request(self.request_id)
        return [each["state"] for each in known["attempts"]]

    async def used(self) -> tuple[int, int]:
        """What of the budget is spent and held, micro-USD."""
        [balance] = await self.rig.ledger.balances([BUDGET])
        return balance.used, balance.held


@asynccontextmanager
async def waiting(folder: Path) -> AsyncIterator[Waiting]:
    """A task whose worker holds for it."""
    async with rigged(folder) as rig:
        request = new_request()
        tasks = RedisTasks(rig.store, worker="one")
        await tasks.add(order(request, "team", hold=await held_ahead(rig.ledger, request, OFFERED)))
        [taken] = await tasks.take(1)
        held = await rig.ledger.choose_and_hold(request, [OFFERED], about=ABOUT, release=1)
        assert isinstance(held, Held)
        settlements = DeferredSettlements(rig.ledger)
        cancelling = Cancelling(
            RedisTasks(rig.store, worker="other"), rig.ledger, settlements, lambda _: None, rig.events
        )
        yield Waiting(rig, tasks, taken, held.attempt, cancelling)


@pytest.mark.parametrize("lapsed", [False, True])
async def test_what_a_dead_worker_held_is_given_back(tmp_path: Path, lapsed: bool) -> None:
    """Before its lease ends or after it was presumed spent; whoever cancels once more changes nothing."""
    async with waiting(tmp_path) as task:
        if lapsed:
            await task.lapse()
        assert await task.states() == ["void", "presumed" if lapsed else "sent"]
        for _ in range(2):
            assert (await task.cancel()).status is TaskStatus.CANCELLED
            assert (await task.states(), await task.used()) == (["void", "void"], (0, 0))


async def test_a_worker_that_lives_does_not_send_what_was_cancelled(tmp_path: Path) -> None:
    """What it holds has been given back by then, and no call may leave on it."""
    async with waiting(tmp_path) as task:
        await task.cancel()
        assert not await task.began()
        assert (await task.states(), await task.used()) == (["void", "void"], (0, 0))


@pytest.mark.parametrize("lapsed", [False, True])
async def test_a_call_that_has_begun_elsewhere_is_not_given_back(tmp_path: Path, lapsed: bool) -> None:
    """It cannot be cancelled, also by who looked before it began; its hold stands, and it is booked at its cost."""
    async with waiting(tmp_path) as task:
        looked = await task.tasks.find(task_of(task.request_id))
        assert looked is not None
        assert looked.attempt is None
        assert await task.began()
        if lapsed:
            await task.lapse()
        with pytest.raises(NotCancellable):
            await task.cancelling.cancel(looked)
        assert await task.states() == ["void", "presumed" if lapsed else "sent"]
        await task.rig.ledger.settle(settlement(task.request_id, 7000, attempt=task.attempt))
        assert (await task.states(), await task.used()) == (["void", "settled"], (7, 0))


async def test_cancelling_and_beginning_at_once_agree(tmp_path: Path) -> None:
    """Whichever comes first, a call that leaves keeps its hold, and one that does not costs nothing."""
    for number in range(20):
        async with waiting(tmp_path / str(number)) as task:
            began, cancelled = await asyncio.gather(task.began(), task.cancel(), return_exceptions=True)
            assert began is isinstance(cancelled, NotCancellable)
            assert await task.states() == ["void", "sent" if began else "void"]


async def test_a_task_between_two_tries_is_cancelled(tmp_path: Path) -> None:
    """Its call came to nothing, and what is held for the next one, which never leaves, is given back."""
    async with waiting(tmp_path) as task:
        assert await task.began()
        await task.rig.ledger.void(task.request_id, task.attempt, "refused")
        held = await task.rig.ledger.choose_and_hold(task.request_id, [OFFERED], about=ABOUT)
        assert isinstance(held, Held)
        cancelled = await task.cancel()
        assert (cancelled.status, cancelled.cost) == (TaskStatus.CANCELLED, 0)
        task.attempt = held.attempt
        assert not await task.began()
        assert (await task.states(), await task.used()) == (["void"] * 3, (0, 0))
        kept = await task.tasks.find(task_of(task.request_id))
        assert kept is not None
        assert (kept.status, kept.cost) == (TaskStatus.CANCELLED, 0)


async def test_a_task_that_ended_meanwhile_is_not_told_as_cancelled(tmp_path: Path) -> None:
    """Its worker may see that its time is over just after its cancelling was asked for."""
    async with waiting(tmp_path) as task:

        class Later(RedisTasks):
            async def end(self, task_id: str, *said: Any, **more: Any) -> bool:
                assert await task.tasks.end(task_id, task.taken.token, TaskStatus.FAILED)
                return await super().end(task_id, *said, **more)

        task.cancelling = replace(task.cancelling, tasks=Later(task.rig.store, worker="other"))
        with pytest.raises(NotCancellable, match="failed already"):
            await task.cancel()


class Agreeing:
    """A provider that gives up what it has taken on, but for what `never` names; `asked` is for what."""

    def __init__(self, *never: str) -> None:
        self.never, self.asked = never, list[str]()

    async def cancel(self, _: Route, submitted: Submitted) -> bool:
        """Answer."""
        self.asked.append(submitted.id)
        return submitted.id not in self.never


@asynccontextmanager
async def taken_on(folder: Path, provider: Agreeing, *works: str) -> AsyncIterator[Waiting]:
    """A task of whose calls this provider has taken on these."""
    async with waiting(folder) as task:
        account = replace(PROVIDER, kind="task", profile=TaskProfile(urls={UrlPurpose.CANCEL: "/cancel/{id}"}))
        serving: Any = (route("r", provider=account), provider)
        task.cancelling = replace(task.cancelling, served_by=lambda _: serving)
        assert await task.began()
        await submitted(task, *works)
        yield task


async def submitted(task: Waiting, *works: str) -> None:
    """Note what was taken on."""
    for number, work in enumerate(works):
        await task.tasks.submitted(task_of(task.request_id), number, {"id": work}, attempt=task.attempt)


async def test_work_of_which_one_call_goes_on_is_not_given_up(tmp_path: Path) -> None:
    """Its provider agrees to give up two of three: the third is made and billed, and the task ends with it."""
    provider = Agreeing("two")
    async with taken_on(tmp_path, provider, "one", "two", "three") as task:
        with pytest.raises(NotCancellable, match="did not agree"):
            await task.cancel()
        assert await task.states() == ["void", "sent"]
    assert sorted(provider.asked) == ["one", "three", "two"]


async def test_each_call_is_given_up_once_however_late_it_is_taken_on(tmp_path: Path) -> None:
    """A provider counts, or bills, what it is asked again; the task ends when who follows it says so."""
    provider = Agreeing()
    async with taken_on(tmp_path, provider, "one") as task, asyncio.timeout(30):
        cancelling = asyncio.create_task(task.cancel())
        while not provider.asked:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        await submitted(task, "one", "two", "three")
        while len(provider.asked) < 3:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # in which it looks again
        await task.tasks.end(task_of(task.request_id), task.taken.token, TaskStatus.CANCELLED, cost=5)
        assert (await cancelling).cost == 5
    assert sorted(provider.asked) == ["one", "three", "two"]

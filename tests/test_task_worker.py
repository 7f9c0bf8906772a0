"""A worker sees what it has sent to its end, whatever becomes of its task meanwhile: it will be billed anyhow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.assets.blobs import BlobsOnDisk
from gateway.domain.errors import RateLimited
from gateway.domain.policy import OnUnknown, Retry
from gateway.domain.settlement import Outcome
from gateway.domain.task import TaskRecord, TaskStatus, task_of
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.tasks import RedisTasks
from gateway.lifecycle import Setup
from gateway.observe.event import Event, RequestFinished, RequestStarted, TaskRested
from gateway.ports.provider import UpstreamFailure
from gateway.ports.tasks import KeepResult
from gateway.tasks.cancelling import Cancelling
from gateway.tasks.context import TaskContext
from gateway.tasks.run import TaskRun
from gateway.tasks.service import body_name
from gateway.tasks.worker import TaskWorker
from gateway.web.body import read_kept
from tests.ledger.rules import candidate
from tests.ledger.work import fall_silent, held_ahead, new_request, order, watchful
from tests.observe.samples import read, value
from tests.observe.scraped import scraped_after
from tests.rig import BUDGET, PATIENCE, Rig, rigged, team
from tests.test_billed_refusals import limited, refusal

REALM = "main"
BODY = b'{"prompt": "a cat", "size": "1024x1024", "quality": "low"}'
WORST = 100
BUSY = UpstreamFailure(Outcome.REJECTED, "status_429", "busy", retry_after=3600.0)
SOON = UpstreamFailure(Outcome.REJECTED, "status_429", "busy", retry_after=0.2)


class Told(RedisTasks):
    """A queue that counts the signs of life after which its worker has gone on."""

    kept = 0

    async def keep(self, tokens: Mapping[str, str]) -> KeepResult:
        """Keep them."""
        self.kept += 1
        return await super().keep(tokens)


@dataclass
class Desk:
    """A worker and the task that waits for it."""

    rig: Rig
    tasks: Told
    context: TaskContext
    worker: TaskWorker
    request_id: str

    @property
    def name(self) -> str:
        """The task's id."""
        return task_of(self.request_id)

    async def until(self, is_so: Callable[[], object]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(PATIENCE):
            while not is_so():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    async def heard_twice(self) -> None:
        """Wait until the worker has acted on a sign of life that began after this."""
        before = self.tasks.kept
        await self.until(lambda: self.tasks.kept >= before + 2)

    async def ended(self) -> TaskRecord:
        """Wait for its end, and return how it stands."""
        async with asyncio.timeout(PATIENCE):
            while (found := await self.tasks.find(self.name)) is None or not found.status.ended:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found

    def of(self, kind: type[Event]) -> list[Event]:
        """What was told of this kind."""
        return [event for event in self.rig.events.seen if isinstance(event, kind)]

    async def states(self) -> list[str]:
        """How its attempts stand."""
        known: Any = await self.rig.ledger.request(self.request_id)
        return [each["state"] for each in known["attempts"]]


@asynccontextmanager
async def desk(
    folder: Path, rules: Any = None, keep_every: float = 0.05, queue: type[Told] = Told, waits: float = 3600
) -> AsyncIterator[Desk]:
    """A gateway whose worker takes one task, which may wait for so many seconds."""
    async with rigged(folder / "gateway", rules) as rig:
        blobs, tasks, request = BlobsOnDisk(folder / "blobs"), queue(rig.store, worker="one"), new_request()

        async def body() -> AsyncIterator[bytes]:
            yield BODY

        await blobs.put(body_name(request), body())
        hold = await held_ahead(rig.ledger, request, candidate((BUDGET, WORST)))
        await tasks.add(order(request, "team", hold=hold, waits=waits))
        core = rig.lifecycle

        def current() -> Setup:
            return Setup(rig.rules, {"acme": rig.painter})

        context = TaskContext(tasks, blobs, read_kept, core.planner, current, core.flight_context)
        worker = TaskWorker(context, keep_every=keep_every)
        working = asyncio.create_task(worker.run())
        try:
            yield Desk(rig, tasks, context, worker, request)
            await worker.aclose(grace=PATIENCE)
            await asyncio.sleep(0.05)  # a task's end wakes it
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working


async def test_a_call_is_read_to_its_end_though_another_worker_has_its_task(tmp_path: Path) -> None:
    """It was sent and will be billed: its cost is known in full, and its image is the task's."""
    async with desk(tmp_path) as at:
        await at.rig.painter.begun.wait()
        await fall_silent(at.rig.store, REALM)
        [_] = await watchful(RedisTasks(at.rig.store, worker="other")).take(1)
        await at.heard_twice()
        at.rig.painter.go_on.set()
        ended = await at.ended()
        assert await at.states() == ["void", "settled"]
    assert (ended.status, at.rig.painter.calls) == (TaskStatus.COMPLETED, 1)


async def test_a_call_is_read_to_its_end_though_its_task_is_to_be_cancelled(tmp_path: Path) -> None:
    """It was asked for too late, which its end tells; it costs what it costs."""
    async with desk(tmp_path) as at:
        await at.rig.painter.begun.wait()
        await at.tasks.cancel(at.name)
        await at.heard_twice()
        at.rig.painter.go_on.set()
        ended = await at.ended()
        known: Any = await at.rig.ledger.request(at.request_id)
        cost = known["attempts"][-1]["cost"].route
    assert (ended.status, at.rig.painter.calls) == (TaskStatus.COMPLETED, 1)
    assert ended.cost == cost > 0


async def test_a_task_that_rests_is_decided_anew_under_a_new_policy(tmp_path: Path) -> None:
    """An hour's rest that a provider asked for is not slept out on a policy that has gone meanwhile."""
    async with desk(tmp_path) as at:
        at.rig.painter.script += [BUSY, BUSY]  # of both routes
        at.rig.painter.go_on.set()
        await at.until(lambda: at.of(TaskRested))
        await at.heard_twice()
        assert len(at.of(RequestStarted)) == 1
        at.rig.rules = replace(at.rig.rules)
        await at.until(lambda: len(at.of(TaskRested)) == 2)


async def test_nothing_is_sent_for_a_project_that_policy_dropped_at_the_last_moment(tmp_path: Path) -> None:
    """It had it when the task was decided, and has it no more when the call is to leave."""
    dropped = team("other")
    async with desk(tmp_path, keep_every=60.0) as at:
        hold, rules = at.rig.ledger.choose_and_hold, at.rig.rules

        async def held_late(*said: Any, **more: Any) -> Any:
            held = await hold(*said, **more)
            at.rig.rules = replace(rules, projects={"other": dropped.projects["other"]})
            return held

        at.rig.ledger.choose_and_hold = held_late  # type: ignore[method-assign]
        at.rig.painter.go_on.set()
        ended = await at.ended()
        assert set(await at.states()) == {"void"}
    assert (ended.status, at.rig.painter.calls, ended.cost) == (TaskStatus.FAILED, 0, 0)


@pytest.mark.parametrize("first", ["unknown", "charged"])
async def test_what_was_billed_is_not_made_again_because_a_spare_was_busy(tmp_path: Path, first: str) -> None:
    """A later try would begin with the first route again, and pay for it twice: it fails with what it cost so far."""
    unknown = UpstreamFailure(Outcome.UNKNOWN, "timeout", "no answer")
    before, state = (unknown, "presumed") if first == "unknown" else (refusal(pass_on=False), "settled")
    async with desk(tmp_path, limited(retry=Retry(attempts=2, on_unknown=OnUnknown.NEXT_ROUTE))) as at:
        at.rig.painter.script += [before, BUSY]
        at.rig.painter.go_on.set()
        ended = await at.ended()
        assert sorted(await at.states()) == [state, "void", "void"]
    assert (ended.status, at.rig.painter.calls) == (TaskStatus.FAILED, 2)
    assert ended.cost


async def test_a_task_that_meets_a_fault_of_ours_fails_before_its_worker_stops(tmp_path: Path) -> None:
    """It would wait for ever else, or be tried again and again; its worker waits for a slow store."""
    hears = asyncio.Event()

    class Hard(Told):
        async def end(self, *said: Any, **more: Any) -> bool:
            await hears.wait()
            return await super().end(*said, **more)

    async with desk(tmp_path) as at:
        await at.rig.painter.begun.wait()
        [(running, run)] = at.worker._running.items()
        at.worker._context = run._context = replace(at.context, tasks=Hard(at.rig.store, worker="one"))
        run._finish = _broken  # type: ignore[assignment, method-assign]
        at.rig.painter.go_on.set()
        await at.until(running.done)
        closing = asyncio.create_task(at.worker.aclose(grace=PATIENCE))
        done, _ = await asyncio.wait({closing}, timeout=0.2)
        assert not done
        hears.set()
        async with asyncio.timeout(PATIENCE):
            await closing
        ended = await at.tasks.find(at.name)
    assert ended is not None
    assert (ended.status, (ended.error or {}).get("code")) == (TaskStatus.FAILED, "internal_error")


async def _broken(_: object) -> None:
    raise RuntimeError("broken")


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_a_worker_that_is_woken_as_it_is_cancelled_stops(tmp_path: Path, turns: int) -> None:
    """Python 3.11's `wait_for` swallows a cancellation that comes when what it waits for has just come."""
    async with desk(tmp_path) as at:
        at.rig.painter.go_on.set()
        await at.ended()
        worker = TaskWorker(at.context)
        working = asyncio.create_task(worker.run())
        await asyncio.sleep(0.2)
        worker.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        working.cancel()
        done, _ = await asyncio.wait({working}, timeout=PATIENCE)
        assert done == {working}


async def test_a_task_that_would_rest_while_its_worker_stops_is_given_back(tmp_path: Path) -> None:
    """Its call was under way when the stop began; the hour that the provider asks for is another gateway's to wait."""
    async with desk(tmp_path) as at:
        at.rig.painter.script += [BUSY, BUSY]
        await at.rig.painter.begun.wait()
        closing = asyncio.create_task(at.worker.aclose(grace=60 * PATIENCE))
        await asyncio.sleep(0)
        at.rig.painter.go_on.set()
        async with asyncio.timeout(PATIENCE):
            await closing
        [taken] = await RedisTasks(at.rig.store, worker="other").take(1)
    assert taken.record.order.request_id == at.request_id


async def test_what_is_being_given_back_is_not_cut_by_another_change_of_policy(tmp_path: Path) -> None:
    """Nobody would have it until its worker counts as silent; the store is slow to hear of it here."""
    going, goes = asyncio.Event(), asyncio.Event()

    class Slow(Told):
        async def give_back(self, *which: str) -> None:
            going.set()
            await goes.wait()
            await super().give_back(*which)

    async with desk(tmp_path) as at:
        at.rig.painter.script += [BUSY, BUSY]
        at.rig.painter.go_on.set()
        await at.until(lambda: at.of(TaskRested))
        [run] = at.worker._running.values()
        run._context = replace(at.context, tasks=Slow(at.rig.store, worker="one"))
        at.rig.rules = replace(at.rig.rules)
        async with asyncio.timeout(PATIENCE):
            await going.wait()
        at.rig.rules = replace(at.rig.rules)
        await at.heard_twice()
        assert len(at.of(RequestStarted)) == 1
        goes.set()
        await at.until(lambda: len(at.of(RequestStarted)) == 2)


async def test_no_pause_is_longer_than_its_task_may_wait(tmp_path: Path) -> None:
    """However long a provider asks for: it fails when its time is over, and its money is free then."""
    async with rigged(tmp_path) as rig:
        tasks, request = RedisTasks(rig.store, worker="one"), new_request()
        hold = await held_ahead(rig.ledger, request, candidate((BUDGET, WORST)))
        made = order(request, "team", hold=hold, waits=5.0)
        await tasks.add(made)
        [taken] = await tasks.take(1)
        setup, core = Setup(rig.rules, {"acme": rig.painter}), rig.lifecycle
        context = TaskContext(
            tasks, BlobsOnDisk(tmp_path / "blobs"), read_kept, core.planner, lambda: setup, core.flight_context
        )
        pause = TaskRun(context, taken)._pause(RateLimited("busy", retry_after=3600), 1)
    assert 0 < pause <= made.not_after - made.created


def told_once(at: Desk) -> RequestFinished:
    """What was told of the task's end: one line, counted once, and nothing is in flight any more."""
    [told] = at.rig.events.finished()
    scraped = scraped_after(*at.rig.events.seen)
    assert sum(count for (name, _), count in read(scraped).items() if name == "image_gateway_requests_total") == 1
    assert value(scraped, "in_flight", operation="generate") == 0
    return told


async def test_a_task_whose_time_is_over_while_it_rests_is_told_once(tmp_path: Path) -> None:
    """What its last try told says what it was; the status and the code are those of its end."""
    async with desk(tmp_path, waits=3) as at:
        at.rig.painter.script += [SOON] * 50
        at.rig.painter.go_on.set()
        await at.ended()
        await at.until(at.rig.events.finished)
        assert at.of(TaskRested)
    told = told_once(at)
    assert (told.status, told.code, told.cost) == (503, "task_expired", None)
    assert (told.project, told.job_type, told.size) == ("team", "draft", "1024x1024")


@pytest.mark.parametrize("by", ["its client", "its worker"])
async def test_a_task_that_is_cancelled_while_it_rests_is_told_once(tmp_path: Path, by: str) -> None:
    """By whoever has ended it: the gateway that its client has asked, or the worker that hears of the wish."""
    async with desk(tmp_path) as at:
        at.rig.painter.script += [BUSY, BUSY]
        at.rig.painter.go_on.set()
        await at.until(lambda: at.of(TaskRested))
        found = await at.tasks.find(at.name)
        assert found is not None
        if by == "its client":
            rig = at.rig
            settlements = DeferredSettlements(rig.ledger)
            other = RedisTasks(rig.store, worker="other")
            await Cancelling(other, rig.ledger, settlements, lambda _: None, rig.events).cancel(found)
        else:
            await at.tasks.cancel(at.name)
        ended = await at.ended()
        await at.until(at.rig.events.finished)
        await at.heard_twice()
    told = told_once(at)
    assert ended.status is TaskStatus.CANCELLED
    assert (told.status, told.code, told.project) == (499, "task_cancelled", "team")


async def test_a_task_that_meets_a_fault_of_ours_is_told_once(tmp_path: Path) -> None:
    """Its last try went well as far as that one knew: the task's end says what became of it."""
    async with desk(tmp_path) as at:
        await at.rig.painter.begun.wait()
        [run] = at.worker._running.values()
        run._finish = _broken  # type: ignore[assignment, method-assign]
        at.rig.painter.go_on.set()
        await at.ended()
        await at.until(at.rig.events.finished)
    told = told_once(at)
    assert (told.status, told.code) == (500, "internal_error")
    assert told.cost

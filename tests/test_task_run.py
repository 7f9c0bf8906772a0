"""A task that another worker has left behind: what is known of its call counts, whatever else is away for a while."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.assets.blobs import BlobsOnDisk
from gateway.domain.budget import Counted, Held, Quota, Scope
from gateway.domain.policy import JobType, OnUnknown, Retry
from gateway.domain.settlement import Outcome
from gateway.domain.task import TaskOrder, TaskStatus, task_of
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.tasks import RedisTasks
from gateway.lifecycle import Setup
from gateway.observe.event import RequestDenied, RequestStarted, TaskRested
from gateway.ports.provider import UpstreamFailure
from gateway.ports.tasks import Taken
from gateway.tasks.adding import NOT_QUEUED
from gateway.tasks.cancelling import Cancelling
from gateway.tasks.context import TaskContext
from gateway.tasks.ending import end
from gateway.tasks.recovery import recorded
from gateway.tasks.run import NotHere, TaskRun
from gateway.tasks.service import body_name
from gateway.tasks.worker import TaskWorker
from gateway.web.body import read_kept
from tests.builders import policy, route
from tests.ledger.rules import ABOUT, candidate
from tests.ledger.work import fall_silent, held_ahead, new_request, order, watchful
from tests.observe.samples import value
from tests.observe.scraped import scraped_after
from tests.rig import BUDGET, PATIENCE, SMALL_BODY, Rig, rigged, team

REALM = "main"
BODY = b'{"prompt": "a cat", "size": "1024x1024", "quality": "low"}'
WORST = 100


@dataclass
class Left:
    """A task whose call was about to leave when its first worker fell silent, and the second one that took it over."""

    order: TaskOrder
    first: Taken
    second: Taken
    context: TaskContext

    @property
    def name(self) -> str:
        """The task's id."""
        return task_of(self.order.request_id)


async def left(
    rig: Rig,
    blobs: BlobsOnDisk,
    route: str = "main",
    submitted: Mapping[str, object] | None = None,
    *,
    began: bool = True,
) -> Left:
    """Make a task, begin its call, or hold for it alone, and fall silent; another worker has it then."""
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
    if began:
        assert await one.began(task_of(request), first.token, route=route, attempt=2)
    if submitted is not None:
        await one.submitted(task_of(request), 0, submitted, attempt=2)
    await fall_silent(rig.store, REALM)
    [second] = await other.take(1)
    lifecycle = rig.lifecycle
    setup = Setup(rig.rules, {"acme": rig.painter})
    context = TaskContext(other, blobs, read_kept, lifecycle.planner, lambda: setup, lifecycle.flight_context)
    return Left(made, first, second, context)


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
        running = asyncio.create_task(TaskRun(task.context, task.second).run())
        async with asyncio.timeout(PATIENCE):
            while "cannot be read" not in caplog.text:  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.02)
        (folder / "tasks").unlink()
        (folder / "elsewhere").rename(folder / "tasks")
        async with asyncio.timeout(PATIENCE):
            await running
        ended = await task.context.tasks.find(task.name)
    assert ended is not None
    assert (rig.painter.calls, ended.status) == (0, TaskStatus.FAILED)
    assert ended.error is not None
    assert "may have been done and billed" in str(ended.error["message"])


async def test_a_task_that_cannot_be_followed_tells_what_is_held_for_it(tmp_path: Path) -> None:
    """Policy has no longer the route that took its work on: its worst case is what will be booked, and its cost."""
    async with rigged(tmp_path / "gateway") as rig:
        task = await left(rig, BlobsOnDisk(tmp_path / "blobs"), "gone", {"id": "work_1"})
        await TaskRun(task.context, task.second).run()
        ended = await task.context.tasks.find(task.name)
    assert ended is not None
    assert (rig.painter.calls, ended.status, ended.cost) == (0, TaskStatus.FAILED, WORST * 1000)


async def test_a_call_whose_body_is_lost_is_one_that_may_be_billed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A provider has taken its work on, and what it was to make is gone: it does not say that nothing was sent."""
    blobs = BlobsOnDisk(tmp_path / "blobs")
    async with rigged(tmp_path / "gateway") as rig:
        task = await left(rig, blobs, submitted={"id": "work_1"})
        await blobs.delete(body_name(task.order.request_id))
        await TaskRun(task.context, task.second).run()
        ended = await task.context.tasks.find(task.name)
    assert ended is not None
    assert ended.error is not None
    assert (rig.painter.calls, ended.status, ended.cost) == (0, TaskStatus.FAILED, WORST * 1000)
    assert "may have been done and billed" in str(ended.error["message"])
    assert f"the body of task {task.name} is not here" in caplog.text


@pytest.mark.parametrize("what", ["wanted", "taken back", "cancelled"])
async def test_only_of_a_task_that_is_to_be_done_is_a_lost_body_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """One whose making is taken back, or that was cancelled elsewhere, tells nobody to change where bodies lie."""
    async with rigged(tmp_path / "gateway") as rig:
        tasks, request = watchful(RedisTasks(rig.store, worker="one")), new_request()
        hold = await held_ahead(rig.ledger, request, candidate((BUDGET, WORST)))
        await tasks.add(order(request, "team", hold=hold))
        [taken] = await tasks.take(1)
        setup, lifecycle = Setup(rig.rules, {"acme": rig.painter}), rig.lifecycle
        blobs = BlobsOnDisk(tmp_path / "blobs")
        context = TaskContext(tasks, blobs, read_kept, lifecycle.planner, lambda: setup, lifecycle.flight_context)
        await rig.ledger.void(request, hold, NOT_QUEUED if what == "taken back" else "for another reason")
        if what == "cancelled":
            other, settlements = RedisTasks(rig.store, worker="other"), DeferredSettlements(rig.ledger)
            cancelling = Cancelling(other, rig.ledger, settlements, lambda _: None, rig.events)
            await cancelling.cancel(taken.record)
        with contextlib.suppress(NotHere):
            await TaskRun(context, taken).run()
        ended = await tasks.find(task_of(request))
    assert (ended and ended.status) == {"wanted": TaskStatus.FAILED, "cancelled": TaskStatus.CANCELLED}.get(what)
    assert ("is not here: gateways on one store need one --assets" in caplog.text) == (what == "wanted")


async def test_who_lost_a_task_leaves_its_body_to_whoever_has_it(tmp_path: Path) -> None:
    """A worker that comes back too late can neither fail the task nor take away what it is to make."""
    blobs = BlobsOnDisk(tmp_path / "blobs")
    async with rigged(tmp_path / "gateway") as rig:
        task = await left(rig, blobs)
        failed = replace(task.first.record, status=TaskStatus.FAILED, error={"message": "too late"})
        await end(task.context, failed, task.first.token)
        assert await blobs.get(body_name(task.order.request_id)) is not None
        await end(task.context, failed, task.second.token)
        assert await blobs.get(body_name(task.order.request_id)) is None


async def test_who_lost_a_task_while_it_looked_gives_nothing_back(tmp_path: Path) -> None:
    """A worker that stood still since it took a task leaves alone what the next one has sent, and that is booked."""
    async with rigged(tmp_path / "gateway") as rig:
        task = await left(rig, BlobsOnDisk(tmp_path / "blobs"))
        request = task.order.request_id
        third = watchful(RedisTasks(rig.store, worker="third"))
        await fall_silent(rig.store, REALM)
        [taken] = await third.take(1)
        context = replace(task.context, tasks=third)
        assert await recorded(context, taken.record, taken.token, 0.0) is not None
        held = await rig.ledger.choose_and_hold(request, [candidate((BUDGET, WORST), worst=WORST)], about=ABOUT)
        assert isinstance(held, Held)
        assert await third.began(task.name, taken.token, route="main", attempt=held.attempt)
        with pytest.raises(NotHere):
            await recorded(task.context, task.second.record, task.second.token, 0.0)
        known = await rig.ledger.request(request)
        assert known is not None
        attempts: Any = known["attempts"]
        states = {each["attempt"]: each["state"] for each in attempts}
    assert (held.attempt, states[held.attempt]) == (3, "sent")


@pytest.mark.parametrize("why", ["its time was over", "it was cancelled", "every other route is too dear"])
async def test_what_may_be_billed_is_told_whatever_kept_another_call_from_being_made(tmp_path: Path, why: str) -> None:
    """Nobody knows what became of the call of a dead worker, so the task fails with its worst case, and says so."""
    changed: dict[str, Any] = {
        "its time was over": {"not_after": time.time() - 1},
        "every other route is too dear": {"most": (0, 0, 0)},
    }
    rules = team(retry=Retry(attempts=3, on_unknown=OnUnknown.NEXT_ROUTE))
    async with rigged(tmp_path / "gateway", rules) as rig:
        task = await left(rig, BlobsOnDisk(tmp_path / "blobs"))
        record = task.second.record
        record = replace(record, order=replace(record.order, **changed.get(why, {})))
        record = replace(record, cancel_asked=why == "it was cancelled")
        await TaskRun(task.context, replace(task.second, record=record)).run()
        ended = await task.context.tasks.find(task.name)
    assert ended is not None
    assert ended.error is not None
    assert (rig.painter.calls, ended.status, ended.cost) == (0, TaskStatus.FAILED, WORST * 1000)
    assert "may have been done and billed" in str(ended.error["message"])
    [told] = rig.events.finished()
    assert (told.status, told.route, told.attempts, told.cost, told.source) == (
        502,
        "main",
        1,
        WORST * 1000,
        "presumed",
    )
    assert value(scraped_after(*rig.events.seen), "in_flight", operation="generate") == 0


@pytest.mark.parametrize("then", ["given back", "given back twice", "given back, and not heard of"])
async def test_what_a_dead_worker_held_is_given_back_though_others_had_its_task_and_never_looked(
    tmp_path: Path, then: str
) -> None:
    """It died before its call left; who gives the task back at once, as at a stop, has not looked for its hold."""
    blobs = BlobsOnDisk(tmp_path / "blobs")
    async with rigged(tmp_path / "gateway") as rig:
        rig.painter.go_on.set()
        task = await left(rig, blobs, began=False)
        tasks, had = task.context.tasks, task.second
        await tasks.give_back(task.name, had.token)
        if then != "given back":
            [had] = await tasks.take(1)
        if then == "given back twice":
            await tasks.give_back(task.name, had.token)
        else:
            await fall_silent(rig.store, REALM)
        [taken] = await tasks.take(1)
        await TaskRun(task.context, taken).run()
        ended = await tasks.find(task.name)
        known: Any = await rig.ledger.request(task.order.request_id)
    assert ended is not None
    assert [each["state"] for each in known["attempts"]] == ["void", "void", "settled"]
    assert ended.cost == known["attempts"][-1]["cost"].route


async def test_an_answer_that_a_dead_worker_kept_is_told_with_its_task(tmp_path: Path) -> None:
    """Its line would have come with the task's end, which is another worker's now; the record has what it cost."""
    async with rigged(tmp_path / "gateway") as rig:
        rig.painter.go_on.set()
        task = await left(rig, BlobsOnDisk(tmp_path / "blobs"))
        recording = task.context.flight_context.answers.record(task.order.request_id)
        await recording.write(SMALL_BODY)
        await recording.commit(200, [("content-type", "application/json")])
        with contextlib.suppress(NotHere):
            await TaskRun(task.context, task.second).run()
        ended = await task.context.tasks.find(task.name)
    assert ended is not None
    assert ended.status is TaskStatus.COMPLETED
    [told] = rig.events.finished()
    assert (told.status, told.code, told.route, told.attempts, told.cost) == (200, "", "main", 1, WORST * 1000)


async def test_who_lost_a_task_tells_of_no_end(tmp_path: Path) -> None:
    """A worker that stood still finds the task's time over, and that another has ended it: that one has told."""
    async with rigged(tmp_path / "gateway") as rig:
        task = await left(rig, BlobsOnDisk(tmp_path / "blobs"), began=False)
        late = replace(task.second.record, order=replace(task.order, not_after=time.time() - 1))
        for taken in (task.second, task.first):
            await TaskRun(task.context, replace(taken, record=late)).run()
    assert [(each.status, each.code) for each in rig.events.finished()] == [(503, "task_expired")]


async def test_calls_before_a_task_was_taken_over_are_told_at_its_end_alone(tmp_path: Path) -> None:
    """And not with each try after which it rests, which would show one call, and its cost, again and again."""
    rules = team(retry=Retry(attempts=3, on_unknown=OnUnknown.NEXT_ROUTE))
    async with rigged(tmp_path / "gateway", rules) as rig:
        rig.painter.script += [UpstreamFailure(Outcome.REJECTED, "status_429", "busy", retry_after=60.0)] * 2
        rig.painter.go_on.set()
        task = await left(rig, BlobsOnDisk(tmp_path / "blobs"))
        run = TaskRun(task.context, task.second)
        run._pause = lambda *_: 0.01  # type: ignore[method-assign]  # a minute is not slept out here
        async with asyncio.timeout(PATIENCE):
            await run.run()
    rests = [event.ended for event in rig.events.seen if isinstance(event, TaskRested)]
    [told] = rig.events.finished()
    assert [(each.route, each.attempts, each.cost) for each in rests] == [("spare", 1, None)] * 2
    assert (told.status, told.route, told.attempts, told.source) == (200, "spare", 2, "presumed")
    assert told.cost is not None
    assert told.cost > WORST * 1000


@pytest.mark.parametrize("attempts", [2, 3])
async def test_policy_bounds_the_calls_of_all_workers_together(tmp_path: Path, attempts: int) -> None:
    """The call of the worker that died is one of them, so that no more worst cases are booked than policy says."""
    ways = tuple(route(name) for name in ("main", "spare", "third", "fourth"))
    kind = JobType("draft", ways, retry=Retry(attempts, OnUnknown.NEXT_ROUTE))
    rules = replace(policy(*ways, job_type=kind), projects=team().projects)
    async with rigged(tmp_path / "gateway", rules) as rig:
        rig.painter.script += [UpstreamFailure(Outcome.UNKNOWN, "timeout", "no answer came") for _ in ways]
        rig.painter.go_on.set()
        task = await left(rig, BlobsOnDisk(tmp_path / "blobs"))
        await TaskRun(task.context, task.second).run()
        ended = await task.context.tasks.find(task.name)
    assert ended is not None
    assert (rig.painter.calls, ended.status) == (attempts - 1, TaskStatus.FAILED)
    assert [told.attempts for told in rig.events.finished()] == [attempts]


async def test_a_worker_that_stops_waits_for_no_task_between_two_tries(tmp_path: Path) -> None:
    """Nothing of it is under way: it is given back at once, and its call is made by whoever takes it next."""
    blobs = BlobsOnDisk(tmp_path / "blobs")
    async with rigged(tmp_path / "gateway") as rig:
        busy = UpstreamFailure(Outcome.REJECTED, "status_429", "busy", retry_after=3600.0)
        rig.painter.script += [busy, busy]  # of both routes
        rig.painter.go_on.set()
        task = await left(rig, blobs)
        await rig.ledger.void(task.order.request_id, 2, "refused")
        await task.context.tasks.give_back(task.name, task.second.token)
        worker = TaskWorker(task.context)
        working = asyncio.create_task(worker.run())
        async with asyncio.timeout(PATIENCE):
            while (running := next(iter(worker._running.values()), None)) is None or not rig.painter.calls:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            while running.begun:  # noqa: ASYNC110 - a rest tells nobody
                await asyncio.sleep(0.02)
            await worker.aclose(grace=3600.0)
        working.cancel()
        [again] = await RedisTasks(rig.store, worker="third").take(1)
        assert (again.record.status, again.record.attempt) == (TaskStatus.PROCESSING, 3)


async def test_tries_that_go_back_to_rest_are_no_requests_that_ended(tmp_path: Path) -> None:
    """A task that waits for its project's quota ends once, is refused nothing, and is in flight while it is tried."""
    quota = Quota(Scope(project="team"), Counted.REQUESTS, 1, seconds=1)
    rules = team()
    rules = replace(rules, projects={"team": replace(rules.projects["team"], quotas=(quota,))})
    async with rigged(tmp_path / "gateway", rules) as rig:
        rig.painter.go_on.set()
        blobs, tasks = BlobsOnDisk(tmp_path / "blobs"), RedisTasks(rig.store, worker="one")
        request = new_request()
        made = order(request, "team", hold=await held_ahead(rig.ledger, request, candidate((BUDGET, WORST))))

        async def body() -> AsyncIterator[bytes]:
            yield BODY

        await blobs.put(body_name(request), body())
        await tasks.add(made)
        [taken] = await tasks.take(1)
        setup = Setup(rig.rules, {"acme": rig.painter})
        context = TaskContext(
            tasks, blobs, read_kept, rig.lifecycle.planner, lambda: setup, rig.lifecycle.flight_context
        )
        assert (await rig.ask(rig.inbound())).status == 200  # the quota's one request
        async with asyncio.timeout(PATIENCE):
            await TaskRun(context, taken).run()
        ended = await tasks.find(task_of(request))
        assert ended is not None
        assert ended.status is TaskStatus.COMPLETED
    started = [event for event in rig.events.seen if isinstance(event, RequestStarted) and event.task]
    assert len(started) > 1
    assert [each.status for each in rig.events.finished() if each.request_id == request] == [200]
    assert not [event for event in rig.events.seen if isinstance(event, RequestDenied)]
    assert value(scraped_after(*rig.events.seen), "in_flight", operation="generate") == 0

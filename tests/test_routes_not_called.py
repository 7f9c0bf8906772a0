"""Routes that a job cannot be sent to: no call is made, so none is counted, and each hold ends once, on a real ledger.

Only a provider that says at which route it cannot be asked shows each order, so one written for it stands behind the
port.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.assets.blobs import BlobsOnDisk
from gateway.domain.budget import Budget, Counted, Scope, Window
from gateway.domain.errors import (
    BudgetExceeded,
    GatewayError,
    RateLimited,
    UnsupportedByEveryRoute,
    UpstreamError,
    UpstreamTimeout,
)
from gateway.domain.policy import OnUnknown, Policy, Project, Retry, Throttled
from gateway.domain.price import Price
from gateway.domain.route import ProviderConfig, Route
from gateway.domain.settlement import Outcome
from gateway.domain.task import TaskStatus, task_of
from gateway.ledger.entries import read_entries
from gateway.ledger.tasks import RedisTasks
from gateway.lifecycle import Setup
from gateway.observe.event import RequestDenied
from gateway.ports.provider import Answer, Call, UpstreamFailure
from gateway.providers.unsupported import unsupported
from gateway.tasks.context import TaskContext
from gateway.tasks.run import TaskRun
from gateway.tasks.service import body_name
from gateway.web.body import read_kept
from tests.builders import TODAY, rates, route
from tests.ledger.rules import candidate
from tests.ledger.work import held_ahead, new_request, order
from tests.rig import BUDGET, PATIENCE, SMALL_BODY, Got, Painted, Painter
from tests.test_waiting import PER_MINUTE, PER_SECOND, Stand, standing
from tests.test_waiting import rules as waiting_rules

MAIN, SPARE, THIRD = route("main"), route("spare"), route("third")
ELSEWHERE = replace(SPARE, provider=ProviderConfig("elsewhere", "openai", "http://127.0.0.1:1/v1", None))
NO_LIMITS: dict[str, tuple[Counted, int, int]] = {}
LOST = UpstreamFailure(Outcome.UNKNOWN, "timeout", "it did not answer")


def not_asked() -> UpstreamFailure:
    """What a provider says that has no way to be asked for a job."""
    return unsupported("this route takes input images by URL alone")


def refusal(reason: str = "status_5xx", *, retry_after: float | None = None) -> UpstreamFailure:
    """An answer that bills nothing."""
    return UpstreamFailure(Outcome.REJECTED, reason, f"the provider answered {reason}", retry_after=retry_after)


def rules(*routes: Route, retry: Retry | None = None, wait: float = 0.0) -> Policy:
    """These routes for a job type of two calls, unless `retry` says otherwise."""
    made = waiting_rules(Throttled(wait), *routes)
    kind = replace(made.job_types["draft"], retry=retry or Retry())
    return replace(made, job_types={**made.job_types, "draft": kind})


async def holds(stand: Stand, request_id: str) -> list[tuple[str, str]]:
    """Each hold of a request: its route, and how it ended; all have ended, each once."""
    record = await stand.ledger.request(request_id)
    assert record is not None
    attempts = record["attempts"]
    assert isinstance(attempts, list)
    told = [(each["facts"]["route"], each["state"]) for each in attempts]
    assert sorted(stand.room.heard) == sorted(name for name, _ in told)
    assert (await stand.rig.spent())[1] == 0
    return told


def header(answer: Got | GatewayError, name: str) -> str | None:
    """A header of an answer, or of an error."""
    return {key.lower(): value for key, value in answer.headers}.get(name.lower())


async def failing(stand: Stand, kind: type[GatewayError]) -> GatewayError:
    """Ask, and return the error that comes."""
    with pytest.raises(kind) as caught:
        await stand.ask()
    return caught.value


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_route_that_can_is_asked_however_many_cannot(tmp_path: Path, attempts: int) -> None:
    """Nothing was sent before it: the image comes, and its call is the first."""
    async with standing(tmp_path, rules(MAIN, SPARE, THIRD, retry=Retry(attempts=attempts)), NO_LIMITS) as stand:
        stand.book.script += [not_asked(), not_asked()]
        got = await stand.ask()
        assert (got.status, got.header("X-Gateway-Route"), got.header("X-Gateway-Attempts")) == (200, "third", "1")
        told = [("main", "void"), ("spare", "void"), ("third", "settled")]
        assert await holds(stand, got.header("x-request-id")) == told
        assert [entry.kind async for entry in read_entries(stand.rig.store)] == ["settle"]
        assert [event.attempts for event in stand.rig.events.finished()] == [1]


async def test_a_stream_goes_on_to_the_route_that_can(tmp_path: Path) -> None:
    """Its client sees the events of that route alone."""
    async with standing(tmp_path, rules(MAIN, SPARE, THIRD), NO_LIMITS) as stand:
        stand.book.script += [not_asked(), not_asked(), Painted(b"data: {}\n\n", event_stream=True)]
        fields = {"prompt": "a cat", "size": "1024x1024", "quality": "low", "stream": True}
        got = await stand.rig.ask(stand.rig.inbound(fields=fields))
        assert (got.status, got.body, got.header("X-Gateway-Attempts")) == (200, b"data: {}\n\n", "1")
        assert [state for _, state in await holds(stand, got.header("x-request-id"))] == ["void", "void", "settled"]


async def test_where_no_route_can_each_was_tried_once_and_none_called(tmp_path: Path) -> None:
    """All of them are named, no call is told of, and nothing is held or spent."""
    async with standing(tmp_path, rules(MAIN, SPARE, THIRD, retry=Retry(attempts=10)), NO_LIMITS) as stand:
        stand.book.script += [not_asked() for _ in range(9)]
        error = await failing(stand, UnsupportedByEveryRoute)
        assert stand.book.routes() == ["main", "spare", "third"]
        assert all(name in error.message for name in stand.book.routes())
        assert (header(error, "X-Gateway-Attempts"), header(error, "X-Gateway-Cost")) == ("0", "0.00")
        [finished] = stand.rig.events.finished()
        assert (finished.attempts, finished.status) == (0, 400)
        assert [state for _, state in await holds(stand, finished.request_id)] == ["void"] * 3
        assert await stand.rig.spent() == (0, 0)


async def test_a_call_is_left_for_a_repeat(tmp_path: Path) -> None:
    """Of two calls one was made: the route that failed is called again, the others are not asked any more."""
    async with standing(tmp_path, rules(MAIN, SPARE, THIRD), NO_LIMITS) as stand:
        stand.book.script += [not_asked(), refusal(), not_asked()]
        got = await stand.ask()
        assert stand.book.routes() == ["main", "spare", "third", "spare"]
        assert (got.status, got.header("X-Gateway-Attempts")) == (200, "2")
        assert [state for _, state in await holds(stand, got.header("x-request-id"))] == ["void"] * 3 + ["settled"]


async def test_a_provider_that_is_not_set_up_uses_up_no_call(tmp_path: Path) -> None:
    """It is gone past as one that cannot do the job."""
    async with standing(tmp_path, rules(ELSEWHERE, MAIN, retry=Retry(attempts=1)), NO_LIMITS) as stand:
        got = await stand.ask()
        assert (got.header("X-Gateway-Route"), got.header("X-Gateway-Attempts")) == ("main", "1")
        assert await holds(stand, got.header("x-request-id")) == [("spare", "void"), ("main", "settled")]


async def test_fallbacks_are_left_to_a_provider_that_was_never_called(tmp_path: Path) -> None:
    """Requests that cannot be sent to it take nothing from its retry budget: it still takes over from another."""
    async with standing(tmp_path, rules(MAIN, ELSEWHERE), NO_LIMITS) as stand:
        stand.rig.others["elsewhere"] = stand.book
        for _ in range(25):
            stand.book.script += [not_asked(), not_asked()]
            await failing(stand, UnsupportedByEveryRoute)
        stand.book.script.append(refusal())
        got = await stand.ask()
        assert (got.header("X-Gateway-Route"), got.header("X-Gateway-Attempts")) == ("spare", "2")


async def test_a_full_route_is_waited_for_by_a_request_that_has_made_no_call(tmp_path: Path) -> None:
    """It has reserved nothing that others need meanwhile."""
    quotas = {"spare": PER_SECOND["main"]}
    async with standing(tmp_path, rules(MAIN, SPARE, wait=60.0), quotas) as stand:
        stand.book.script += [not_asked()]
        await stand.ask()
        stand.book.script += [not_asked()]
        got = await stand.ask()
        assert (got.status, got.header("X-Gateway-Route"), got.header("X-Gateway-Attempts")) == (200, "spare", "1")
        assert stand.rig.events.finished()[-1].attempts == 1
        assert (await stand.rig.spent())[1] == 0


class Unable(Painter):
    """A provider that has no way to be asked."""

    async def send(self, call: Call) -> Answer:
        """Send nothing."""
        assert call.request_id
        self.calls += 1
        raise not_asked()


async def test_a_task_rests_until_the_route_that_can_has_room(tmp_path: Path) -> None:
    """It neither fails for good nor counts as under way meanwhile, and comes to its end with one call."""
    blobs, request = BlobsOnDisk(tmp_path / "blobs"), new_request()
    unable, quotas = Unable(), {"main": (Counted.IMAGES, 1, 3)}
    async with standing(tmp_path / "gateway", rules(ELSEWHERE, MAIN), quotas) as stand:
        stand.rig.others["elsewhere"] = unable
        await stand.ask()
        lifecycle, tasks = stand.rig.lifecycle, RedisTasks(stand.rig.store, worker="one")

        async def body() -> AsyncIterator[bytes]:
            yield b'{"prompt": "a cat", "size": "1024x1024", "quality": "low"}'

        await blobs.put(body_name(request), body())
        hold = await held_ahead(stand.ledger, request, candidate((BUDGET, 100)))
        await tasks.add(order(request, "team", hold=hold))
        [taken] = await tasks.take(1)
        setup = Setup(stand.rig.rules, {"acme": stand.book, **stand.rig.others})
        context = TaskContext(tasks, blobs, read_kept, lifecycle.planner, lambda: setup, lifecycle.flight_context)
        run = TaskRun(context, taken)
        running = asyncio.create_task(run.run())
        async with asyncio.timeout(PATIENCE):
            while unable.calls == 1 or run.begun:  # noqa: ASYNC110 - what rests tells nobody
                await asyncio.sleep(0.01)
        await running
        task = await tasks.find(task_of(request))
        assert task is not None
        assert (task.status, stand.book.routes()) == (TaskStatus.COMPLETED, ["main", "main"])
        assert (await stand.rig.spent())[1] == 0


async def test_what_stands_in_the_way_of_the_route_that_can_is_told(tmp_path: Path) -> None:
    """A full route is 429 and no 400, which nobody would repeat; so is what a provider says of its own limit."""
    async with standing(tmp_path, rules(MAIN, SPARE), {"spare": PER_MINUTE["main"]}) as stand:
        stand.book.script += [not_asked()]
        await stand.ask()
        stand.room.heard.clear()
        stand.book.script += [not_asked()]
        error = await failing(stand, RateLimited)
        assert error.retry_after is not None
        assert error.retry_after > 30
        assert header(error, "X-Gateway-Attempts") == "0"
        assert [event.reason for event in stand.rig.events.seen if isinstance(event, RequestDenied)] == [error.code]
        request_id = stand.rig.events.finished()[-1].request_id
        assert await holds(stand, request_id) == [("main", "void")]

    async with standing(tmp_path / "limited", rules(MAIN, SPARE), NO_LIMITS) as stand:
        stand.book.script += [not_asked(), refusal("status_429", retry_after=30)]
        error = await failing(stand, RateLimited)
        assert error.retry_after == pytest.approx(31.5, abs=1.5)
        assert header(error, "X-Gateway-Attempts") == "1"


async def test_a_budget_that_has_no_room_for_the_route_that_can_is_told(tmp_path: Path) -> None:
    """The first hold was given back in the same step, and none is taken."""
    dear = route("spare", prices=(Price(TODAY, "test", rates("500", "125", "800", "200", "3000")),))
    made = rules(MAIN, dear)
    team = Project("team", ("draft",), "draft", budgets=(Budget(Scope(), Window.TOTAL, 100_000),))
    async with standing(tmp_path, replace(made, projects={"team": team}), NO_LIMITS) as stand:
        stand.book.script += [not_asked()]
        error = await failing(stand, BudgetExceeded)
        assert (header(error, "X-Gateway-Attempts"), stand.book.routes()) == ("0", ["main"])
        [balance] = await stand.ledger.balances(list(team.budgets))
        assert (balance.used, balance.held) == (0, 0)
        assert stand.room.heard == ["main"]


async def test_after_a_lost_answer_a_route_that_cannot_is_no_second_call(tmp_path: Path) -> None:
    """What may have been billed is told with what else was tried, and booked once."""
    retry = Retry(attempts=2, on_unknown=OnUnknown.NEXT_ROUTE)
    async with standing(tmp_path, rules(MAIN, SPARE, THIRD, retry=retry), NO_LIMITS) as stand:
        stand.book.script += [LOST, not_asked()]
        got = await stand.ask()
        assert (got.header("X-Gateway-Route"), got.header("X-Gateway-Attempts")) == ("third", "2")
        told = [("main", "presumed"), ("spare", "void"), ("third", "settled")]
        assert await holds(stand, got.header("x-request-id")) == told

    half = Painted(b"{", broken=LOST)
    async with standing(tmp_path / "two", rules(MAIN, SPARE, retry=retry), NO_LIMITS) as stand:
        stand.book.script += [half, not_asked()]
        error = await failing(stand, UpstreamTimeout)
        assert "main" in error.message
        assert "spare" in error.message
        assert (error.should_retry, header(error, "X-Gateway-Attempts")) == (False, "1")
        request_id = stand.rig.events.finished()[-1].request_id
        assert [state for _, state in await holds(stand, request_id)] == ["presumed", "void"]


async def test_a_provider_whose_answer_finds_no_room_here_was_called(tmp_path: Path) -> None:
    """Unlike a line of a batch for which there is none: its work is booked, so it counts, and nothing repeats it."""
    answered = [UpstreamFailure(Outcome.UNKNOWN, "no_room", "the answer does not fit here") for _ in range(3)]
    retry = Retry(attempts=2, on_unknown=OnUnknown.NEXT_ROUTE)
    async with standing(tmp_path, rules(MAIN, SPARE, THIRD, retry=retry), NO_LIMITS) as stand:
        stand.book.script += answered
        error = await failing(stand, UpstreamError)
        assert (stand.book.routes(), header(error, "X-Gateway-Attempts")) == (["main", "spare"], "2")
        [finished] = stand.rig.events.finished()
        assert await holds(stand, finished.request_id) == [("main", "presumed"), ("spare", "presumed")]

    limited = {"spare": PER_MINUTE["main"]}
    async with standing(tmp_path / "full", rules(MAIN, SPARE, retry=retry), limited) as stand:
        stand.book.script += [not_asked(), Painted(SMALL_BODY), *answered]
        assert (await stand.ask()).header("X-Gateway-Route") == "spare"
        error = await failing(stand, UpstreamError)
        assert (error.status, error.should_retry, header(error, "X-Gateway-Attempts")) == (502, False, "1")

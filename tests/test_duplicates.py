"""Duplicates: the work is done and paid once, and everybody who repeats the request gets the same answer."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.budget import Budget, Denied, Held, Scope, Window
from gateway.domain.caller import Caller
from gateway.domain.errors import (
    BudgetExceeded,
    GatewayError,
    IdempotencyKeyReused,
    InvalidRequest,
    RateLimited,
    UpstreamTimeout,
)
from gateway.domain.idempotency import Bound
from gateway.domain.policy import OnUnknown, Retry
from gateway.domain.settlement import Outcome, Settlement, SettleResult
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ports import Ended, Meanwhile
from gateway.ports.provider import UpstreamFailure
from gateway.request.earlier_answer import EarlierAnswers
from gateway.request.repetition import ties
from tests.rig import PATIENCE, Got, Painted, Rig, cut_off, leave, rigged, team

REFUSED = UpstreamFailure(
    Outcome.REJECTED,
    "moderation",
    "refused",
    status=400,
    headers=[("content-type", "application/json")],
    body=b'{"error": {"code": "moderation_blocked"}}',
    pass_on=True,
)
UNKNOWN = UpstreamFailure(Outcome.UNKNOWN, "timeout", "no answer in time")
THROTTLED = UpstreamFailure(Outcome.REJECTED, "status_429", "slow down", retry_after=30.0)
LARGE = Painted(b'{"data": "' + os.urandom(400_000).hex().encode() + b'"}')


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway."""
    async with rigged(tmp_path) as made:
        yield made


async def begin(rig: Rig, key: str | None = "k", **options: int) -> asyncio.Task[Got]:
    """Ask, and return once the provider has the call."""
    rig.painter.begun.clear()
    asking = asyncio.create_task(rig.ask(rig.inbound(key, **options)))  # type: ignore[arg-type]  # retries alone is used
    await asyncio.wait_for(rig.painter.begun.wait(), PATIENCE)
    return asking


async def test_a_thousand_duplicates_at_once_are_one_call(rig: Rig) -> None:
    """One upstream call, one settlement, a thousand identical bodies; all but one say that they are replays."""
    asking = [asyncio.create_task(rig.ask(rig.inbound("k"))) for _ in range(1000)]
    await asyncio.wait_for(rig.painter.begun.wait(), PATIENCE)
    assert len(rig.lifecycle._flights.running) == 1
    rig.painter.go_on.set()
    got = await asyncio.gather(*asking)
    assert rig.painter.calls == 1
    assert len({(answer.status, answer.body, answer.header("x-request-id")) for answer in got}) == 1
    assert [answer.replayed for answer in got].count(False) == 1
    used, held = await rig.spent()
    assert (used > 0, held) == (True, 0)
    await rig.settled()
    finished = rig.events.finished()
    assert [event.replayed for event in finished].count(True) == 999
    assert {(event.attempts, event.cost) for event in finished if event.replayed} == {(0, None)}
    assert len({event.request_id for event in finished}) == 1000


@pytest.mark.parametrize("event_stream", [False, True], ids=["json", "stream"])
async def test_a_replay_is_the_same_in_every_byte(rig: Rig, *, event_stream: bool) -> None:
    """Large answers and streams come back from disk as they were, with their headers, however often."""
    body = b"".join(b'data: {"n": %d}\n\n' % n for n in range(20_000)) if event_stream else LARGE.body
    rig.painter.script.append(Painted(body, event_stream=event_stream))
    rig.painter.go_on.set()
    first = await rig.ask(rig.inbound("k"))
    again = [await rig.ask(rig.inbound("k")) for _ in range(2)]
    elsewhere = await rig.beside().ask(rig.inbound("k"))
    assert first.body == body
    for other in (*again, elsewhere):
        assert other.body == body
        assert list(other.headers) == [*first.headers, ("Idempotent-Replayed", "true")]
    assert rig.painter.calls == 1


async def test_another_request_under_the_same_key_is_a_conflict(rig: Rig) -> None:
    """While the first runs and after it, here and in another process; no SDK repeats it, the first is not disturbed."""
    first = await begin(rig)
    others = [rig.inbound("k", fingerprint="e" * 64), rig.inbound("k", x_gateway_job_type="draft")]
    for inbound in others:
        for gateway in (rig, rig.beside()):
            with pytest.raises(IdempotencyKeyReused) as caught:
                await gateway.ask(inbound)
            assert (caught.value.status, caught.value.should_retry) == (409, False)
    rig.painter.go_on.set()
    assert (await first).status == 200
    await rig.settled()
    with pytest.raises(IdempotencyKeyReused):
        await rig.ask(others[0])
    assert rig.painter.calls == 1


async def test_somebody_elses_key_is_another_one(rig: Rig) -> None:
    """Another project and another API key of the same project use the same word for requests of their own."""
    rig.painter.go_on.set()
    callers = ("team/key_1", "team/key_2", "other/key_1")
    got = [await rig.ask(rig.inbound("k", caller=caller)) for caller in callers for _ in range(2)]
    assert rig.painter.calls == 3
    assert [answer.replayed for answer in got] == [False, True] * 3
    assert len({answer.body for answer in got}) == 3


async def test_the_first_client_may_leave(rig: Rig) -> None:
    """Those who wait with it, and those who come later, get what it asked for."""
    first = await begin(rig)
    waiting = asyncio.create_task(rig.ask(rig.inbound("k")))
    await asyncio.sleep(0.01)
    await cut_off(first)
    rig.painter.go_on.set()
    got = await waiting
    assert (await rig.ask(rig.inbound("k"))).body == got.body
    assert rig.painter.calls == 1


async def test_a_waiting_client_may_leave(rig: Rig) -> None:
    """Nobody else feels it; it is counted as gone, not as an error."""
    first = await begin(rig)
    leaving = [asyncio.create_task(rig.ask(rig.inbound("k"))) for _ in range(10)]
    staying = asyncio.create_task(rig.ask(rig.inbound("k")))
    await asyncio.sleep(0.01)
    for client in leaving:
        await cut_off(client)
    gone = rig.events.finished()
    assert [(event.status, event.client_gone, event.replayed) for event in gone] == [(499, True, True)] * 10
    rig.painter.go_on.set()
    assert (await first).body == (await staying).body


async def test_a_replay_that_is_cut_off_is_counted_as_such(rig: Rig) -> None:
    """A waiting client that leaves in the middle of the body is gone, with the bytes that it took."""
    rig.painter.script.append(LARGE)
    first = await begin(rig)
    joining = asyncio.create_task(rig.lifecycle.handle(rig.inbound("k")))
    await asyncio.sleep(0.01)
    rig.painter.go_on.set()
    await first
    outbound = await joining
    taken = len(await anext(outbound.chunks))
    await leave(outbound)
    await leave(outbound)
    await rig.settled()
    [event] = [event for event in rig.events.finished() if event.replayed]
    assert (event.client_gone, event.bytes_out, event.status) == (True, taken, 200)


async def test_duplicates_take_no_room(tmp_path: Path) -> None:
    """A gateway at its limit of requests in flight still takes those that wait for one of them."""
    async with rigged(tmp_path, most_in_flight=2) as rig:
        first = await begin(rig)
        waiting = [asyncio.create_task(rig.ask(rig.inbound("k"))) for _ in range(20)]
        await asyncio.sleep(0.01)
        other = asyncio.create_task(rig.ask(rig.inbound("other")))
        rig.painter.go_on.set()
        assert len({got.body for got in await asyncio.gather(first, *waiting)}) == 1
        assert (await other).status == 200


async def test_two_processes_make_one_call(rig: Rig) -> None:
    """A duplicate at another gateway waits for the answer on disk; so do those that join it there."""
    first = await begin(rig)
    beside = rig.beside()
    waiting = [asyncio.create_task(beside.ask(rig.inbound("k"))) for _ in range(20)]
    await asyncio.sleep(0.3)
    assert len(beside.lifecycle._flights.running) == 1
    assert not any(task.done() for task in waiting)
    rig.painter.go_on.set()
    async with asyncio.timeout(PATIENCE):
        got = await asyncio.gather(*waiting)
    assert {answer.body for answer in got} == {(await first).body}
    assert all(answer.replayed for answer in got)
    assert rig.painter.calls == 1
    await beside.settled()
    assert {(event.replayed, event.attempts, event.cost) for event in beside.events.finished()} == {(True, 0, None)}


async def test_what_cost_nothing_is_shared_by_those_who_wait_and_binds_nobody(rig: Rig) -> None:
    """A refusal by the provider is given to all who joined; the next request is a new one."""
    rig.painter.script.append(REFUSED)
    asking = [asyncio.create_task(rig.ask(rig.inbound("k"))) for _ in range(5)]
    await asyncio.wait_for(rig.painter.begun.wait(), PATIENCE)
    rig.painter.go_on.set()
    got = await asyncio.gather(*asking)
    assert {(answer.status, answer.body) for answer in got} == {(400, REFUSED.body)}
    assert [answer.replayed for answer in got].count(True) == 4
    assert rig.painter.calls == 1
    assert await rig.spent() == (0, 0)
    assert rig.files() == []
    assert (await rig.ask(rig.inbound("k", fingerprint="e" * 64))).status == 200


async def test_a_failure_that_cost_nothing_is_shared_and_binds_nobody(rig: Rig) -> None:
    """So is a rate limit, whose own answer each of them gets; nothing is kept."""
    rig.painter.script += [THROTTLED, THROTTLED]
    asking = [asyncio.create_task(rig.ask(rig.inbound("k"))) for _ in range(3)]
    await asyncio.wait_for(rig.painter.begun.wait(), PATIENCE)
    rig.painter.go_on.set()
    errors = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(error) for error in errors] == [RateLimited] * 3
    assert len({id(error) for error in errors}) == 3
    calls = rig.painter.calls
    rig.painter.script.clear()
    assert (await rig.ask(rig.inbound("k"))).status == 200
    assert rig.painter.calls == calls + 1


@pytest.mark.parametrize("fields", [{"prompt": ""}, {"prompt": "x", "n": 99}, {"prompt": "x", "size": "1x1"}])
async def test_a_request_that_is_wrong_binds_nothing(rig: Rig, fields: dict[str, object]) -> None:
    """After a 400 the key is as good as new, for another body too."""
    rig.painter.go_on.set()
    with pytest.raises(InvalidRequest):
        await rig.ask(rig.inbound("k", fields=fields))
    assert (await rig.ask(rig.inbound("k", fingerprint="e" * 64))).status == 200


async def test_a_denial_binds_nothing(tmp_path: Path) -> None:
    """After a 402 the same key works once there is money."""
    poor = Budget(Scope(), Window.TOTAL, 1)
    async with rigged(tmp_path, team(budget=poor)) as rig:
        rig.painter.go_on.set()
        for _ in range(2):
            with pytest.raises(BudgetExceeded):
                await rig.ask(rig.inbound("k"))
        assert rig.painter.calls == 0
        rig.rules = team()
        assert not (await rig.ask(rig.inbound("k"))).replayed


async def test_a_dry_run_binds_nothing(rig: Rig) -> None:
    """It answers the decision, joins nothing, and leaves the key free."""
    first = await begin(rig)
    dry = rig.inbound("k", x_gateway_dry_run="true")
    assert json.loads((await rig.ask(dry)).body)["object"] == "gateway.decision"
    rig.painter.go_on.set()
    await first
    assert rig.painter.calls == 1


async def test_an_unknown_outcome_is_the_answer_from_then_on(rig: Rig) -> None:
    """The error is kept like an answer: the same for all who wait and for every later one, and never a second call."""
    rig.painter.script.append(UNKNOWN)
    asking = [asyncio.create_task(rig.ask(rig.inbound("k"))) for _ in range(5)]
    await asyncio.wait_for(rig.painter.begun.wait(), PATIENCE)
    rig.painter.go_on.set()
    first, *joined = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(first, UpstreamTimeout)
    assert "X-Gateway-Cost" in dict(first.headers)
    later = [await rig.ask(rig.inbound("k")), await rig.beside().ask(rig.inbound("k"))]
    for got in (*joined, *later):
        assert isinstance(got, Got)
        assert (got.status, json.loads(got.body)) == (504, first.body())
        assert got.header("x-should-retry") == "false"
        assert "X-Gateway-Cost" not in dict(got.headers), "a repeat costs nothing"
    assert rig.painter.calls == 1


@pytest.mark.parametrize("event_stream", [False, True], ids=["json", "stream"])
async def test_an_answer_that_breaks_off_is_an_error_from_then_on(rig: Rig, *, event_stream: bool) -> None:
    """Half an answer is never replayed; whoever repeats the request is told what became of it."""
    body = b"data: 1\n\n" * 20_000 if event_stream else LARGE.body
    broken = UpstreamFailure(Outcome.UNKNOWN, "reset", "the provider broke off")
    rig.painter.script.append(Painted(body, event_stream=event_stream, broken=broken))
    rig.painter.go_on.set()
    outbound = await rig.lifecycle.handle(rig.inbound("k"))
    await leave(outbound)
    await rig.settled()
    got = await rig.ask(rig.inbound("k"))
    assert (got.status, got.header("x-should-retry")) == (502, "false")
    assert "the provider broke off" in got.body.decode()
    assert [name.rpartition(".")[2] for name in rig.files()] == ["body", "json"]


async def test_the_answer_is_on_disk_before_it_is_booked(rig: Rig) -> None:
    """Whoever finds a request settled finds its answer, wherever the process dies: it can be found while booking."""
    found: list[bool] = []

    class Looking(DeferredSettlements):
        async def settle(
            self, settlement: Settlement, meanwhile: Meanwhile = None, ended: Ended = None
        ) -> SettleResult | None:
            found.append(await rig.answers.find(settlement.request_id) is not None)
            return await super().settle(settlement, meanwhile, ended)

    rig.lifecycle = rig.open(Looking(rig.ledger))
    rig.painter.script.append(LARGE)
    rig.painter.go_on.set()
    assert (await rig.ask(rig.inbound("k"))).body == LARGE.body
    assert found == [True]


async def test_nobody_waits_for_ever(rig: Rig) -> None:
    """A request that does not end is waited for as long as was said, and then told to be still running."""
    first = await begin(rig)
    running = f"req_{rig.numbers[0]:032x}"
    with pytest.raises(UpstreamTimeout, match="still running"):
        await EarlierAnswers(rig.ledger, rig.answers, patience=0.2).answer(running, claimed=False)
    rig.painter.go_on.set()
    await first


async def test_only_the_answer_that_was_given_is_kept(tmp_path: Path) -> None:
    """Half an answer that was followed by another route's leaves no byte in what is replayed."""
    goes_on = team(retry=Retry(attempts=2, on_unknown=OnUnknown.NEXT_ROUTE))
    async with rigged(tmp_path, goes_on) as rig:
        broken = UpstreamFailure(Outcome.UNKNOWN, "reset", "the provider broke off")
        rig.painter.script.append(Painted(b'{"data": [', broken=broken))
        rig.painter.go_on.set()
        first, again = [await rig.ask(rig.inbound("k")) for _ in range(2)]
        assert json.loads(first.body)["created"] == rig.painter.calls == 2
        assert (again.body, again.replayed) == (first.body, True)
        assert "X-Gateway-Cost" in dict(first.headers)
        assert "X-Gateway-Cost" not in dict(again.headers)


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_an_answer_that_was_lost_is_never_made_again(rig: Rig, *, elsewhere: bool) -> None:
    """What is not kept, for whatever reason, is a stable error that names the request which may have been billed."""
    rig.painter.go_on.set()
    first = await rig.ask(rig.inbound("k"))
    for name in rig.files():
        (rig.folder / name).unlink()
    with pytest.raises(UpstreamTimeout, match=first.header("x-request-id")) as caught:
        await (rig.beside() if elsewhere else rig).ask(rig.inbound("k"))
    assert (caught.value.status, caught.value.should_retry) == (504, False)
    assert rig.painter.calls == 1


async def test_a_disk_that_fails_costs_the_replay_alone(rig: Rig) -> None:
    """The first client gets its answer; whoever waits with it is told that it was not kept."""
    rig.folder.write_text("in the way")
    asking = [asyncio.create_task(rig.ask(rig.inbound("k"))) for _ in range(3)]
    await asyncio.wait_for(rig.painter.begun.wait(), PATIENCE)
    rig.painter.go_on.set()
    first, *joined = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(first, Got)
    assert [type(error) for error in joined] == [UpstreamTimeout] * 2
    assert rig.painter.calls == 1


async def test_whoever_waits_elsewhere_begins_anew_when_nothing_came_of_it(rig: Rig) -> None:
    """The first request is refused and given back: the one that waits at another gateway does the work."""
    rig.painter.script.append(REFUSED)
    first = await begin(rig)
    beside = rig.beside()
    waiting = [asyncio.create_task(beside.ask(rig.inbound("k"))) for _ in range(5)]
    await asyncio.sleep(0.2)
    rig.painter.go_on.set()
    assert (await first).status == 400
    async with asyncio.timeout(PATIENCE):
        got = await asyncio.gather(*waiting)
    assert [answer.status for answer in got] == [200] * 5
    assert [answer.replayed for answer in got].count(False) == 1
    assert rig.painter.calls == 2


async def test_a_shutdown_ends_the_wait(rig: Rig) -> None:
    """Nobody waits for ever for a request that was interrupted, nor repeats it; afterwards its outcome is unknown."""
    first = await begin(rig)
    waiting = asyncio.create_task(rig.ask(rig.inbound("k")))
    await asyncio.sleep(0.01)
    assert await rig.lifecycle.drain(0) == 1
    for task in (first, waiting):
        with pytest.raises(GatewayError) as caught:
            await task
        assert (caught.value.status, caught.value.code) == (503, "shutting_down")
        assert caught.value.should_retry is False
    with pytest.raises(UpstreamTimeout, match="outcome is unknown"):
        await rig.beside().ask(rig.inbound("k"))
    assert rig.painter.calls == 1


async def test_a_gateway_that_shuts_down_sends_those_who_wait_for_another_to_another(rig: Rig) -> None:
    """They get a 503 that may be retried, since the work goes on elsewhere."""
    first = await begin(rig)
    beside = rig.beside()
    waiting = asyncio.create_task(beside.ask(rig.inbound("k")))
    await asyncio.sleep(0.1)
    await beside.lifecycle.drain(0)
    with pytest.raises(GatewayError) as caught:
        await waiting
    assert (caught.value.status, caught.value.code) == (503, "shutting_down")
    rig.painter.go_on.set()
    assert (await first).status == 200


async def test_a_retry_without_a_key_joins_what_its_client_left(rig: Rig) -> None:
    """An SDK gives up waiting and repeats: one call, and the answer to it; wherever the retry arrives."""
    first = await begin(rig, None, retries=0)
    await cut_off(first)
    again = asyncio.create_task(rig.beside().ask(rig.inbound(retries=1)))
    await asyncio.sleep(0.1)
    rig.painter.go_on.set()
    got = await again
    assert (got.status, got.replayed, rig.painter.calls) == (200, True, 1)
    await rig.settled()
    assert rig.files() != []


async def test_a_retry_that_gives_up_too_is_joined_by_the_next(rig: Rig) -> None:
    """The answer is left behind once more, and claimed once more."""
    first = await begin(rig, None, retries=0)
    await cut_off(first)
    for count in (1, 2):
        again = asyncio.create_task(rig.ask(rig.inbound(retries=count)))
        await asyncio.sleep(0.1)
        await cut_off(again)
    rig.painter.go_on.set()
    got = await rig.ask(rig.inbound(retries=3))
    assert (got.replayed, rig.painter.calls) == (True, 1)


async def test_what_was_left_behind_is_claimed_once(rig: Rig) -> None:
    """Two retries of one body are two requests: the second is work of its own."""
    first = await begin(rig, None, retries=0)
    await cut_off(first)
    rig.painter.go_on.set()
    got = [await rig.ask(rig.inbound(retries=1)) for _ in range(2)]
    assert [answer.replayed for answer in got] == [True, False]
    assert rig.painter.calls == 2


async def test_alike_requests_at_once_stay_apart(rig: Rig) -> None:
    """Four requests for four images are four calls, whatever their SDK counts, as long as nobody was cut off."""
    rig.painter.go_on.set()
    got = await asyncio.gather(*(rig.ask(rig.inbound(retries=count)) for count in (0, 0, 1, 1)))
    assert rig.painter.calls == 4
    assert len({answer.body for answer in got}) == 4
    await rig.settled()
    assert rig.files() == []


async def test_a_client_that_leaves_in_the_middle_of_the_body_finds_it_whole(rig: Rig) -> None:
    """The recording of an answer that was cut off while it was taken is kept; one that was taken whole is not."""
    rig.painter.script += [LARGE, Painted(LARGE.body)]
    rig.painter.go_on.set()
    outbound = await rig.lifecycle.handle(rig.inbound(retries=0))
    await anext(outbound.chunks)
    await leave(outbound)
    await rig.settled()
    again = await rig.ask(rig.inbound(retries=1))
    assert (again.body, again.replayed, rig.painter.calls) == (LARGE.body, True, 1)
    kept = rig.files()
    whole = await rig.ask(rig.inbound(retries=0))
    assert (whole.body, whole.replayed) == (LARGE.body, False)
    await rig.settled()
    assert rig.files() == kept


async def test_a_client_that_leaves_with_the_last_bytes_on_their_way_finds_them(rig: Rig) -> None:
    """The answer was made, booked and given to the connection; the client never said that it has it."""
    rig.painter.go_on.set()
    outbound = await rig.lifecycle.handle(rig.inbound(retries=0))
    body = await anext(outbound.chunks)
    await asyncio.sleep(0.05)
    used, held = await rig.spent()
    assert (used > 0, held, rig.files()) == (True, 0, [])
    await leave(outbound)
    await rig.settled()
    again = await rig.ask(rig.inbound(retries=1))
    assert (again.body, again.replayed, rig.painter.calls) == (body, True, 1)


async def test_a_retry_after_an_unknown_outcome_gets_that_error(rig: Rig) -> None:
    """The client left, then the call failed: the retry learns what happened and nothing is done twice."""
    rig.painter.script.append(UNKNOWN)
    first = await begin(rig, None, retries=0)
    await cut_off(first)
    rig.painter.go_on.set()
    await rig.settled()
    got = await rig.ask(rig.inbound(retries=1))
    assert (got.status, got.header("x-should-retry"), rig.painter.calls) == (504, "false", 1)


async def test_an_error_that_the_client_has_got_is_not_kept_for_a_retry(rig: Rig) -> None:
    """The client stayed and knows: nothing is kept, and nothing keeps the request from ending."""
    rig.painter.script.append(UNKNOWN)
    rig.painter.go_on.set()
    with pytest.raises(UpstreamTimeout):
        await rig.ask(rig.inbound(retries=0))
    await rig.settled()
    assert rig.files() == []


async def test_a_retry_of_what_came_to_nothing_is_new_work(rig: Rig) -> None:
    """The client left, then the provider refused: the retry tries itself."""
    rig.painter.script.append(REFUSED)
    first = await begin(rig, None, retries=0)
    await cut_off(first)
    rig.painter.go_on.set()
    await rig.settled()
    got = await rig.ask(rig.inbound(retries=1))
    assert (got.status, got.replayed, rig.painter.calls) == (200, False, 2)
    assert rig.files() == []


async def test_work_that_a_retry_began_itself_can_be_left_behind_too(rig: Rig) -> None:
    """What it waited for came to nothing, so it did the work; its own client leaves, and the next retry joins that."""
    rig.painter.script.append(REFUSED)
    await cut_off(await begin(rig, None, retries=0))
    again = asyncio.create_task(rig.ask(rig.inbound(retries=1)))
    await asyncio.sleep(0.1)
    rig.painter.begun.clear()
    rig.painter.go_on.set()
    rig.painter.go_on.clear()  # lets the refused call go, and holds the next one up
    await asyncio.wait_for(rig.painter.begun.wait(), PATIENCE)
    await cut_off(again)
    rig.painter.go_on.set()
    got = await rig.ask(rig.inbound(retries=2))
    assert (got.status, got.replayed, rig.painter.calls) == (200, True, 2)


class Late(RedisLedger):
    """A ledger whose answer to the first hold comes late."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.taken, self.go_on = asyncio.Event(), asyncio.Event()

    async def choose_and_hold(self, *arguments: Any, **options: Any) -> Held | Denied | Bound:
        """Hold, then wait."""
        answer = await super().choose_and_hold(*arguments, **options)
        self.taken.set()
        await self.go_on.wait()
        return answer


async def test_a_client_that_leaves_while_its_hold_is_taken_is_joined_by_its_retry(rig: Rig) -> None:
    """What was left before anything was known to be held is left behind as soon as something is."""
    rig.ledger = ledger = Late(rig.store)
    rig.lifecycle = rig.open(DeferredSettlements(ledger))
    first = asyncio.create_task(rig.ask(rig.inbound(retries=0)))
    await asyncio.wait_for(ledger.taken.wait(), PATIENCE)
    await cut_off(first)
    ledger.go_on.set()
    await asyncio.wait_for(rig.painter.begun.wait(), PATIENCE)
    await asyncio.sleep(0.05)  # to leave it behind is one trip to the store
    rig.painter.go_on.set()
    got = await rig.ask(rig.inbound(retries=1))
    assert (got.status, got.replayed, rig.painter.calls) == (200, True, 1)


async def test_a_retry_of_what_was_denied_is_new_work(rig: Rig) -> None:
    """A request that was left behind before anything was held holds its retry up for a moment, and nothing more."""
    left = rig.inbound(retries=0)
    name = ties(left, Caller("key_1", "team"), await left.read_body(), key=None, retries=0).orphan_name
    assert name is not None
    await rig.ledger.orphan(name, left.request_id)
    rig.painter.go_on.set()
    got = await rig.ask(rig.inbound(retries=1))
    assert (got.status, got.replayed, rig.painter.calls) == (200, False, 1)

"""Flights: a client that leaves ends nothing, a gateway that stops ends everything, and each hold ends once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.domain.errors import Unavailable
from gateway.domain.settlement import CostSource, Outcome, Settlement, SettleResult
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.names import Names
from gateway.observe.event import HoldEnded
from gateway.ports import Body, Ended, Meanwhile, Truncated
from gateway.ports.provider import UpstreamFailure
from gateway.request import answer_handling
from gateway.request.answer_head import end_to_end
from gateway.request.relay import Relay, Written
from gateway.steps.write import COST
from tests.rig import PATIENCE, Got, Painted, Rig, cut_off, rigged

LARGE = b'{"data": [{"b64_json": "' + b"A" * 300_000 + b'"}]}'


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway with an empty ledger."""
    async with rigged(tmp_path) as made:
        yield made


async def called(rig: Rig) -> asyncio.Task[Got]:
    """A request whose call is under way."""
    asking = asyncio.create_task(rig.ask(rig.inbound()))
    async with asyncio.timeout(PATIENCE):
        await rig.painter.begun.wait()
    return asking


class Slow(DeferredSettlements):
    """Settlements that begin once they may, and count those that came to their end."""

    may: asyncio.Event
    asked: asyncio.Event
    done = 0

    async def settle(
        self, settlement: Settlement, meanwhile: Meanwhile = None, ended: Ended = None
    ) -> SettleResult | None:
        """Settle when it is time."""
        self.asked.set()
        await self.may.wait()
        result = await super().settle(settlement, meanwhile, ended)
        self.done += 1
        return result


def slow(rig: Rig) -> Slow:
    """Have the rig settle when the test lets it."""
    settlements = Slow(rig.ledger)
    settlements.may, settlements.asked = asyncio.Event(), asyncio.Event()
    rig.lifecycle = rig.open(settlements)
    return settlements


async def test_a_client_that_leaves_takes_nothing_with_it(rig: Rig) -> None:
    """The call goes on in the task of its request, is paid for, and told of as one whose client was gone."""
    asking = await called(rig)
    await cut_off(asking)
    assert len(rig.lifecycle._flights.running) == 1
    rig.painter.go_on.set()
    await rig.settled()
    [ended] = rig.events.finished()
    used, held = await rig.spent()
    assert (ended.status, ended.client_gone, ended.bytes_out) == (200, True, 0)
    assert (rig.painter.calls, used > 0, held) == (1, True, 0)


async def test_a_short_answer_is_at_hand_in_one_piece(rig: Rig) -> None:
    """All of it is there once it is settled, and nothing is under way any more; pieces of it say the same."""
    rig.painter.go_on.set()
    outbound = await rig.handle(rig.inbound())
    assert not rig.lifecycle._flights.running
    assert outbound.whole
    assert outbound.whole == b"".join([chunk async for chunk in outbound.chunks])
    assert len(outbound.whole) == int(dict(outbound.headers)["content-length"])


async def test_images_of_a_call_that_outlived_its_lease_are_told(rig: Rig) -> None:
    """Another gateway presumed its cost meanwhile, and told that; what the call brought is told by whoever made it."""
    asking = await called(rig)
    await rig.store.execute("ZADD", Names("main").due, "XX", 1, f"req_{rig.numbers[0]:032x}:1")
    await rig.beside().ledger._leases.sweep()
    rig.painter.go_on.set()
    assert (await asking).status == 200
    await rig.settled()
    [ended] = [event for event in rig.events.seen if isinstance(event, HoldEnded)]
    assert (ended.late, ended.images, ended.source) == (True, 1, CostSource.USAGE)


class Silent(DeferredSettlements):
    """Settlements that never say when the store is at work."""

    async def settle(
        self, settlement: Settlement, meanwhile: Meanwhile = None, ended: Ended = None
    ) -> SettleResult | None:
        """Settle, and leave alone what may be done meanwhile."""
        assert meanwhile is not None
        return await super().settle(settlement, ended=ended)


async def test_the_head_of_a_short_answer_is_written_while_its_money_is_settled(rig: Rig) -> None:
    """It says what it would say if it were written afterwards, which is done where nobody had time before."""
    rig.painter.go_on.set()
    inbound = rig.inbound()
    early = await rig.handle(inbound)
    assert isinstance(early, Written)
    assert (early.lines, early.length) == end_to_end(early.headers, inbound.request_id)
    assert f"x-gateway-cost: {dict(early.headers)[COST]}\r\n".encode() in early.lines
    rig.lifecycle = rig.open(Silent(rig.ledger))
    late = await rig.handle(rig.inbound())
    assert not isinstance(late, Written)
    assert [name for name, _ in late.headers] == [name for name, _ in early.headers]
    assert dict(late.headers)[COST] == dict(early.headers)[COST]


async def test_an_answer_that_may_be_asked_for_again_is_not_handed_over_whole(rig: Rig) -> None:
    """Whether its client takes it decides whether a retry finds it, so that it is taken by pieces."""
    rig.painter.go_on.set()
    outbound = await rig.handle(rig.inbound(retries=0))
    assert outbound.whole is None
    assert isinstance(outbound.chunks, Relay)
    await outbound.chunks.aclose()
    await rig.settled()
    again = await rig.ask(rig.inbound(retries=1))
    assert (again.replayed, rig.painter.calls) == (True, 1)


async def test_a_long_answer_begins_before_it_ends(rig: Rig) -> None:
    """Its client reads while the call goes on in a task of its own; once that has settled, it gets the end."""
    gate = asyncio.Event()
    rig.painter.script += [Painted(LARGE, gate=gate)]
    rig.painter.go_on.set()
    gate.set()
    outbound = await rig.handle(rig.inbound())
    assert outbound.whole is None
    assert len(rig.lifecycle._flights.running) == 1
    assert b"".join([chunk async for chunk in outbound.chunks]) == LARGE
    await rig.settled()
    assert (await rig.spent())[1] == 0


async def test_a_stop_cuts_a_call_short_and_says_so(rig: Rig) -> None:
    """The call may be billed: its hold is presumed spent, and the client is told that the gateway stops."""
    asking = await called(rig)
    assert await rig.lifecycle.drain(0.01) == 1
    with pytest.raises(Unavailable) as caught:
        await asking
    used, held = await rig.spent()
    assert (caught.value.code, caught.value.should_retry) == ("shutting_down", False)
    assert (used > 0, held, rig.lifecycle._flights.running) == (True, 0, {})
    assert [event.source for event in rig.events.finished()] == ["presumed"]


async def test_a_stop_cuts_a_long_answer_short(rig: Rig) -> None:
    """What its client has got is not the whole and does not look like it; the hold is presumed spent."""
    rig.painter.script += [Painted(LARGE, event_stream=True, gate=asyncio.Event())]
    rig.painter.go_on.set()
    outbound = await rig.handle(rig.inbound())
    assert await rig.lifecycle.drain(0.01) == 1
    with pytest.raises(Truncated):
        assert b"".join([chunk async for chunk in outbound.chunks]) == b""
    used, held = await rig.spent()
    assert (used > 0, held) == (True, 0)


EVENT = b"data: " + bytes(49_992) + b"\n\n"
"""As long as a piece of what the provider sends."""


async def test_a_stop_between_two_events_is_told_in_words(rig: Rig) -> None:
    """Clients read an event that is an error; of a connection that ends early they could not say why."""
    rig.painter.script += [Painted(EVENT * 2, event_stream=True, gate=asyncio.Event())]
    rig.painter.go_on.set()
    outbound = await rig.handle(rig.inbound())
    assert await anext(outbound.chunks) == EVENT
    assert await rig.lifecycle.drain(0.01) == 1
    told = json.loads(b"".join([chunk async for chunk in outbound.chunks]).removeprefix(b"data: "))
    used, held = await rig.spent()
    assert (told["error"]["code"], used > 0, held) == ("shutting_down", True, 0)


async def test_a_fault_of_ours_between_two_events_is_told_in_words(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a stop is, with nothing of what it was."""
    broken = UpstreamFailure(Outcome.UNKNOWN, "reset", "gone")
    rig.painter.script += [Painted(EVENT, event_stream=True, broken=broken)]
    rig.painter.go_on.set()

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(answer_handling, "unusable_answer", fails)
    got = await rig.ask(rig.inbound())
    told = json.loads(got.body.removeprefix(EVENT + b"data: "))
    used, held = await rig.spent()
    assert (told["error"]["code"], used > 0, held) == ("internal_error", True, 0)
    assert "ours" not in told["error"]["message"]


async def test_a_stop_right_when_an_answer_begins_ends_its_hold(rig: Rig) -> None:
    """Between the two tasks of a flight nothing can be cancelled that would leave the hold to itself."""
    rig.painter.script += [Painted(LARGE, event_stream=True, gate=asyncio.Event())]
    rig.painter.go_on.set()
    asking = asyncio.create_task(rig.lifecycle.handle(rig.inbound()))
    async with asyncio.timeout(PATIENCE):
        while not rig.lifecycle._flights.running or None not in rig.lifecycle._flights.running.values():  # noqa: ASYNC110 - tells nobody
            await asyncio.sleep(0)
        assert await rig.lifecycle.drain(0) == 1
    used, held = await rig.spent()
    assert (asking.done(), used > 0, held) == (True, True, 0)


async def test_what_ends_a_hold_is_not_cut_short_itself(rig: Rig) -> None:
    """Cancelled again and again while its worst case is being booked, a request books it all the same, once."""
    settlements = slow(rig)
    asking = asyncio.create_task(rig.lifecycle.handle(rig.inbound()))
    async with asyncio.timeout(PATIENCE):
        await rig.painter.begun.wait()
        asking.cancel()
        await settlements.asked.wait()
        for _ in range(3):
            asking.cancel()
            await asyncio.sleep(0)
        assert not asking.done()
        settlements.may.set()
        with pytest.raises(Unavailable):
            await asking
    used, held = await rig.spent()
    assert (settlements.done, used > 0, held) == (1, True, 0)
    assert len(rig.events.finished()) == 1


async def test_who_takes_off_after_the_grace_is_cut_short_too(rig: Rig) -> None:
    """A request that was still being read when the gateway began to stop cannot hold it up."""
    settlements, reading, read = slow(rig), asyncio.Event(), asyncio.Event()
    first, inbound = await called(rig), rig.inbound()

    async def read_body() -> Body:
        reading.set()
        await read.wait()
        return await inbound.read_body()

    late = asyncio.create_task(rig.ask(replace(inbound, read_body=read_body)))
    async with asyncio.timeout(PATIENCE):
        await reading.wait()
        stopping = asyncio.create_task(rig.lifecycle.drain(0))
        await settlements.asked.wait()
        read.set()
        with pytest.raises(Unavailable):
            await late
        assert not stopping.done()
        settlements.may.set()
        assert await stopping == 2
        with pytest.raises(Unavailable):
            await first
    assert [event.status for event in rig.events.finished()] == [503, 503]

"""Pauses between the calls of a request: what may happen meanwhile, on a real ledger."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.domain.errors import Unavailable, UpstreamError
from gateway.domain.policy import OnUnknown, Retry
from gateway.domain.settlement import Outcome
from gateway.ports.provider import UpstreamFailure
from tests.rig import PATIENCE, Got, Painted, Rig, cut_off, rigged, team

THRICE = team(retry=Retry(attempts=3))


def refusal(reason: str = "status_5xx", *, retry_after: float | None = None) -> UpstreamFailure:
    """An answer that bills nothing."""
    return UpstreamFailure(Outcome.REJECTED, reason, f"the provider answered {reason}", retry_after=retry_after)


async def pausing(rig: Rig, seconds: float, key: str | None = None, *, retries: int | None = None) -> asyncio.Task[Got]:
    """Begin a request that has failed on both routes and waits with nothing held."""
    rig.painter.script += [refusal(retry_after=seconds) for _ in range(2)]
    rig.painter.go_on.set()
    asking = asyncio.create_task(rig.ask(rig.inbound(key)))
    async with asyncio.timeout(PATIENCE):
        while rig.painter.calls < 2 or (await rig.spent())[1]:  # noqa: ASYNC110 - the ledger tells nobody
            await asyncio.sleep(0.01)
    return asking


async def test_a_gateway_that_stops_in_a_pause_leaves_nothing_behind(tmp_path: Path) -> None:
    """The client is told to come again, no call is made, and nothing is held or spent."""
    async with rigged(tmp_path, THRICE) as rig:
        asking = await pausing(rig, 9)
        assert await rig.lifecycle.drain(0.05) == 1
        with pytest.raises(Unavailable, match="nothing was billed") as caught:
            await asking
        assert caught.value.code == "shutting_down"
        assert caught.value.retry_after is not None
        assert (rig.painter.calls, await rig.spent()) == (2, (0, 0))
        assert [event.status for event in rig.events.finished()] == [503]


async def test_a_gateway_that_drains_waits_for_a_pause(tmp_path: Path) -> None:
    """With time enough the call after the pause is made, and its answer given."""
    async with rigged(tmp_path, THRICE) as rig:
        asking = await pausing(rig, 0.5)
        assert await rig.lifecycle.drain(PATIENCE) == 0
        assert (await asking).status == 200
        assert rig.painter.calls == 3


async def test_a_duplicate_that_comes_in_a_pause_does_the_work_for_both(tmp_path: Path) -> None:
    """With nothing held the key is free: whoever comes first begins, and the one that waited takes over its answer."""
    async with rigged(tmp_path, THRICE) as rig:
        first = await pausing(rig, 1, "k")
        second = await rig.beside().ask(rig.inbound("k"))
        assert (await first).body == second.body
        assert rig.painter.calls == 3
        used, held = await rig.spent()
        assert used > 0
        assert held == 0


async def test_calls_are_bounded_across_a_duplicate_that_failed(tmp_path: Path) -> None:
    """A request that waited in vain for another one goes on where it was, and does not begin to count anew."""
    async with rigged(tmp_path, THRICE) as rig:
        first = await pausing(rig, 1, "k")
        rig.painter.go_on.clear()
        rig.painter.script += [refusal("account") for _ in range(5)]
        second = asyncio.create_task(rig.beside().ask(rig.inbound("k")))
        await asyncio.sleep(1.5)  # the first has found the second at work, and waits for it
        assert rig.painter.calls == 3
        rig.painter.go_on.set()
        for asking in (second, first):
            with pytest.raises(UpstreamError):
                await asking
        assert rig.painter.calls == 5
        assert await rig.spent() == (0, 0)


async def test_a_client_that_leaves_in_a_pause_is_not_paid_for(tmp_path: Path) -> None:
    """Nobody can ask for its answer: no further call is made, and nothing is held or spent."""
    async with rigged(tmp_path, THRICE) as rig:
        await cut_off(await pausing(rig, 0.5))
        await rig.settled()
        assert (rig.painter.calls, await rig.spent()) == (2, (0, 0))
        assert [event.client_gone for event in rig.events.finished()] == [True]


async def test_an_answer_that_a_key_may_ask_for_is_made_without_its_client(tmp_path: Path) -> None:
    """The call after the pause is made, and who repeats the request gets its answer."""
    async with rigged(tmp_path, THRICE) as rig:
        await cut_off(await pausing(rig, 0.5, "k"))
        await rig.settled()
        used, held = await rig.spent()
        assert (rig.painter.calls, used > 0, held) == (3, True, 0)
        again = await rig.ask(rig.inbound("k"))
        assert (again.replayed, rig.painter.calls) == (True, 3)


LOST = UpstreamFailure(Outcome.UNKNOWN, "timeout", "it did not answer")
HALF = Painted(b"{", broken=LOST)
ANY_ROUTE = team(retry=Retry(attempts=3, on_unknown=OnUnknown.NEXT_ROUTE))


async def left_in_the_first_call(rig: Rig, first: Painted | UpstreamFailure, retries: int | None) -> None:
    """Do a request to its end whose client has left before its first call came to this."""
    rig.painter.script += [first]
    asking = asyncio.create_task(rig.ask(rig.inbound(retries=retries)))
    async with asyncio.timeout(PATIENCE):
        await rig.painter.begun.wait()
    await cut_off(asking)
    rig.painter.go_on.set()
    await rig.settled()


@pytest.mark.parametrize(("first", "billed"), [(refusal(), False), (LOST, True), (HALF, True)])
async def test_no_other_route_is_called_for_a_client_that_left(
    tmp_path: Path, first: Painted | UpstreamFailure, *, billed: bool
) -> None:
    """Whether the first call was refused, got no answer, or broke off: it ends as it would, and nothing follows."""
    async with rigged(tmp_path, ANY_ROUTE) as rig:
        await left_in_the_first_call(rig, first, None)
        used, held = await rig.spent()
        assert (rig.painter.calls, used > 0, held) == (1, billed, 0)


@pytest.mark.parametrize("first", [refusal(), LOST, HALF])
async def test_another_route_is_called_for_a_client_that_announces_its_retries(
    tmp_path: Path, first: Painted | UpstreamFailure
) -> None:
    """Its next retry takes over the answer."""
    async with rigged(tmp_path, ANY_ROUTE) as rig:
        await left_in_the_first_call(rig, first, 0)
        assert (rig.painter.calls, (await rig.spent())[1]) == (2, 0)
        again = await rig.ask(rig.inbound(retries=1))
        assert (again.replayed, rig.painter.calls) == (True, 2)

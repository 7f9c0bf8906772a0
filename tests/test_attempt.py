"""Pauses between the calls of a request: what may happen meanwhile, on a real ledger."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.domain.errors import Unavailable, UpstreamError
from gateway.domain.policy import Retry
from gateway.domain.settlement import Outcome
from gateway.ports.provider import UpstreamFailure
from tests.rig import PATIENCE, Got, Rig, rigged, team

THRICE = team(retry=Retry(attempts=3))


def refusal(reason: str = "status_5xx", *, retry_after: float | None = None) -> UpstreamFailure:
    """An answer that bills nothing."""
    return UpstreamFailure(Outcome.REJECTED, reason, f"the provider answered {reason}", retry_after=retry_after)


async def pausing(rig: Rig, seconds: float, key: str | None = None) -> asyncio.Task[Got]:
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

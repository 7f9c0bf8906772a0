"""Beginning: only so many requests are brought to their holds at once, and none keeps its place while it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.domain.budget import Budget, Counted, Scope, Window
from gateway.domain.errors import BudgetExceeded, InvalidRequest
from gateway.domain.policy import Throttled
from gateway.request.concurrency import AT_ONCE, ConcurrencyLimiter
from tests.rig import PATIENCE, Rig, cut_off, rigged, team
from tests.test_waiting import MAIN, rules, standing

FULL_FOR_LONG = {"main": (Counted.IMAGES, 1, 3600)}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody tells of."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


async def settle_down() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_place_that_is_free_is_taken_without_waiting() -> None:
    """There are so many; one that is given back is free again, unless somebody waits for it."""
    beginning = ConcurrencyLimiter(1)
    leave = beginning.take()
    assert leave is not None
    assert beginning.take() is None
    leave()
    leave = beginning.take()
    assert leave is not None
    waiting = asyncio.create_task(beginning.enter())
    await settle_down()
    leave()
    assert beginning.take() is None
    (await waiting)()
    assert beginning.take() is not None


async def test_so_many_begin_at_once_and_the_others_in_their_order() -> None:
    """A place that comes free goes to whoever has waited longest."""
    beginning, begun = ConcurrencyLimiter(2), list[int]()
    leave = [await beginning.enter() for _ in range(2)]

    async def begin(number: int) -> None:
        leave.append(await beginning.enter())
        begun.append(number)

    waiting = [asyncio.create_task(begin(number)) for number in range(3)]
    await settle_down()
    assert begun == []
    for number in range(3):
        leave[number]()
        await settle_down()
        assert begun == list(range(number + 1))
    await asyncio.gather(*waiting)


async def test_who_leaves_while_waiting_takes_no_place_along() -> None:
    """Whether it left before its turn or in the moment that it came, the next one gets the place."""
    beginning = ConcurrencyLimiter(1)
    leave = await beginning.enter()
    before, just_now, last = (asyncio.create_task(beginning.enter()) for _ in range(3))
    await settle_down()
    before.cancel()
    await settle_down()
    leave()
    just_now.cancel()
    async with asyncio.timeout(PATIENCE):
        await last
    assert before.cancelled()
    assert just_now.cancelled()


async def all_free(rig: Rig) -> bool:
    """Tell whether every place is free, by taking them all."""
    beginning = rig.lifecycle._concurrency
    async with asyncio.timeout(PATIENCE):
        leave = [await beginning.enter() for _ in range(AT_ONCE)]
    for each in leave:
        each()
    return True


async def test_who_waits_for_a_provider_keeps_nobody_back(tmp_path: Path) -> None:
    """More requests than may begin at once are with a provider that is silent, and each place is free then."""
    async with rigged(tmp_path) as rig:
        asking = [asyncio.create_task(rig.ask(rig.inbound())) for _ in range(3 * AT_ONCE)]
        await until(lambda: rig.painter.calls == 3 * AT_ONCE)
        assert await all_free(rig)
        rig.painter.go_on.set()
        assert {got.status for got in await asyncio.gather(*asking)} == {200}
        assert await all_free(rig)


async def test_who_waits_for_anothers_answer_keeps_nobody_back(tmp_path: Path) -> None:
    """Repetitions of a request under way, more than may begin at once, leave their places to others."""
    async with rigged(tmp_path) as rig:
        asking = [asyncio.create_task(rig.ask(rig.inbound("same"))) for _ in range(AT_ONCE + 2)]
        await until(lambda: rig.painter.calls == 1)
        asking.append(asyncio.create_task(rig.ask(rig.inbound())))
        await until(lambda: rig.painter.calls == 2)
        rig.painter.go_on.set()
        assert {got.status for got in await asyncio.gather(*asking)} == {200}


async def test_who_waits_for_a_slot_keeps_nobody_back(tmp_path: Path) -> None:
    """Requests that queue for a full route, more than may begin at once, leave their places to others."""
    async with standing(tmp_path, rules(Throttled(7200.0), MAIN), FULL_FOR_LONG) as stand:
        assert (await stand.ask()).status == 200
        waiting = [stand.ask() for _ in range(AT_ONCE + 2)]
        await stand.until_waiting(AT_ONCE + 2)
        assert await all_free(stand.rig)
        for each in waiting:
            await cut_off(each)
        assert await all_free(stand.rig)


async def test_a_refused_request_gives_its_place_back(tmp_path: Path) -> None:
    """Requests that are refused before and at their hold, more than may begin at once, leave every place free."""
    async with rigged(tmp_path, team(budget=Budget(Scope(), Window.TOTAL, 1))) as rig:
        for wrong, kind in (({"n": 0}, InvalidRequest), ({"n": 1}, BudgetExceeded)):
            fields = {"prompt": "a cat", "size": "1024x1024", "quality": "low", **wrong}
            for _ in range(AT_ONCE + 1):
                with pytest.raises(kind):
                    await rig.ask(rig.inbound(fields=fields))
        assert rig.painter.calls == 0
        assert await all_free(rig)

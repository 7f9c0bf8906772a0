"""The poller: work is looked at when it is due, within each account's bounds, and no account holds up another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from gateway.domain.task_profile import PollTimes
from gateway.providers.poller import Lane

TIMES = PollTimes(first=0.0, every=0.01, after=60.0, then=0.01)


class Looks:
    """Looks that end the work after some of them."""

    def __init__(self, enough: int, result: str = "done") -> None:
        self.count = 0
        self._enough = enough
        self._result = result

    async def __call__(self) -> str | None:
        """Look once."""
        self.count += 1
        await asyncio.sleep(0)
        return self._result if self.count >= self._enough else None


async def test_work_is_looked_at_until_it_has_ended() -> None:
    """Three looks, the third of which finds the end, and no fourth."""
    lane, looks = Lane(TIMES), Looks(3)
    watch = lane.watch(looks)
    assert await watch.ended(60) == "done"
    await asyncio.sleep(0.05)
    assert looks.count == 3


async def test_what_a_look_raises_is_raised() -> None:
    """A look that says that the work has failed ends the wait with that."""

    async def look() -> str | None:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        await Lane(TIMES).watch(look).ended(60)


async def test_patience_ends_the_wait_and_the_look_under_way() -> None:
    """A look that hangs does not outlast patience, and is ended with it."""
    hung = asyncio.Event()
    ended = asyncio.Event()

    async def look() -> str | None:
        hung.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        return None

    lane = Lane(TIMES)
    watch = lane.watch(look)
    with pytest.raises(TimeoutError):
        await watch.ended(0.1)
    assert hung.is_set()
    await ended.wait()
    await asyncio.sleep(0.01)
    assert not lane._looks


async def test_no_more_looks_at_once_than_allowed() -> None:
    """A hundred pieces of work of one account are looked at three at a time."""
    running = most = 0

    async def look() -> str | None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return "done"

    lane = Lane(PollTimes(first=0.0, every=0.01, after=60.0, then=0.01, at_once=3))
    await asyncio.gather(*(lane.watch(look).ended(60) for _ in range(100)))
    assert most == 3


async def test_looks_begin_no_faster_than_allowed() -> None:
    """At a hundred a second, looks that are all due at once begin a hundredth of a second apart."""
    began: list[float] = []

    async def look() -> str | None:
        began.append(asyncio.get_running_loop().time())
        return "done"

    lane = Lane(PollTimes(first=0.0, every=0.01, after=60.0, then=0.01, per_second=100))
    await asyncio.gather(*(lane.watch(look).ended(60) for _ in range(20)))
    assert began[-1] - began[0] >= 0.19 - 0.002  # timers may fire a clock's tick early


async def test_an_account_that_rests_holds_up_no_other() -> None:
    """While one account rests, the work of another is looked at; then the first goes on."""
    resting, other = Lane(TIMES), Lane(TIMES)
    resting.rest(1.5)
    slow, quick = Looks(1), Looks(20)
    waiting = resting.watch(slow).ended(60)
    assert await other.watch(quick).ended(60) == "done"
    assert (slow.count, quick.count) == (0, 20)
    assert await waiting == "done"


async def test_a_hint_brings_the_next_look_forward() -> None:
    """Work that is due in an hour is looked at when hinted at, also while a look is under way."""
    seldom = PollTimes(first=3600.0, every=3600.0, after=60.0, then=3600.0)
    looks = Looks(3)
    watch = Lane(seldom).watch(looks)

    async def hint() -> None:
        while looks.count < 3:
            watch.hurry()
            watch.hurry()
            await asyncio.sleep(0.01)

    hinting = asyncio.create_task(hint())
    assert await watch.ended(60) == "done"
    await hinting


async def test_hints_cannot_make_looks_come_fast() -> None:
    """However often work is hinted at, looks at it are half a second apart."""
    began: list[float] = []

    async def look() -> str | None:
        began.append(asyncio.get_running_loop().time())
        return "done" if len(began) == 3 else None

    watch = Lane(PollTimes(first=0.0, every=3600.0, after=60.0, then=3600.0)).watch(look)
    ended = watch.ended(60)
    while not ended.done():
        watch.hurry()
        await asyncio.sleep(0.005)
    assert all(later - earlier >= 0.49 for earlier, later in pairwise(began))


async def test_what_is_hinted_at_goes_first() -> None:
    """Where a slow account has a queue of work that is due, the piece that was hinted at is looked at next."""
    order: list[int] = []
    begun = asyncio.Event()
    lane = Lane(PollTimes(first=0.0, every=3600.0, after=60.0, then=3600.0, at_once=1, per_second=50))

    def look_of(number: int) -> Callable[[], Awaitable[str | None]]:
        async def look() -> str | None:
            order.append(number)
            begun.set()
            return "done"

        return look

    watches = [lane.watch(look_of(number)) for number in range(20)]
    ended = asyncio.gather(*(watch.ended(60) for watch in watches))
    await begun.wait()
    watches[15].hurry()
    await ended
    assert order.index(15) <= 3
    assert sorted(order) == list(range(20))


async def test_old_work_is_looked_at_at_once_and_then_seldom() -> None:
    """Work that was submitted long ago is not kept waiting for its first look."""
    looks = Looks(1)
    assert await Lane(PollTimes(first=3600.0)).watch(looks, age=4000.0).ended(60) == "done"


@pytest.mark.parametrize("close", [lambda watch: watch.close(), lambda watch: (watch.close(), watch.close())])
async def test_closing_stops_the_looks(close: Callable[[object], object]) -> None:
    """Who stops waiting stops the looks, whether one is under way or not."""
    lane, looks = Lane(TIMES), Looks(1000)
    watch = lane.watch(looks)
    await asyncio.sleep(0.05)
    close(watch)
    count = looks.count
    await asyncio.sleep(0.05)
    assert 0 < looks.count <= count + 1
    assert not lane._looks

"""Background: no fault of one part ends it for good."""

from __future__ import annotations

import asyncio

import pytest

from gateway.process.background import kept_running
from tests.rig import PATIENCE


class Faulty:
    """A part that fails at first and then has begun."""

    def __init__(self, faults: int) -> None:
        self.faults = faults
        self.begun = asyncio.Event()

    async def run(self) -> None:
        """Fail, or run until cancelled."""
        self.faults -= 1
        if self.faults >= 0:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._fail())
        self.begun.set()
        await asyncio.Event().wait()

    async def _fail(self) -> None:
        raise ZeroDivisionError


class Stubborn:
    """A part that cannot leave in order."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled, and fail then."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError


class Idle:
    """A part that has nothing to do."""

    async def run(self) -> None:
        """Return."""


async def test_a_part_that_fails_is_told_of_and_begins_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each fault is logged with where it arose, and only a cancellation ends the part."""
    monkeypatch.setattr("gateway.process.background.PAUSE", 0.0)
    part = Faulty(2)
    running = asyncio.create_task(kept_running(part))
    async with asyncio.timeout(PATIENCE):
        await part.begun.wait()
    assert caplog.text.count("Faulty failed in the background") == 2
    assert "ZeroDivisionError" in caplog.text
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()


async def test_a_part_that_fails_while_it_is_cancelled_is_over() -> None:
    """A store that is away when a process ends does not keep it from ending."""
    part = Stubborn()
    running = asyncio.create_task(kept_running(part))
    async with asyncio.timeout(PATIENCE):
        await part.begun.wait()
        running.cancel()
        [left] = await asyncio.gather(running, return_exceptions=True)
    assert isinstance(left, ZeroDivisionError)


async def test_a_part_with_nothing_to_do_is_left_alone() -> None:
    """A process that works on no tasks, for one, is not asked again and again."""
    async with asyncio.timeout(PATIENCE):
        await kept_running(Idle())

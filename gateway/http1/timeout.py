"""Timeout: wait for a future, for so long at most; cheaper than `asyncio.timeout`, which needs no future.

A process that stood still finds the time up before it has heard what came meanwhile. One more turn of its event loop,
a `TICK`, takes that in.
"""

from __future__ import annotations

import asyncio

TICK = 0.001
"""Seconds; event loops measure no shorter times."""


async def within(future: asyncio.Future[None], seconds: float | None) -> None:
    """Wait for a future; raises TimeoutError after so many seconds."""
    timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, _look, future)
    try:
        await future
    finally:
        if timer is not None:
            timer.cancel()


def _look(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.get_loop().call_later(TICK, _expire, future)


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())

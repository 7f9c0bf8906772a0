"""Timeout: wait for a future, for so long at most; cheaper than `asyncio.timeout`, which needs no future."""

from __future__ import annotations

import asyncio


async def within(future: asyncio.Future[None], seconds: float | None) -> None:
    """Wait for a future; raises TimeoutError after so many seconds."""
    timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, _expire, future)
    try:
        await future
    finally:
        if timer is not None:
            timer.cancel()


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())

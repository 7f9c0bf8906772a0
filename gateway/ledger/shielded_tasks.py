"""Operations that run to completion even if the caller stops waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class ShieldedTasks:
    """Holds references to started tasks until they end; errors go to the caller that awaits them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start it as a task of its own, independent of the caller."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait(self) -> None:
        """Return once all that runs now has ended."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked has it, unless it was cancelled

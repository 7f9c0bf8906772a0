"""Background: what runs beside the requests for as long as a process does, whatever happens to it."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds until a part that failed begins again."""


class Part(Protocol):
    """Something that has work of its own to do, and can begin it at any time."""

    async def run(self) -> None:
        """Do it until cancelled; one that has nothing to do returns."""


async def kept_running(part: Part) -> None:
    """Run a part until cancelled: leases and revoked keys are still to be seen to after a fault of ours."""
    task = asyncio.current_task()
    while True:
        try:
            await asyncio.create_task(part.run())  # a task group in it marks its own task as cancelled when it fails
        except Exception:
            if task is not None and task.cancelling():  # it failed to leave in order
                raise
            log.exception("%s failed in the background and begins again", type(part).__name__)
            await asyncio.sleep(PAUSE)
        else:
            return

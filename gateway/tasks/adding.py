"""Adding: a task is put in its queue once, though answers get lost, or taken back so that nothing of it is left."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from gateway.domain.task import TaskOrder
from gateway.ports import Ledger, LedgerUnavailable
from gateway.ports.tasks import Tasks

log = logging.getLogger(__name__)

PAUSES = (0.1, 0.4, 1.0)
"""Seconds before each further try; the client waits meanwhile."""
TAKING_BACK = 3600.0
"""Seconds for which a store that does not answer is asked again to forget a task."""
NOT_QUEUED = "not_queued"
"""Why the hold of a task that was taken back has ended."""
_NOTICE = 10.0
"""Seconds after which it is known whether the making of a task was given up: its hold is given back first of all."""
_PAUSE = 1.0

_under_way: set[asyncio.Task[None]] = set()
"""What is being taken back, kept from being collected meanwhile."""


async def add(tasks: Tasks, order: TaskOrder) -> None:
    """Put a task in its queue; where no answer comes it is asked again, for the same order twice is one task.

    LedgerUnavailable if nobody can tell whether it is there: then it is to be taken back.
    """
    for pause in PAUSES:
        try:
            return await tasks.add(order)
        except LedgerUnavailable as error:
            log.warning("whether task of %s is queued is not known: %s", order.request_id, error)
        await asyncio.sleep(pause)
    return await tasks.add(order)


def take_back(tasks: Tasks, order: TaskOrder) -> None:
    """Have the store forget a task, as soon as it answers; its hold and its body are the caller's to give up."""
    work = asyncio.create_task(_take_back(tasks, order))
    _under_way.add(work)
    work.add_done_callback(_under_way.discard)


async def _take_back(tasks: Tasks, order: TaskOrder) -> None:
    until = time.monotonic() + TAKING_BACK
    while time.monotonic() < until:
        try:
            await tasks.undo(order)
        except LedgerUnavailable:
            await asyncio.sleep(_PAUSE)
        else:
            return


async def taken_back(ledger: Ledger, order: TaskOrder, within: float = _NOTICE) -> bool:
    """Tell whether the making of a task was given up, once that is known; LedgerUnavailable if nobody can tell."""
    until = time.monotonic() + within
    while True:
        record = await ledger.request(order.request_id)
        attempts: Sequence[Any] = record["attempts"] if record is not None else ()
        held = next((each for each in attempts if each["attempt"] == order.queued_hold), None)
        if held is None or held["state"] != "queued":
            return held is not None and held.get("reason") == NOT_QUEUED
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_PAUSE / 5)


async def is_wanted(tasks: Tasks, ledger: Ledger, order: TaskOrder) -> bool:
    """Tell whether a task that never began, and whose body is gone, was one that its client heard of; forget any other.

    False too while nobody can tell.
    """
    try:
        if not await taken_back(ledger, order):
            return True
        await tasks.undo(order)
    except LedgerUnavailable as error:
        log.warning("whether the task of %s was taken back is not known: %s", order.request_id, error)
    return False

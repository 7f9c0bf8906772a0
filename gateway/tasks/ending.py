"""Task ending: a task is ended for good, its callback in the same step, and what it was to make is let go of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from gateway.domain.errors import GatewayError, InternalError
from gateway.domain.task import TaskRecord, TaskStatus, task_of
from gateway.ports import LedgerUnavailable
from gateway.ports.storage import StorageUnavailable
from gateway.request.answer_keeping import Whole
from gateway.tasks.answer import kept_apart
from gateway.tasks.context import TaskContext
from gateway.tasks.document import encoded, told
from gateway.tasks.recovery import EarlierAttempts, lost_sight
from gateway.tasks.service import body_name

log = logging.getLogger(__name__)

STORE_PAUSE = 1.0
"""Seconds between two tries to reach a store that does not answer."""

_TOO_LARGE = "The images were made and billed, but there is no room to keep them; nothing else can be said of them."


def in_the_end(before: EarlierAttempts | None, outcome: Whole | GatewayError) -> Whole | GatewayError:
    """Return what becomes of a task that makes no further call: whatever stood in its way, one before may be billed.

    So may one that could not be followed for it.
    """
    may_be_billed = before is not None and (before.unknown or before.follow)
    return lost_sight() if may_be_billed and isinstance(outcome, GatewayError) else outcome


async def end(context: TaskContext, ended: TaskRecord, token: str, tell: Callable[[], None] = lambda: None) -> None:
    """End a task as the record says, unless another worker has it; waits for a store that is away.

    `tell` is called once it has ended, if it was ended from here.
    """
    request_id, order = ended.order.request_id, ended.order
    task_id = task_of(request_id)
    ended_here = False
    while True:
        body = encoded(ended) if order.callback_url is not None else None
        try:
            ended_here = await context.tasks.end(
                task_id,
                token,
                ended.status,
                result=ended.result,
                error=ended.error,
                cost=ended.cost,
                callback_body=body,
            )
            break
        except ValueError as large:
            if ended.status is not TaskStatus.COMPLETED:
                raise
            result = await kept_apart(context.flight_context.answers, request_id, ended.result or {})
            ended = replace(ended, result=result)
            if result is None:
                log.error("the answer of %s cannot be kept: %s", task_id, large)  # noqa: TRY400 - no fault here
                ended = replace(ended, status=TaskStatus.FAILED, error=told(InternalError(_TOO_LARGE)))
        except LedgerUnavailable as unavailable:
            log.warning("the end of task %s waits for the store: %s", task_id, unavailable)
            await asyncio.sleep(STORE_PAUSE)
    if ended_here:
        tell()
    elif not await _is_over(context, task_id):
        return
    try:
        await context.blobs.delete(body_name(request_id))
    except StorageUnavailable as unavailable:
        log.warning("the body of task %s stays behind: %s", task_id, unavailable)


async def _is_over(context: TaskContext, task_id: str) -> bool:
    """Tell whether a task has ended, whoever ended it; whoever else has it needs what it is to make."""
    try:
        found = await context.tasks.find(task_id)
    except LedgerUnavailable as unavailable:
        log.warning("the body of task %s stays until it is old: %s", task_id, unavailable)
        return False
    return found is None or found.status.ended

"""Kept body: what a task is to make, as its client sent it and the storage kept it."""

from __future__ import annotations

import logging

from gateway.domain.errors import GatewayError, InternalError, Unavailable
from gateway.domain.task import TaskOrder, task_of
from gateway.ports import Body
from gateway.ports.storage import StorageUnavailable
from gateway.tasks.context import TaskContext
from gateway.tasks.service import BODY_LOST, body_name

log = logging.getLogger(__name__)


def is_lost(outcome: object) -> bool:
    """Tell whether what came of a try is that the storage has the task's body no more."""
    return isinstance(outcome, GatewayError) and outcome.code == BODY_LOST


async def kept_body(context: TaskContext, order: TaskOrder) -> Body:
    """Return it, read and validated; Unavailable if the storage is away, InternalError if it has it no more."""
    try:
        blob = await context.blobs.get(body_name(order.request_id))
        if blob is None:
            raise InternalError("What this task was to make is kept no more; nothing was sent.", code=BODY_LOST)
        return await context.read_body(order.content_type, blob.chunks(0, blob.length))
    except StorageUnavailable as error:
        log.warning("the body of task %s cannot be read: %s", task_of(order.request_id), error)
        raise Unavailable("The storage does not answer.", code="storage_unavailable", retry_after=2) from error

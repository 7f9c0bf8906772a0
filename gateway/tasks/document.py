"""Task document: a task as clients see it: the shape of task APIs, and the vendor's own answer beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.domain import money
from gateway.domain.errors import GatewayError
from gateway.domain.task import TaskRecord, TaskStatus, task_of
from gateway.images.linking import Linker
from gateway.ports import Headers
from gateway.steps.write import COST

OBJECT = "image.generation.task"
DONE = 100
RETRY_AFTER = 2
"""Seconds after which an unfinished task is worth another look."""

Document = dict[str, Any]


def document(record: TaskRecord, *, can_cancel: bool | None = None, estimated: float | None = None) -> Document:
    """Return a task as JSON. `estimated` is seconds that it may take.

    `can_cancel` is known of a call under way alone; of everything else the record tells.
    """
    order, status = record.order, record.status
    cancellable = status is TaskStatus.PENDING or (not status.ended and record.attempt is None)
    info: Document = {"can_cancel": cancellable if can_cancel is None else can_cancel and not status.ended}
    if estimated is not None and not status.ended:
        info["estimated_time"] = round(estimated)
    told: Document = {
        "created": int(order.created),
        "id": task_of(order.request_id),
        "model": order.model,
        "object": OBJECT,
        "progress": DONE if status is TaskStatus.COMPLETED else record.progress,
        "status": str(status),
        "task_info": info,
        "type": "image",
        "request_id": order.request_id,
    }
    if record.result is not None:
        told |= _result(record.result)
    if record.error is not None:
        told["error"] = dict(record.error)
    if (cost := _cost(record)) is not None:
        told["cost"] = {"usd": money.format_usd(cost)}
    return told


def headers_of(record: TaskRecord) -> Headers:
    """Return what headers tell of a task: what it cost, or when it is worth another look."""
    if not record.status.ended:
        return [("retry-after", str(RETRY_AFTER))]
    cost = _cost(record)
    return [] if cost is None else [(COST, money.format_usd(cost))]


def _cost(record: TaskRecord) -> int | None:
    """Nano-USD that a task has cost, once it has ended; one that was never sent has cost nothing."""
    never_sent = record.status is TaskStatus.CANCELLED and record.attempt is None and record.cost is None
    return (0 if never_sent else record.cost) if record.status.ended else None


def _result(result: Mapping[str, Any]) -> Document:
    images = [dict(image) for image in result.get("data", ()) if isinstance(image, Mapping)]
    urls = [image["url"] for image in images if isinstance(image.get("url"), str)]
    return {"results": urls, "data": images, **({"usage": result["usage"]} if "usage" in result else {})}


async def linked(record: TaskRecord, linker: Linker) -> Mapping[str, object] | None:
    """Return a task's result with every link to an image that is kept here good for another day."""
    result: Mapping[str, Any] | None = record.result
    if result is None:
        return None
    images = [
        {**image, "url": await linker.again(record.order.project, url)} if isinstance(url, str) else image
        for image in result.get("data", ())
        for url in [image.get("url")]
    ]
    return {**result, "data": images}


def told(error: GatewayError) -> Document:
    """Return the error object of a task that came to nothing by this error."""
    body: Document = error.body()
    inner: Document = body["error"]
    return inner


def encoded(record: TaskRecord) -> bytes:
    """Return a task as it is posted to whoever asked to be called back."""
    return json.dumps(document(record)).encode()

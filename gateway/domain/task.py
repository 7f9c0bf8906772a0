"""Tasks: requests that are answered later, and what is known of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

_TASK = re.compile(r"task_[0-9a-f]{32}", re.ASCII)


class TaskStatus(StrEnum):
    """Where a task is; the last three are for good."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return self in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)


def task_of(request_id: str) -> str:
    """Return the public id of a request's task: `req_X` is `task_X`."""
    return f"task_{request_id.removeprefix('req_')}"


def request_of(task_id: str) -> str | None:
    """Return the id of the request behind a task; None if it is no task's id."""
    return f"req_{task_id.removeprefix('task_')}" if _TASK.fullmatch(task_id) else None


@dataclass(frozen=True, slots=True)
class TaskOrder:
    """What a worker needs to do the work, wherever it runs. Its body lies in the storage as `tasks/REQUEST_ID`.

    `headers` are those of the client's that decide anything, no credential among them. `base` is the URL under which
    the client reached the gateway, for links. `not_after` is Unix seconds after which it may not begin any more, and
    `queued_hold` the attempt that holds its money meanwhile. `max_wait` is seconds that it may take, where the client
    said so. `most` is what it may cost by any route, in nano-USD in the official, the route and the internal view.
    """

    request_id: str
    project: str
    key_id: str
    operation: str
    path_model: str | None
    model: str
    headers: Mapping[str, str]
    content_type: str
    base: str
    created: float
    not_after: float
    queued_hold: int
    callback_url: str | None = None
    key_job_type: str | None = None
    max_wait: float | None = None
    n: int = 1
    most: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """What is known of a task. `progress` is 0 to 100.

    `result` is OpenAI's answer with links in place of images, `error` OpenAI's error object. `attempt` is the one that
    was sent last, if any, on `route`; `submitted` is what a provider took on for it, by call, as JSON objects.
    """

    order: TaskOrder
    status: TaskStatus
    progress: int = 0
    result: Mapping[str, object] | None = None
    error: Mapping[str, object] | None = None
    attempt: int | None = None
    route: str | None = None
    submitted: Mapping[int, Mapping[str, object]] = field(default_factory=dict)
    cancel_asked: bool = False
    cost: int | None = None
    """Nano-USD in the route view, once it has ended."""

"""Who calls: a key that names a project."""

from __future__ import annotations

from gateway.domain.record import record


@record(frozen=True, slots=True)
class Caller:
    """An authenticated key. `key_id` is public (shown in lists and logs); the secret is never kept."""

    key_id: str
    project: str
    job_type: str | None = None

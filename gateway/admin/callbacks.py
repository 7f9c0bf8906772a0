"""What the admin plane shows of callbacks that nobody took, and does with them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from gateway.domain.errors import InvalidRequest, NotFound
from gateway.ports.tasks import Callback, Callbacks
from gateway.web.admin import View

MOST = 200


def callback_views(callbacks: Callbacks) -> dict[str, View]:
    """Return the views by their names under `/admin/`."""

    async def dead(query: Mapping[str, str]) -> object:
        limit = query.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and len(limit) <= len(str(MOST)) and 1 <= int(limit) <= MOST):
            raise InvalidRequest(f"limit must be a whole number from 1 to {MOST}.", param="limit")
        counts = await callbacks.callback_counts()
        found = await callbacks.dead(query.get("project"), int(limit))
        return {**counts, "data": [told(callback) for callback in found]}

    return {"callbacks": dead}


def callback_actions(callbacks: Callbacks) -> dict[str, View]:
    """Return the actions by their names under `/admin/`."""

    async def retry(query: Mapping[str, str]) -> object:
        if not await callbacks.revive(query["id"]):
            raise NotFound(f"There is no callback {query['id']!r} among those that nobody took.", param="id")
        return {"id": query["id"], "status": "waiting"}

    return {"callbacks/{id}/retry": retry}


def told(callback: Callback) -> dict[str, object]:
    """Return what is shown of a callback: not its body, which is the client's."""
    return {
        "id": callback.id,
        "project": callback.project,
        "task": callback.task_id,
        "url": callback.url,
        "created": datetime.fromtimestamp(callback.created, UTC).isoformat(timespec="seconds"),
        "tries": callback.tries,
        "error": callback.error,
    }

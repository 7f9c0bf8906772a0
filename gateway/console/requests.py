"""Requests: those under way, the newest that ended, those that were refused; and one of them with all that is known."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.admin.explain import explain
from gateway.console.forecast import iso
from gateway.console.scene import Scene
from gateway.domain import money
from gateway.domain.errors import InvalidRequest, NotFound
from gateway.domain.job import OF_MODELS, Operation
from gateway.ledger.entries import Entry
from gateway.ledger.names import Names
from gateway.routing.explanation import record

MOST, MOST_RUNNING, MOST_REFUSED = 50, 30, 25
LONGEST_PROMPT = 32_000


async def requests(scene: Scene, query: Mapping[str, str]) -> dict[str, object]:
    """Return requests, newest first, of one project or all; LedgerUnavailable."""
    project = query.get("project") or None
    ended = [entry for entry in reversed(scene.follower.rollup.recent) if project in (None, entry.project)]
    running, refused = await asyncio.gather(_running(scene), scene.application.pulse.pulses.refused(MOST_REFUSED))
    return {
        "running": [each for each in running if project in (None, each["project"])],
        "ended": [_ended(entry) for entry in ended[:MOST]],
        "refused": [each for each in refused if project in (None, each["project"])],
        "projects": sorted(scene.policy.projects),
    }


async def _running(scene: Scene) -> list[dict[str, object]]:
    store, names = scene.application.store, Names(scene.application.realm)
    live = await store.execute("ZRANGE", names.due, 0, MOST_RUNNING - 1)
    ids = list(dict.fromkeys(str(each).rpartition(":")[0] for each in live))
    found = await asyncio.gather(*(scene.application.ledger.request(request_id) for request_id in ids))
    return [_under_way(kept) for kept in found if kept is not None]


def _under_way(kept: Mapping[str, Any]) -> dict[str, object]:
    about, last = kept["about"], kept["attempts"][-1]
    worst = last["facts"].get("worst") or {}
    return {
        "id": kept["id"],
        "since": kept["created"],
        "project": about.get("project"),
        "job_type": about.get("job_type"),
        "operation": about.get("operation"),
        "route": last["facts"].get("route"),
        "state": last["state"],
        "held": money.format_usd(int(worst.get("route", 0))),
    }


def _ended(entry: Entry) -> dict[str, object]:
    return {
        "id": entry.request_id,
        "entry": entry.id,
        "at": iso(entry.time),
        "kind": str(entry.kind),
        "attempt": entry.attempt,
        "project": entry.project,
        "key": entry.key,
        "job_type": entry.job_type,
        "operation": entry.operation,
        "route": entry.route,
        "model": entry.model,
        "size": entry.size,
        "quality": entry.quality,
        "images": entry.images,
        "usd": money.format_usd(entry.cost.route),
        "source": entry.source,
        "seconds": entry.answer.get("seconds"),
        "degraded": entry.facts.get("degraded") or {},
        "reason": entry.reason,
    }


async def request(scene: Scene, query: Mapping[str, str]) -> dict[str, object]:
    """Return what became of a request, its stored images, and what policy says of such a one now; NotFound."""
    application, request_id = scene.application, query.get("id", "")
    kept = await application.ledger.request(request_id)
    if kept is None or not isinstance(kept.get("about"), dict):
        raise NotFound(f"No request {request_id!r} is known.", param="id")
    found = record(kept)
    images = await application.storing.archives.kept(str(found["project"]), request_id, "")
    return {
        "request": found,
        "images": [{"id": image["id"], "bytes": image["bytes"], "type": image["type"]} for image in images],
        "now": await _again(scene, found),
    }


async def _again(scene: Scene, found: Mapping[str, Any]) -> dict[str, object] | None:
    """What policy says now of a request of the same shape; its prompt is not on record, only how long it was."""
    about, operation = found["request"], found["operation"]
    if operation not in OF_MODELS:
        return None
    fields = {name: about[name] for name in ("n", "size", "quality", "background", "output_format") if about.get(name)}
    fields["prompt"] = "x" * min(int(about.get("text_chars") or about.get("text_bytes") or 1) or 1, LONGEST_PROMPT)
    if about.get("client_model"):
        fields["model"] = about["client_model"]
    if operation == Operation.EDIT:
        fields["image"] = ["x"] * max(int(about.get("references") or 1), 1)
    headers = {"X-Gateway-Job-Type": str(found["job_type"])}
    if about.get("lane"):
        headers["X-Gateway-Lane"] = str(about["lane"])
    asked = {"project": found["project"], "request": fields, "operation": operation, "headers": headers}
    try:
        return await explain(scene.application, {**asked, "key": found["key"]})
    except InvalidRequest:
        return None

"""Requests: those under way, the newest that ended, those that were refused; and one of them with all that is known."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.console.forecast import iso
from gateway.console.page_data import PageData
from gateway.console.selection import Only
from gateway.domain import money
from gateway.domain.about import job_of
from gateway.domain.caller import Caller
from gateway.domain.errors import GatewayError, NotFound
from gateway.domain.job import OF_MODELS, Wishes
from gateway.ledger.entries import Entry, JunkEntry, decode
from gateway.ledger.names import Names
from gateway.ledger.stream import raw_page
from gateway.process.today import today
from gateway.routing.decision import Asked, project_of
from gateway.routing.dry_run import Undecided, decide_asked
from gateway.routing.explanation import explanation_now, record, refusal

MOST, MOST_RUNNING, MOST_REFUSED = 50, 30, 25
MOST_LOOKED_AT = 500
"""Holds that are read, thirty at a time, to find those of a project or job type."""
REFUSED_KEPT = 200


async def requests(data: PageData, query: Mapping[str, str]) -> dict[str, object]:
    """Return requests, newest first, of a project, a job type, both or all; LedgerUnavailable."""
    only = Only.of(query)
    refusals = data.application.heartbeat.heartbeats.refused(REFUSED_KEPT)
    running, ended, refused = await asyncio.gather(_running(data, only), _newest(data, only), refusals)
    mine = [each for each in refused if only.takes(each["project"], each["job_type"])]
    return {
        **running,
        "ended": [_ended(entry) for entry in ended],
        "refused": mine[:MOST_REFUSED],
        "projects": sorted(data.policy.projects),
        "job_types": sorted(data.policy.job_types),
    }


async def _running(data: PageData, only: Only) -> dict[str, object]:
    """Return those under way that belong to `only`, how many there are of all, and how many were looked at."""
    store, names = data.application.store, Names(data.application.realm)
    found: dict[object, dict[str, object]] = {}
    looked_at = 0
    while len(found) < MOST_RUNNING and looked_at < MOST_LOOKED_AT:
        live = await store.execute("ZRANGE", names.due, looked_at, looked_at + MOST_RUNNING - 1)
        ids = {str(each).rpartition(":")[0] for each in live}
        read = await asyncio.gather(*(data.application.ledger.request(request_id) for request_id in ids))
        told = [_under_way(kept) for kept in read if kept is not None]
        found |= {each["id"]: each for each in told if only.takes(each["project"], each["job_type"])}
        looked_at += len(live)
        if len(live) < MOST_RUNNING:
            break
    newest = sorted(found.values(), key=lambda each: -float(str(each["since"])))
    return {"running": newest, "in_all": await store.execute("ZCARD", names.due), "looked_at": looked_at}


async def _newest(data: PageData, only: Only) -> list[Entry]:
    """Return the newest bookings, also those that lie far behind the newest of all."""
    rollup = data.follower.rollup
    if only.anything:
        return list(rollup.recent)[: -MOST - 1 : -1]
    known = {entry.id: entry for entry in rollup.recent}
    ids = rollup.newest(only.takes, MOST)
    read = await asyncio.gather(*(_read(data, entry_id) for entry_id in ids if entry_id not in known))
    known |= {entry.id: entry for entry in read if entry is not None}
    return [known[entry_id] for entry_id in ids if entry_id in known]


async def _read(data: PageData, entry_id: str) -> Entry | None:
    """Return an entry; None if it was exported and trimmed meanwhile, or is none."""
    key = Names(data.application.realm).entries
    try:
        return next((decode(*raw) for raw in await raw_page(data.application.store, key, entry_id, entry_id, 1)), None)
    except JunkEntry:
        return None


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


async def request(data: PageData, query: Mapping[str, str]) -> dict[str, object]:
    """Return what became of a request, its stored images, and what policy says of such a one now; NotFound."""
    application, request_id = data.application, query.get("id", "")
    kept = await application.ledger.request(request_id)
    if kept is None or not isinstance(kept.get("about"), dict):
        raise NotFound(f"No request {request_id!r} is known.", param="id")
    found = record(kept)
    images = await application.storage.archives.kept(str(found["project"]), request_id, "")
    return {
        "request": found,
        "images": [{"id": image["id"], "bytes": image["bytes"], "type": image["type"]} for image in images],
        "now": await _again(data, found),
    }


async def _again(data: PageData, found: Mapping[str, Any]) -> dict[str, object] | None:
    """What policy says now of a request of the same shape; its prompt is not on record, only how long it was."""
    about, operation = found["request"], str(found["operation"])
    if operation not in OF_MODELS:
        return None
    caller = Caller(str(found["key"]), str(found["project"]))
    wishes = Wishes(job_type=str(found["job_type"]), lane=about.get("lane"))
    policy = data.policy
    try:
        project = project_of(caller, policy)
        decided = decide_asked(Asked(job_of(about, operation), wishes, caller, project, policy, today()))
    except GatewayError as error:
        return {"project": caller.project, **refusal(Undecided(error))}
    except Undecided as undecided:
        return {"project": caller.project, **refusal(undecided)}
    return await explanation_now(decided, data.application.ledger.balances)

"""Entries: everything that changed what was spent, read from the stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from gateway.domain.route import Views
from gateway.ledger import wire
from gateway.ledger.names import Names
from gateway.ledger.store import Store

PAGE = 500


class EntryKind(StrEnum):
    """What happened to the money."""

    SETTLE = "settle"
    PRESUME = "presume"
    """Booked without being known."""
    CORRECT = "correct"
    """The difference between what was presumed and what it was; amounts may be negative."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. `cost` is nano-USD, `lines` micro-USD by balance cell; both are what this entry adds.

    The sum of all entries of a request is what it cost; the sum of all lines is every balance's spent part.
    `worst` is what had been held (nano-USD), None where nobody said.
    """

    id: str
    time: datetime
    kind: EntryKind
    request_id: str
    attempt: int
    project: str
    key: str
    job_type: str
    operation: str
    route: str
    model: str
    provider: str
    n: int
    size: str
    quality: str
    images: int
    cost: Views
    worst: Views | None
    source: str
    tags: Mapping[str, str]
    usage: Mapping[str, int] | None
    lines: Mapping[str, int]
    about: Mapping[str, Any]
    facts: Mapping[str, Any]
    answer: Mapping[str, Any]


async def read_entries(
    store: Store,
    realm: str = "main",
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    page: int = PAGE,
) -> AsyncIterator[Entry]:
    """Yield entries in order, `since` included and `until` not, by the store's clock; raises LedgerUnavailable."""
    key = Names(realm).entries
    start = "-" if since is None else str(_milliseconds(since))
    end = "+" if until is None else f"({_milliseconds(until)}-0"
    while True:
        rows = await store.execute("XRANGE", key, start, end, "COUNT", page)
        for entry_id, fields in rows:
            yield _entry(entry_id, fields)
        if len(rows) < page:
            return
        start = f"({rows[-1][0]}"


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _entry(entry_id: str, fields: Mapping[str, str]) -> Entry:
    about, facts, outcome = (json.loads(fields[name]) for name in ("about", "facts", "outcome"))
    answer = outcome.get("facts") or {}
    worst = facts.get("worst")

    def said(name: str) -> str:
        return str(answer.get(name) or facts.get(name) or about.get(name) or "")

    return Entry(
        id=entry_id,
        time=datetime.fromtimestamp(int(entry_id.partition("-")[0]) / 1000, UTC),
        kind=EntryKind(fields["kind"]),
        request_id=fields["request"],
        attempt=int(fields["attempt"]),
        project=said("project"),
        key=said("key"),
        job_type=said("job_type"),
        operation=said("operation"),
        route=said("route"),
        model=said("model"),
        provider=said("provider"),
        n=int(about.get("n") or 0),
        size=said("size"),
        quality=said("quality"),
        images=int(fields["images"]),
        cost=wire.views(fields["cost"].split(" ")),
        worst=wire.views([worst["official"], worst["route"], worst["internal"]]) if worst else None,
        source=fields["source"],
        tags=about.get("tags") or {},
        usage=outcome.get("usage"),
        lines={field: int(micro) for field, micro in json.loads(fields["lines"])},
        about=about,
        facts=facts,
        answer=answer,
    )

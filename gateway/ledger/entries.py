"""Entries: everything that changed what was spent, read from the stream or from an export of it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from gateway.domain.route import Views
from gateway.ledger.names import Names
from gateway.ledger.segments import Export
from gateway.ledger.store import Store
from gateway.ledger.stream import PAGE, position, raw_entries

log = logging.getLogger(__name__)

MONEY = "usd|"
"""How the name of a balance of money begins."""

_AMOUNT = re.compile(r"-?[0-9]{1,16}", re.ASCII)


class EntryKind(StrEnum):
    """What happened to the money."""

    SETTLE = "settle"
    PRESUME = "presume"
    """Booked without being known."""
    CORRECT = "correct"
    """The difference between what was presumed and what it was; amounts may be negative."""
    ADJUST = "adjust"
    """The difference to what an invoice or a refund says, or an amount of no known request; may be negative."""

    @property
    def books(self) -> bool:
        """Whether it is the first booking of its attempt; an attempt has one, and any number of changes to it."""
        return self in {EntryKind.SETTLE, EntryKind.PRESUME}


class JunkEntry(ValueError):
    """Something in the stream that is no entry; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. `cost` is nano-USD, `lines` micro-USD by balance cell; both are what this entry adds.

    The sum of all entries of a request is what it cost; the sum of all lines is every balance's spent part.
    `worst` is what had been held (nano-USD), None where nobody said. An amount of no known request has the request
    id "-" and attempt 0.
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
    reason: str = ""
    adjustment: str = ""
    """The id of an adjustment, by which it was booked once."""
    was: Views | None = None
    """Of a correction: what was booked before, nano-USD. None where an earlier version wrote it."""


async def read_entries(
    store: Store,
    realm: str = "main",
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    page: int = PAGE,
) -> AsyncIterator[Entry]:
    """Yield entries in order, `since` included and `until` not, by the store's clock; raises LedgerUnavailable.

    What is no entry is logged with its id and left out; `image-gateway ledger verify` names it too.
    """
    names = Names(realm)
    ahead = None if since is until is None else await store.execute("HGET", names.meta, "ahead", repeatable=True)
    start = "-" if since is None else str(_milliseconds(since))
    last = 0 if until is None else max(_milliseconds(until), position(ahead)[0] + 1 if ahead else 0)
    end = f"({last}-0" if last else "+"
    async for entry_id, fields in raw_entries(store, names.entries, start=start, end=end, page=page):
        entry = readable(entry_id, fields)
        if entry is not None and not (ahead and _is_outside(entry.time, since, until)):
            yield entry


def _is_outside(time: datetime, since: datetime | None, until: datetime | None) -> bool:
    """Tell whether an entry's own date lies outside a period, though its id, of a clock that was ahead, may not."""
    moment = round(time.timestamp() * 1000)
    too_early = since is not None and moment < _milliseconds(since)
    return too_early or (until is not None and moment >= _milliseconds(until))


def read_exported(paths: Iterable[Path]) -> Iterator[Entry]:
    """Yield the entries of an export, oldest first, from its files or directories; ExportError if it is not whole."""
    for line in Export(paths).lines():
        entry = readable(line.id, line.fields)
        if entry is not None:
            yield entry


def readable(entry_id: str, fields: Mapping[str, str]) -> Entry | None:
    """Return an entry from its fields; None, and a line in the log, if they are none."""
    try:
        return decode(entry_id, fields)
    except JunkEntry as error:
        log.error("%s; it is left out", error)  # noqa: TRY400 - the message says it all
        return None


def _milliseconds(moment: datetime) -> int:
    """Unix milliseconds, at least one: the store takes no negative bound, nor one that nothing can be before."""
    return max(int(moment.timestamp() * 1000), 1)


def decode(entry_id: str, fields: Mapping[str, str]) -> Entry:
    """Return an entry from its fields in the stream; JunkEntry if they are none."""
    try:
        return _entry(entry_id, fields)
    except KeyError as error:
        raise JunkEntry(f"entry {entry_id} is junk: it has no {error.args[0]}") from error
    except (ValueError, TypeError, AttributeError, OverflowError, OSError, RecursionError) as error:
        raise JunkEntry(f"entry {entry_id} is junk: {error}") from error


def _entry(entry_id: str, fields: Mapping[str, str]) -> Entry:
    about, facts, outcome = (_mapping(fields, name) for name in ("about", "facts", "outcome"))
    answer = outcome.get("facts") or {}
    worst = facts.get("worst")

    def said(name: str) -> str:
        return str(answer.get(name) or facts.get(name) or about.get(name) or "")

    return Entry(
        id=entry_id,
        time=datetime.fromtimestamp((_amount(fields["at"]) if "at" in fields else position(entry_id)[0]) / 1000, UTC),
        kind=EntryKind(fields["kind"]),
        request_id=fields["request"],
        attempt=_amount(fields["attempt"]),
        project=said("project"),
        key=said("key"),
        job_type=said("job_type"),
        operation=said("operation"),
        route=said("route"),
        model=said("model"),
        provider=said("provider"),
        n=int(facts.get("n") or about.get("n") or 0),  # policy may have lowered what was asked for
        size=said("size"),
        quality=said("quality"),
        images=_amount(fields["images"]),
        cost=_views(fields["cost"].split(" ")),
        worst=_views([worst["official"], worst["route"], worst["internal"]]) if worst else None,
        source=fields["source"],
        tags=about.get("tags") or {},
        usage=outcome.get("usage"),
        lines=_lines(fields["lines"]),
        about=about,
        facts=facts,
        answer=answer,
        reason=str(outcome.get("reason") or answer.get("reason") or ""),
        adjustment=str(outcome.get("id") or ""),
        was=_views(fields["was"].split(" ")) if "was" in fields else None,
    )


def _mapping(fields: Mapping[str, str], name: str) -> dict[str, Any]:
    value = _JSON.decode(fields[name])
    if not isinstance(value, dict):
        raise TypeError(f"{name} is no JSON object")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse)
"""Made once: making one takes longer than reading an entry by it."""


def _lines(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    for cell, micro in json.loads(text):
        if not cell.startswith(MONEY):
            raise ValueError(f"{cell!r} is no balance of money")
        lines[cell] = lines.get(cell, 0) + _amount(micro)
    return lines


def _views(nano: list[str]) -> Views:
    official, route, internal = map(_amount, nano)
    return Views(official=official, route=route, internal=internal)


def _amount(text: object) -> int:
    if not _AMOUNT.fullmatch(str(text)):
        raise ValueError(f"{str(text)[:40]!r} is no amount")
    return int(str(text))

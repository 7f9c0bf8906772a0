"""What the ledger holds at one moment: the balances, what was trimmed, and the holds that are live."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from gateway.ledger import script
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.ledger.task_fields import pairs

BATCH = 200
"""Records read by one script: the server must not be held up."""
SCAN_COUNT = 1000

_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}", re.ASCII)
_MEMBER = re.compile(r"(?P<request>.+):[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment, `time` milliseconds by the store's clock; ids are "" where there is none.

    `balances` and `base` are as they lie in the store, by cell.
    """

    time: int
    epoch: str
    exported: str
    exported_hash: str
    trimmed: str
    trimmed_hash: str
    base_digest: str
    entries: int
    last: str
    deleted: str
    balances: Mapping[str, str]
    base: Mapping[str, str]
    due: Sequence[str]


@dataclass(slots=True)
class LiveHolds:
    """What live holds took, added up by cell (micro-USD or counts), and holds that are not as they should be.

    `stray` are listed as live without being so, `unlisted` are live without being listed: name, and what is wrong.
    """

    count: int = 0
    taken: dict[str, int] = field(default_factory=dict)
    stray: dict[str, str] = field(default_factory=dict)
    unlisted: dict[str, str] = field(default_factory=dict)

    def add(self, taken: Mapping[str, int]) -> None:
        """Add what one hold took."""
        self.count += 1
        for cell, amount in taken.items():
            self.taken[cell] = self.taken.get(cell, 0) + amount


async def take_snapshot(store: Store, names: Names) -> Snapshot:
    """Read one moment; raises LedgerUnavailable."""
    keys = [names.meta, names.balances, names.base, names.due, names.entries]
    try:
        reply = await store.run(script.SNAPSHOT, keys, [], repeatable=True)
    except UnicodeDecodeError as error:
        raise LedgerRefused(f"store {store.where}: a balance or a hold has a name that is no text: {error}") from error
    now, meta, entries, last, deleted, balances, base, due = reply
    epoch, exported, exported_hash, trimmed, trimmed_hash, digest = (value or "" for value in meta)
    for name, value in (("exported", exported), ("trimmed", trimmed)):
        if value and not _ID.fullmatch(value):
            raise LedgerRefused(f"store {store.where}: `{name}` in {names.meta} is no entry's id: {value[:40]!r}")
    return Snapshot(
        time=int(now),
        epoch=epoch,
        exported=exported,
        exported_hash=exported_hash,
        trimmed=trimmed,
        trimmed_hash=trimmed_hash,
        base_digest=digest,
        entries=entries,
        last=last,
        deleted=deleted,
        balances=pairs(balances),
        base=pairs(base),
        due=due,
    )


async def read_live_holds(store: Store, names: Names, members: Iterable[str]) -> LiveHolds:
    """Return what those took that were live when the snapshot was taken; raises LedgerUnavailable.

    What a hold took never changes and is remembered after its end, so nothing is missed by reading it later.
    """
    holds = LiveHolds()
    proper: list[str] = []
    for member in members:
        if is_member(names, member):
            proper.append(member)
        else:
            holds.stray[member] = "is no hold"
    for batch in batches(proper):
        reply = await store.run(script.TAKEN, [names.due, *request_keys(names, batch)], batch, repeatable=True)
        for member, (taken, state, listed) in zip(batch, reply, strict=True):
            _add(holds, member, taken, ended=state not in ("queued", "sent"), listed=bool(listed))
    return holds


def _add(holds: LiveHolds, member: str, taken: str, *, ended: bool, listed: bool) -> None:
    if not taken and listed:
        holds.stray[member] = "has no record"
    elif ended and listed:
        holds.stray[member] = "has ended, and is listed as live"
    elif taken:
        try:
            holds.add(_amounts(taken))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            holds.stray[member] = f"has a junk record: {error}"


def _amounts(taken: str) -> dict[str, int]:
    lines: list[list[Any]] = json.loads(taken)["lines"]
    amounts: dict[str, int] = {}
    for kind, cell, amount, *_ in lines:
        if kind != "rolling":
            amounts[cell] = amounts.get(cell, 0) + int(amount)
    return amounts


async def add_unlisted(store: Store, names: Names, holds: LiveHolds) -> None:
    """Look through all requests for live holds that are not listed, and add what they took."""
    prefix = names.request_prefix
    async for keys in _scan(store, names.due, f"{prefix}*"):
        found: list[str] = []
        for batch in batches(keys):
            ids = [key.removeprefix(prefix) for key in batch]
            found += await store.run(script.UNLISTED, [names.due, *batch], ids, repeatable=True)
        for batch in batches(found):
            reply = await store.run(script.TAKEN, [names.due, *request_keys(names, batch)], batch, repeatable=True)
            for member, (taken, state, listed) in zip(batch, reply, strict=True):
                if member not in holds.unlisted and not listed and state in ("queued", "sent"):
                    _add(holds, member, taken, ended=False, listed=False)
                    holds.unlisted[member] = "is live, and not listed as such"


async def _scan(store: Store, near: str, pattern: str) -> AsyncIterator[list[str]]:
    cursor = "0"
    while True:
        cursor, keys = await store.run(
            script.SCAN_REQUESTS, [near], [cursor, pattern, str(SCAN_COUNT)], repeatable=True
        )
        yield keys
        if str(cursor) == "0":
            return


def is_member(names: Names, member: str) -> bool:
    """Tell whether this can be the name of a hold: a request id and the number of an attempt."""
    match = _MEMBER.fullmatch(member)
    try:
        return match is not None and bool(names.request(match["request"]))
    except ValueError:
        return False


def request_keys(names: Names, members: Iterable[str]) -> list[str]:
    """Return the key of each hold's request."""
    return [names.request(member.rpartition(":")[0]) for member in members]


def batches(items: Iterable[str]) -> Iterable[list[str]]:
    """Split into pieces that one script can take."""
    rest = iter(list(items))
    while batch := list(islice(rest, BATCH)):
        yield batch

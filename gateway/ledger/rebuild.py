"""Rebuild: balances put right by the entries and the live holds; the history of a lost store brought back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field
from operator import itemgetter
from pathlib import Path

from gateway.ledger import script
from gateway.ledger.audit import Audit, Kind, WrongCell, audit, base_digest
from gateway.ledger.calls import token
from gateway.ledger.entries import Entry, read_exported
from gateway.ledger.errors import LedgerRefused, StoreError
from gateway.ledger.history import History
from gateway.ledger.leases import REMEMBERED_SECONDS
from gateway.ledger.names import Names
from gateway.ledger.own_holds import member
from gateway.ledger.redis_ledger import SCHEMA
from gateway.ledger.snapshot import Snapshot, batches, is_member, request_keys
from gateway.ledger.store import Store
from gateway.ledger.stream import position
from gateway.ledger.superseded_entries import Place
from gateway.ledger.wire import to_json

CELLS = 100
"""Balances put right by one script."""
ENTRIES = 100
"""Entries moved by one."""
ROUNDS = 5
"""How often balances that move all the time are tried."""
LEASE_MS = 30_000
"""What a live hold gets that was not listed: time for its gateway to renew it, else it is presumed spent."""


@dataclass(slots=True)
class Rebuilt:
    """What was changed, in words, and how everything stands now."""

    audit: Audit
    changes: list[str] = field(default_factory=list)


async def rebuild(
    store: Store, realm: str = "main", *, export: Sequence[Path] = (), accept_loss: bool = False
) -> Rebuilt:
    """Put a realm's balances right, beside running traffic; with an export, bring back what the store has lost.

    A store without a ledger needs an export, or `accept_loss`, which begins anew with nothing. Running gateways go on
    as soon as it is done. StoreError says what is to be done first; raises LedgerUnavailable.
    """
    names = Names(realm)
    done = Rebuilt(await audit(store, realm, export=export, thorough=True))
    _check(done.audit, export=bool(export), accept_loss=accept_loss)
    if done.audit.history is not None and done.audit.history.passed:
        await _move_behind(store, names, done.audit.history, done)
        done.audit = await audit(store, realm, export=export, thorough=True)
    if done.audit.history is not None:
        await _restore(store, names, export, done)
    await _tidy(store, names, done)
    for _ in range(ROUNDS):
        done.audit = await audit(store, realm, export=export)
        if not done.audit.wrong:
            break
        await _correct(store, names, done)
    if not done.audit.snapshot.epoch and not done.audit.wrong:
        await _give_identity(store, names, done)
        done.audit = await audit(store, realm, export=export)
    return done


def _check(found: Audit, *, export: bool, accept_loss: bool) -> None:
    if found.snapshot.epoch:
        if accept_loss:
            raise StoreError("this realm has a ledger; there is no loss to accept")
    elif not export and not accept_loss:
        raise StoreError(
            "there is no ledger in this realm: the store was emptied, or never used. Give the export with --from "
            "to bring its history back, or --empty to begin with nothing, or check --store and --realm"
        )
    if found.history is not None and found.history.is_foreign:  # once it is in the balances nothing takes it out
        why = next(finding for finding in found.findings if finding.kind is Kind.EXPORT)
        raise StoreError(f"{why}: give this ledger's own export, all of it. Nothing was changed")
    if not export and any(finding.kind is Kind.BASE for finding in found.findings):
        raise StoreError("the sum of trimmed entries was changed by other hands: give the export with --from")


async def _move_behind(store: Store, names: Names, history: History, done: Rebuilt) -> None:
    """Move what the export went past behind its end, so that the next one has it, and it counts as booked last."""
    for start in range(0, len(history.passed), ENTRIES):
        part = history.passed[start : start + ENTRIES]
        await store.run(script.MOVE_BEHIND, [names.meta, names.entries], [history.last, *part])
    done.changes.append(f"entries: {len(history.passed)} that the export had gone past are behind its end now")


async def _restore(store: Store, names: Names, export: Sequence[Path], done: Rebuilt) -> None:
    """Remember what the store has lost in its requests' records, and make the base what the export says.

    Repeating this changes nothing. The base comes last: by it an entry counts as trimmed, no longer as lost.
    """
    history, snapshot = done.audit.history, done.audit.snapshot
    assert history is not None
    count = 0
    for marker, entry in _lost_entries(history, export):
        count += await _restore_attempt(store, names, entry, marker) == "DONE"
    if count:
        done.changes.append(f"requests: the records of {count} exported entries")
    base = {cell: str(micro) for cell, micro in history.base.items()}
    all_lost = position(history.trimmed or "0-0") > position(
        snapshot.trimmed or "0-0"
    )  # or no export goes on from there
    if all_lost or base != dict(snapshot.base) or not done.audit.base_is_sound or not snapshot.epoch:
        await _restore_base(store, names, history, snapshot, base)
        done.changes.append(f"base: {len(base)} balances from {history.lines} exported entries")


def _lost_entries(history: History, export: Sequence[Path]) -> Iterator[tuple[str, Entry]]:
    """Yield those that are to be remembered, each with a text that sorts as those of its attempt count."""
    lost, since, reordered = frozenset(history.lost), time.time() - REMEMBERED_SECONDS, list[tuple[str, Entry]]()
    for entry in read_exported(export):
        if entry.id not in lost or entry.time.timestamp() < since:
            continue
        carried = history.carried.get((entry.request_id, str(entry.attempt)), {})
        behind = carried.get(entry.id)
        marker = f"{_marker(behind[0])}-{behind[1]:06d}" if behind else _marker(position(entry.id))
        if carried:  # what it counts behind may come later
            reordered.append((marker, entry))
        else:
            yield marker, entry
    yield from sorted(reordered, key=itemgetter(0))


def _marker(place: Place) -> str:
    return f"{place[0]:020d}-{place[1]:020d}"


async def _restore_base(store: Store, names: Names, history: History, snapshot: Snapshot, base: dict[str, str]) -> None:
    further = position(snapshot.exported or "0-0") > position(history.last or "0-0")
    args = [snapshot.trimmed, history.trimmed, history.trimmed_hash]
    args += [snapshot.exported, snapshot.exported_hash] if further else [history.last, history.last_hash]
    args += [base_digest(base), history.lost[-1] if history.lost else ""]
    args += [part for pair in base.items() for part in pair]
    if await store.run(script.RESTORE_BASE, [names.meta, names.base, names.entries], args) != "DONE":
        raise LedgerRefused(f"store {store.where}: entries were trimmed meanwhile; try again")


async def _restore_attempt(store: Store, names: Names, entry: Entry, marker: str = "") -> str:
    cost = [str(entry.cost.official), str(entry.cost.route), str(entry.cost.internal)]
    worst = entry.worst or entry.cost
    lines = [["usd", cell, str(micro), cell.rpartition("@")[0].split("|")[-2]] for cell, micro in entry.lines.items()]
    outcome = {"facts": entry.answer, "usage": entry.usage, "reason": entry.reason or None}
    args = [marker or _marker(position(entry.id)), member(entry.request_id, entry.attempt), str(entry.attempt)]
    args += [str(entry.kind), str(round(entry.time.timestamp() * 1000)), entry.source]
    args += [*cost, str(entry.images), to_json(outcome), to_json(dict(entry.about)), to_json(dict(entry.facts))]
    args += [to_json([str(worst.official), str(worst.route), str(worst.internal)]), to_json(lines)]
    was = " ".join(map(str, astuple(entry.was))) if entry.was else ""
    args += [entry.adjustment, str(REMEMBERED_SECONDS), was]
    try:
        keys = [names.request(entry.request_id), names.adjustments, names.due]
    except ValueError:
        return "SAME"
    return str(await store.run(script.RESTORE_ATTEMPT, keys, args))


async def _tidy(store: Store, names: Names, done: Rebuilt) -> None:
    """Remove what is no entry and what is no hold; list holds that are live."""
    for finding in done.audit.findings:
        if finding.kind is Kind.ENTRY and finding.name:
            await store.execute("XDEL", names.entries, finding.name)
            done.changes.append(f"entry {finding.name}: removed: {finding.found}")
    holds = done.audit.holds
    for stray in (each for each in holds.stray if not is_member(names, each)):
        await store.execute("ZREM", names.due, stray)
        done.changes.append(f"hold {stray}: removed")
    for batch in batches(each for each in (*holds.stray, *holds.unlisted) if is_member(names, each)):
        keys = [names.due, *request_keys(names, batch)]
        reply = await store.run(script.RELIST, keys, [str(LEASE_MS), *batch])
        changed = zip(batch, reply, strict=True)
        done.changes += [f"hold {name}: {result.lower()}" for name, result in changed if result != "SAME"]


async def _correct(store: Store, names: Names, done: Rebuilt) -> None:
    wrong = done.audit.wrong
    for start in range(0, len(wrong), CELLS):
        part = wrong[start : start + CELLS]
        reply = await store.run(script.REPAIR, [names.balances], [text for each in part for text in _repair(each)])
        for each, result in zip(part, reply, strict=True):
            if result != "LEFT":
                done.changes.append(f"balance {each.cell}: {_change(each, moved=result == 'MOVED')}")


def _repair(wrong: WrongCell) -> list[str]:
    return [wrong.cell, wrong.found, wrong.right, str(wrong.spent), str(wrong.held)]


def _change(wrong: WrongCell, *, moved: bool) -> str:
    if not wrong.right:
        return f"removed, what its window counted is lost: {wrong.found!r}"
    if moved:
        return f"changed by {wrong.spent} spent and {wrong.held} held, in micro-USD or counts"
    return f"{wrong.found!r} is now {wrong.right!r}, spent and held in micro-USD or counts"


async def _give_identity(store: Store, names: Names, done: Rebuilt) -> None:
    """Let gateways admit again: last of all, so that they find everything in its place."""
    await store.execute("HSETNX", names.meta, "schema", SCHEMA)
    await store.execute("HSETNX", names.meta, "epoch", token())
    done.changes.append("ledger: has an identity again; running gateways go on by themselves")

"""Exports: chained, complete, never twice; trimmed only behind them; and what they bring back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.domain.route import Views
from gateway.domain.settlement import Adjustment, CostSource, Posting, Settlement, SettleResult
from gateway.ledger import script
from gateway.ledger.audit import audit
from gateway.ledger.entries import read_entries, read_exported
from gateway.ledger.errors import StoreError
from gateway.ledger.export import export, export_lines
from gateway.ledger.export_files import export_files
from gateway.ledger.names import Names
from gateway.ledger.rebuild import rebuild
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.segments import GENESIS, Export, ExportError, write_line
from gateway.ledger.store import Store
from gateway.ledger.stream import raw_entries
from gateway.reporting.recorded import recorded_entries
from tests.ledger.older import copy, resynced
from tests.ledger.rules import ABOUT, balances, budget, candidate, settlement
from tests.ledger.traffic import RULES, many_entries, mixed

NOW = -1.0
"""Keep nothing: entries of this very second are old enough."""


def segment_files(directory: Path) -> list[Path]:
    """The files of an export."""
    return sorted(directory.glob("entries-*.jsonl"))


def ids(*paths: Path) -> list[str]:
    """The entries in an export, in its order."""
    return [line.id for line in Export(paths).lines()]


async def stream_ids(store: Store, realm: str) -> list[str]:
    """The entries in the stream."""
    return [entry.id async for entry in read_entries(store, realm)]


async def agrees(store: Store, realm: str, *directories: Path) -> None:
    """Balances agree with the entries, and with the export."""
    assert (await audit(store, realm)).findings == []
    assert (await audit(store, realm, export=directories)).findings == []


async def test_entries_come_back_as_they_were(ledger: RedisLedger, store: Store, realm: str, tmp_path: Path) -> None:
    """What is read from the export is what was read from the stream; a second export adds nothing, a third the rest."""
    await mixed(ledger, 12)
    before = [entry async for entry in read_entries(store, realm)]
    done = await export(store, realm, tmp_path)
    assert (done.written, done.trimmed, done.last, done.cut) == (13, 0, before[-1].id, None)
    assert list(read_exported([tmp_path])) == before
    assert (await export(store, realm, tmp_path)).written == 0
    await mixed(ledger, 6, prefix="s")
    assert (await export(store, realm, tmp_path)).written == 7
    assert ids(tmp_path) == await stream_ids(store, realm)
    await agrees(store, realm, tmp_path)


async def test_small_segments_and_pages(ledger: RedisLedger, store: Store, realm: str, tmp_path: Path) -> None:
    """Any number of files makes one chain, and trimming works through all of them."""
    await mixed(ledger, 40)
    every = await stream_ids(store, realm)
    await export(store, realm, tmp_path, page=3, segment_bytes=4_000)
    assert len(segment_files(tmp_path)) > 3
    assert ids(tmp_path) == every
    before = await balances(store, realm)
    done = await export(store, realm, tmp_path, keep=NOW, page=7)
    assert done.trimmed == len(every)
    assert await stream_ids(store, realm) == []
    assert await balances(store, realm) == before
    await agrees(store, realm, tmp_path)
    await mixed(ledger, 6, prefix="s")
    await agrees(store, realm, tmp_path)
    assert (await export(store, realm, tmp_path, keep=NOW)).trimmed == 7
    await agrees(store, realm, tmp_path)


async def test_only_what_is_old_is_trimmed(ledger: RedisLedger, store: Store, realm: str, tmp_path: Path) -> None:
    """Entries younger than `keep` stay in the stream."""
    await ledger.open()
    await many_entries(store, realm, 50)
    await mixed(ledger, 6)
    assert (await export(store, realm, tmp_path, keep=1e12)).trimmed == 0  # longer ago than the store can be asked for
    assert (await export(store, realm, tmp_path, keep=86_400.0)).trimmed == 50
    assert len(await stream_ids(store, realm)) == 7
    await agrees(store, realm, tmp_path)


async def test_nothing_is_trimmed_that_is_not_in_the_export(
    ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """An entry that the files do not have, or have otherwise, stops the trimming and is named by the audit."""
    await mixed(ledger, 12)
    await export(store, realm, tmp_path)
    names = Names(realm)
    rows = await store.execute("XRANGE", names.entries, "-", "+")
    entry_id = rows[5][0]
    await store.execute("DEL", names.entries)
    for each, kept in rows:
        changed = {**kept, "cost": "1 1 1"} if each == entry_id else kept
        await store.execute("XADD", names.entries, each, *[part for pair in changed.items() for part in pair])
    with pytest.raises(ExportError, match=entry_id):
        await export(store, realm, tmp_path, keep=NOW, page=2)
    found = await audit(store, realm, export=[tmp_path])
    assert [(str(each.kind), each.name) for each in found.findings] == [("export", entry_id)]
    assert entry_id in await stream_ids(store, realm)


async def test_two_that_trim_at_once_take_nothing_out_twice_or_too_early(
    ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """Whoever looked before another trimmed, or before the export had it all, is told to look again."""
    await mixed(ledger, 12)
    await export(store, realm, tmp_path)
    names = Names(realm)
    rows = [entry_id for entry_id, _ in await store.execute("XRANGE", names.entries, "-", "+")]
    exported = await store.execute("HGET", names.meta, "exported")
    assert exported == rows[-1]

    async def trim(first: str, last: str, count: int) -> str:
        args = ["", "", first, last, str(count), f"{last}-after", "hash", "usd|x|total", "1"]
        return str(await store.run(script.TRIM, [names.meta, names.base, names.entries], args))

    await store.execute("HSET", names.meta, "exported", rows[3])
    assert await trim(rows[0], rows[4], 5) == "AGAIN"  # not exported yet
    assert await trim(rows[1], rows[3], 3) == "AGAIN"  # there are others before
    assert await trim(rows[0], rows[3], 3) == "AGAIN"  # or in between
    assert await stream_ids(store, realm) == rows
    assert await store.execute("EXISTS", names.base) == 0


async def test_a_cut_line_is_taken_away_and_written_again(
    ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """A file that was cut at any byte of its last line is continued, with a word about it; also one cut to nothing."""
    await mixed(ledger, 4)
    await export(store, realm, tmp_path)
    [file] = segment_files(tmp_path)
    whole = file.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for size in (len(whole) - 1, last + 1, last + (len(whole) - last) // 2, 1, 0):
        file.write_bytes(whole[:size])
        if size > last:
            assert any("is cut" in note for note in (await audit(store, realm, export=[tmp_path])).notes)
        done = await export(store, realm, tmp_path)
        assert done.written == (1 if size > last else 5)
        assert (done.cut is not None) == (size > 0)
        assert file.read_bytes() == whole
    file.write_bytes(whole[:last] + b"\0" * 100)
    assert (await export(store, realm, tmp_path)).cut is not None
    assert file.read_bytes() == whole


DAMAGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int]] = {
    "a flipped bit": (lambda lines: [*lines[:4], lines[4].replace(b'"usage"', b'"usagf"', 1), *lines[5:]], 5),
    "a line gone": (lambda lines: lines[:3] + lines[4:], 4),
    "two lines swapped": (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], 4),
    "a line twice": (lambda lines: [*lines[:3], lines[2], *lines[3:]], 4),
    "the first line gone": (lambda lines: lines[1:], 1),
    "not JSON": (lambda lines: [*lines[:6], b"hello\n", *lines[7:]], 7),
    "not an object": (lambda lines: [*lines[:6], b"[]\n", *lines[7:]], 7),
    "no text": (lambda lines: [*lines[:6], b"\xff\xfe\n", *lines[7:]], 7),
    "another amount, rehashed": (lambda lines: [*lines[:2], forged(lines[2]), *lines[3:]], 4),
}


def forged(raw: bytes) -> bytes:
    """The line with another amount and a hash that fits."""
    said = json.loads(raw)
    text, _ = write_line(said["id"], said["realm"], {**said["fields"], "cost": "1 1 1"}, said["prev"])
    return (text + "\n").encode()


@pytest.mark.parametrize("case", DAMAGES)
async def test_a_broken_chain_is_named(
    case: str, ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """Whatever is done to a line, the audit names the file and the line where the chain breaks; rebuild refuses it."""
    await mixed(ledger, 12)
    await export(store, realm, tmp_path)
    [file] = segment_files(tmp_path)
    damage, number = DAMAGES[case]
    file.write_bytes(b"".join(damage(file.read_bytes().splitlines(keepends=True))))
    for attempt in (audit(store, realm, export=[tmp_path]), rebuild(store, realm, export=[tmp_path])):
        with pytest.raises(ExportError) as caught:
            await attempt
        assert str(caught.value).startswith(f"{file}:{number}: ")
    with pytest.raises(ExportError, match=f":{number}: "):
        list(read_exported([tmp_path]))


async def test_a_directory_of_another_ledger_is_refused(
    ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """Neither another realm's directory nor that of a ledger that was lost is continued by mistake."""
    await mixed(ledger, 6)
    await export(store, realm, tmp_path / "a")
    other = RedisLedger(store, f"{realm}-2")
    await mixed(other, 6)
    with pytest.raises(ExportError, match="its realm is"):
        await export(store, f"{realm}-2", tmp_path / "a")
    with pytest.raises(ExportError, match="realm"):
        await audit(store, f"{realm}-2", export=[tmp_path / "a"])
    await other.aclose()

    await store.execute("FLUSHALL")
    again = RedisLedger(store, realm)
    await mixed(again, 6)
    with pytest.raises(ExportError, match="another ledger"):
        await export(store, realm, tmp_path / "a")
    await again.aclose()
    with pytest.raises(ExportError, match="no export"):
        Export([tmp_path])
    with pytest.raises(ExportError, match="no such file"):
        Export([tmp_path / "nowhere"])


async def test_the_export_of_another_ledger_changes_nothing(
    ledger: RedisLedger, store: Store, server: str, realm: str, tmp_path: Path
) -> None:
    """Two ledgers of a realm's name, one after the other and each whole: neither takes the export of the other."""
    await mixed(ledger, 6)
    await export(store, realm, tmp_path / "older")
    older = copy(server, realm)
    await wipe(store)
    newer = RedisLedger(store, realm)
    await mixed(newer, 6, prefix="s")
    await export(store, realm, tmp_path / "newer", keep=NOW)
    await refused_without_change(store, realm, tmp_path / "older")
    older.put_back()
    await refused_without_change(store, realm, tmp_path / "newer")
    await newer.aclose()


async def refused_without_change(store: Store, realm: str, foreign: Path) -> None:
    """No rebuild and no report takes this export, and everything stays as it is."""
    before, spent = await audit(store, realm), await balances(store, realm)
    assert before.findings == []
    with pytest.raises(StoreError, match="this ledger's own export"):
        await rebuild(store, realm, export=[foreign])
    with pytest.raises(ExportError, match=r"another ledger|does not reach so far"):
        assert [entry async for entry in recorded_entries(store, realm, export=[foreign])]
    assert await balances(store, realm) == spent
    assert (await audit(store, realm)).snapshot.base == before.snapshot.base


async def test_what_was_trimmed_tells_an_export_by_its_hash(
    ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """Nothing is left in the stream to go by, and the other ledger went on for longer."""
    await mixed(ledger, 6)
    await export(store, realm, tmp_path / "own", keep=NOW)
    other = RedisLedger(store, f"{realm}-2")
    await mixed(other, 6)
    lines, digest = [], GENESIS
    async for entry_id, fields in raw_entries(store, Names(f"{realm}-2").entries):
        line, digest = write_line(entry_id, realm, fields, digest)
        lines.append(line + "\n")
    foreign = tmp_path / "entries-1-1.jsonl"
    foreign.write_text("".join(lines))
    await refused_without_change(store, realm, foreign)
    await agrees(store, realm, tmp_path / "own")
    assert (await rebuild(store, realm, export=[tmp_path / "own"])).changes == []
    await other.aclose()


async def test_directories_that_take_turns(ledger: RedisLedger, store: Store, realm: str, tmp_path: Path) -> None:
    """A new directory begins with all that the stream still has, and continues the chain of those before it."""
    first, second, third = (tmp_path / name for name in "abc")
    await mixed(ledger, 6)
    await export(store, realm, first, keep=NOW)
    await mixed(ledger, 6, prefix="s")
    every = ids(first) + await stream_ids(store, realm)
    await export(store, realm, first)
    assert (await export(store, realm, second)).written == 7
    await export(store, realm, second, keep=NOW)
    await mixed(ledger, 6, prefix="t")
    every += await stream_ids(store, realm)
    await export(store, realm, third, keep=NOW)
    assert ids(first, second, third) == ids(third, first, second) == every
    await agrees(store, realm, first, second, third)
    with pytest.raises(ExportError, match="begins before"):
        await audit(store, realm, export=[second])
    [finding] = [each for each in (await audit(store, realm, export=[first])).findings if each.kind == "export"]
    assert "were trimmed and are not in it" in finding.message
    with pytest.raises(ExportError, match="were trimmed"):
        await export(store, realm, first)


async def test_one_export_at_a_time(ledger: RedisLedger, store: Store, realm: str, tmp_path: Path) -> None:
    """While somebody writes to a directory, another export is refused."""
    await mixed(ledger, 6)
    with export_files(tmp_path), pytest.raises(ExportError, match="another export"):
        await export(store, realm, tmp_path)
    assert (await export(store, realm, tmp_path)).written == 7


async def test_lines_for_a_pipe(ledger: RedisLedger, store: Store, realm: str, tmp_path: Path) -> None:
    """Lines written elsewhere are the same as in a directory, and nothing counts as exported by them."""
    await mixed(ledger, 6)
    lines = [line async for line in export_lines(store, realm)]
    assert await store.execute("HGET", Names(realm).meta, "exported") is None
    await export(store, realm, tmp_path)
    [file] = segment_files(tmp_path)
    assert file.read_text().splitlines() == lines


async def wipe(store: Store) -> None:
    """An operator's worst moment."""
    await store.execute("FLUSHALL")


@pytest.mark.parametrize("trimmed", [False, True], ids=["exported", "trimmed"])
async def test_a_wiped_store_comes_back(
    trimmed: bool, ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """From the export alone every balance is spent as before, requests are known again, and exports go on."""
    await mixed(ledger, 24)
    await export(store, realm, tmp_path, keep=NOW if trimmed else None)
    before = {cell: (spent, 0) for cell, (spent, _) in (await balances(store, realm)).items()}
    await wipe(store)
    done = await rebuild(store, realm, export=[tmp_path])
    assert done.audit.findings == []
    assert await balances(store, realm) == before
    await agrees(store, realm, tmp_path)
    assert (await rebuild(store, realm, export=[tmp_path])).changes == []

    after = RedisLedger(store, realm)
    record = await after.request("r1")
    assert record is not None
    assert record["attempts"][0]["cost"] == Views(600_001, 500_001, 650_001)
    await mixed(after, 6, prefix="s")
    await export(store, realm, tmp_path, keep=NOW)
    await agrees(store, realm, tmp_path)
    await after.aclose()


NOTHING = {
    "another file": ("invoice.csv", b'{"prompt": "x"}'),
    "an empty file": ("invoice.csv", b""),
    "an empty segment": ("entries-1-0.jsonl", b""),
    "a cut segment": ("entries-1-0.jsonl", b"{"),
}


@pytest.mark.parametrize("case", NOTHING)
async def test_a_wiped_store_is_not_begun_anew_by_a_file_without_entries(
    case: str, ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """It is no export, so budgets stay closed; beside an export's other segments it does no harm."""
    await mixed(ledger, 6)
    await export(store, realm, tmp_path / "export")
    before = {cell: (spent, 0) for cell, (spent, _) in (await balances(store, realm)).items()}
    await wipe(store)
    name, content = NOTHING[case]
    file = tmp_path / "given" / name
    file.parent.mkdir()
    file.write_bytes(content)
    given = [file] if name == "invoice.csv" else [file.parent]
    with pytest.raises(ExportError, match="no whole line of an export"):
        await rebuild(store, realm, export=given)
    assert await store.execute("EXISTS", Names(realm).meta) == 0
    with pytest.raises(ExportError, match="no whole line of an export"):
        assert [entry async for entry in recorded_entries(store, realm, export=given)]
    await rebuild(store, realm, export=[*given, tmp_path / "export"])
    assert await balances(store, realm) == before


async def test_nothing_is_booked_twice_after_a_loss(
    ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """What is repeated after the history came back is known for what it is; a presumed cost is corrected once."""
    await mixed(ledger, 6)
    await ledger.settle(settlement("r5", 700_000, source=CostSource.PRESUMED, images=0))
    await export(store, realm, tmp_path)
    await wipe(store)
    await rebuild(store, realm, export=[tmp_path])
    before = await balances(store, realm)
    after = RedisLedger(store, realm)
    cost = Views(600_000, 500_000, 650_000)
    assert await after.settle(Settlement("r0", 1, cost, CostSource.USAGE, 1)) is SettleResult.SAME
    assert await after.settle(Settlement("r2", 1, cost, CostSource.USAGE, 1)) is SettleResult.SAME
    assert await after.adjust(Adjustment("a-r4", "r4", 1, Views(7, 5, 6), "credit note")) is SettleResult.SAME
    assert await after.post(Posting("r-fee", Views(0, 900, 0), "fee")) is SettleResult.SAME
    assert await balances(store, realm) == before
    assert await after.settle(Settlement("r5", 1, cost, CostSource.USAGE, 1)) is SettleResult.LATE
    assert await after.settle(Settlement("r5", 1, cost, CostSource.USAGE, 1)) is SettleResult.SAME
    assert await after.adjust(Adjustment("b", "r4", 1, Views(0, 0, 0), "refund")) is SettleResult.DONE
    await agrees(store, realm, tmp_path)
    assert sum([entry.cost.route async for entry in read_entries(store, realm)]) == (500_000 - 700_000) - 5
    await after.aclose()


@contextlib.asynccontextmanager
async def running(ledger: RedisLedger) -> AsyncIterator[None]:
    """The ledger's background loop, meanwhile."""
    task = asyncio.create_task(ledger.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_balances_are(store: Store, realm: str, expected: dict[str, tuple[int, int]]) -> None:
    """Return once they are, and have stayed so for a while."""
    for _ in range(600):
        if await balances(store, realm) == expected:
            break
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    assert await balances(store, realm) == expected


async def settle_some(ledger: RedisLedger, prefix: str) -> None:
    """Requests that end, of which the instance remembers enough to tell them again."""
    for i in range(6):
        await ledger.choose_and_hold(f"{prefix}{i}", [candidate(*RULES, worst=700_000)], about=ABOUT)
        await ledger.settle(settlement(f"{prefix}{i}", 500_000 + i))


async def test_a_running_gateway_goes_on_after_the_rebuild(store: Store, realm: str, tmp_path: Path) -> None:
    """An instance that lives through the loss tells what no export had, and nothing twice: all is as before."""
    ledger = RedisLedger(store, realm, lease=1.0)
    async with running(ledger):
        await mixed(ledger, 12)
        await export(store, realm, tmp_path)
        await settle_some(ledger, "late")
        before = await balances(store, realm)
        assert any(held for _, held in before.values())
        await wipe(store)
        await rebuild(store, realm, export=[tmp_path])
        await until_balances_are(store, realm, before)
        await settle_some(ledger, "after")
        await agrees(store, realm, tmp_path)
        await export(store, realm, tmp_path, keep=NOW)
        await agrees(store, realm, tmp_path)
    await ledger.aclose()


async def test_a_store_that_came_back_older(store: Store, server: str, realm: str, tmp_path: Path) -> None:
    """Exported entries that a store has lost and then been told again count once, in audits and in a rebuild."""
    ledger = RedisLedger(store, realm, lease=1.0)
    async with running(ledger), Redis.from_url(server, protocol=2) as raw:
        await mixed(ledger, 6)
        older = {name: await raw.dump(name) for name in await raw.keys("*")}
        await settle_some(ledger, "lost")
        await export(store, realm, tmp_path)
        before = await balances(store, realm)
        await wipe(store)
        async with raw.pipeline(transaction=True) as copy:  # half of an old copy would be told again what it has
            for name, value in older.items():
                _ = copy.restore(name, 0, value or b"", replace=True)  # the running one may have written again
            await copy.execute()
        await until_balances_are(store, realm, before)
        found = await audit(store, realm, export=[tmp_path])
        assert found.findings == []
        assert "6 exported entries were booked again later, and count once" in found.notes
        assert (await rebuild(store, realm, export=[tmp_path])).changes == []
        await export(store, realm, tmp_path, keep=NOW)
        await agrees(store, realm, tmp_path)
        await wipe(store)
        await rebuild(store, realm, export=[tmp_path])
        await until_balances_are(store, realm, before)
    await ledger.aclose()


async def test_reports_over_an_export_count_what_was_told_again_once(
    ledger: RedisLedger, store: Store, server: str, realm: str, tmp_path: Path
) -> None:
    """A lapse and its correction were exported, then lost and told again: reports say what the balances say."""
    rule = budget(1000)
    for name in ("corrected", "quiet"):
        await ledger.choose_and_hold(name, [candidate((rule, 100), worst=100_000)], about=ABOUT)
    old = copy(server, realm)
    other = RedisLedger(store, realm)
    await store.execute("ZADD", Names(realm).due, 1, "corrected:1")
    await other._leases.sweep()
    assert await ledger.settle(settlement("corrected", 70_000)) is SettleResult.LATE
    await ledger.settle(settlement("quiet", 20_000))
    await export(store, realm, tmp_path)
    old.put_back()
    await ledger._leases.renew()
    await resynced(ledger)
    told = [entry.cost.route async for entry in recorded_entries(store, realm, export=[tmp_path])]
    [balance] = await ledger.balances([rule])
    assert (sum(told), balance.used) == (90_000, 90)
    await other.aclose()


async def test_a_hold_that_the_export_saw_end_is_not_booked_again(
    ledger: RedisLedger, store: Store, server: str, realm: str, tmp_path: Path
) -> None:
    """The store came back older than a settlement and a lapse; rebuilt beside it, neither hold lapses again."""
    rule = budget(1000)
    for name in ("settled", "lapsed", "live"):
        await ledger.choose_and_hold(name, [candidate((rule, 100))], about=ABOUT)
    old = copy(server, realm)
    await ledger.settle(settlement("settled", 70_000))
    await store.execute("ZADD", Names(realm).due, 1, "lapsed:1")
    await ledger._leases.sweep()
    await export(store, realm, tmp_path)
    old.put_back()
    other = RedisLedger(store, realm)
    await rebuild(store, realm, export=[tmp_path])
    [balance] = await other.balances([rule])
    assert (balance.used, balance.held) == (170, 100)
    await store.execute("ZADD", Names(realm).due, 1, "live:1")
    await other._leases.sweep()
    [balance] = await other.balances([rule])
    assert (balance.used, balance.held) == (270, 0)
    await agrees(store, realm, tmp_path)
    await other.aclose()


async def test_lost_entries_come_back_from_the_export(
    ledger: RedisLedger, store: Store, realm: str, tmp_path: Path
) -> None:
    """Entries that the store has lost for good are told, and a rebuild from the export books them again."""
    await mixed(ledger, 12)
    await export(store, realm, tmp_path)
    before = await balances(store, realm)
    names, lost = Names(realm), (await stream_ids(store, realm))[3:6]
    await store.execute("XDEL", names.entries, *lost)
    await rebuild(store, realm)
    assert await balances(store, realm) != before
    found = await audit(store, realm, export=[tmp_path])
    assert {str(each.kind) for each in found.findings} == {"base", "balance"}
    assert any(lost[0] in note for note in found.notes)
    await rebuild(store, realm, export=[tmp_path])
    assert await balances(store, realm) == before
    await agrees(store, realm, tmp_path)


async def test_a_store_that_was_not_told(ledger: RedisLedger, store: Store, realm: str, tmp_path: Path) -> None:
    """Killed between the file and the store, an export is told of by the next one, and only then trimmed."""
    await mixed(ledger, 6)
    await export(store, realm, tmp_path)
    meta = Names(realm).meta
    last = await store.execute("HGET", meta, "exported")
    await store.execute("HDEL", meta, "exported", "exported_hash")
    assert (await export(store, realm, tmp_path)).written == 0
    assert await store.execute("HGET", meta, "exported") == last
    assert (await export(store, realm, tmp_path, keep=NOW)).trimmed == 7
    await agrees(store, realm, tmp_path)


KILLED = """
import asyncio, sys
from pathlib import Path
from gateway.ledger.export import export
from gateway.ledger.store import Store

async def main():
    store = Store(sys.argv[1], deadline=10.0)
    print("ready", flush=True)
    while True:
        await export(store, sys.argv[2], Path(sys.argv[3]), keep=-1, page=5, segment_bytes=3000)

asyncio.run(main())
"""


def killed_soon(command: list[str]) -> None:
    """Start it, and kill it a moment after it says that it is ready."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)


async def test_killed_exports_lose_and_double_nothing(
    ledger: RedisLedger, store: Store, server: str, realm: str, tmp_path: Path
) -> None:
    """An exporter killed at random moments, writing and trimming, and started again: each entry is kept once."""
    await ledger.open()
    count = 0
    for turn in range(6):
        await many_entries(store, realm, 40, first_ms=1_700_000_000_000 + turn * 1000)
        count += 40
        await store.execute("EVAL", ADD_UP, 1, Names(realm).balances, count)
        command = [sys.executable, "-c", KILLED, server, realm, str(tmp_path)]
        await asyncio.to_thread(killed_soon, command)
        whole = any(b"\n" in path.read_bytes() for path in segment_files(tmp_path))  # else it wrote and trimmed nothing
        await agrees(store, realm, *([tmp_path] if whole else []))
    await export(store, realm, tmp_path, keep=NOW)
    assert [entry.time.timestamp() for entry in read_exported([tmp_path])] == [
        1_700_000_000 + turn + i / 1000 for turn in range(6) for i in range(1, 41)
    ]
    assert await stream_ids(store, realm) == []
    await agrees(store, realm, tmp_path)


ADD_UP = """
for i, cell in ipairs(redis.call('HKEYS', KEYS[1])) do redis.call('HSET', KEYS[1], cell, ARGV[1] .. ' 0') end
"""


async def test_an_adjustment_that_a_rebuild_did_not_apply_can_be_posted_again(
    ledger: RedisLedger, store: Store, server: str, realm: str, tmp_path: Path
) -> None:
    """An older copy had the hold live, and it lapsed; the invoice's correction is not taken for done."""
    rule = budget(1000)
    await ledger.choose_and_hold("r", [candidate((rule, 100), worst=100_000)], about=ABOUT)
    old = copy(server, realm)
    await ledger.settle(settlement("r", 70_000))
    adjustment = Adjustment("inv1", "r", 1, Views(150_000, 150_000, 150_000), "invoice")
    assert await ledger.adjust(adjustment) is SettleResult.DONE
    await export(store, realm, tmp_path / "out")
    old.put_back()
    later = RedisLedger(store, realm)
    await store.execute("ZADD", Names(realm).due, "XX", 1, "r:1")
    await later._leases.sweep()
    await rebuild(store, realm, export=[tmp_path / "out"])
    assert await later.adjust(adjustment) is SettleResult.DONE
    [balance] = await later.balances([rule])
    assert balance.used == 150
    await later.aclose()

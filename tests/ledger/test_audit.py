"""Audits: balances against entries and live holds, every kind of damage found, named and repaired."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.domain.budget import Counted, Quota, Scope
from gateway.ledger.audit import Audit, Kind, audit
from gateway.ledger.entries import read_entries
from gateway.ledger.errors import LedgerRefused, StoreError
from gateway.ledger.export import export
from gateway.ledger.names import Names
from gateway.ledger.rebuild import rebuild
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.stream import raw_page
from tests.ledger.rules import ABOUT, balances, candidate, hold
from tests.ledger.traffic import RULES, many_entries, mixed, restless

MONEY = f"{RULES[0][0].meter}@total"
RUNNING = RULES[4][0].meter
WINDOW = RULES[3][0].meter


async def whole(store: Store, realm: str) -> Audit:
    """An audit that agrees."""
    found = await audit(store, realm)
    assert found.findings == []
    return found


async def test_agrees_after_mixed_traffic(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Settled, presumed, corrected, voided, adjusted and running requests: everything adds up, in small pages too."""
    await mixed(ledger, 30)
    found = await whole(store, realm)
    assert (found.holds.count, found.snapshot.entries, found.compared) == (5, 10 + 10 + 10 + 1, 5)
    assert (await audit(store, realm, page=2)).totals == found.totals
    assert {cell: spent for cell, (spent, _) in (await balances(store, realm)).items()} == found.totals


async def test_a_store_without_a_ledger_is_no_agreement(store: Store, realm: str) -> None:
    """Nothing equals nothing, but a store that was emptied is not in order."""
    [finding] = (await audit(store, realm)).findings
    assert (finding.kind, finding.name) == (Kind.LEDGER, "")
    assert "emptied" in finding.message


Damage = Callable[[Store, Names], Awaitable[object]]


async def cell_changed(store: Store, names: Names) -> None:
    """Somebody lowers what was spent."""
    await store.execute("HSET", names.balances, MONEY, "1 1400")


async def holds_changed(store: Store, names: Names) -> None:
    """Somebody changes what is held and how many are under way."""
    await store.execute("HSET", names.balances, MONEY, "999999 3", RUNNING, "0 77")


async def cell_missing(store: Store, names: Names) -> None:
    """A balance is gone."""
    await store.execute("HDEL", names.balances, MONEY)


async def junk_value(store: Store, names: Names) -> None:
    """A balance is no number."""
    await store.execute("HSET", names.balances, MONEY, "nan -0.5", RUNNING, "", WINDOW, "1:2:3")


async def entry_deleted(store: Store, names: Names) -> None:
    """An entry is gone from the stream."""
    [[entry_id, _]] = await store.execute("XRANGE", names.entries, "-", "+", "COUNT", 1)
    await store.execute("XDEL", names.entries, entry_id)


async def entry_made_up(store: Store, names: Names) -> None:
    """Somebody writes nonsense to the stream."""
    await store.execute("XADD", names.entries, "*", "kind", "gift", "lines", "[[")


async def stray_hold(store: Store, names: Names) -> None:
    """Holds that never were, and one that has ended, are listed as live."""
    await store.execute("ZADD", names.due, "9e15", "nobody:1", "9e15", "r0:1", "9e15", "no such name")


async def hold_not_listed(store: Store, names: Names) -> None:
    """A live hold's lease could never lapse."""
    await store.execute("ZREM", names.due, "r5:1")


DAMAGES: dict[Damage, set[tuple[str, str]]] = {
    cell_changed: {("balance", MONEY)},
    holds_changed: {("balance", MONEY), ("balance", RUNNING)},
    cell_missing: {("balance", MONEY)},
    junk_value: {("balance", MONEY), ("balance", RUNNING), ("balance", WINDOW)},
    entry_deleted: {("balance", MONEY)},
    entry_made_up: {("entry", "")},
    stray_hold: {("hold", "nobody:1"), ("hold", "r0:1"), ("hold", "no such name")},
    hold_not_listed: {("hold", "r5:1")},
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
async def test_damage_is_named_and_repaired(damage: Damage, ledger: RedisLedger, store: Store, realm: str) -> None:
    """Each kind of damage is found under its name; rebuild says what it changed, and leaves nothing to find."""
    await mixed(ledger, 12)
    await damage(store, Names(realm))
    found = await audit(store, realm)
    named = {(str(each.kind), each.name if each.kind is not Kind.ENTRY else "") for each in found.findings}
    assert DAMAGES[damage] <= named
    assert all(str(each).startswith(str(each.kind)) for each in found.findings)

    done = await rebuild(store, realm)
    assert done.changes
    assert done.audit.findings == []
    await whole(store, realm)
    assert (await rebuild(store, realm)).changes == []
    await mixed(ledger, 12, prefix="after")
    await whole(store, realm)


async def test_a_repaired_balance_is_what_it_was(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Every balance lost at once comes back exactly, what is held included."""
    await mixed(ledger, 12)
    before = await balances(store, realm)
    await store.execute("DEL", Names(realm).balances)
    await rebuild(store, realm)
    assert await balances(store, realm) == before


async def test_deleted_entries_are_pointed_out(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Where the server remembers that somebody deleted an entry, the audit names it."""
    await mixed(ledger, 6)
    await entry_deleted(store, Names(realm))
    assert any("deleted from the stream by hand" in note for note in (await audit(store, realm)).notes)


async def test_a_changed_base_is_not_believed(ledger: RedisLedger, store: Store, realm: str, tmp_path: Path) -> None:
    """The sum of trimmed entries can only come from the export: found, refused without one, repaired with it."""
    await mixed(ledger, 12)
    await export(store, realm, tmp_path, keep=-1)
    before = await balances(store, realm)
    await whole(store, realm)
    names = Names(realm)
    await store.execute("HSET", names.base, MONEY, "5")
    found = await audit(store, realm)
    assert {each.kind for each in found.findings} == {Kind.BASE, Kind.BALANCE}
    with pytest.raises(StoreError, match="changed by other hands: give the export"):
        await rebuild(store, realm)
    with pytest.raises(LedgerRefused, match="changed by other hands"):
        await export(store, realm, tmp_path, keep=-1)
    assert any(each.name == MONEY for each in (await audit(store, realm, export=[tmp_path])).findings)
    await store.execute("HSET", names.base, MONEY, "junk", "x", "1")
    assert {each.name for each in (await audit(store, realm)).findings if each.kind is Kind.BASE} == {"", MONEY, "x"}

    done = await rebuild(store, realm, export=[tmp_path])
    assert done.audit.findings == []
    assert await balances(store, realm) == before
    await whole(store, realm)


async def test_no_false_alarm_under_traffic(ledger: RedisLedger, store: Store, realm: str, tmp_path: Path) -> None:
    """While requests are held and settled and entries exported and trimmed, audit after audit agrees."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(restless(ledger, stop, f"t{i}")) for i in range(4)]
    try:
        for turn in range(60):
            found = await audit(store, realm, page=50, thorough=turn % 10 == 0)
            assert [str(each) for each in found.findings if each.kind is not Kind.LEDGER] == []
            if turn % 10 == 9:
                await export(store, realm, tmp_path, keep=-1, page=50)
                assert (await audit(store, realm, export=[tmp_path])).findings == []
    finally:
        stop.set()
        await asyncio.gather(*tasks)
    await whole(store, realm)


async def test_repairs_beside_traffic_lose_nothing(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Balances that are damaged and rebuilt while requests go on end exactly as the entries say."""
    await mixed(ledger, 12)
    stop = asyncio.Event()
    tasks = [asyncio.create_task(restless(ledger, stop, f"t{i}")) for i in range(3)]
    try:
        for _ in range(6):
            await store.execute("EVAL", ADD_TO_CELL, 1, Names(realm).balances, MONEY, 12345)
            await asyncio.sleep(0.02)
            await rebuild(store, realm)
    finally:
        stop.set()
        await asyncio.gather(*tasks)
    await whole(store, realm)


ADD_TO_CELL = """
local spent, held = string.match(redis.call('HGET', KEYS[1], ARGV[1]), '^(%d+) (%d+)$')
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', spent + ARGV[2], held))
"""


async def test_many_entries_in_little_memory(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Five thousand entries are added up a page at a time: what is kept does not grow with them."""
    await ledger.open()
    cell = await many_entries(store, realm, 5_000)
    tracemalloc.start()
    try:
        found = await audit(store, realm)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.findings == []
    assert found.totals == {cell: 5_000}
    assert peak < 3_000_000


JUNK: dict[str, dict[str, str]] = {
    "nothing known": {"a": "b"},
    "unknown kind": {"kind": "gift"},
    "no JSON": {"about": "{"},
    "not an object": {"facts": "[]"},
    "nested without end": {"outcome": "[" * 100_000},
    "lines are no list": {"lines": "7"},
    "lines of another thing": {"lines": '[["concurrent|x|0","1"]]'},
    "amount with a point": {"lines": '[["usd|everything|route|total@total","0.5"]]'},
    "amount beyond all": {"lines": f'[["usd|everything|route|total@total","{10**20}"]]'},
    "two views": {"cost": "1 2"},
    "attempt": {"attempt": "first"},
    "not a number": {"about": '{"n": NaN}'},
}


@pytest.mark.parametrize("counted", Counted)
async def test_junk_in_any_count_is_named_and_removed(
    counted: Counted, ledger: RedisLedger, store: Store, realm: str
) -> None:
    """Whatever a quota counts: until then every request that falls under it is refused."""
    quota = Quota(Scope(route="r"), counted, 100, 0 if counted is Counted.CONCURRENT else 60)
    await hold(ledger, "before", candidate((quota, 1)))
    await ledger.void("before", 1, "refused")
    await store.execute("HSET", Names(realm).balances, quota.meter, "junk")
    with pytest.raises(LedgerRefused, match="junk"):
        await ledger.choose_and_hold("r", [candidate((quota, 1))], about=ABOUT)

    found = await audit(store, realm)
    assert [(finding.kind, finding.name) for finding in found.findings] == [(Kind.BALANCE, quota.meter)]
    assert found.notes == []
    assert (await rebuild(store, realm)).audit.agrees
    await hold(ledger, "after", candidate((quota, 1)))


@pytest.mark.parametrize("case", JUNK)
async def test_junk_entries_are_named(
    case: str, ledger: RedisLedger, store: Store, realm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever somebody writes to the stream is named by its id, left out of reports, and removed by rebuild."""
    await mixed(ledger, 6)
    names = Names(realm)
    [[_, good]] = await store.execute("XRANGE", names.entries, "-", "+", "COUNT", 1)
    fields = JUNK[case] if len(JUNK[case]) == 1 and "a" in JUNK[case] else good | JUNK[case]
    flat = [part for pair in fields.items() for part in pair]
    entry_id = await store.execute("XADD", names.entries, "*", *flat)
    [finding] = (await audit(store, realm)).findings
    assert (finding.kind, finding.name) == (Kind.ENTRY, entry_id)
    read = [entry.id async for entry in read_entries(store, realm)]
    assert entry_id not in read
    assert entry_id in caplog.text
    assert any(entry_id in change for change in (await rebuild(store, realm)).changes)
    await whole(store, realm)


async def test_bytes_that_are_no_text(ledger: RedisLedger, store: Store, server: str, realm: str) -> None:
    """An entry of raw bytes is named like any other junk, and hides none of its neighbours."""
    await mixed(ledger, 6)
    names = Names(realm)
    async with Redis.from_url(server, protocol=2) as raw:
        await raw.xadd(names.entries, {b"kind": b"\xff\xfe", b"\xc3(": b"ok"})
    await mixed(ledger, 6, prefix="s")
    [finding] = (await audit(store, realm)).findings
    assert finding.kind is Kind.ENTRY
    assert finding.name in [entry_id for entry_id, _ in await raw_page(store, names.entries, "-", "+", 100)]
    assert json.loads(finding.found or "") == {"kind": r"\xff\xfe", r"\xc3(": "ok"}
    assert len([entry async for entry in read_entries(store, realm)]) == 14
    await rebuild(store, realm)
    await whole(store, realm)
    async with Redis.from_url(server, protocol=2) as raw:
        await raw.hset(names.balances, b"usd|\xff", b"1 1")
    with pytest.raises(LedgerRefused, match="no text"):
        await audit(store, realm)


async def test_junk_in_the_identity(ledger: RedisLedger, store: Store, realm: str) -> None:
    """A mark of how far exports got that is none is told by its name."""
    await mixed(ledger, 1)
    await store.execute("HSET", Names(realm).meta, "trimmed", "yesterday")
    with pytest.raises(LedgerRefused, match="`trimmed`"):
        await audit(store, realm)


async def test_a_live_hold_that_was_not_listed_ends_properly(ledger: RedisLedger, store: Store, realm: str) -> None:
    """After rebuild has listed a hold again, its settlement books it as if nothing had happened."""
    await mixed(ledger, 6)
    await hold_not_listed(store, Names(realm))
    assert [each.name for each in (await audit(store, realm, thorough=True)).findings] == ["r5:1"]
    await rebuild(store, realm)
    assert await store.execute("ZSCORE", Names(realm).due, "r5:1") is not None
    await ledger.void("r5", 1, "refused")
    await whole(store, realm)


async def test_entries_that_add_up_to_less_than_nothing(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Where a booking is gone and its correction is not, no balance is made negative, and it is said."""
    await hold(ledger, "r", candidate((RULES[0][0], 700), worst=700_000))
    names = Names(realm)
    fields = {"kind": "correct", "request": "x", "attempt": "1", "about": "{}", "facts": "{}", "outcome": "{}"}
    fields |= {"source": "usage", "images": "0", "cost": "0 -5000 0", "lines": json.dumps([[MONEY, "-5"]])}
    await store.execute("XADD", names.entries, "*", *[part for pair in fields.items() for part in pair])
    done = await rebuild(store, realm)
    assert "less than nothing" in str(done.audit.findings[0])
    assert (await balances(store, realm))[MONEY] == (0, 700)


async def test_loss_is_accepted_only_when_there_is_one(ledger: RedisLedger, store: Store, realm: str) -> None:
    """An emptied store is not begun anew by mistake, and one that was not emptied not at all."""
    with pytest.raises(StoreError, match="--from"):
        await rebuild(store, realm)
    done = await rebuild(store, realm, accept_loss=True)
    assert done.audit.findings == []
    assert await store.execute("HMGET", Names(realm).meta, "schema") == ["1"]
    with pytest.raises(StoreError, match="no loss to accept"):
        await rebuild(store, realm, accept_loss=True)
    await mixed(ledger, 6)
    await whole(store, realm)

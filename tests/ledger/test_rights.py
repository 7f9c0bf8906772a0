"""What the store's user may do: all that lacks is named before anything is served, and none of it moves money."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.domain.settlement import Adjustment, Posting
from gateway.ledger import script
from gateway.ledger.audit import audit
from gateway.ledger.errors import LedgerRefused, StoreError
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.ledger.rules import balances, budget, candidate, concurrent, hold, settlement
from tests.ledger.test_secured_store import RIGHTS
from tests.ledger.topologies import Server, running

SCRIPTS = Path(script.__file__).with_name("scripts")
CALLED = re.compile(
    r"""(?:redis\.p?call\(|= \{|return \{)'([A-Z]{3,})'(?:, '(CREATE|DELCONSUMER|STREAM|CONSUMERS)')?"""
)
EXECUTED = re.compile(r"""execute\(\s*"([A-Z]+)",""")
REPLIES = {"DENIED", "DONE", "GONE", "KEPT", "LIVE", "LOST", "PRESUMED", "SAME", "VOID"}
NO_NAME = {"EVAL", "EVALSHA", "PING", "TIME"}
"""Without which the question itself could not be asked, or that are asked before it."""
RULE = budget(1_000_000)
MANY = concurrent(50)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a user of the documented rights."""
    server = Server(tmp_path_factory.mktemp("rights") / "server", f"user igw on >pw {RIGHTS}")
    with running(server):
        yield server


@pytest.fixture
async def store(server: Server) -> AsyncIterator[Store]:
    """Connections of that user, who has all of them again afterwards."""
    store = Store(f"redis://igw:pw@127.0.0.1:{server.port}", deadline=10.0)
    yield store
    server.call("ACL", "SETUSER", "igw", "resetkeys", "-@all", *RIGHTS.split())
    await store.aclose()


def written(server: Server) -> bytes:
    """How much has ever been changed there."""
    [found] = re.findall(rb"rdb_changes_since_last_save:\d+", server.call("INFO", "persistence"))
    return bytes(found)


def test_every_command_is_asked_for() -> None:
    """Whatever a script, or this program, does with the store's keys is among what the check asks for."""
    asked = {tuple(line.split()) for line in re.findall(r"^  ([A-Z].*)$", script.RIGHTS.source, re.MULTILINE)}
    known = {words[0] for words in asked} | {" ".join(words[:2]) for words in asked}
    used: set[str] = set()
    for path in SCRIPTS.glob("*.lua"):
        used |= {" ".join(filter(None, found)) for found in CALLED.findall(path.read_text())}
    for path in Path(script.__file__).parents[1].rglob("*.py"):
        used |= set(EXECUTED.findall(path.read_text()))
    assert {"HSET", "XADD", "PEXPIREAT", "XGROUP CREATE", "HSCAN"} <= used
    assert used - REPLIES - NO_NAME - known == set()


async def test_rights_that_lack_are_named_at_the_check(server: Server, store: Store) -> None:
    """All at once, whichever server it is; a store that is only read needs none of them."""
    await store.check()
    server.call("ACL", "SETUSER", "igw", "-xadd", "-pexpireat", "-xgroup|create")
    with pytest.raises(StoreError, match=r"its user may not PEXPIREAT, XADD, XGROUP CREATE.*docs/cli\.md"):
        await store.check()
    await store.check(writes=False)
    server.call("ACL", "SETUSER", "igw", "resetkeys", "~other:*")
    with pytest.raises(StoreError, match=r"may not DEL, .*igw:\{main\}"):
        await store.check()


async def test_a_right_that_is_withdrawn_is_named_by_the_readiness(server: Server, store: Store, realm: str) -> None:
    """Whoever serves on without it is not ready, and says why."""
    ledger = RedisLedger(store, realm)
    await ledger.ping()
    server.call("ACL", "SETUSER", "igw", "-xadd")
    with pytest.raises(LedgerUnavailable, match="its user may not XADD"):
        await ledger.ping()
    server.call("ACL", "SETUSER", "igw", "+xadd")
    await ledger.ping()
    await ledger.aclose()


async def test_a_store_that_takes_no_writes_is_not_ready(server: Server, store: Store, realm: str) -> None:
    """Out of memory, or a replica by now: it answers, and would refuse every request."""
    ledger = RedisLedger(store, realm)
    server.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(LedgerUnavailable, match="OOM"):
            await ledger.ping()
    finally:
        server.call("CONFIG", "SET", "maxmemory", "0")
    server.call("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(LedgerUnavailable, match="READONLY"):
            await ledger.ping()
    finally:
        server.call("REPLICAOF", "NO", "ONE")
    await ledger.ping()
    changes = written(server)
    await ledger.ping()
    assert written(server) == changes
    await ledger.aclose()


@pytest.mark.parametrize("right", ["xadd", "pexpireat", "zrem", "hset", "persist", "zadd", "expire", "hdel"])
async def test_what_is_refused_within_moves_no_money(server: Server, store: Store, realm: str, right: str) -> None:
    """Each script that moves money, tried three times without a right: what it does is whole, and done once."""
    ledger, named = RedisLedger(store, realm, lease=0.001), candidate((RULE, 400), (MANY, 1), worst=400_000)
    for request in ("settled", "beside", "voided", "lapsed", "adjusted", "other", "last"):
        await hold(ledger, request, named)
    await ledger.settle(settlement("adjusted", 200_000))

    async def end_all() -> None:
        cost = settlement("x", 300_000).cost
        for work in (
            asyncio.gather(*(ledger.settle(settlement(each, 300_000)) for each in ("settled", "beside"))),
            ledger.void("voided", 1, "failed"),
            ledger._leases.sweep(),
            ledger.adjust(Adjustment("adjustment", "adjusted", 1, cost, "invoice")),
            ledger.post(Posting("posting", cost, "invoice", {}, {f"{RULE.meter}@total": 300})),
            ledger.choose_and_hold("other", [named], about={}, release=1),
            asyncio.gather(*(ledger.choose_and_hold(each, [named], about={}) for each in ("another", "third"))),
            ledger._leases.give_back(),
        ):
            with contextlib.suppress(LedgerUnavailable):
                await work

    server.call("ACL", "SETUSER", "igw", f"-{right}")
    for _ in range(3):
        await end_all()
    server.call("ACL", "SETUSER", "igw", f"+{right}")
    await end_all()
    for request in ("last", "other", "another", "third"):
        for attempt in range(1, 6):
            await ledger.void(request, attempt, "failed")
    assert [str(each) for each in (await audit(store, realm, thorough=True)).findings] == []
    assert await balances(store, realm) == {f"{RULE.meter}@total": (300 + 300 + 400 + 300 + 300, 0)}
    await ledger.aclose()


@pytest.mark.parametrize(("right", "spent"), [("xadd", 400), ("pexpireat", 400), ("zrem", 300)])
async def test_a_hold_whose_settlement_was_refused_is_ended_by_whoever_comes(
    server: Server, store: Store, realm: str, right: str, spent: int
) -> None:
    """Its gateway is gone for good: another finds it listed and presumes it, unless it was booked in full already."""
    ledger, other = RedisLedger(store, realm, lease=0.001), RedisLedger(store, realm)
    await hold(ledger, "r", candidate((RULE, 400), (MANY, 1), worst=400_000))
    server.call("ACL", "SETUSER", "igw", f"-{right}")
    with contextlib.suppress(LedgerUnavailable):
        await ledger.settle(settlement("r", 300_000))
    server.call("ACL", "SETUSER", "igw", f"+{right}")
    await other._leases.sweep()
    assert await balances(store, realm) == {f"{RULE.meter}@total": (spent, 0)}
    assert [str(each) for each in (await audit(store, realm, thorough=True)).findings] == []
    for each in (ledger, other):
        await each.aclose()


async def test_books_that_cannot_be_right_are_an_error(
    store: Store, realm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A settlement that finds less held than it took says once, as an error, what to run."""
    ledger = RedisLedger(store, realm)
    await hold(ledger, "r", candidate((RULE, 400)))
    await store.execute("HSET", ledger._names.balances, f"{RULE.meter}@total", "0 0")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with pytest.raises(LedgerRefused, match="less is there than was taken"):
                await ledger.settle(settlement("r", 1000))
    [record] = caplog.records
    assert "image-gateway ledger verify" in record.getMessage()
    await ledger.aclose()

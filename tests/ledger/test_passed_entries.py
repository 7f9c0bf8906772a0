"""A clock that was ahead, and a store that came back older: its new entries have ids that its export went past."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from gateway.domain.route import Views
from gateway.domain.settlement import Adjustment, Posting
from gateway.ledger.audit import audit
from gateway.ledger.export import export
from gateway.ledger.names import Names
from gateway.ledger.rebuild import rebuild
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.segments import ExportError
from gateway.ledger.store import Store
from gateway.reporting.recorded import recorded_entries
from tests.ledger.older import Copy, copy
from tests.ledger.rules import balances, budget, candidate, entries, hold, settlement

RULE = budget(1000)
DAY_MS = 86_400_000
ALL = -3 * 86_400.0
"""Keep nothing, not even what is dated ahead."""


class Books:
    """A ledger of which the export, in `folder`, is ahead."""

    def __init__(self, store: Store, realm: str, folder: Path, old: Copy) -> None:
        self.store, self.realm, self.folder, self.old = store, realm, folder, old
        self.stream = Names(realm).entries

    async def book(self, request: str, micro: int, ledger: RedisLedger) -> None:
        """Spend an amount."""
        await hold(ledger, request, candidate((RULE, 100), worst=100_000))
        await ledger.settle(settlement(request, micro * 1000), token=request)

    async def clock_ahead(self, days: int) -> None:
        """Have the newest entry be one of a clock that is ahead."""
        [[entry_id, fields]] = await self.store.execute("XREVRANGE", self.stream, "+", "-", "COUNT", 1)
        flat = [part for pair in fields.items() for part in pair]
        await self.store.execute("XADD", self.stream, f"{int(time.time() * 1000) + days * DAY_MS}-0", *flat)
        await self.store.execute("XDEL", self.stream, entry_id)

    async def agree(self, micro: int) -> None:
        """Balance and report say this much is spent, and nothing is found wrong."""
        found = await audit(self.store, self.realm, export=[self.folder], thorough=True)
        assert [str(finding) for finding in found.findings] == []
        assert await balances(self.store, self.realm) == {f"{RULE.meter}@total": (micro, 0)}
        assert await self.told() == micro * 1000

    async def told(self) -> int:
        """What reports add up, nano-USD."""
        every = [each async for each in recorded_entries(self.store, self.realm, export=[self.folder])]
        return sum(each.cost.route for each in every)


@pytest.fixture
async def books(store: Store, server: str, realm: str, tmp_path: Path) -> Books:
    """10 micro-USD that the older store knows; 1 of when the clock was ahead and 20 of later, in the export too."""
    first = RedisLedger(store, realm)
    books = Books(store, realm, tmp_path, copy(server, realm))
    await books.book("a", 10, first)
    books.old = copy(server, realm)
    await books.book("ahead", 1, first)
    await books.clock_ahead(1)
    await books.book("b", 20, first)
    await first.aclose()
    await export(store, realm, tmp_path)
    return books


async def test_its_own_export_brings_back_what_it_lost(books: Books) -> None:
    """Reports count all of it, the export does not leave the new entry out, and everything goes on afterwards."""
    began = time.time()
    books.old.put_back()
    later = RedisLedger(books.store, books.realm)
    await books.book("c", 40, later)
    assert await books.told() == 71_000
    with pytest.raises(ExportError, match="the store came back older; `ledger rebuild --from` it first"):
        await export(books.store, books.realm, books.folder)
    assert (await rebuild(books.store, books.realm, export=[books.folder])).audit.findings == []
    await books.agree(71)
    [moment] = [each.time for each in await entries(books.store, books.realm) if each.request_id == "c"]
    assert began - 60 < moment.timestamp() < began + 3600
    await books.book("d", 80, later)
    done = await export(books.store, books.realm, books.folder, keep=ALL)
    assert (done.written, done.trimmed) == (2, 3)
    await books.agree(151)
    assert (await rebuild(books.store, books.realm, export=[books.folder])).changes == []
    assert await books.store.execute("TTL", Names(books.realm).request("b")) > 0
    await later.aclose()


async def test_what_it_was_told_again_counts_once(books: Books) -> None:
    """The export has it too, with a higher id; a correction of it and an amount of no request are left as they are."""
    books.old.put_back()
    later = RedisLedger(books.store, books.realm)
    await books.book("b", 20, later)
    await later.post(Posting("p", Views(7_000, 7_000, 7_000), "invoice", {}, {f"{RULE.meter}@total": 7}))
    await books.book("c", 40, later)
    await books.clock_ahead(2)
    await later.adjust(Adjustment("b", "b", 1, Views(15_000, 15_000, 15_000), "invoice"))
    assert (await rebuild(books.store, books.realm, export=[books.folder])).audit.findings == []
    await books.agree(10 + 1 + 15 + 7 + 40)
    assert (await export(books.store, books.realm, books.folder, keep=ALL)).written == 4
    await books.agree(10 + 1 + 15 + 7 + 40)
    await later.aclose()


async def test_a_store_with_nothing_of_an_export_does_not_take_it(books: Books, store: Store) -> None:
    """A ledger that began anew is another one, and stays as it is."""
    await store.execute("FLUSHALL")
    later = RedisLedger(books.store, books.realm)
    await books.book("c", 40, later)
    with pytest.raises(ExportError, match="another ledger"):
        await books.told()
    with pytest.raises(Exception, match="Nothing was changed"):
        await rebuild(books.store, books.realm, export=[books.folder])
    assert await balances(books.store, books.realm) == {f"{RULE.meter}@total": (40, 0)}
    await later.aclose()


async def test_lines_tell_when_an_entry_was_booked(books: Books) -> None:
    """Not the moment of its id, which was ahead; nor does the record of a request that a rebuild brought back."""
    books.old.put_back()
    await rebuild(books.store, books.realm, export=[books.folder])
    [file] = books.folder.glob("entries-*.jsonl")
    first, _, second = (json.loads(line) for line in file.read_text().splitlines())
    assert first["time"] <= second["time"] < time.strftime("%Y-%m-%dT%H:%M:%S.999", time.gmtime())
    record = await books.store.execute("HGET", Names(books.realm).request("b"), "created")
    assert record == second["fields"]["at"]

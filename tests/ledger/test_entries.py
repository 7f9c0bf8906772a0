"""The entry stream: everything that changed what was spent, exactly."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement, Usage
from gateway.ledger.entries import read_entries
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.rules import ABOUT, budget, candidate, contents, entries, hold, settlement


async def test_an_entry_has_all_that_a_report_needs(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Names, figures and amounts of a settlement come back as they were, to the nano-dollar."""
    rule, cost = budget(2**52), Views(2_110_000_001, 999_999_999_999_999, 3)
    await hold(ledger, "r", candidate((rule, 5), route="a/b", worst=4_000_000_007))
    usage = Usage(text_in=3, image_out=7)
    await ledger.settle(Settlement("r", 1, cost, CostSource.USAGE, 2, usage, {"quality": "high", "size": "1x1"}))
    [entry] = await entries(store, realm)
    assert (entry.kind, entry.request_id, entry.attempt, entry.source) == ("settle", "r", 1, "usage")
    assert (entry.project, entry.key, entry.job_type, entry.operation) == ("p", "key_1", "hero", "generate")
    assert (entry.route, entry.model, entry.provider) == ("a/b", "m", "v")
    assert (entry.n, entry.images, entry.quality, entry.size) == (1, 2, "high", "1x1")
    assert (entry.cost, entry.worst) == (cost, Views(4_000_000_007, 4_000_000_007, 4_000_000_007))
    assert entry.usage is not None
    assert (entry.usage["text_in"], entry.usage["image_out"]) == (3, 7)
    assert entry.tags == {"team": "web"}
    assert entry.lines == {f"{rule.meter}@total": 1_000_000_000_000}
    assert abs(entry.time - datetime.now(UTC)) < timedelta(minutes=5)


async def test_a_correction_carries_the_difference(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Presumed first and known later, the entries of a request add up to the truth in every view."""
    await hold(ledger, "r", candidate((budget(1000), 100), worst=100_000))
    guess = Settlement("r", 1, Views(100_000, 90_000, 80_000), CostSource.PRESUMED, 0, None, {"reason": "timeout"})
    await ledger.settle(guess)
    await ledger.settle(Settlement("r", 1, Views(100_001, 60_001, 80_000), CostSource.REPORTED, 3))
    first, second = await entries(store, realm)
    assert (first.kind, first.images, first.answer) == ("presume", 0, {"reason": "timeout"})
    assert (second.kind, second.images, second.source) == ("correct", 3, "reported")
    assert second.cost == Views(1, -29_999, 0)
    assert list(first.lines.values()) + list(second.lines.values()) == [90, -29]


async def test_pages_and_bounds(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Reading in small pages gives every entry once, in order; `since` is included and `until` is not."""
    rule = budget(10**9)
    for i in range(25):
        await hold(ledger, f"r{i}", candidate((rule, 1)))
        await ledger.settle(settlement(f"r{i}", i))
    read = [entry async for entry in read_entries(store, realm, page=4)]
    assert [entry.request_id for entry in read] == [f"r{i}" for i in range(25)]
    since, until = read[5].time, read[20].time
    part = [entry async for entry in read_entries(store, realm, since=since, until=until, page=3)]
    assert part == [entry for entry in read if since <= entry.time < until]
    assert [entry async for entry in read_entries(store, realm, since=until + timedelta(days=1))] == []
    for past in (datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)):
        assert [entry async for entry in read_entries(store, realm, since=past)] == read
        assert [entry async for entry in read_entries(store, realm, until=past)] == []


async def test_voids_leave_no_entry(ledger: RedisLedger, store: Store, realm: str) -> None:
    """What cost nothing is in the request's record, not in the stream."""
    await hold(ledger, "r", candidate((budget(10), 1)))
    await ledger.void("r", 1, "refused")
    assert await entries(store, realm) == []


async def test_hostile_text_comes_back_as_it_was(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Quotes, newlines, lone surrogates and braces in tags neither break the record nor the stream."""
    about = ABOUT | {"tags": {'a"\n': "}{\u2028\ud800\x00'"}}
    await ledger.choose_and_hold("r", [candidate((budget(10), 1))], about=about)
    await ledger.settle(settlement("r", 1))
    [entry] = await entries(store, realm)
    record = await ledger.request("r")
    assert record is not None
    assert json.dumps(entry.tags) == json.dumps(about["tags"])
    assert json.dumps(record["about"]) == json.dumps(about)
    assert len(await contents(store, realm)) == 4

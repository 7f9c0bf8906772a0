"""The entry stream: everything that changed what was spent, exactly."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.route import Views
from gateway.domain.settlement import Adjustment, CostSource, Posting, Settlement, Usage
from gateway.ledger.audit import audit
from gateway.ledger.clock import warn_if_ahead
from gateway.ledger.entries import read_entries
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.stream import raw_page
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


async def booked_while_ahead(store: Store, realm: str, days: int) -> None:
    """Book the first entry once more, as a store does whose clock is that far ahead: ids never go back from there."""
    key = Names(realm).entries
    [(_, fields)] = await raw_page(store, key, "-", "+", 1)
    ahead = datetime.now(UTC) + timedelta(days=days)
    pairs = [part for pair in fields.items() for part in pair]
    await store.execute("XADD", key, f"{round(ahead.timestamp() * 1000)}-0", *pairs)


async def test_entries_after_a_clock_that_was_ahead_say_when_they_were_booked(
    ledger: RedisLedger, store: Store, realm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever books them, they have the date of the day, and reports of that day have them."""
    rule = budget(10**9)
    for request in ("first", "settled", "voided", "lapsed", "adjusted"):
        await hold(ledger, request, candidate((rule, 100), worst=100_000))
    await ledger.settle(settlement("first", 100_000))
    await ledger.settle(settlement("voided", 100_000, source=CostSource.PRESUMED))
    await ledger.settle(settlement("adjusted", 100_000))
    await warn_if_ahead(store, realm)
    assert "ahead" not in caplog.text + "".join((await audit(store, realm)).notes)
    await booked_while_ahead(store, realm, 400)

    await ledger.settle(settlement("settled", 100_000))
    await ledger.void("voided", 1, "failed")
    await store.execute("ZADD", Names(realm).due, 1, "lapsed:1")
    await ledger._leases.sweep()
    await ledger.settle(settlement("lapsed", 70_000))
    await ledger.adjust(Adjustment("a", "adjusted", 1, Views(90_000, 90_000, 90_000), "invoice"))
    await ledger.post(Posting("p", Views(1, 1, 1), "invoice"))
    booked = await entries(store, realm)
    assert [each.kind for each in booked[4:]] == ["settle", "correct", "presume", "correct", "adjust", "adjust"]
    now, hour = datetime.now(UTC), timedelta(hours=1)
    assert [abs(each.time - now) < hour for each in booked] == [True] * 3 + [False] + [True] * 6
    of_today = [each async for each in read_entries(store, realm, since=now - hour, until=now + hour, page=2)]
    assert of_today == booked[:3] + booked[4:]
    assert [each async for each in read_entries(store, realm, until=now - hour)] == []
    assert [each async for each in read_entries(store, realm, since=now + hour)] == [booked[3]]

    with caplog.at_level(logging.WARNING):
        await warn_if_ahead(store, realm)
    assert "the store's clock was ahead" in caplog.text
    assert any("the store's clock was ahead" in note for note in (await audit(store, realm)).notes)


async def test_holds_that_were_presumed_and_given_back_under_such_a_clock(
    ledger: RedisLedger, store: Store, realm: str
) -> None:
    """The correction that taking another hold in its place books has its date too."""
    offer = candidate((budget(10**9), 100), worst=100_000)
    await hold(ledger, "r", offer)
    await ledger.settle(settlement("r", 100_000, source=CostSource.PRESUMED))
    await booked_while_ahead(store, realm, 400)
    await ledger.choose_and_hold("r", [offer], about=ABOUT, release=1)
    *_, correction = await entries(store, realm)
    assert correction.kind == "correct"
    assert abs(correction.time - datetime.now(UTC)) < timedelta(hours=1)

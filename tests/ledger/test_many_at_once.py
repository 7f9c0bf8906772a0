"""Holds and settlements that go in one script call: each comes out as if it had come alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from gateway.domain.budget import Denied, Held
from gateway.domain.idempotency import Binding, Bound
from gateway.domain.settlement import CostSource, Settlement, SettleResult
from gateway.ledger import hold_candidates, script
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.line import Told
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.rules import (
    ABOUT,
    balances,
    budget,
    candidate,
    concurrent,
    contents,
    entries,
    hold,
    images,
    settlement,
    spent_by_entries,
)

RULE, COUNT, LIVE = budget(1000), images(7), concurrent(50)


@pytest.fixture
def sent(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str | int]]:
    """Every command that goes together with others, or could."""
    commands: list[Sequence[str | int]] = []
    ask = store.ask

    def watched(asked: Sequence[Sequence[str | int]], told: Told) -> None:
        commands.extend(asked)
        ask(asked, told)

    monkeypatch.setattr(store, "ask", watched)
    return commands


def scripts(sent: Sequence[Sequence[str | int]]) -> list[tuple[str, int]]:
    """The scripts that were sent, and how many each call did."""
    one, two = script.HOLD, script.HOLD_IN_PLACE
    names = {one.sha: "hold", two.sha: "hold", script.SETTLE.sha: "settle", script.VOID.sha: "void"}
    return [(names[str(words[1])], sum(":req:" in str(word) for word in words)) for words in sent]


async def warm(ledger: RedisLedger) -> None:
    """Have the store know the scripts, so that nothing is run by itself for that."""
    await hold(ledger, "warm", candidate((RULE, 0)))
    await ledger.settle(settlement("warm", 0))


async def test_as_many_are_held_as_fit(
    ledger: RedisLedger, store: Store, realm: str, sent: list[Sequence[str | int]]
) -> None:
    """Thirty ask in one call for what suffices for seven: the first seven have it, the rest hear what is in the way."""
    await warm(ledger)
    sent.clear()
    offer = candidate((RULE, 10), (COUNT, 1), (LIVE, 1))
    answers = await asyncio.gather(*(ledger.choose_and_hold(f"r{n}", [offer], about=ABOUT) for n in range(30)))
    assert scripts(sent) == [("hold", 30)]
    assert [type(answer) for answer in answers] == [Held] * 7 + [Denied] * 23
    taken = [answer for answer in answers if isinstance(answer, Held)]
    assert [each.figures[0] for each in taken] == [990, 980, 970, 960, 950, 940, 930]
    assert [each.figures[2] for each in taken] == [6, 5, 4, 3, 2, 1, 0]
    assert [each.attempt for each in taken] == [1] * 7
    refused = answers[7]
    assert isinstance(refused, Denied)
    assert [(each.line.rule, each.used) for each in refused.obstacles[0]] == [(COUNT, 7)]
    assert await balances(store, realm) == {f"{RULE.meter}@total": (0, 70)}


async def test_all_are_settled_each_at_its_own_cost(
    ledger: RedisLedger, store: Store, realm: str, sent: list[Sequence[str | int]]
) -> None:
    """Twenty end in one call; a void between them goes by itself, and every one has its entry and its record."""
    await warm(ledger)
    for n in range(20):
        await hold(ledger, f"r{n}", candidate((RULE, 10), (LIVE, 1)))
    sent.clear()
    ends = [ledger.settle(settlement(f"r{n}", n * 1000)) for n in range(19)]
    results = await asyncio.gather(*ends, ledger.void("r19", 1, "refused"))
    assert results == [SettleResult.DONE] * 20
    assert scripts(sent) == [("settle", 19), ("void", 1)]
    assert await balances(store, realm) == {f"{RULE.meter}@total": (sum(range(19)), 0)}
    assert (await spent_by_entries(store, realm))[f"{RULE.meter}@total"] == sum(range(19))
    assert [entry.request_id for entry in await entries(store, realm)][1:] == [f"r{n}" for n in range(19)]
    record = await ledger.request("r18")
    assert record is not None
    assert [attempt["state"] for attempt in record["attempts"]] == ["settled"]


async def test_a_malformed_one_stops_no_other(ledger: RedisLedger, store: Store, realm: str) -> None:
    """The call in which it came does nothing at all; then each is run by itself, and only that one is refused."""
    await warm(ledger)
    await store.execute("HSET", ledger._names.balances, images(9, 7).meter, "junk")
    offers = [candidate((RULE, 1)), candidate((RULE, 1), (images(9, 7), 1)), candidate((RULE, 1))]
    holds = [ledger.choose_and_hold(f"r{n}", [offer], about=ABOUT) for n, offer in enumerate(offers)]
    answers = await asyncio.gather(*holds, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Held, LedgerRefused, Held]
    assert await balances(store, realm) == {f"{RULE.meter}@total": (0, 2)}
    ends = [settlement("r0", 1000), settlement("r2", 2**53), settlement("unknown", 1000)]

    async def settle(each: Settlement) -> SettleResult:
        return await ledger.settle(each)

    results = await asyncio.gather(*map(settle, ends), return_exceptions=True)
    assert results[0] is SettleResult.DONE
    assert isinstance(results[1], ValueError)
    assert results[2] is SettleResult.GONE
    assert await balances(store, realm) == {f"{RULE.meter}@total": (1, 1)}


async def test_two_of_one_name_or_request_never_go_in_one_call(
    ledger: RedisLedger, sent: list[Sequence[str | int]]
) -> None:
    """Of two that a binding parts the second must find what the first wrote; so must two settlements of one hold."""
    await warm(ledger)
    sent.clear()
    binding, offer = Binding("a" * 64, "1" * 64), candidate((RULE, 10))
    first, second, third = await asyncio.gather(
        ledger.choose_and_hold("a", [offer], about=ABOUT, binding=binding),
        ledger.choose_and_hold("b", [offer], about=ABOUT, binding=binding),
        ledger.choose_and_hold("c", [offer], about=ABOUT, binding=Binding("b" * 64, "1" * 64)),
    )
    assert isinstance(first, Held)
    assert second == Bound("a", same=True)
    assert isinstance(third, Held)
    assert scripts(sent) == [("hold", 1), ("hold", 2)]
    sent.clear()
    ends = [settlement("a", 1000), settlement("c", 2000), settlement("a", 3000)]
    results = await asyncio.gather(*map(ledger.settle, ends))
    assert results == [SettleResult.DONE, SettleResult.DONE, SettleResult.SAME]
    assert scripts(sent) == [("settle", 2), ("settle", 1)]


async def test_what_gives_back_goes_alone(
    ledger: RedisLedger, store: Store, realm: str, sent: list[Sequence[str | int]]
) -> None:
    """A hold in place of an earlier one undoes in memory what it may not write; so it shares its call with nobody."""
    await warm(ledger)
    await hold(ledger, "a", candidate((RULE, 600)))
    sent.clear()

    async def instead(request: str, amount: int, release: int | None, *, only_if_held: bool) -> Held | Denied | Bound:
        offer = candidate((RULE, amount))
        return await ledger.choose_and_hold(request, [offer], about=ABOUT, release=release, only_if_held=only_if_held)

    answers = await asyncio.gather(
        instead("b", 100, None, only_if_held=False),
        instead("a", 901, 1, only_if_held=True),
        instead("c", 200, None, only_if_held=False),
        instead("d", 101, None, only_if_held=True),
    )
    assert [type(answer) for answer in answers] == [Held, Denied, Held, Denied]
    assert sorted(scripts(sent)) == [("hold", 1), ("hold", 3)]
    assert await balances(store, realm) == {f"{RULE.meter}@total": (0, 900)}


async def test_the_script_refuses_to_give_back_among_others(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Whoever asked for that would have the next one judged by room that is not there."""
    await hold(ledger, "a", candidate((RULE, 600)))
    before = await contents(store, realm)
    names, offered = ledger._names, hold_candidates.offer_arg(candidate((RULE, 1)))
    keys = [names.meta, names.balances, names.due, names.entries, names.request("a"), names.request("b")]
    args = [await ledger.open(), "60", "60"]
    for request, release in (("a", "1"), ("b", "")):
        args += [f"token {request}", request, f"sent,30000,0,{release},,,,", "{}", offered]
    for what in (script.HOLD, script.HOLD_IN_PLACE):
        with pytest.raises(LedgerRefused, match="goes alone"):
            await ledger._calls.write("renew", what, keys, args)
    with pytest.raises(LedgerRefused, match="goes alone"):  # by the script of plain holds nothing is ever given back
        await ledger._calls.write("renew", script.HOLD, keys[:-1], args[:8])
    assert await contents(store, realm) == before


async def test_a_settlement_is_done_though_nobody_waits(ledger: RedisLedger, store: Store, realm: str) -> None:
    """Whoever asked for it is gone before it was sent, and the store does not know the script: it is booked."""
    await hold(ledger, "a", candidate((RULE, 10)))
    await store.execute("SCRIPT", "FLUSH")
    asked = asyncio.create_task(ledger.settle(settlement("a", 4000)))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await ledger._calls.wait()
    assert await balances(store, realm) == {f"{RULE.meter}@total": (4, 0)}


async def test_the_same_offer_and_others_like_it_each_take_their_own(
    ledger: RedisLedger, store: Store, realm: str, sent: list[Sequence[str | int]]
) -> None:
    """Of many in one call that are offered the same each takes it anew, and what differs in one amount is another."""
    await warm(ledger)
    sent.clear()
    wide = images(100)  # counts in the same cell as COUNT, which is taken once, at the larger amount
    same, other = candidate((RULE, 10), (COUNT, 1), (wide, 3)), candidate((RULE, 20), (LIVE, 1))
    offers = [same, other, same, same, other, same]
    answers = await asyncio.gather(
        *(ledger.choose_and_hold(f"r{n}", [offer], about=ABOUT) for n, offer in enumerate(offers))
    )
    assert scripts(sent) == [("hold", 6)]
    assert [type(answer) for answer in answers] == [Held] * 5 + [Denied]  # at 9 of 7 no other one passes
    records = [await ledger.request(f"r{n}") for n in range(5)]
    taken = [[line["amount"] for line in record["attempts"][0]["lines"]] for record in records if record]
    assert taken == [[10, 3], [20, 1], [10, 3], [10, 3], [20, 1]]
    assert await balances(store, realm) == {f"{RULE.meter}@total": (0, 70)}
    sent.clear()
    await asyncio.gather(*(ledger.settle(settlement(f"r{n}", (n + 1) * 1000)) for n in range(5)))
    assert scripts(sent) == [("settle", 5)]
    assert await balances(store, realm) == {f"{RULE.meter}@total": (15, 0)}
    assert (await spent_by_entries(store, realm))[f"{RULE.meter}@total"] == 15


async def test_what_ends_alike_is_booked_once_for_each(
    ledger: RedisLedger, store: Store, realm: str, sent: list[Sequence[str | int]]
) -> None:
    """Of many in one call that end at one cost each gives back what it has held, be that other lines, or presumed."""
    await warm(ledger)
    offers = [candidate((RULE, 10)), candidate((RULE, 20), (LIVE, 1))]
    for n in range(7):
        await hold(ledger, f"r{n}", offers[n % 2])
    await ledger.settle(settlement("r6", 9000, source=CostSource.PRESUMED))
    sent.clear()
    results = await asyncio.gather(*(ledger.settle(settlement(f"r{n}", 4000)) for n in range(7)))
    assert scripts(sent) == [("settle", 7)]
    assert results == [SettleResult.DONE] * 6 + [SettleResult.LATE]
    assert await balances(store, realm) == {f"{RULE.meter}@total": (28, 0)}
    assert (await spent_by_entries(store, realm))[f"{RULE.meter}@total"] == 28
    assert [balance.held for balance in await ledger.balances([LIVE])] == [0]
    kept = [await store.execute("HGET", ledger._names.request(f"r{n}"), "e1") for n in (0, 1, 6)]
    assert [json.loads(end)["booked"] for end in kept] == [["4"], ["4", "0"], ["4"]]


async def test_each_of_many_that_held_and_cost_the_same_is_paid_for(
    ledger: RedisLedger, store: Store, realm: str, sent: list[Sequence[str | int]]
) -> None:
    """They share what is written of them, and no cost: five of 4 are 20, and all five holds are free again."""
    await warm(ledger)
    for n in range(5):
        await hold(ledger, f"r{n}", candidate((RULE, 10), (LIVE, 1)))
    sent.clear()
    results = await asyncio.gather(*(ledger.settle(settlement(f"r{n}", 4000)) for n in range(5)))
    assert (scripts(sent), set(results)) == ([("settle", 5)], {SettleResult.DONE})
    assert await balances(store, realm) == {f"{RULE.meter}@total": (20, 0)}
    assert (await spent_by_entries(store, realm))[f"{RULE.meter}@total"] == 20
    assert [balance.held for balance in await ledger.balances([LIVE])] == [0]


async def test_one_that_was_held_before_comes_among_new_ones(
    ledger: RedisLedger, store: Store, realm: str, sent: list[Sequence[str | int]]
) -> None:
    """Its answer was lost, and it is asked again in a call with others: it hears of its hold, they have theirs."""
    await warm(ledger)
    offer = candidate((RULE, 10), (COUNT, 1))
    first = await ledger.choose_and_hold("r1", [offer], about=ABOUT, token="told")
    sent.clear()
    answers = await asyncio.gather(
        *(ledger.choose_and_hold(f"r{n}", [offer], about=ABOUT, token="told" if n == 1 else None) for n in range(3))
    )
    assert scripts(sent) == [("hold", 3)]
    assert all(isinstance(answer, Held) and answer.attempt == 1 for answer in (first, *answers))
    assert [answer.figures[0] for answer in answers if isinstance(answer, Held)] == [980, 980, 970]
    assert await balances(store, realm) == {f"{RULE.meter}@total": (0, 30)}

"""Many candidates: a few are offered at first, and all of them where none of the few was taken."""

from __future__ import annotations

from gateway.domain.budget import Held, Pressure, Scope
from gateway.ledger.hold_candidates import FEW, WARY, FirstChoiceStats
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.rules import ABOUT, budget, candidate, denied, hold

COUNT = 200
ROOM = budget(100, scope=Scope(route="room"))
FULL = budget(1, scope=Scope(route="full"))


async def test_a_route_far_down_is_taken_in_one_more_call(ledger: RedisLedger, store: Store) -> None:
    """Where all before it are full the last of 200 is held on, by three calls of the script, and nothing else is."""
    await hold(ledger, "first", candidate((ROOM, 1)))
    before = await _calls(store)
    answer = await hold(ledger, "far", *[candidate((FULL, 2))] * (COUNT - 1), candidate((ROOM, 5)))
    assert (answer.index, answer.attempt) == (COUNT - 1, 1)
    assert await _calls(store) - before == 3
    assert [balance.held for balance in await ledger.balances([ROOM, FULL])] == [6, 0]
    before = await _calls(store)
    await hold(ledger, "near", *[candidate((ROOM, 1))] * COUNT)
    assert await _calls(store) - before == 1


async def test_a_route_that_was_full_is_offered_with_others(ledger: RedisLedger, store: Store) -> None:
    """The first candidate goes alone while it is taken; once it was not, a few go together until it long was again."""
    await hold(ledger, "first", candidate((ROOM, 1)))
    both = [candidate((FULL, 1)), *[candidate((ROOM, 1))] * (FEW - 1)]
    calls, taken = [], []
    for number in range(4):
        before = await _calls(store)
        taken.append((await hold(ledger, f"r{number}", *both)).index)
        calls.append(await _calls(store) - before)
    assert (taken, calls) == ([0, 1, 1, 1], [1, 2, 1, 1])

    firsts, full = FirstChoiceStats(), candidate((FULL, 1)).route
    firsts.told(full, ["DENIED"])
    for _ in range(WARY):
        assert firsts.few(full) == FEW
        firsts.told(full, ["HELD", 0, 1])
    assert firsts.few(full) == 1
    firsts.told(full, ["BOUND", "another", 1])
    assert firsts.few(full) == 1


async def test_a_denial_tells_of_all_candidates(ledger: RedisLedger) -> None:
    """What stands in the way of each of 200 is told, in order."""
    refused = await denied(ledger, "r", *[candidate((FULL, 2 + number)) for number in range(COUNT)])
    assert [way[0].line.amount for way in refused.obstacles] == list(range(2, COUNT + 2))


async def test_the_ladder_goes_on_where_the_few_ended(ledger: RedisLedger) -> None:
    """A range far down is opened by a refusal among the first few."""
    dear = [candidate((ROOM, 101))] * FEW
    cheap = candidate((ROOM, 10))
    lower = type(cheap)(cheap.route, cheap.lines, cheap.facts, Pressure(at_least=8000))
    answer = await hold(ledger, "r", *dear, lower)
    assert answer.index == FEW


async def test_an_attempt_is_given_back_once_all_are_judged(ledger: RedisLedger) -> None:
    """The earlier attempt's money counts for a route far down, and comes back if there is none."""
    await hold(ledger, "r", candidate((ROOM, 100)))
    far = [*[candidate((FULL, 2))] * FEW, candidate((ROOM, 60))]
    answer = await ledger.choose_and_hold("r", far, about=ABOUT, release=1)
    assert isinstance(answer, Held)
    assert (answer.index, answer.attempt) == (FEW, 2)
    await ledger.choose_and_hold("r", [candidate((FULL, 2))] * (FEW + 1), about=ABOUT, release=2)
    assert [balance.held for balance in await ledger.balances([ROOM])] == [0]


async def test_the_same_token_again_finds_a_hold_far_down(ledger: RedisLedger) -> None:
    """A hold on the last of many that is asked for twice is one."""
    offers = [*[candidate((FULL, 2))] * (COUNT - 1), candidate((ROOM, 5))]
    both = [await ledger.choose_and_hold("r", offers, about=ABOUT, token="t") for _ in range(2)]
    assert [(each.index, each.attempt) for each in both if isinstance(each, Held)] == [(COUNT - 1, 1)] * 2
    assert [balance.held for balance in await ledger.balances([ROOM])] == [5]


async def _calls(store: Store) -> int:
    """How many scripts the store has run."""
    told = await store.execute("INFO", "commandstats")
    assert isinstance(told, dict)
    return sum(int(told[name]["calls"]) for name in ("cmdstat_eval", "cmdstat_evalsha") if name in told)

"""Pressure: which candidate a budget's use lets in, exactly, at once with everything else that a hold checks."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest

from gateway.domain.budget import Budget, Candidate, Denied, Held, Pressure, Quota, Scope, Window
from gateway.domain.money import MAX_MICRO
from gateway.ledger import wire
from gateway.ledger.redis_ledger import RedisLedger, operation_token
from gateway.ledger.store import Store
from tests.ledger.rules import ABOUT, budget, candidate, concurrent, denied, hold, images, settlement

STEPS = (Pressure(0, 8_000), Pressure(8_000, 9_500), Pressure(9_500))


def rung(number: int, *lines: tuple[Budget | Quota, int], route: str = "r") -> Candidate:
    """A candidate of one rung of the ladder: from 0, from 80 % and from 95 % on."""
    return replace(candidate(*lines, route=route), pressure=STEPS[number])


def ladder(rule: Budget, *amounts: int) -> list[Candidate]:
    """The same budget on each rung, at its own price."""
    return [rung(number, (rule, amount)) for number, amount in enumerate(amounts)]


async def use(ledger: RedisLedger, rule: Budget, micro: int) -> None:
    """Spend so much of a budget."""
    if micro:
        name = f"used{operation_token()}"
        await hold(ledger, name, candidate((rule, micro)))
        await ledger.settle(settlement(name, micro * 1000))


@pytest.mark.parametrize(
    ("used", "chosen"),
    [
        pytest.param(0, 0, id="0 %"),
        pytest.param(7_900, 0, id="79 %"),
        pytest.param(7_999, 0, id="just below 80 %"),
        pytest.param(8_000, 1, id="80 %"),
        pytest.param(9_499, 1, id="just below 95 %"),
        pytest.param(9_500, 2, id="95 %"),
        pytest.param(9_998, 2, id="99.98 %"),
    ],
)
@pytest.mark.parametrize("held", [False, True], ids=["spent", "held"])
async def test_the_rung_is_that_of_the_share_used_before(
    ledger: RedisLedger, used: int, chosen: int, held: bool
) -> None:
    """From the first micro-USD of a step on its candidate is taken, and never one of another step."""
    rule = budget(10_000)
    if held and used:
        await hold(ledger, "before", candidate((rule, used)))
    else:
        await use(ledger, rule, used)
    assert (await hold(ledger, "r", *ladder(rule, 2, 2, 2))).index == chosen


async def test_a_used_up_budget_has_no_rung_left(ledger: RedisLedger) -> None:
    """At 100 % all are refused, each with the budget in its way; what costs nothing passes on the last one."""
    rule = budget(10_000)
    await use(ledger, rule, 10_000)
    refused = await denied(ledger, "r", *ladder(rule, 3, 2, 1))
    assert [[(each.used, each.line.amount) for each in way] for way in refused.obstacles] == [
        [(10_000, 3)],
        [(10_000, 2)],
        [(10_000, 1)],
    ]
    assert (await hold(ledger, "free", *ladder(rule, 0, 0, 0))).index == 2


async def test_money_alone_opens_a_higher_rung_early(ledger: RedisLedger) -> None:
    """Where the first rung's picture does not fit any more, a smaller one does, although its share is not reached."""
    rule = budget(10_000)
    await use(ledger, rule, 7_000)
    assert (await hold(ledger, "r", *ladder(rule, 3_001, 3_000, 1))).index == 1
    await ledger.void("r", 1, "test")
    assert (await hold(ledger, "s", *ladder(rule, 3_001, 3_001, 3_000))).index == 2


async def test_a_full_route_degrades_nothing(ledger: RedisLedger) -> None:
    """A quota in the way of the first rung does not open the next: it is passed over without a word."""
    rule, full = budget(10_000), concurrent(0, scope=Scope(route="full"))
    refused = await denied(ledger, "r", rung(0, (rule, 1), (full, 1)), rung(1, (rule, 1)), rung(2, (rule, 1)))
    assert [len(way) for way in refused.obstacles] == [1, 0, 0]
    assert refused.obstacles[0][0].line.rule == full


async def test_a_full_route_at_one_step_does_not_open_the_step_above(ledger: RedisLedger) -> None:
    """At 82 % the second rung is right, and waited for if it is full; the third begins at 95 %."""
    rule, full = budget(10_000), concurrent(0, scope=Scope(route="full"))
    await use(ledger, rule, 8_200)
    refused = await denied(ledger, "r", rung(0, (rule, 1)), rung(1, (rule, 1), (full, 1)), rung(2, (rule, 1)))
    assert [[each.line.rule for each in way] for way in refused.obstacles] == [[rule], [full], []]


async def test_money_opens_the_next_rung_even_where_a_quota_is_full_too(ledger: RedisLedger) -> None:
    """What money refuses anyway is not hidden by a limit that happens to be full at the same moment."""
    rule, full = budget(10_000), concurrent(0, scope=Scope(route="full"))
    answer = await hold(ledger, "r", rung(0, (rule, 10_001), (full, 1)), rung(1, (rule, 5_000)))
    assert answer.index == 1


async def test_no_room_opens_all_rungs_also_beyond_one_whose_share_is_used(ledger: RedisLedger) -> None:
    """At 60 % the one in between has had its share, and the smallest picture fits, though it begins at 90 %."""
    rule = budget(10_000)
    await use(ledger, rule, 6_000)
    offers = [(4_001, Pressure(0)), (10, Pressure(0, 5_000)), (10, Pressure(9_000))]
    answer = await hold(ledger, "r", *(replace(candidate((rule, price)), pressure=step) for price, step in offers))
    assert answer.index == 2


async def test_without_a_rung_above_a_request_with_room_is_refused_with_the_budget(ledger: RedisLedger) -> None:
    """Whoever forbids the change is told which budget is used so far, though the request itself would fit."""
    rule, other = budget(10_000, Window.DAY), budget(10_000, scope=Scope(project="p"))
    await use(ledger, rule, 8_200)
    await use(ledger, other, 8_100)
    await hold(ledger, "held", candidate((rule, 100)))
    refused = await denied(ledger, "r", rung(0, (other, 5), (images(9), 1), (rule, 5)))
    [[obstacle]] = refused.obstacles
    assert (obstacle.line.rule, obstacle.used, obstacle.held) == (rule, 8_200, 100)
    assert 0 < obstacle.wait <= 86_400


async def test_any_of_its_budgets_may_press(ledger: RedisLedger) -> None:
    """The largest share counts, whichever budget has it; quotas, however full, do not press."""
    month, team = budget(10**9, Window.MONTH), budget(100, scope=Scope(project="p"))
    quota = images(100)
    await hold(ledger, "a", candidate((team, 80), (quota, 98)))
    offers = [rung(number, (month, 1), (team, 1), (quota, 1)) for number in range(3)]
    assert (await hold(ledger, "r", *offers)).index == 1


async def test_each_candidate_goes_by_its_own_budgets(ledger: RedisLedger) -> None:
    """A route whose own budget is nearly used up does not degrade another one, which stands beside it."""
    own = budget(100, scope=Scope(route="a"))
    await use(ledger, own, 90)
    answer = await hold(ledger, "r", rung(0, (own, 1), route="a"), rung(0, route="b"), rung(1, (own, 1), route="a"))
    assert answer.index == 1


async def test_a_rung_on_another_route_is_reached_by_the_budgets_of_those_before_it(ledger: RedisLedger) -> None:
    """From 80 % of a route's own budget on another route serves, though that one's budgets are hardly used."""
    own, else_ = budget(100, scope=Scope(route="a")), budget(100, scope=Scope(route="b"))
    await use(ledger, own, 85)
    assert (await hold(ledger, "r", rung(0, (own, 1), route="a"), rung(1, (else_, 1), route="b"))).index == 1
    await use(ledger, own, 11)
    refused = await denied(ledger, "s", rung(0, (own, 1), route="a"), rung(2, (else_, 1), route="b"))
    assert [len(way) for way in refused.obstacles] == [1, 0]


async def test_without_any_budget_nothing_presses(ledger: RedisLedger) -> None:
    """Use is nothing then: the first rung stands for ever."""
    assert (await hold(ledger, "r", rung(0), rung(1))).index == 0
    refused = await denied(ledger, "s", rung(0, (concurrent(0), 1)), rung(1))
    assert [len(way) for way in refused.obstacles] == [1, 0]


async def test_what_is_released_in_the_same_step_does_not_press(ledger: RedisLedger) -> None:
    """A fallback is judged by what is used without the attempt that it replaces."""
    rule = budget(10_000)
    await hold(ledger, "r", candidate((rule, 8_500)))
    answer = await ledger.choose_and_hold("r", ladder(rule, 1, 1, 1), about=ABOUT, release=1)
    assert isinstance(answer, Held)
    assert (answer.index, answer.attempt) == (0, 2)


async def test_the_same_hold_again_returns_the_same_rung(ledger: RedisLedger) -> None:
    """A repeat whose first answer was lost is not pressed by its own hold."""
    rule, token = budget(10_000), operation_token()
    offers = ladder(rule, 9_000, 100, 1)
    first = await ledger.choose_and_hold("r", offers, about=ABOUT, token=token)
    assert isinstance(first, Held)
    assert first.index == 0
    assert await ledger.choose_and_hold("r", offers, about=ABOUT, token=token) == first


async def test_a_hold_with_pressure_can_be_put_back(ledger: RedisLedger, store: Store, realm: str) -> None:
    """A store that lost it is told again, whatever the use is then."""
    rule = budget(10_000)
    answer = await hold(ledger, "r", *ladder(rule, 9_000, 100, 1))
    record = ledger.record_of("r", answer.attempt)
    assert record is not None
    await store.execute("DEL", f"igw:{{{realm}}}:bal", f"igw:{{{realm}}}:req:r", f"igw:{{{realm}}}:due")
    await ledger.put_back(record)
    [balance] = await ledger.balances([rule])
    assert balance.held == 9_000


@pytest.mark.parametrize("limit", [MAX_MICRO, MAX_MICRO - 1, MAX_MICRO - 4_321, 2**40 + 9_999, 10_001, 9_999, 7, 3, 1])
@pytest.mark.parametrize("points", [1, 3_333, 8_000, 9_999, 10_000])
async def test_a_step_is_exact_to_the_micro_usd(ledger: RedisLedger, limit: int, points: int) -> None:
    """One micro-USD below the share the lower rung holds, on it the upper, for limits up to 2^52."""
    first = -(-limit * points // 10_000)
    ranges = (Pressure(0, points), Pressure(points))
    for number, used in enumerate((first - 1, first)):
        rule = budget(limit, scope=Scope(project=f"p{number}"))
        await hold(ledger, f"before{number}", candidate((rule, used)))
        offers = [replace(candidate((rule, 0)), pressure=pressure) for pressure in ranges]
        assert (await hold(ledger, f"r{number}", *offers)).index == number


async def test_a_limit_of_zero_is_used_up(ledger: RedisLedger) -> None:
    """Nothing of it is nothing less than all of it."""
    assert (await hold(ledger, "r", *ladder(budget(0), 0, 0, 0))).index == 2


async def test_a_new_window_begins_at_the_first_rung(ledger: RedisLedger, store: Store, realm: str) -> None:
    """What was spent in another day counts for nothing."""
    rule = budget(10_000, Window.DAY)
    await use(ledger, rule, 9_000)
    assert (await hold(ledger, "r", *ladder(rule, 1, 1, 1))).index == 1
    balances = f"igw:{{{realm}}}:bal"
    [cell] = [field for field in await store.execute("HKEYS", balances) if field.startswith(rule.meter)]
    await store.execute("HSET", balances, f"{rule.meter}@2020-01-01", await store.execute("HGET", balances, cell))
    await store.execute("HDEL", balances, cell)
    assert (await hold(ledger, "s", *ladder(rule, 1, 1, 1))).index == 0


def test_a_candidate_without_pressure_is_sent_as_ever() -> None:
    """Policies without a ladder cost not a byte more."""
    plain = candidate((budget(5), 1))
    assert len(json.loads(wire.candidate_arg(plain))) == 3
    assert json.loads(wire.candidate_arg(replace(plain, pressure=Pressure(8_000))))[3] == ["8000", ""]
    assert json.loads(wire.candidate_arg(replace(plain, pressure=Pressure(0, 8_000))))[3] == ["0", "8000"]


@pytest.mark.parametrize("wrong", [Pressure(-1), Pressure(10_001), Pressure(0, 10_001)])
async def test_a_range_beyond_the_whole_is_refused(ledger: RedisLedger, wrong: Pressure) -> None:
    """It could never be meant."""
    with pytest.raises(ValueError, match="basis points"):
        await ledger.choose_and_hold("r", [replace(candidate(), pressure=wrong)], about=ABOUT)


@pytest.fixture
async def both(store: Store, server: str, realm: str, ledger: RedisLedger) -> AsyncIterator[tuple[RedisLedger, ...]]:
    """Two gateways on one store, each with connections of its own."""
    assert store.where
    beside = Store(server, deadline=10.0, patience=30.0)
    other = RedisLedger(beside, realm)
    yield ledger, other
    await other.aclose()
    await beside.aclose()


@dataclass(frozen=True)
class Made:
    """One hold of a crowd: on which rung, what it took, what it found used and held before."""

    rung: int
    amount: int
    before: int


async def crowd(
    ledgers: Sequence[RedisLedger], rule: Budget, prices: Sequence[int], requests: int, *, settles: bool
) -> list[Made | Denied]:
    """That many at once; every other one settles at half its price, or not at all."""
    chance = random.Random(7)

    async def one(number: int) -> Made | Denied:
        await asyncio.sleep(chance.random() / 50)
        name, ledger = f"r{number}", ledgers[number % len(ledgers)]
        answer = await ledger.choose_and_hold(name, ladder(rule, *prices), about=ABOUT)
        if isinstance(answer, Denied):
            return answer
        assert isinstance(answer, Held)
        amount = prices[answer.index]
        made = Made(answer.index, amount, rule.limit - answer.figures[0] - amount)
        if settles and number % 2:
            await ledger.settle(settlement(name, amount * 500))
        return made

    return await asyncio.gather(*(one(number) for number in range(requests)))


def in_range(made: Made, limit: int, prices: Sequence[int]) -> bool:
    """Whether policy says so: by the share before it, or since no rung below had room."""
    share, pressure = made.before * 10_000, STEPS[made.rung]
    reached = share >= pressure.at_least * limit
    not_left = pressure.below is None or share < pressure.below * limit
    no_room_below = any(made.before + price > limit for price in prices[: made.rung])
    return not_left and (reached or no_room_below)


@pytest.mark.parametrize("percent", [0, 79, 80, 95, 100])
@pytest.mark.parametrize("settles", [False, True], ids=["all held", "half settled"])
async def test_two_hundred_at_once_cross_the_steps_as_policy_says(
    both: tuple[RedisLedger, ...], percent: int, settles: bool
) -> None:
    """Over two gateways every hold was made on the rung that the use before it asks for, and none is overspent."""
    prices, limit = (700, 300, 100), 100_000
    rule = budget(limit)
    await use(both[0], rule, limit * percent // 100)
    answers = await crowd(both, rule, prices, 200, settles=settles)
    made = [each for each in answers if isinstance(each, Made)]
    assert all(in_range(each, limit, prices) for each in made)
    reached = {each.rung for each in made}
    rungs: set[int] = {0: {0, 1, 2}, 79: {0, 1, 2}, 80: {1, 2}, 95: {2}, 100: set()}[percent]
    assert reached <= rungs if settles else reached == rungs  # what is settled lower may leave the last step unreached
    [balance] = await both[0].balances([rule])
    assert balance.used + balance.held <= limit
    if not settles:
        expected, left = [0, 0, 0], limit - limit * percent // 100
        for _ in range(200):
            number = 0 if left > limit * 20 // 100 else 1 if left > limit * 5 // 100 else 2
            if prices[number] <= left:
                expected[number] += 1
                left -= prices[number]
        assert [sum(each.rung == number for each in made) for number in range(3)] == expected
        assert balance.used + balance.held == limit - left


async def test_what_was_held_at_a_step_stays_when_its_share_falls_again(ledger: RedisLedger) -> None:
    """Money that comes back lets the next request have the better picture; the one before keeps its own."""
    rule = budget(10_000)
    await hold(ledger, "a", candidate((rule, 8_500)))
    assert (await hold(ledger, "b", *ladder(rule, 10, 5, 1))).index == 1
    await ledger.settle(settlement("a", 1_000_000))
    assert (await hold(ledger, "c", *ladder(rule, 10, 5, 1))).index == 0
    [balance] = await ledger.balances([rule])
    assert (balance.used, balance.held) == (1_000, 15)


def test_a_line_says_nothing_of_pressure() -> None:
    """Attempts keep what they hold, not why."""
    kept = json.loads(wire.candidate_arg(rung(1, (budget(5), 1))))
    assert kept[2] == [wire.line_args(budget(5), 1)]

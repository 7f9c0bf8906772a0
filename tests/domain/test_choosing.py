"""Choosing on figures at hand comes to what the real ledger does."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.domain.budget import Budget, Candidate, Denied, Held, Line, Pressure, Quota, Scope, Window
from gateway.domain.choosing import Choice, Standing, Stands, choose
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.conftest import ledger, realm, server, store
from tests.ledger.rules import ABOUT, budget, concurrent, images, settlement

__all__ = ["ledger", "realm", "server", "store"]

TEAM, HERO = Scope(project="p"), Scope(project="p", job_type="hero")
RULES: tuple[Budget | Quota, ...] = (
    budget(900),
    budget(500, Window.MONTH, scope=TEAM),
    budget(0, scope=Scope(route="none")),
    budget(333, scope=HERO),
    images(40, 31_000_000, scope=TEAM),
    concurrent(6, scope=TEAM),
)
RANGES = (Pressure(), Pressure(0, 8000), Pressure(8000, 9500), Pressure(9500), Pressure(0, 5000), Pressure(3333))


def pressed(at_least: int, below: int | None, *lines: tuple[Budget | Quota, int]) -> Candidate:
    """A candidate with a range of budget use."""
    taken = tuple(Line(rule, amount) for rule, amount in lines)
    return Candidate("r", taken, {}, Pressure(at_least, below))


def some_candidates(dice: random.Random) -> list[Candidate]:
    """A few candidates over a few of the rules each."""
    return [
        Candidate(
            f"r{number}",
            tuple(Line(rule, dice.choice((0, 1, 7, 50, 120))) for rule in dice.sample(RULES, dice.randint(1, 4))),
            {},
            dice.choice(RANGES),
        )
        for number in range(dice.randint(1, 5))
    ]


async def standing(ledger: RedisLedger) -> dict[str, Standing]:
    """Where every rule stands in the real ledger."""
    return {rule.meter: found for rule, found in zip(RULES, await ledger.balances(RULES), strict=True)}


def alike(choice: Choice, answer: Held | Denied, offered: Sequence[Candidate]) -> None:
    """The same candidate, or the same lines in the way of each with the same figures."""
    if isinstance(answer, Held):
        assert choice.index == answer.index
        return
    assert choice.index is None
    assert len(choice.obstacles) == len(offered)
    ours = [[replace(found, wait=0) for found in way] for way in choice.denied.obstacles]
    assert ours == [[replace(found, wait=0) for found in way] for way in answer.obstacles]


@pytest.mark.parametrize("seed", range(6))
async def test_it_chooses_what_the_ledger_holds(ledger: RedisLedger, store: Store, seed: int) -> None:
    """Over random histories each hold falls on the candidate, or on the obstacles, that choosing foretold."""
    assert store.where
    dice, running, outcomes = random.Random(seed), [], set()
    for number in range(120):
        offered = some_candidates(dice)
        stands = await standing(ledger)
        foretold = choose(offered, lambda rule, stands=stands: stands[rule.meter])  # type: ignore[misc]  # bound now
        answer = await ledger.choose_and_hold(f"r{number}", offered, about=ABOUT)
        assert isinstance(answer, Held | Denied)
        alike(foretold, answer, offered)
        outcomes.add(foretold.index)
        if isinstance(answer, Held):
            running.append(f"r{number}")
        if running and dice.random() < 0.6:
            ended = running.pop(dice.randrange(len(running)))
            if dice.random() < 0.6:
                await ledger.void(ended, 1, "refused")
            else:
                await ledger.settle(settlement(ended, dice.randint(0, 9) * 1000))
    assert {None, 0, 1} <= outcomes


@pytest.mark.parametrize(("used", "expected"), [(0, 0), (799, 0), (800, 1), (949, 1), (950, 2), (999, 2), (1000, None)])
def test_the_ladder_is_climbed_by_budget_use(used: int, expected: int | None) -> None:
    """At 80 and 95 percent exactly the next rung serves, and at 100 none does."""
    rule = budget(1000)
    rungs = [pressed(0, 8000, (rule, 1)), pressed(8000, 9500, (rule, 1)), pressed(9500, None, (rule, 1))]
    assert choose(rungs, lambda _: Stands(used)).index == expected


def test_a_smaller_picture_may_still_fit() -> None:
    """A rung whose share is not reached serves once money refused the one before it; a full quota opens nothing."""
    rule, quota = budget(1000), images(10)
    rungs = [pressed(0, 8000, (rule, 500), (quota, 1)), pressed(8000, None, (rule, 100), (quota, 1))]
    assert choose(rungs, lambda rule: Stands(700 if isinstance(rule, Budget) else 0)).index == 1
    full = choose(rungs, lambda rule: Stands(0 if isinstance(rule, Budget) else 10))
    assert (full.index, [len(way) for way in full.obstacles]) == (None, [1, 0])

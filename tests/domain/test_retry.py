"""Pauses between calls, and the budget that bounds how many calls beyond the first a provider is sent."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.retry import BACKOFF_BASE, BACKOFF_CAP, JITTER, RetryBudget, RetryBudgets, backoff, jittered

FRACTIONS = st.floats(0, 1)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def test_pauses_double_up_to_a_cap() -> None:
    """The longest pause doubles with each repeat, from half a second to eight."""
    assert [backoff(repeat, lambda: 1.0) for repeat in range(1, 8)] == [0.5, 1, 2, 4, 8, 8, 8]


@given(st.integers(1, 1000), FRACTIONS)
def test_a_pause_lies_anywhere_below_its_longest(repeat: int, drawn: float) -> None:
    """Jitter is full: from nothing to the longest, however many repeats went before."""
    assert backoff(repeat, lambda: drawn) == pytest.approx(drawn * backoff(repeat, lambda: 1.0))
    assert 0 <= backoff(repeat, lambda: drawn) <= BACKOFF_CAP
    assert backoff(1, lambda: 1.0) == BACKOFF_BASE


@given(st.floats(0, 120), FRACTIONS)
def test_a_wait_that_others_are_told_is_never_shortened(seconds: float, drawn: float) -> None:
    """Who comes back does so not before the provider is ready, and not much later."""
    assert seconds <= jittered(seconds, lambda: drawn) <= seconds * (1 + JITTER)


def test_repeats_end_when_all_of_them_fail() -> None:
    """A full bucket pays for so many failed repeats, however many first calls fail beside them; then there are none."""
    budget, made = RetryBudget(Clock()), 0
    for _ in range(500):
        if budget.reserve(repeat=True):
            made += 1
            budget.failed()
            budget.release()
    assert made == RetryBudget.CAP


def test_repeats_at_the_same_moment_share_the_bucket() -> None:
    """Repeats whose outcome is not known yet have their tokens reserved, so a crowd of them is bounded too."""
    budget = RetryBudget(Clock())
    reserved = [budget.reserve(repeat=True) for _ in range(500)]
    assert sum(reserved) == RetryBudget.CAP
    budget.release()
    assert budget.reserve(repeat=True)
    assert not budget.reserve(repeat=True)


def test_a_call_that_succeeds_costs_nothing() -> None:
    """Repeats that help go on for ever."""
    budget = RetryBudget(Clock())
    for _ in range(1000):
        assert budget.reserve(repeat=True)
        budget.succeeded()
        budget.release()


def test_a_healthy_provider_takes_over_from_another_at_once() -> None:
    """Hundreds may fall back to it at the same moment, though their outcome is known only minutes later."""
    budget = RetryBudget(Clock())
    assert all(budget.reserve(repeat=False) for _ in range(500))
    for _ in range(500):
        budget.succeeded()
        budget.release()
    assert all(budget.reserve(repeat=False) for _ in range(500))


def test_a_provider_that_fails_those_who_fall_back_to_it_is_left_alone() -> None:
    """Once half of the tokens are gone its fallbacks are bounded as repeats are, and end."""
    budget, made = RetryBudget(Clock()), 0
    for _ in range(500):
        if budget.reserve(repeat=False):
            made += 1
            budget.failed()
            budget.release()
    assert made == RetryBudget.CAP
    assert not budget.reserve(repeat=False)


def test_an_empty_bucket_lets_one_in_a_while_find_out() -> None:
    """A provider that is only ever fallen back to shows by a trickle of calls that it is well again."""
    clock = Clock()
    budget = RetryBudget(clock)
    for _ in range(100):
        budget.failed()
    assert not budget.reserve(repeat=False)
    clock.now += 1 / RetryBudget.PER_SECOND
    assert budget.reserve(repeat=False)
    assert not budget.reserve(repeat=False)
    budget.succeeded()
    budget.release()
    clock.now += RetryBudget.CAP / RetryBudget.PER_SECOND
    assert all(budget.reserve(repeat=False) for _ in range(100))


def test_a_clock_that_jumps_fills_no_more_than_the_bucket() -> None:
    """Neither a jump ahead nor one back gives tokens that were never to be had."""
    clock = Clock()
    budget = RetryBudget(clock)
    for _ in range(100):
        budget.failed()
    clock.now -= 10**6
    assert not budget.reserve(repeat=True)
    clock.now += 10**9
    assert sum(budget.reserve(repeat=True) for _ in range(100)) == RetryBudget.CAP


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1), st.integers(1, 5))
def test_in_the_long_run_failed_repeats_are_a_fifth_of_what_succeeds(seed: int, share: float, attempts: int) -> None:
    """Whatever part of the calls fails: a burst and one failed repeat for five calls that succeed, never more."""
    chance, budget = random.Random(seed), RetryBudget(Clock())
    wasted = succeeded = 0
    for _ in range(500):
        for attempt in range(attempts):
            if attempt and not budget.reserve(repeat=True):
                break
            good = chance.random() >= share
            if good:
                succeeded += 1
                budget.succeeded()
            elif attempt:
                wasted += 1
                budget.failed()
            if attempt:
                budget.release()
            if good:
                break
    assert wasted <= RetryBudget.CAP + RetryBudget.EARNED * succeeded


def test_each_provider_has_its_own_budget() -> None:
    """One that fails takes no repeat from another; the same name is the same budget."""
    budgets = RetryBudgets(Clock())
    for _ in range(100):
        budgets.of("poor").failed()
    assert not budgets.of("poor").reserve(repeat=True)
    assert budgets.of("well").reserve(repeat=True)

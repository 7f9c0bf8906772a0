"""Which calls of a fanned-out job are done again, and what that takes from the provider's retry budget."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.domain.policy import Retry
from gateway.domain.retry import RetryBudget, RetryBudgets
from gateway.domain.settlement import Outcome
from gateway.ports.provider import UpstreamFailure
from gateway.request import part_repeats
from gateway.request.part_repeats import PartRepeats

BUSY = UpstreamFailure(Outcome.REJECTED, "status_429", "busy", status=429)


def repeats(budgets: RetryBudgets | None = None, attempts: int = 2) -> PartRepeats:
    """Repeats of calls to one provider, without pauses of their own."""
    return PartRepeats("acme", Retry(attempts), budgets or RetryBudgets(time.monotonic), draw=lambda: 0.0)


@pytest.mark.parametrize(
    ("failure", "tries", "again"),
    [
        (BUSY, 1, True),
        (BUSY, 2, False),
        (UpstreamFailure(Outcome.REJECTED, "status_5xx", "away", status=503), 1, True),
        (UpstreamFailure(Outcome.NOT_SENT, "connect", "nobody there"), 1, True),
        (UpstreamFailure(Outcome.NOT_SENT, "unsupported", "no way to say it"), 1, False),
        (UpstreamFailure(Outcome.REJECTED, "status_5xx", "fault", status=500), 1, False),
        (UpstreamFailure(Outcome.UNKNOWN, "status_5xx", "lost", status=503), 1, False),
        (UpstreamFailure(Outcome.REJECTED, "status_4xx", "moderated", status=400, pass_on=True), 1, False),
        (UpstreamFailure(Outcome.REJECTED, "account", "no such key", status=401), 1, False),
        (UpstreamFailure(Outcome.REJECTED, "status_429", "busy", status=429, retry_after=11.0), 1, False),
    ],
)
async def test_only_what_cost_nothing_and_passes_is_repeated(
    failure: UpstreamFailure, tries: int, *, again: bool
) -> None:
    """A 429, a 503 and a host that was not reached, as often as policy has attempts; nothing else, and no long wait."""
    assert await repeats().again(failure, tries) is again


async def test_repeats_are_paid_for_from_the_retry_budget() -> None:
    """Each that fails takes a token, and once they are gone none is repeated."""
    budgets = RetryBudgets(lambda: 0.0)
    asked = repeats(budgets, attempts=1_000)
    made = 0
    while await asked.again(BUSY, 1):
        asked.ended(failed=True)
        made += 1

    assert made == RetryBudget.CAP
    budgets.of("acme").succeeded()
    assert not await asked.again(BUSY, 1)


async def test_a_repeat_that_is_broken_off_leaves_the_budget_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while it waits, or while it is made, it gives its token back."""
    monkeypatch.setattr(part_repeats, "backoff", lambda _tries, _draw: 5.0)
    budgets = RetryBudgets(lambda: 0.0)
    waiting = asyncio.create_task(repeats(budgets).again(BUSY, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    monkeypatch.undo()
    for _ in range(50):
        assert await repeats(budgets).again(BUSY, 1)
        repeats(budgets).ended(failed=None)


async def test_nothing_is_repeated_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once nobody can get the answer no call is repeated, be it before the pause or after it; no token is kept."""
    gone, budgets = asyncio.Event(), RetryBudgets(lambda: 0.0)
    asked = PartRepeats("acme", Retry(2), budgets, gone.is_set, draw=lambda: 0.0)
    monkeypatch.setattr(part_repeats, "backoff", lambda _tries, _draw: 0.05)
    waiting = asyncio.create_task(asked.again(BUSY, 1))
    await asyncio.sleep(0.01)
    gone.set()
    assert not await waiting
    for _ in range(50):
        assert not await asked.again(BUSY, 1)
    monkeypatch.undo()
    assert await repeats(budgets).again(BUSY, 1)

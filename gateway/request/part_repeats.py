"""Part repeats: calls of one answer that were surely not billed, done again while the others' images are here.

Where all calls of an answer failed, the request goes on elsewhere; here some have brought images, and those that are
missing can come from the same route alone. The hold covers them: it is for all images, however often asked for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from gateway.domain.policy import Retry
from gateway.domain.retry import RetryBudgets, backoff, jittered
from gateway.domain.route import Quote
from gateway.domain.settlement import Outcome
from gateway.ports.provider import UpstreamFailure
from gateway.request.retrying import LONGEST_WAIT

_BEFORE_WORK = frozenset({429, 503})
"""Statuses of a provider that has not begun."""


def repeats_for(quote: Quote, retry: Retry, budgets: RetryBudgets, gone: Callable[[], bool]) -> PartRepeats | None:
    """Return what decides on repeats; None for a job that is one call, or that goes by batch."""
    several = quote.calls > 1 and quote.batch is None
    return PartRepeats(quote.route.provider.name, retry, budgets, gone) if several else None


@dataclass(frozen=True, slots=True)
class PartRepeats:
    """Implements `ports.provider.Repeats` for one provider, within policy's attempts and the provider's budget.

    `gone` tells that nobody can get the answer any more: nothing is repeated then.
    """

    provider: str
    retry: Retry
    budgets: RetryBudgets
    gone: Callable[[], bool] = lambda: False
    draw: Callable[[], float] = random.random

    async def again(self, failure: UpstreamFailure, tries: int) -> bool:
        """Wait until a call may be repeated that failed after so many tries, and return True; False if it may not.

        `ended` must follow a True.
        """
        unsent = failure.outcome is Outcome.NOT_SENT and failure.reason == "connect"
        refused = failure.outcome is Outcome.REJECTED and failure.status in _BEFORE_WORK
        wait = max(jittered(failure.retry_after or 0.0, self.draw), backoff(tries, self.draw))
        if tries >= self.retry.attempts or wait > LONGEST_WAIT or not (unsent or refused) or failure.charged_for:
            return False
        if self.gone() or not self.budgets.of(self.provider).reserve(repeat=True):
            return False
        waited = False
        try:
            await asyncio.sleep(wait)
            waited = not self.gone()
        finally:
            if not waited:
                self.budgets.of(self.provider).release()
        return waited

    def ended(self, *, failed: bool | None) -> None:
        """Take note of how a repeat ended; None: it was broken off here."""
        budget = self.budgets.of(self.provider)
        budget.release()
        if failed is not None:
            (budget.failed if failed else budget.succeeded)()

"""Retrying: where a request goes next, decided by what its failed calls may have billed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.domain.ladder import staying
from gateway.domain.offer import routes_of
from gateway.domain.policy import OnUnknown, Retry
from gateway.domain.record import record
from gateway.domain.retry import RetryBudgets, backoff, jittered
from gateway.domain.route import Quote
from gateway.domain.settlement import Outcome
from gateway.ports.provider import UpstreamFailure

LONGEST_WAIT = 10.0
"""Seconds; a provider that asks for more is not waited for here, the client is told when to come again instead."""

MOST_BATCHES = 3
"""Batches that one request is put into; they do not count among policy's attempts."""

_WORTH_REPEATING = frozenset(
    {"connect", "status_429", "status_5xx", "no_image"}
    | {"batch_not_created", "batch_failed", "batch_expired", "batch_cancelled"}
)
"""Reasons that pass by themselves. A refused account, a redirect and the caller's own fault do not."""
_NOT_CALLED = frozenset({"unsupported", "unconfigured", "batch_late", "batch_too_large", "no_room"})
"""Reasons of which the provider hears nothing if nothing was sent. None is worth repeating: each way is tried once."""
_NONE: frozenset[str] = frozenset()


def was_called(failure: UpstreamFailure) -> bool:
    """Tell whether a call was made, if in vain, rather than none since the provider cannot be asked for the job."""
    return any(
        each.outcome is not Outcome.NOT_SENT or each.reason not in _NOT_CALLED for each in (failure, *failure.others)
    )


@dataclass(frozen=True, slots=True)
class Failed:
    """A call that failed, or could not be made; `at` is when, in seconds of the course's clock."""

    quote: Quote
    failure: UpstreamFailure
    at: float

    @property
    def called(self) -> bool:
        """Whether it was made."""
        return was_called(self.failure)

    @property
    def presumed(self) -> bool:
        """Whether it may have been billed."""
        return self.failure.outcome is Outcome.UNKNOWN

    @property
    def due(self) -> float:
        """When the provider is ready again, by what it said."""
        return self.at + (self.failure.retry_after or 0.0)


@record(frozen=True, slots=True)
class Step:
    """One more call: wait `pause` seconds, with nothing held if there is any, then try the first quote that fits.

    A route may be offered several times, each time for another use of budgets; its quotes come and go together.
    """

    quotes: Sequence[Quote]
    pause: float = 0.0


class RetryPlan:
    """The calls of one request: what failed, and what may be tried next.

    Routes not tried yet come first, at once. When there is none left, those whose fault may pass are tried again after
    a pause, unless the client repeats by itself (`client_repeats`): if both did, their repeats would multiply. It does
    not repeat what was charged, for it is told not to.
    After a call that may have been billed only untried routes are left, where policy allows them. Of all that comes
    after the first step only quotes are left that it `pays_for`; `too_dear` tells that this left none.

    Every step after a call is paid for from the retry budgets of the providers offered; `end_step` must follow each
    that leaves some of them `reserved`. A call that could not be made counts neither there nor among policy's attempts.
    """

    __slots__ = (
        "_barred",
        "_budgets",
        "_client_repeats",
        "_clock",
        "_draw",
        "_order",
        "_out",
        "_pays_for",
        "_retry",
        "_tried",
        "failures",
        "reserved",
        "too_dear",
    )

    def __init__(
        self,
        quotes: Sequence[Quote],
        retry: Retry,
        budgets: RetryBudgets,
        client_repeats: bool = False,
        pays_for: Callable[[Quote], bool] = lambda _: True,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._order = quotes
        self._tried: tuple[tuple[str, bool], ...] = ()
        self._out = self._barred = self.reserved = _NONE
        self._retry = retry
        self._budgets = budgets
        self._client_repeats = client_repeats
        self._pays_for = pays_for
        self.too_dear = False
        self._clock = clock
        self._draw = draw
        self.failures: list[Failed] = []

    @property
    def presumed(self) -> bool:
        """Whether any call may have been billed."""
        return self.times_presumed > 0

    @property
    def called(self) -> bool:
        """Whether any call was made."""
        return any(failed.called for failed in self.failures)

    @property
    def times_presumed(self) -> int:
        """How many calls may have been billed."""
        return sum(failed.presumed for failed in self.failures)

    def next(self) -> Step | None:
        """Return what to try now; None if the request has failed for good."""
        self.too_dear = False
        if not self.failures:
            untried = self._untried() if self._out or self._tried else self._order
            return Step(untried) if untried else None
        calls = [failed for failed in self.failures if failed.called]
        by_batch = sum(failed.quote.batch is not None for failed in calls)
        if len(calls) - by_batch >= self._retry.attempts or by_batch >= MOST_BATCHES:
            return None
        if self.presumed and self._retry.on_unknown is not OnUnknown.NEXT_ROUTE:
            return None
        if untried := self._affordable(self._untried()):
            return Step(untried)
        return None if self.presumed else self._again()

    def _untried(self) -> Sequence[Quote]:
        """The quotes that no hold was taken on, nor refused for all; by batch and by itself are two ways to try one."""
        if not (self._tried or self._out):
            return self._order
        return [
            quote
            for quote in self._order
            if quote.route.name not in self._out and (quote.route.name, quote.batch is None) not in self._tried
        ]

    def _again(self) -> Step | None:
        last = {failed.quote.route.name: failed for failed in self.failures}
        now = self._clock()
        due = {
            name: failed.due
            for name, failed in last.items()
            if name not in self._barred
            and failed.failure.reason in _WORTH_REPEATING
            and (failed.failure.charged or not self._client_repeats)
            and failed.due - now <= LONGEST_WAIT
        }
        if not due:
            return None
        wait = jittered(max(min(due.values()) - now, 0.0), self._draw)
        repeats = len(self.failures) - len(last)
        pause = max(wait, backoff(repeats + 1, self._draw))
        ready = [
            quote
            for quote in self._order
            if due.get(quote.route.name, float("inf")) <= now + pause
            and (quote.batch is None) is (last[quote.route.name].quote.batch is None)
        ]
        quotes = self._affordable(ready)
        return Step(quotes, pause) if quotes else None

    def _affordable(self, quotes: Sequence[Quote]) -> list[Quote]:
        """The quotes that are paid for and whose providers have budget left, which is reserved.

        What a batch did not do needs none, nor does a first call.
        """
        offered, quotes = quotes, staying(quotes, self._pays_for)
        self.too_dear |= bool(offered) and not quotes
        if self.failures[-1].quote.batch is not None or not self.called:
            return quotes
        seen = {failed.quote.route.provider.name for failed in self.failures if failed.called}
        for provider in {quote.route.provider.name for quote in quotes} - self.reserved:
            if self._budgets.of(provider).reserve(repeat=provider in seen):
                self.reserved |= {provider}
        return [quote for quote in quotes if quote.route.provider.name in self.reserved]

    def chosen(self, quote: Quote) -> None:
        """Take note of where a hold was taken: the route is tried, whatever else it was offered for."""
        self._tried += ((quote.route.name, quote.batch is None),)
        if self.reserved:
            self._release(self.reserved - {quote.route.provider.name})

    def denied(self, step: Step) -> None:
        """Take note that no hold could be taken on any quote of a step: they are out for this request."""
        denied = frozenset(routes_of(step.quotes))
        self._barred |= denied
        self._out |= denied

    def succeeded(self, quote: Quote) -> None:
        """Take note that the provider answered, be it with a refusal that is the caller's own fault."""
        self._budgets.of(quote.route.provider.name).succeeded()

    def failed(self, quote: Quote, failure: UpstreamFailure) -> None:
        """Take note of a failed call. One that reached nobody counts: to call on a dead host costs the client time."""
        if self.called and quote.batch is None and was_called(failure):
            self._budgets.of(quote.route.provider.name).failed()
        self.failures.append(Failed(quote, failure, self._clock()))

    def end_step(self) -> None:
        """Give back what is still `reserved`, however the step ended."""
        self._release(self.reserved)

    def _release(self, providers: frozenset[str]) -> None:
        for provider in providers:
            self._budgets.of(provider).release()
        self.reserved -= providers

    def retry_after(self, failures: Sequence[Failed]) -> float:
        """Return the seconds until the first provider of these is ready (one if none said), and a little by chance."""
        last = {failed.quote.route.name: failed for failed in failures}  # what it said before is over
        soonest = min(failed.at + (failed.failure.retry_after or 1.0) for failed in last.values())
        return jittered(max(soonest - self._clock(), 0.0), self._draw)

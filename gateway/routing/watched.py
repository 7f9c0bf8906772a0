"""Watched: providers whose calls tell `Health` how they ended, and `Capacity` of limits, whoever makes them."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence

from gateway.domain.errors import GatewayError
from gateway.domain.route import Route
from gateway.domain.settlement import Outcome, Reading
from gateway.ports.preparing import is_preparing
from gateway.ports.provider import Answer, Call, Cancellable, Provider, Submitted, UpstreamFailure, is_collected
from gateway.ports.whole import WholeAnswer
from gateway.ports.wrapped import WrappedAnswer
from gateway.routing.capacity import Capacity
from gateway.routing.health import Health, Trial

log = logging.getLogger("gateway.routing")

AWAY = 5.0
"""Seconds that a reader may be away, all in all; a provider that loses patience after more has a reason."""
_IMPATIENT = frozenset({"reset", "timeout"})
"""Reasons of those that do."""


class WatchedProvider:
    """Implements `ports.Provider` by another one. `clock` is monotonic seconds."""

    def __init__(
        self, provider: Provider, health: Health, capacity: Capacity, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._provider = provider
        self._health = health
        self._capacity = capacity
        self._clock = clock
        if is_preparing(provider):
            self.prepare = provider.prepare  # which nobody watches

    async def send(self, call: Call) -> Answer:
        """Send the job, and watch how it ends; what an adapter did not expect is an unknown outcome."""
        began = self._clock()
        trial = self._health.begin(call.route, call.job)
        try:
            answer = await self._provider.send(call)
        except UpstreamFailure as failure:
            self._learn(call.route, (failure, *failure.others))
            self._health.failed(trial, failure)
            raise
        except BaseException as error:
            # A fault of ours says nothing of the route's health: it may be the request that brought it about.
            self._health.dropped(trial)
            if not isinstance(error, Exception) or isinstance(error, GatewayError):
                raise
            log.exception("request %s: provider %s: its adapter failed", call.request_id, call.route.provider.name)
            message = "the provider's answer could not be dealt with"
            raise UpstreamFailure(Outcome.UNKNOWN, "garbage", message) from error
        if (limits := answer.rate_limits) and self._capacity.is_of_now(call.route):
            self._capacity.learn(call.route.name, limits)
        seconds = self._clock() - began
        if isinstance(answer, WholeAnswer):
            tell(self._health, trial, answer.reading(), seconds)
            return answer
        watched = WatchedAnswer(answer, self._health, trial, seconds, self._clock)
        if is_collected(answer):
            self._learn(call.route, answer.failures)
        return watched

    def _learn(self, route: Route, failures: Sequence[UpstreamFailure]) -> None:
        if self._capacity.is_of_now(route):
            self._capacity.learn_of(route.name, failures)

    async def cancel(self, route: Route, submitted: Submitted) -> bool:
        """Ask for work to be given up, where the provider can be asked."""
        return isinstance(self._provider, Cancellable) and await self._provider.cancel(route, submitted)

    async def aclose(self) -> None:
        """Close connections."""
        await self._provider.aclose()


class WatchedAnswer(WrappedAnswer):
    """Implements `ports.Answer` by another one. `seconds` is how long its head took."""

    def __init__(
        self, answer: Answer, health: Health, trial: Trial, seconds: float, clock: Callable[[], float]
    ) -> None:
        super().__init__(answer)
        self._health = health
        self._trial = trial
        self._seconds = seconds
        self._clock = clock
        self._away = 0.0
        self._left = clock()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; the time that the reader takes does not count.

        Of a provider that hangs up after it was kept waiting nothing is told: five clients that do not read would have
        its route ejected.
        """
        chunks, clock = self._answer.chunks(), self._clock
        while True:
            began = clock()
            self._away += began - self._left
            try:
                chunk = await anext(chunks, None)
            except UpstreamFailure as failure:
                if self._away > AWAY and failure.reason in _IMPATIENT:
                    self._health.dropped(self._trial)
                else:
                    self._health.failed(self._trial, failure)
                raise
            finally:
                self._left = clock()
                self._seconds += self._left - began
            if chunk is None:
                break
            yield chunk
        reading = self._answer.reading()
        if self._away > AWAY and not reading.complete:
            self._health.dropped(self._trial)
        else:
            tell(self._health, self._trial, reading, self._seconds, event_stream=self.event_stream)

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        if not self._trial.over:
            self._health.dropped(self._trial)
        await self._answer.aclose()


def tell(health: Health, trial: Trial, reading: Reading, seconds: float, *, event_stream: bool = False) -> None:
    """Tell how a body went that came to its end."""
    if not reading.complete or not (reading.images or reading.said or event_stream):
        health.failed(trial, UpstreamFailure(Outcome.UNKNOWN, "garbage", "the answer is no answer"))
    elif reading.error:
        health.dropped(trial)  # an error inside a stream may be the caller's own fault
    else:
        health.succeeded(trial, seconds)

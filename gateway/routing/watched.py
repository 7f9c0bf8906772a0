"""Watched: providers whose calls tell `Health` how they ended, and `Capacity` of limits, whoever makes them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

from gateway.domain.route import Route
from gateway.domain.settlement import Outcome
from gateway.ports.provider import Answer, Call, Cancellable, Provider, Submitted, UpstreamFailure, is_collected
from gateway.ports.wrapped import WrappedAnswer
from gateway.routing.capacity import Capacity
from gateway.routing.health import Health, Trial


class WatchedProvider:
    """Implements `ports.Provider` by another one. `clock` is monotonic seconds."""

    def __init__(
        self, provider: Provider, health: Health, capacity: Capacity, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._provider = provider
        self._health = health
        self._capacity = capacity
        self._clock = clock

    async def send(self, call: Call) -> Answer:
        """Send the job, and watch how it ends."""
        route = call.route.name
        trial, began = self._health.begin(call.route, call.job), self._clock()
        try:
            answer = await self._provider.send(call)
        except UpstreamFailure as failure:
            self._capacity.learn_of(route, (failure, *failure.others))
            self._health.failed(trial, failure)
            raise
        except BaseException:
            self._health.dropped(trial)
            raise
        if is_collected(answer):
            self._capacity.learn_of(route, answer.failures)
        if limits := answer.rate_limits:
            self._capacity.learn(route, limits)
        return WatchedAnswer(answer, self._health, trial, self._clock() - began, self._clock)

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

    def at_once(self) -> bytes | None:
        """Return the body if it is a short one that is here already."""
        body = self._answer.at_once()
        if body is not None:
            self._judge()
        return body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; the time that the reader takes does not count."""
        chunks, clock = self._answer.chunks(), self._clock
        while True:
            began = clock()
            try:
                chunk = await anext(chunks, None)
            except UpstreamFailure as failure:
                self._health.failed(self._trial, failure)
                raise
            finally:
                self._seconds += clock() - began
            if chunk is None:
                break
            yield chunk
        self._judge()

    def _judge(self) -> None:
        """Tell how a body went that came to its end."""
        reading = self._answer.reading()
        self.reading = lambda: reading  # which is final
        if not reading.complete or not (reading.images or reading.said or self.event_stream):
            garbage = UpstreamFailure(Outcome.UNKNOWN, "garbage", "the answer is no answer")
            self._health.failed(self._trial, garbage)
        elif reading.error:
            self._health.dropped(self._trial)  # an error inside a stream may be the caller's own fault
        else:
            self._health.succeeded(self._trial, self._seconds)

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        if not self._trial.over:
            self._health.dropped(self._trial)
        await self._answer.aclose()
